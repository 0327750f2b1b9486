"""Lines that begin with nothing known, in virtual time: no false refusals, equal parts for equals.

Each of them was wrong while a length that was guessed once stayed in the line's virtual times.
"""

from __future__ import annotations

import pytest

from benchmarks import random_lines
from benchmarks.random_lines import Findings
from benchmarks.virtual import Job, Kind, World, world
from wire.line.admission import Refused
from wire.redis.client import Redis


def program(
    made: World, kind: Kind, total: int, width: int, delay: float = 0.0
) -> list[Job | Refused]:
    """Send `total` jobs, `width` at a time. Returns the list that their answers are added to."""
    answers: list[Job | Refused] = []
    left = total

    async def again() -> None:
        nonlocal left
        if left:
            left -= 1
            answers.append(await made.send(kind, ended))

    async def ended() -> None:
        made.after(0.02, again)

    for number in range(width):
        made.after(delay + number * 0.002, again)
    return answers


def started(made: World, name: str, since: float, till: float) -> int:
    """Number of a sender's jobs that started within a span of time."""
    return sum(job.name == name and since <= job.started < till for job in made.started)


async def test_five_keys_with_short_jobs_on_four_slots_are_never_refused(redis: Redis) -> None:
    made = await world(redis, 1, slots=4, max_wait=300.0)
    answers = [
        program(made, Kind(f"key-{n}", lambda n=n: 0.2 * (1 + 0.01 * n)), 8, 2)  # type: ignore[misc]  # mypy: default arguments of a lambda
        for n in range(5)
    ]
    await made.run()
    assert all(isinstance(answer, Job) for its in answers for answer in its)
    assert max(job.waited for job in made.started) < 1


async def test_of_two_equal_keys_the_first_to_arrive_starves_neither_itself_nor_the_other(
    redis: Redis,
) -> None:
    made = await world(redis, 1, slots=2, max_wait=300.0)
    begin = made.now
    program(made, Kind("a", lambda: 0.2, cap=8), 400, 40)
    program(made, Kind("b", lambda: 0.2, cap=8), 300, 40, delay=3.0)
    await made.run()
    got = [started(made, name, begin + 3, begin + 18) for name in "ab"]
    assert abs(got[0] - got[1]) <= 2, got


async def test_of_two_equal_users_of_a_key_the_later_one_gets_an_equal_part(redis: Redis) -> None:
    made = await world(redis, 1, slots=4, max_wait=300.0)
    begin = made.now
    for user, width, delay in (("a", 30, 0.0), ("b", 10, 3.0)):
        program(made, Kind("team", lambda: 0.5, user, user, cap=4), 200, width, delay)
    await made.run()
    got = [started(made, name, begin + 3, begin + 18) for name in "ab"]
    assert abs(got[0] - got[1]) <= 4, got


async def test_a_guess_of_image_lengths_refuses_no_chats(redis: Redis) -> None:
    made = await world(redis, 1, slots=4, max_wait=300.0)
    program(made, Kind("warm", lambda: 1.0, cap=4), 20, 4)
    await made.run(30)
    answers = []
    for n in range(30):
        image = Kind(f"key-{n}", lambda: 2.0, lane="images")
        program(made, image, 2, 1, delay=n * 0.02)
        answers.append(program(made, Kind(f"key-{n}", lambda: 1.0), 3, 1, delay=1 + n * 0.02))
    await made.run()
    assert all(isinstance(answer, Job) for its in answers for answer in its)


async def test_a_limit_of_the_client_is_not_compared_with_a_guess(redis: Redis) -> None:
    made = await world(redis, 1, slots=1)
    for key in ("a", "b", "c", "d"):
        for _ in range(2):
            answer = await made.send(Kind(key, lambda: 0.2), max_wait=30.0)
            assert isinstance(answer, Job), answer
    await made.run()
    assert max(job.waited for job in made.started) < 2


@pytest.mark.parametrize("cap", [1, 2, 8])
@pytest.mark.parametrize("slots", [1, 4])
async def test_a_light_key_waits_for_about_one_job_of_a_heavy_one_from_a_cold_start(
    redis: Redis, slots: int, cap: int
) -> None:
    made = await world(redis, 1, slots=slots)
    length = 60.0
    heavy = Kind("heavy", lambda: length * made.random.uniform(0.9, 1.1), cap=cap)
    program(made, heavy, 120, 60)
    light = made.one_by_one(
        Kind("light", lambda: length, cap=cap), 8, think=0.01 * length, delay=3.7 * length
    )
    await made.run()
    assert max(job.waited for job in light) <= 1.2 * length


@pytest.mark.parametrize("seed", range(1, 9))
async def test_a_random_line_refuses_few_jobs_falsely_and_passes_no_key_over(
    redis: Redis, seed: int
) -> None:
    findings = Findings()
    await random_lines.play(redis, seed * 101, findings)
    assert findings.jobs > 100
    assert findings.false_part <= random_lines.FALSE
    assert findings.starved == []
    assert findings.misled == []
