"""The promises of the line, in virtual time: fair shares, honest forecasts, kept retry times, flat
cost. The same measurements as `python -m benchmarks fairness honesty promises length`, but
smaller. Except for the last test, the figures depend on the seeds and the scripts alone."""

from __future__ import annotations

import pytest

from benchmarks import fairness, honesty, length, promises
from benchmarks.virtual import Job, Kind, world
from wire.line import keys as names
from wire.line.admission import Refused
from wire.redis.client import Redis


@pytest.mark.parametrize("of_one_key", [False, True])
@pytest.mark.parametrize("cap", [3, 100])
async def test_a_light_flow_waits_at_most_two_service_times_behind_200_jobs(
    redis: Redis, cap: int, *, of_one_key: bool
) -> None:
    made = await fairness.light_waits(redis, 1, cap=cap, of_one_key=of_one_key, fifo=False)
    assert made.jobs == 20
    assert made.fair <= fairness.LIMIT


@pytest.mark.parametrize("load", ["two keys, cap 100", "weights 1:3", "long and short jobs"])
async def test_slot_time_is_shared_as_the_weights_say(redis: Redis, load: str) -> None:
    shares = await fairness.shares(redis, 1, fairness.LOADS[load], fifo=False)
    assert shares.worst <= fairness.CLOSE, shares


@pytest.mark.parametrize("models", fairness.MODELS)
async def test_keys_that_share_a_server_are_within_a_job_of_equal_whichever_models_they_ask_for(
    redis: Redis, models: str
) -> None:
    assert await fairness.spread(redis, 1, fairness.MODELS[models], span=800) <= 1


async def test_a_lane_gets_its_slots_and_lends_them(redis: Redis) -> None:
    lanes = await fairness.lanes(redis, 1, span=1000)
    assert lanes.chat == pytest.approx(3, abs=0.2)
    assert lanes.images == pytest.approx(1, abs=0.2)
    assert lanes.chat_alone == pytest.approx(4, abs=0.1)
    assert lanes.image_wait <= fairness.LIMIT


@pytest.mark.parametrize("mix", [honesty.families, honesty.mixed])
async def test_predictions_are_near_what_happens(redis: Redis, mix: honesty.Mix) -> None:
    jobs = await honesty.play(redis, mix, "even", 3, seed=2)
    got = honesty.Accuracy.of(jobs)
    assert got.counted > 250
    assert got.median <= honesty.TARGETS[0], got
    assert got.p90 <= honesty.TARGETS[1], got


@pytest.mark.parametrize(
    ("limit", "keys", "mean"),
    [("max_waiting", 8, 20.0), ("max_wait", 60, 20.0), ("max_waiting", 8, 0.2)],
)
async def test_a_client_that_retries_at_its_retry_time_is_accepted_in_the_simulation(
    redis: Redis, limit: str, keys: int, mean: float
) -> None:
    """Also next to many light keys, after a long answer of their own in the meantime, and with
    answers so short that other jobs of their key arrive all the time."""
    kept = await promises.promises(redis, 2, limit, keys=keys, mean=mean)
    assert kept.refused > 40
    assert kept.returned > 20
    assert kept.part >= promises.TARGET, kept


async def test_a_promise_is_kept_even_if_its_key_is_ahead_of_its_share(
    redis: Redis,
) -> None:
    made = await world(redis, 1, slots=1, max_wait=40.0)
    heavy = Kind("heavy", lambda: 15.0)
    for _ in range(4):  # that much is known then
        assert isinstance(await made.send(heavy), Job)
        await made.run(15.0)
    answers = [await made.send(heavy) for _ in range(5)]
    told = answers[-1]
    assert isinstance(told, Refused), answers
    await made.run(told.retry_after)
    assert isinstance(await made.send(Kind("other", lambda: 15.0)), Job)
    # An answer took a minute longer than others.
    record = names.key("heavy")
    paid = float(await redis.hget(record, "chat paid") or 0)  # type: ignore[misc]  # redis-py: sync or async
    await redis.hset(record, "chat paid", str(paid + 60_000))  # type: ignore[misc]  # redis-py: sync or async
    returned = await made.send(heavy)
    assert isinstance(returned, Job), returned
    assert float(await redis.hget(record, "chat paid") or 0) == paid + 60_000  # type: ignore[misc]  # redis-py: sync or async
    await made.run()
    assert returned.waited <= 80.0


async def test_a_client_that_ignores_its_retry_time_does_not_keep_others_out(redis: Redis) -> None:
    kept = await promises.promises(redis, 1, "max_waiting", load=0.9, quitters=4)
    assert kept.part >= promises.TARGET, kept
    assert kept.longest <= 60


@pytest.mark.parametrize(("keys", "models"), [(5, 0), (2000, 0), (2000, 10)])
async def test_a_long_line_costs_no_more_than_a_short_one(
    redis: Redis, keys: int, models: int
) -> None:
    """Medians of the time in Redis; a cost that grew with the length would be some twenty times as
    much."""
    short = await length.cost(redis, 100, min(keys, 100), 25, models)
    long = await length.cost(redis, 2000, keys, 25, models)
    for name in length.OPERATIONS:
        assert getattr(long, name) <= 3 * getattr(short, name), (name, short, long)
