"""The throttle of those who keep coming although they are refused."""

from __future__ import annotations

from app.throttle import FREE, HIGHEST, LONGEST, NAMES, STEP, TOO_MANY, Throttle


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def refuse(throttle: Throttle, times: float, name: str = "key") -> float:
    delays = [throttle.refuse(name) for _ in range(int(times))]
    return delays[-1]


def test_a_few_refusals_at_once_are_not_delayed() -> None:
    assert refuse(Throttle(Clock()), FREE) == 0


def test_further_ones_are_delayed_more_and_more_up_to_a_limit() -> None:
    throttle = Throttle(Clock())
    refuse(throttle, FREE)
    assert [round(throttle.refuse("key") / STEP) for _ in range(3)] == [1, 2, 3]
    assert refuse(throttle, 1000) == LONGEST
    assert throttle.refuse("another") == 0


def test_one_refusal_a_second_is_never_delayed() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for _ in range(100):
        assert throttle.refuse("key") == 0
        clock.now += 1


def test_the_level_sinks_and_does_not_grow_without_bound() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    refuse(throttle, 10_000)
    assert throttle.excess("key") == HIGHEST - TOO_MANY
    clock.now += HIGHEST - TOO_MANY
    assert throttle.excess("key") == 0
    clock.now += HIGHEST
    assert refuse(throttle, FREE) == 0


def test_many_names_are_forgotten_in_the_order_of_their_last_refusals() -> None:
    throttle = Throttle(Clock())
    for name in ("first", "second"):
        refuse(throttle, 1000, name)
    throttle.refuse("first")
    for number in range(NAMES - 1):
        throttle.refuse(str(number))
    assert throttle.excess("first") > 0
    assert throttle.excess("second") == 0
