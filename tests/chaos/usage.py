"""Usage of the jobs of a storm: as it was counted, and as each job's own record and log show it.

The records and logs of finished jobs stay in Redis for a minute; this reads them in time.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import redis

from tests.chaos.clients import Told
from tests.chaos.leftovers import ENDED, RECORDS
from tests.chaos.plan import SECRET, Request
from wire.events import Batch, Complete, Delta, Event, Piece, decode_frame
from wire.line import keys
from wire.seal import Seal
from wire.tokens.text import count

EVERY = 5.0
"""Seconds between two readings."""

PER_MESSAGE, PER_ANSWER, PER_WORD_MESSAGE = 3, 3, 4
"""Tokens that a message and an answer have besides their text; at the simulator, a message."""


@dataclass
class Used:
    """One finished job: its state, its units, and what its log holds of its answer.

    `told` if its server told its usage, which is one token for each word of the request and each
    piece of the answer; `complete` if its log has the end of a relayed answer.
    """

    state: str
    ran: bool
    units: float
    text: str
    pieces: int
    relayed: bool
    told: bool
    complete: bool

    @property
    def number(self) -> int | None:
        """The number of its request, None if its text does not show it."""
        found = re.match(rf"{SECRET} number-(\d+) ", self.text)
        return int(found[1]) if found else None


class Audit:
    """Reads the records and logs of finished jobs from the Redis of a gateway."""

    def __init__(self, url: str, secret: str) -> None:
        self.jobs: dict[str, Used] = {}
        self._redis = redis.Redis.from_url(url)
        self._seal = Seal(secret.encode())
        self._due = 0.0

    def look(self, *, at_once: bool = False) -> None:
        """Read what has finished, if it is time. Does nothing while Redis is down."""
        if at_once or time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY
            with suppress(redis.ConnectionError, redis.BusyLoadingError):
                self._read()

    def counted(self) -> dict[str, float]:
        """The numbers of usage, all days, keys and models together."""
        summed: dict[str, float] = {}
        for day in self._redis.scan_iter(keys.usage("*")):
            for field, value in _hash(self._redis, day).items():
                number = field.rpartition(" ")[2]
                summed[number] = summed.get(number, 0) + float(value)
        return summed

    def spent(self) -> dict[str, float]:
        """Sums of the spending of all keys, by unit, all days together."""
        summed: dict[str, float] = {}
        for name in self._redis.scan_iter(keys.spent("*", "????-??-??")):
            for unit, value in _hash(self._redis, name).items():
                summed[unit] = summed.get(unit, 0) + float(value)
        return summed

    def metrics(self) -> dict[str, int]:
        """The counters of the line."""
        counters = _hash(self._redis, keys.metrics)
        return {name: int(value) for name, value in counters.items() if "_total{" in name}

    def _read(self) -> None:
        for name in self._redis.scan_iter(RECORDS, count=1000, _type="hash"):
            id = name.decode().rpartition(":")[2]
            if id not in self.jobs:
                record = _hash(self._redis, name)
                # One without a book was never in line: its client left before it arrived.
                if "book" in record and record["state"].encode() in ENDED:
                    self.jobs[id] = self._used(id, record)

    def _used(self, id: str, record: Mapping[str, str]) -> Used:
        entries = cast(list[Any], self._redis.xrange(keys.log(id)))
        purpose = keys.log(id)
        opened = [decode_frame(self._seal.open(fields[b"box"], purpose)) for _, fields in entries]
        events = list(_events(batch for frame in opened for batch in frame))
        said = [text for event in events if (text := _said(event))]
        return Used(
            state=record["state"],
            ran="published" in record or record["state"] == "done",
            units=float(record["units"]),
            text="".join(said),
            pieces=len(said),
            relayed=":" in record["lane"],
            told=any(map(_tells_usage, events)),
            complete=any(isinstance(event, Complete) for event in events),
        )


def _hash(client: redis.Redis, name: str | bytes) -> dict[str, str]:
    fields = cast(dict[bytes, bytes], client.hgetall(cast(str, name)))
    return {field.decode(): value.decode("latin-1") for field, value in fields.items()}


def _events(batches: Iterable[Batch]) -> Iterator[Event]:
    """The events of a log, which may have a batch twice, but lacks none before the last."""
    seen = 0
    for batch in batches:
        known = max(0, seen - batch.first) if batch.first >= 0 else 0
        assert batch.first <= seen, "a log has a gap"
        yield from batch.events[known:]
        seen = max(seen, batch.first + len(batch.events))


def _said(event: Event) -> str:
    if isinstance(event, Delta):
        return event.text
    if not isinstance(event, Piece):
        return ""
    deltas = [choice["delta"] for choice in json.loads(event.data).get("choices", [])]
    members = ("reasoning", "reasoning_content", "content")
    return "".join(delta.get(name) or "" for delta in deltas for name in members)


def _tells_usage(event: Event) -> bool:
    if isinstance(event, Complete):
        return bool(event.usage)
    return isinstance(event, Piece) and bool(json.loads(event.data).get("usage"))


def of_usage(
    counted: Mapping[str, float],
    metrics: Mapping[str, int],
    jobs: Mapping[str, Used],
    told: Sequence[Told],
) -> Iterator[str]:
    """Differences between the usage that was counted and what the jobs used."""

    def differs(what: str, number: float, expected: float) -> Iterator[str]:
        if number != expected:
            yield f"usage counts {number:g} {what}, there were {expected:g}"

    states = [used.state for used in jobs.values()]
    # Their records go at once, since their front ends, if they are not gone, enqueue them again.
    gone = counted.get("ended:front_end_lost", 0)
    ended = {name: number for name, number in counted.items() if name.startswith("ended:")}
    of_line = sum(n for name, n in metrics.items() if name.startswith("gateway_jobs_total"))
    again = metrics.get('gateway_repairs_total{what="resubmitted"}', 0)
    yield from differs("requests", counted.get("requests", 0), len(jobs) + gone)
    yield from differs("requests", counted.get("requests", 0), of_line + again)
    yield from differs("endings", sum(ended.values()), counted.get("requests", 0))
    yield from differs("done", ended.pop("ended:done", 0), states.count("done"))
    yield from differs("cancelled", ended.pop("ended:cancelled", 0), states.count("cancelled"))
    yield from differs("failed", sum(ended.values()) - gone, states.count("failed"))
    ran = [used for used in jobs.values() if used.ran]
    yield from differs("units", counted.get("units", 0), sum(used.units for used in ran))
    yield from differs("tokens out", counted.get("output_tokens", 0), sum(map(_output, ran)))
    yield from _of_clients(counted, jobs, told)


def of_budgets(counted: Mapping[str, float], spent: Mapping[str, float]) -> Iterator[str]:
    """Differences between what listed keys have used and what they have spent."""
    tokens = counted.get("input_tokens", 0) + counted.get("output_tokens", 0)
    for unit, used in {**counted, "tokens": tokens}.items():
        if unit in ("requests", "tokens", "units") and spent.get(unit, 0) != used:
            yield f"keys have spent {spent.get(unit, 0):g} {unit}, and used {used:g}"


def _of_clients(
    counted: Mapping[str, float], jobs: Mapping[str, Used], told: Sequence[Told]
) -> Iterator[str]:
    """Differences to the requests and answers of the clients."""
    requests = {each.request.number: each.request for each in told}
    asked_by = {each.job: each.request for each in told if each.job}
    least = most = 0
    for id, used in jobs.items():
        request = asked_by.get(id) or requests.get(-1 if used.number is None else used.number)
        if request is not None and used.state == "done" and not used.text.endswith(request.answer):
            yield f"the log of {id} is not the answer to its request"
        if used.ran:
            possible = [request] if request else requests.values()
            inputs = [_input(one, used) for one in possible]
            least, most = least + min(inputs), most + max(inputs)
    if not least <= counted.get("input_tokens", 0) <= most:
        yield f"usage counts {counted.get('input_tokens', 0):g} tokens in, {least} to {most} asked"
    for each in told:
        if each.done and (each.job not in jobs or jobs[each.job].state != "done"):
            yield f"request {each.request.number} was answered, but {each.job} is not done"


def _output(used: Used) -> int:
    if used.told and used.complete:
        return used.pieces
    return max(used.pieces if used.told else 0, count(used.text))


def _input(request: Request, used: Used) -> int:
    if used.told:
        return len(request.prompt.split()) + PER_WORD_MESSAGE
    if used.relayed:
        return count(request.prompt)
    return PER_MESSAGE + PER_ANSWER + count(f"user\n{request.prompt}")
