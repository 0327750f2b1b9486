"""Views of one job's story, and of the jobs that ended last. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from html5tagger import Builder, E

from app.admin.page.formatting import NONE, count
from app.admin.page.line import job_link, key_link, lane_name, model, place_of, why
from app.admin.page.look import Look
from app.admin.page.tables import Cell, Column, Row, Tone, badge, empty, link_button, section, table
from wire.line.board import Story
from wire.line.status import State

TONES: dict[State, Tone] = {
    "waiting": "plain",
    "running": "good",
    "done": "good",
    "failed": "bad",
    "cancelled": "warn",
}


def search(look: Look, id: str = "") -> Builder:
    """Return the form that finds a job."""
    texts = look.texts
    return E.form(
        E.label(texts.job_id, for_="job"),
        E.input(id="job", name="id", value=id, required=True, autocomplete="off", maxlength=200),
        E.button(texts.show),
        action=look.url("jobs"),
        role="search",
        class_="search",
    )


def endings(look: Look, stories: Sequence[Story], names: Mapping[str, str]) -> Builder:
    """Return the jobs that ended last."""
    texts = look.texts
    if not stories:
        return section(texts.endings, empty(texts.no_endings))
    columns = (
        Column(texts.job, "main"),
        Column(texts.key),
        Column(texts.model, "long"),
        Column(texts.ending),
        Column(texts.ended, "number"),
        Column(texts.waited, "number"),
        Column(texts.duration, "number"),
        Column(texts.output_tokens, "number"),
    )
    rows = (Row(story.id, _ending_cells(look, story, names)) for story in stories)
    return section(texts.endings, table(texts.endings, columns, rows))


def _ending_cells(look: Look, story: Story, names: Mapping[str, str]) -> Sequence[Cell]:
    return (
        job_link(look, story.id),
        key_link(look, story.key, names),
        model(story.model),
        _state(look, story),
        look.clock(story.ended),
        look.short(_between(story.arrived, story.claimed)),
        look.short(_between(story.arrived, story.ended)),
        count(story.output_tokens),
    )


def _between(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else max(0.0, end - begin)


def _state(look: Look, story: Story) -> Builder:
    reason = story.reason if story.reason not in ("", story.state) else ""
    more = (f": {reason.replace('_', ' ')}",) if reason else ()
    return badge(look.texts.job_states[story.state], TONES[story.state], *more)


def story(look: Look, told: Story | None, names: Mapping[str, str]) -> Builder:
    """Return the story of a job; of None if nothing is known of it."""
    texts = look.texts
    if told is None:
        return E._(empty(texts.job_unknown))
    facts = E.dl(*(_fact(name, value) for name, value in _facts(look, told, names)), class_="facts")
    steps = E.ol(*(_step(look, *step) for step in _steps(look, told)), class_="steps")
    return E._(facts, section(texts.story, steps))


def _fact(name: str, value: Cell) -> Builder:
    return E.div(E.dt(name), E.dd(value))


def _facts(look: Look, told: Story, names: Mapping[str, str]) -> Iterator[tuple[str, Cell]]:
    texts = look.texts
    yield texts.job, E.code(told.id)
    yield texts.state, _state(look, told)
    yield texts.key, key_link(look, told.key, names)
    yield texts.model, told.model or NONE
    yield texts.lane, lane_name(look, told.lane)
    if told.state == "waiting":
        yield texts.place, count(told.place) if told.place else NONE
        yield texts.forecast, look.rough(told.wait)
        yield texts.why, why(look, told)
    if told.upstream:
        yield texts.upstream, told.upstream
    if told.account and told.account != told.key:
        yield texts.account, told.account
    if told.worker:
        yield texts.worker, E.code(told.worker)
    if told.state == "running":
        yield texts.tokens, texts.about.format(count(told.tokens))
    if told.ended is not None:
        yield texts.input_tokens, count(told.input_tokens)
        yield texts.output_tokens, count(told.output_tokens)
        yield texts.slot_time, look.short(told.slot_ms / 1000)
    if told.state in ("waiting", "running"):
        cancel = texts.actions["cancel"]
        yield "", link_button(cancel, look.url("act", "cancel", id=told.id), "danger")


def _steps(look: Look, told: Story) -> Iterator[tuple[float, float, Cell]]:
    """Yield the steps of a job in their order: the time, that of the arrival, and a text."""
    texts = look.texts
    begin = told.arrived
    predicted = look.rough(told.predicted)
    yield begin, begin, E._(texts.arrived, " ", E.small(f"{texts.story_promised} {predicted}"))
    for requeue in told.requeues:
        if requeue.claimed is not None:
            where = place_of(requeue.upstream, requeue.account, told.key)
            yield requeue.claimed, begin, E._(texts.story_claimed, " ", E.small(where))
        reason = requeue.reason.replace("_", " ")
        yield requeue.at, begin, E._(texts.story_requeued, " ", E.small(reason))
    if told.claimed is not None:
        where = place_of(told.upstream, told.account, told.key)
        yield told.claimed, begin, E._(texts.story_claimed, " ", E.small(where))
    if told.first_token is not None:
        yield told.first_token, begin, texts.story_first_token
    if told.ended is not None:
        yield told.ended, begin, _state(look, told)
    elif told.state == "waiting" and told.deadline:
        yield told.deadline, begin, texts.story_deadline


def _step(look: Look, at: float, begin: float, text: Cell) -> Builder:
    after = "" if at == begin else f"+{look.short(at - begin)}"
    return E.li(E.div(look.clock(at), " ", E.small(after)), E.div(text))
