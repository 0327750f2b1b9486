"""The plan of a seed: the requests, and the blows to the processes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

SECRET = "zebrafink"
"""Part of every prompt, answer and bearer; no role may print it."""

Target = Literal["worker", "front", "redis"]
Upstream = Literal["pandora", "openai"]


@dataclass(frozen=True)
class Kind:
    """Treatment of a request by the upstream.

    `whole`: the answer may be whole. `fails`: it may end in an error although no process was
    struck. `steady`: its words come without pauses. `long`: it takes seconds. `busy`: its account
    is busy at the first attempt.
    """

    directive: str
    whole: bool = True
    fails: bool = False
    steady: bool = False
    long: bool = False
    busy: bool = False


def _failing(directive: str) -> Kind:
    return Kind(directive, whole=False, fails=True)


KINDS: tuple[tuple[int, Kind], ...] = (
    (42, Kind("", steady=True)),
    (14, Kind("", steady=True, long=True)),
    (8, Kind("linger=2", steady=True, long=True)),
    (6, Kind("delay=1.5")),
    (3, Kind("ping=0.2 delay=0.7")),
    (3, Kind("fault=no_done", steady=True)),
    (3, Kind("fault=done_unfinished", steady=True)),
    (2, Kind("fault=only_finished")),
    (2, Kind("v1=1", steady=True)),
    (2, Kind("", busy=True)),
    (4, _failing("fault=cut at=4000")),
    (2, _failing("fault=cut at=700")),
    (2, _failing("fault=unfinished_eof")),
    (2, _failing("fault=error_before")),
    (2, _failing("fault=error_after")),
    (2, _failing("fault=silence at_word=3")),
    (1, _failing("fault=hang")),
    (2, _failing("fault=reset")),
    (2, _failing("error=oops")),
    (1, _failing("error=bad_gateway")),
    (1, _failing("error=unavailable")),
    (1, _failing("error=rate")),
)

SOCKET_KINDS: tuple[tuple[int, Kind], ...] = (
    (7, Kind("account=websocket", steady=True)),
    (3, Kind("account=websocket socket=drop at_frame=6")),
)
"""Answers that come over the account's socket. All are short: upstream such an answer outlives its
worker, and it must be over before the worker's lease is, or it is taken for one above the cap."""


RELAYED_KINDS: tuple[tuple[int, Kind], ...] = (
    (42, Kind("", steady=True)),
    (20, Kind("", steady=True, long=True)),
    (6, Kind("delay=1.5")),
    (3, Kind("ping=0.2 delay=0.7")),
    (3, Kind("progress=2 reasoning=3")),
    (3, Kind("fault=no_done", steady=True)),
    (3, Kind("fault=no_finish", steady=True)),
    (3, Kind("fault=cut_after_finish", steady=True)),
    (2, Kind("fault=stale", steady=True)),
    (2, Kind("like=vllm", steady=True)),
    (2, Kind("like=mlx", steady=True)),
    (2, Kind("error=loading times=1")),
    (2, Kind("error=rate times=1")),
    (2, Kind("error=server times=1")),
    (4, _failing("fault=cut at=700")),
    (2, _failing("fault=broken_off")),
    (2, _failing("fault=error at_word=0")),
    (2, _failing("fault=error_done at_word=3")),
    (2, _failing("fault=garbage at_word=3")),
    (2, _failing("fault=only_done")),
    (2, _failing("fault=silence at_word=3")),
    (1, _failing("fault=hang")),
    (2, _failing("fault=reset")),
    (2, _failing("error=image")),
    (1, _failing("error=invalid")),
    (1, _failing("error=bad_gateway")),
)
"""Those of an OpenAI-compatible server."""


@dataclass(frozen=True)
class Request:
    """One request of one client, and its outcome if nothing goes wrong.

    `front` picks one of the front ends that are up. The client disconnects after `leave_after`
    seconds.
    """

    number: int
    kind: Kind
    bearer: str
    prompt: str
    answer: str
    stream: bool
    front: int
    leave_after: float | None


@dataclass(frozen=True)
class Blow:
    """A target to strike: the `pick`th living process, `after` that many seconds, down for `down`
    seconds."""

    target: Target
    kill: bool
    pick: int
    after: float
    down: float


BAG: tuple[tuple[Target, bool], ...] = (
    ("worker", True),
    ("worker", True),
    ("worker", False),
    ("front", True),
    ("front", False),
    ("redis", True),
    ("redis", True),
    ("redis", False),
)
"""Targets, and SIGKILL or SIGTERM; each is struck once, in any order, before any is struck
again."""


def requests(seed: int, count: int, kinds: Sequence[tuple[int, Kind]]) -> list[Request]:
    """The requests, in the order in which they are made. Each kind has a weight."""
    random_ = random.Random(f"requests {seed}")
    return [_request(random_, number, kinds) for number in range(count)]


def blows(seed: int, calm: float) -> Iterator[Blow]:
    """The blows, without end.

    Mostly `calm` seconds or more are between two, sometimes nearly none, so that one strikes while
    the damage of another is being repaired.
    """
    random_ = random.Random(f"blows {seed}")
    while True:
        for target, kill in random_.sample(BAG, len(BAG)):
            near = random_.random() < 0.25
            after = random_.uniform(0.05, 1.0) if near else random_.uniform(calm, 1.6 * calm)
            down = random_.choice((0.0, 0.3, 1.0, 2.0))
            yield Blow(target, kill, random_.randrange(1000), after, down)


def _request(random_: random.Random, number: int, kinds: Sequence[tuple[int, Kind]]) -> Request:
    (kind,) = random_.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])
    words = [SECRET, f"number-{number}"]
    count = random_.randint(100, 250) if kind.long else random_.randint(12, 60)
    words += [f"{random_.getrandbits(24):x}" for _ in range(count)]
    answer = " ".join(words)
    step, interval = random_.randint(5, 17), random_.choice((0.005, 0.01, 0.02, 0.03))
    directive = f"[[sim echo=1 step={step} interval={interval} {kind.directive}]]"
    return Request(
        number=number,
        kind=kind,
        bearer=f"{SECRET}-busy-{number}" if kind.busy else _bearer(random_),
        prompt=answer if kind.busy else f"{directive} {answer}",
        answer=answer,
        stream=random_.random() < 0.7,
        front=random_.randrange(1000),
        leave_after=random_.uniform(0.0, 3.0) if random_.random() < 0.1 else None,
    )


def _bearer(random_: random.Random) -> str:
    if random_.random() < 0.25:
        return f"pk-{SECRET}-{random_.randrange(2)}"
    return f"{SECRET}-{random_.randrange(16)}"
