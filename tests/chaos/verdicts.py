"""Conditions that must hold after a storm; every violation is a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.chaos.clients import Told
from tests.chaos.plan import SECRET
from tests.chaos.storm import Strike

NEVER = {
    "answer_lost",
    "internal_error",
    "job_lost",
    "log_damaged",
    "unreadable_job",
    "cancelled",
    "None",
}
"""Errors that no storm excuses: Redis keeps everything and is never unreachable for long, and no
job of a connected client was cancelled."""

AT_THE_DOOR = ("line_unavailable", "no_worker", "upstream_unavailable")
"""Errors of requests that were never accepted, if they come as a status."""

AFTERMATH = 3.0
"""Seconds after Redis' return in which a request may still be refused."""


def of_client(told: Told, strikes: Sequence[Strike]) -> Iterator[str]:
    """Violations in what one client received."""
    kind, answer = told.request.kind, told.request.answer
    front_was_struck = told.front.struck is not None and told.front.struck <= told.ended
    if told.nonsense:
        yield told.nonsense
    if told.hung:
        yield "it was never answered to the end"
    if told.broken and not front_was_struck:
        yield f"its connection broke although its front end lives: {told.broken}"
    if not answer.startswith(told.text):
        yield f"its answer is torn: {told.text!r} of {answer!r}"
    if told.done and told.text != answer:
        yield f"a whole answer lacks its end: {told.text!r} of {answer!r}"
    if told.done and not kind.whole:
        yield "an answer that failed upstream pretends to be whole"
    if told.ending == "ended without a word":
        yield "its stream ended with neither [DONE] nor an error"
    if told.error in NEVER:
        yield f"the error {told.error}"
    elif told.error is not None and not kind.fails and not _explained(told, strikes):
        yield f"an error that nothing explains: {told.error}"


def _explained(told: Told, strikes: Sequence[Strike]) -> bool:
    """Return whether a strike explains the error of a valid request."""

    def struck(target: str, *, kill: bool) -> bool:
        return any(
            strike.target == target
            and strike.kill == kill
            and told.began <= strike.at <= told.ended
            for strike in strikes
        )

    match told.error:
        case "worker_lost":
            return struck("worker", kill=True)
        case "worker_stopped":
            return struck("worker", kill=False)
        case "stopped":
            return told.front.struck is not None
        case "line_unavailable":
            redis = [strike for strike in strikes if strike.target == "redis"]
            return told.front.struck is not None or any(
                strike.at <= told.ended
                and (strike.back is None or told.began <= strike.back + AFTERMATH)
                for strike in redis
            )
        case "no_worker":
            return any(strike.target != "front" for strike in strikes)
        case "upstream_unavailable":
            return True  # the upstream's failures are part of the storm
        case _:
            return False


def of_upstream(stats: Mapping[str, int], cap: int, account_cap: int) -> Iterator[str]:
    """Violations of the caps, as seen by the simulator."""
    if stats["peak"] > cap:
        yield f"{stats['peak']} conversations were open at once, {cap} are allowed"
    if stats.get("peak_per_account", 0) > account_cap:
        yield f"{stats['peak_per_account']} conversations were open at once on one account"
    if stats["refused"]:
        yield f"{stats['refused']} conversations were asked for above an account's cap"
    if stats["active"]:
        yield f"{stats['active']} conversations are still open"


def of_output(printed: str) -> Iterator[str]:
    """Secrets and bugs in the logs of the roles."""
    if SECRET in printed:
        yield "a prompt, an answer or a bearer was printed"
    for number, line in enumerate(lines := printed.splitlines()):
        if any(sign in line for sign in ("Traceback", "event=internal_error")):
            yield "a bug was met: " + " / ".join(lines[max(0, number - 1) : number + 12])
