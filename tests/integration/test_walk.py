"""Random walks over the operations of the line, on a real Redis and a stopped clock.

After every step, everything in Redis is compared with the records of the jobs and with a simple
model of the replies to clients and workers: every job is in exactly one place, all counts match, no
cap is exceeded, no seat stays free while a job waits for it, and no job has two endings. At the end
nothing is left.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from itertools import count
from math import inf
from typing import Any

import msgspec
import pytest

import settings
from benchmarks.line import WholeLine
from tests.support.line import shared
from wire import VERSION
from wire.jobs import shared_family
from wire.line.admission import Accepted, Attached, Clash, NewJob, Refused
from wire.line.board import PauseKind
from wire.line.claims import Claim, Requeued
from wire.line.operator import OperatorLine
from wire.line.presence import Presence
from wire.redis.client import Redis
from wire.seal import Seal
from wire.upkeep.reconciler import reconcile

CONFIG = settings.Queue(
    max_waiting=14,
    max_waiting_per_key=6,
    max_bytes=2500,
    max_wait=3600,
    resume_grace=20,
    keep_result=100,
    lease=60,  # so long that Redis, whose own clock goes on, expires nothing during a walk
    heartbeat=20,
)
CAPS = {"a": 1, "b": 3, "c": 2, "d": 1}
"""Slots of each key's own account."""
KEY_CAPS = {"a": 0, "b": 0, "c": 2, "d": 0}
"""Jobs that each key may have at once; 0: any number."""
LANES: list[str] = ["chat", "images"]
FAMILIES: list[str] = ["gpt_4_s", "gpt_3_5"]
FRONTS = ["f1", "f2", "f3"]
POOL_LANES = ["chat:@gpt_4_s", "images:@gpt_4_s"]
SHARED = [
    shared(
        "main",
        *LANES,
        *POOL_LANES,
        accounts=["main/one", "main/two"],
        max_concurrency=6,
        circuit_failures=4,
    ),
    shared("gpu", "chat:a", "chat:b", accounts=["gpu_1", "gpu_2"], max_concurrency=3),
    shared("box", "chat:a", "embeddings:e", slots=3),
]
"""Upstreams with accounts that all keys share. Two of them offer the model `a`; jobs of the first
run there, or on accounts of their keys' own, within one cap."""
ACCOUNTS = {name: slots for offer in SHARED for name, slots in offer.accounts.items()}
SERVED = {offer.upstream: offer.lanes for offer in SHARED}
SHARED_LANES = sorted({lane for offer in SHARED for lane in offer.lanes if ":" in lane})
MOST = {"main": 6, "gpu": 3, "box": 3}
PAUSABLE: list[tuple[PauseKind, str]] = [
    ("all", ""),
    *(("key", name) for name in CAPS),
    *(("upstream", name) for name in SERVED),
    *(("account", name) for name in (*CAPS, *ACCOUNTS) * 2),
]
WORKERS = {"w1": ("main", "gpu"), "w2": ("main", "gpu", "box"), "w3": ("box",)}


class Job(msgspec.Struct):
    """The model of a job."""

    new: NewJob
    claim: Claim | None = None
    """Its claim while it runs."""
    published: bool = False
    withdrawn: bool = False
    readers: dict[str, str] = {}
    """The front end of each."""
    ended: str | None = None


class Walk:
    """The line, its model, and the steps."""

    def __init__(self, redis: Redis, queue: WholeLine, seal: Seal, seed: int) -> None:
        self.redis = redis
        self.queue = queue
        self.operator = OperatorLine(queue.scripts, CONFIG)
        self.random = random.Random(seed)
        self.fingerprint = seal.fingerprint
        self.clock = 1_700_000_000_000_000
        self.jobs: dict[str, Job] = {}
        self.keys: dict[str, str] = {}
        self.alive = dict.fromkeys(FRONTS, True)
        self.workers = dict.fromkeys(WORKERS, True)
        self.stale: list[Claim] = []
        self.numbers = count(1)
        self.holders: dict[str, str] = {}
        self.taken: Counter[str] = Counter()
        self.tokens: dict[str, str] = {}
        """Names of the tokens of shared accounts, if they have changed."""

    async def begin(self) -> None:
        await self.pass_time(0)
        for front in FRONTS:
            await self.queue.presences.show_front_end(front)
        await self.renew()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, with calls often enough to avoid a disturbance."""
        while True:
            step = min(seconds, 10.0)
            self.clock += round(step * 1e6) + 1
            await self.redis.set("test:clock", self.clock)
            seconds -= step
            if seconds <= 0:
                return
            await self.renew()

    # Steps

    async def enqueue(self) -> None:
        key = self.random.choice([None, None, "k1", "k2", "k3"])
        account = self.random.choice(list(CAPS))
        id = f"job-{next(self.numbers)}"
        own = self.random.random() < 0.4
        lane = self.random.choice(LANES if own else SHARED_LANES)
        new = NewJob(
            id=id,
            key=account,
            front_end=self.random.choice([f for f in FRONTS if self.alive[f]] or FRONTS),
            lane=lane,
            family=self.random.choice(FAMILIES) if own else shared_family(lane),
            own_slots=CAPS[account] if own else 0,
            key_slots=KEY_CAPS[account],
            slots=1 if own else self.random.choice([1, 1, 1, 2]),  # no more than an account has
            user=self.random.choice(["u", "v"]),
            weight=self.random.choice([0.5, 1.0, 3.0]),
            tier=self.random.choice([0.25, 1.0, 4.0]),
            band=self.random.choice([0.0, 1e12]),
            bytes=self.random.randrange(300),
            idem=key and f"{account}-{key}",
            digest=self.random.choice(["x", "x", "x", "y"]),
        )
        self.alive[new.front_end] = True
        match await self.queue.enqueue(new, id.encode()):
            case Accepted(place, wait):
                assert place >= 1
                assert wait >= 0
                assert not await self.paused() & {("all", ""), ("key", account)}
                self.jobs[id] = Job(new, readers={id: new.front_end})
                if new.idem:
                    self.keys[new.idem] = id
            case Attached(other):
                assert new.idem
                assert self.keys[new.idem] == other
                job = self.jobs[other]
                assert job.new.digest == new.digest
                assert job.ended in (None, "done")
                if job.ended is None:
                    job.readers[id] = new.front_end
            case Clash("mismatch"):
                assert new.idem
                assert self.jobs[self.keys[new.idem]].new.digest != new.digest
            case Refused(reason, retry_after):
                assert retry_after >= 0
                self.taken[reason] += 1
            case other:
                pytest.fail(f"unexpected: {other}")

    async def claim(self) -> None:
        worker = self.random.choice([w for w, alive in self.workers.items() if alive] or ["w1"])
        names = WORKERS[worker]
        paused = await self.paused()
        limit = self.random.choice([1, 2, 4, 100])
        claims = await self.queue.claim(worker, limit, names)
        if limit == 100:  # jobs that a dead front end has left may hold seats until the first claim
            claims += await self.queue.claim(worker, limit, names)
        for claim in claims:
            job = self.jobs[claim.id]
            assert claim.upstream in names
            assert claim.lane in SERVED[claim.upstream]
            assert claim.account in self.accounts_of(claim)
            assert not paused & {("upstream", claim.upstream), ("account", claim.account)}
            assert job.ended is None
            assert job.claim is None, "claimed twice"
            assert claim.body == claim.id.encode()
            assert (claim.lane, claim.key, claim.family) == (
                job.new.lane,
                job.new.key,
                job.new.family,
            )
            assert all(c.attempt < claim.attempt for c in self.stale if c.id == claim.id)
            assert set(job.readers.values()) & set(claim.front_ends) or job.new.idem
            job.claim = claim
            self.taken["claimed"] += 1
            self.taken[claim.upstream] += 1
            self.taken[claim.account] += 1
        running = [job.claim for job in self.open() if job.claim]
        for key, held in Counter(each.key for each in running).items():
            assert held <= (KEY_CAPS[key] or held)

        if limit == 100 and (await self.queue.snapshot()).settling == 0:
            await self.check_free_slots(names)

    async def check_free_slots(self, upstreams: tuple[str, ...]) -> None:
        """Check that no slot of an upstream is free for a job that is in a queue."""
        held = await self.snapshot()
        later, paused = held.get("gateway:later", {}), await self.paused()
        queued = [
            int(held[f"gateway:job:{id}"].get("slots", 1))
            for key, ids in held.items()
            if key.startswith("arq:queue:")
            for id in ids
        ]
        for offer in SHARED:
            name = offer.upstream
            sorts = ("embeddings", "chat", "images")
            embedding, *others = (held.get(f"gateway:leases:{name}:{sort}", {}) for sort in sorts)
            taken = len(embedding) + sum(map(len, others))
            if taken >= MOST[name] or name not in upstreams or f"gateway:breaker:{name}" in held:
                continue
            if ("upstream", name) in paused:
                continue
            if max(queued, default=1) > 1:
                continue  # the slots may be kept free for a job that needs several
            for account, slots in offer.accounts.items():
                record = held[f"gateway:account:{account}"]
                learned = 1.0 if "aside" in record else float(record.get("learned", slots))
                here = len(held.get(f"gateway:holds:{account}", ()))
                if here >= max(1, int(learned)) or f"account {account}" in later:
                    continue
                if ("account", account) in paused:
                    continue
                for lane in filter(SHARED_LANES.__contains__, offer.lanes):
                    parked = f"family {account} {lane.partition(':')[2]}" in later
                    if parked or (
                        lane.startswith("embeddings") and len(embedding) >= MOST[name] - 1
                    ):
                        continue
                    for id in held.get(f"arq:queue:{lane}:{self.fingerprint}", {}):
                        assert held[f"gateway:job:{id}"].get("avoid") == name
                        self.taken["avoided"] += 1
            self.taken["free slots"] += 1

    def accounts_of(self, claim: Claim) -> list[str]:
        """The accounts on which a job may run at its upstream."""
        if ":" not in claim.lane:
            return [claim.key]
        return [
            name for offer in SHARED if offer.upstream == claim.upstream for name in offer.accounts
        ]

    async def say_first(self) -> None:
        claim, current = self.some_claim()
        if claim is not None:
            assert await self.queue.begin(claim, b"entry", {}) == current
            self.jobs[claim.id].published |= current

    async def finish(self) -> None:
        claim, current = self.some_claim()
        if claim is None:
            return
        state: Any = self.random.choice(["done", "done", "failed", "cancelled"])
        failed = state == "failed" and self.random.random() < 0.3
        reason = {"failed": "upstream_error"}.get(state, "")
        told = await self.queue.finish(
            claim.id, claim.attempt, state, b"entry", {}, reason=reason, upstream_failed=failed
        )
        assert told == current
        if current:
            self.ended(claim.id, state)

    async def put_back(self) -> None:
        claim, current = self.some_claim()
        if claim is None:
            return
        calls: list[Callable[[], Awaitable[Requeued]]] = [
            lambda: self.queue.cool_down(claim, 5, 60, self.random.choice([0.0, 0.0, 40.0])),
            lambda: self.queue.park(claim, self.random.choice([5, 100, 1000])),
            lambda: self.queue.retry(claim, 2, 10, 3, doubtful=self.random.random() < 0.3),
            lambda: self.queue.requeue(claim),
            lambda: self.queue.set_aside(
                claim,
                "token_refused",
                self.tokens.get(claim.account, ""),
                self.random.choice([0, 9]),
            ),
        ]
        if claim.on_own_account:
            calls.pop()
        which = self.random.randrange(len(calls))
        said = await calls[which]()
        job = self.jobs[claim.id]
        if not current or job.published:
            assert said == "not_current"
        elif job.withdrawn:
            assert said in ("cancelled", "operator")
        elif said == "exhausted":
            assert which == 2, "only who retries may have done so often enough"
        else:
            assert said == "requeued"
            self.taken["put back"] += 1
            self.waits(job)

    async def leave(self) -> None:
        read = [(id, job) for id, job in self.jobs.items() if job.readers]
        if not read:
            return
        id, job = self.random.choice(read)
        reader = self.random.choice(list(job.readers))
        enough = job.published and self.random.random() < 0.2
        for _ in range(self.random.choice([1, 1, 2])):  # the reply may get lost
            await self.queue.detach(id, reader, enough=enough)
        if job.ended is not None:
            del job.readers[reader]
        elif enough:
            job.withdrawn = True
            return
        else:
            del job.readers[reader]
        if job.ended is None and not self.is_read(job) and not job.new.idem:
            if job.claim:
                job.withdrawn = True
            else:
                self.ended(id, "cancelled")

    async def withdraw(self) -> None:
        if not self.open():
            return
        job = self.random.choice(self.open())
        word = await self.queue.cancel(job.new.id, unless_waiting=self.random.random() < 0.5)
        if word == "cancelled":
            assert job.claim is None
            self.ended(job.new.id, "cancelled")
        elif word == "running":
            assert job.claim is not None
            job.withdrawn |= await self.is_marked(job)

    async def operator_cancels(self) -> None:
        if not self.open():
            return
        job = self.random.choice(self.open())
        state, _ = await self.operator.cancel(job.new.id)
        if state == "waiting":
            assert job.claim is None
            assert await self.queue.finish_waiting(
                job.new.id, "cancelled", b"entry", {}, reason="operator"
            )
            self.ended(job.new.id, "cancelled")
        else:
            assert state == "running" or job.withdrawn
            assert job.claim is not None
            job.withdrawn = True

    async def operator_pauses(self) -> None:
        what, name = self.random.choice(PAUSABLE)
        seconds = self.random.choice([None, 5, 40])
        result, pause = await self.operator.pause(what, name, "operator", seconds)
        assert (pause is None) == (result == "unknown")
        self.taken[f"paused {what}"] += pause is not None

    async def operator_resumes(self) -> None:
        for pause in await self.operator.pauses():
            assert await self.operator.resume(pause.what, pause.name)

    async def operator_wakes(self) -> None:
        account = self.random.choice([*CAPS, *ACCOUNTS])
        await self.operator.wake(account)
        assert not await self.operator.wake(account), "there is nothing left to end"

    async def paused(self) -> set[tuple[str, str]]:
        """Everything that is paused now."""
        now, found = self.clock / 1e6, await self.operator.pauses()
        return {(one.what, one.name) for one in found if (one.until or inf) > now}

    async def end_waiting(self) -> None:
        if not self.open():
            return
        job = self.random.choice(self.open())
        told = await self.queue.finish_waiting(
            job.new.id, "failed", b"entry", {}, reason="forbidden"
        )
        assert told == (job.claim is None)
        if told:
            self.ended(job.new.id, "failed")

    async def front_dies(self) -> None:
        front = self.random.choice(FRONTS)
        self.alive[front] = False
        await self.queue.presences.remove_front_end(front)

    async def front_comes_back(self) -> None:
        front = self.random.choice(FRONTS)
        self.alive[front] = True
        await self.queue.presences.show_front_end(front)

    async def renew(self) -> None:
        for offer in SHARED:
            tokens = {name: self.tokens.get(name, "") for name in offer.accounts}
            await self.queue.offer(msgspec.structs.replace(offer, tokens=tokens))
        for worker, alive in self.workers.items():
            held = [job.claim for job in self.open() if job.claim and self.holder(job) == worker]
            presence = Presence(worker, VERSION, self.fingerprint, 10, WORKERS[worker])
            for id, verdict in await self.queue.renew(presence, held) if alive else ():
                job = self.jobs[id]
                assert verdict in ("cancel", "operator")
                assert job.withdrawn or not self.is_read(job)

    async def token_changes(self) -> None:
        account = self.random.choice(list(ACCOUNTS))
        self.tokens[account] = str(next(self.numbers))
        await self.renew()
        later = await self.scores("gateway:later")
        assert not [what for what in later if what.split()[1] == account], "it is used again"

    async def worker_stops(self) -> None:
        """A worker dies with all its leases: perhaps the last one that serves an upstream."""
        worker = self.random.choice(list(WORKERS))
        self.workers[worker] = False
        await self.queue.presences.remove_worker(worker)
        lost = [job.claim for job in self.open() if job.claim and self.holder(job) == worker]
        for claim in lost:
            await self.expire(claim)
        await self.reap()

    async def worker_starts(self) -> None:
        self.workers[self.random.choice(list(WORKERS))] = True
        await self.renew()

    async def expire(self, claim: Claim) -> None:
        sort = claim.lane.partition(":")[0]
        leases = f"gateway:leases:{claim.upstream}:{sort}"
        await self.redis.zadd(leases, {claim.id: self.clock / 1000 - 1})

    async def worker_dies(self) -> None:
        """Expire one lease; its holder may still try to publish."""
        running = [job for job in self.open() if job.claim]
        if running:
            job = self.random.choice(running)
            assert job.claim is not None
            await self.expire(job.claim)
            await self.reap()

    async def reap(self) -> None:
        names = [name async for name in self.redis.scan_iter("gateway:leases:*")]
        leases = [await self.scores(name.decode()) for name in names]
        lapsed = {
            id.partition(" ")[0]
            for of in leases
            for id, until in of.items()
            if until <= self.clock / 1000
        }
        back, ended = await self.queue.reap()
        assert back + len(ended) in (0, len(lapsed))
        for one in ended:
            job = self.jobs[one.id]
            assert job.claim
            assert job.claim.attempt == one.attempt
            assert await self.queue.finish(one.id, one.attempt, "failed", b"entry", {})
            self.ended(one.id, "failed")
        if back:
            for id in lapsed - {one.id for one in ended}:
                self.waits(self.jobs[id])
        self.taken["crashed"] += back

    async def look(self) -> None:
        if self.jobs:
            job = self.random.choice(list(self.jobs.values()))
            idem = job.new.idem if self.random.random() < 0.5 else None
            found = await self.queue.status(job.new.id, job.new.key, idem or "")
            assert found is not None or job.ended
            assert await self.queue.status(job.new.id, "another", idem or "") is None
            if found is not None and found.state == "waiting":
                assert found.position is not None
                assert found.position >= 1

    async def time_passes(self) -> None:
        await self.pass_time(self.random.choice([0.01, 0.5, 3, 15, 70]))

    # The model

    def open(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.ended is None]

    def holder(self, job: Job) -> str:
        return self.holders.get(job.new.id, "")

    def some_claim(self) -> tuple[Claim | None, bool]:
        """A current claim or a lost one, and which of the two it is."""
        current = [job.claim for job in self.open() if job.claim]
        if self.stale and (not current or self.random.random() < 0.2):
            return self.random.choice(self.stale), False
        return (self.random.choice(current), True) if current else (None, False)

    def is_read(self, job: Job) -> bool:
        return any(self.alive[front] for front in job.readers.values())

    def waits(self, job: Job) -> None:
        assert job.claim
        self.stale.append(job.claim)
        job.claim = None

    def ended(self, id: str, state: str) -> None:
        job = self.jobs[id]
        assert job.ended is None, "a second ending"
        if job.claim:
            self.waits(job)
        job.ended = state
        self.taken[f"ended {state}"] += 1

    async def is_marked(self, job: Job) -> bool:
        return bool(await self.redis.hexists(f"gateway:job:{job.new.id}", "cancel"))  # type: ignore[misc]  # redis-py: sync or async

    # Contents of Redis

    async def scores(self, key: str) -> dict[str, float]:
        return {
            member.decode(): score
            for member, score in await self.redis.zrange(key, 0, -1, withscores=True)
        }

    async def snapshot(self) -> dict[str, Any]:
        """Everything, by key: sorted sets as dicts, hashes as dicts, sets as sets."""
        names = sorted(await self.redis.keys("*"))
        async with self.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.type(name)
            types = await pipe.execute()
            for name, kind in zip(names, types, strict=True):
                match kind:
                    case b"zset":
                        pipe.zrange(name, 0, -1, withscores=True)
                    case b"hash":
                        pipe.hgetall(name)
                    case b"set":
                        pipe.smembers(name)
                    case b"string":
                        pipe.get(name)
                    case _:
                        pipe.exists(name)
            values = await pipe.execute()
        found: dict[str, Any] = {}
        for name, kind, value in zip(names, types, values, strict=True):
            if kind == b"none" or value is None:
                continue  # it has just expired
            if kind == b"zset":
                value = {member.decode(): score for member, score in value}
            elif kind == b"hash":
                value = {k.decode(): v.decode("latin-1") for k, v in value.items()}
            elif kind == b"set":
                value = {member.decode() for member in value}
            found[name.decode()] = value
        return found

    async def check(self) -> None:
        """Compare everything."""
        held = await self.snapshot()

        def members(pattern: str) -> dict[str, set[str]]:
            found = ((re.fullmatch(pattern, key), value) for key, value in held.items())
            return {match[1]: set(value) for match, value in found if match}

        later, paused = held.get("gateway:later", {}), await self.paused()
        records = {
            key.removeprefix("gateway:job:"): value
            for key, value in held.items()
            if key.startswith("gateway:job:") and "lane" in value
        }
        self.holders = {id: record.get("worker", "") for id, record in records.items()}
        await self.follow(records)

        places: defaultdict[str, list[str]] = defaultdict(list)
        for name, key in (
            ("queue", r"arq:queue:([\w:@]+):\w+"),
            ("line", r"gateway:line:([\w:@]+)"),
            ("running", r"gateway:running:(\w+)"),
            ("holds", r"gateway:holds:([\w/]+)"),
        ):
            for of, ids in members(key).items():
                for id in ids:
                    if " " in id:
                        continue  # a further lease of a job
                    places[id].append(name)
                    record = records[id]
                    expected = {
                        "queue": record["lane"],
                        "line": ":".join(record[name] for name in ("key", "lane", "family")),
                        "running": record["key"],
                        "holds": record.get("account", ""),
                    }
                    assert expected[name] == of
        for what in later:
            if what.startswith("job "):
                places[what.removeprefix("job ")].append("later")

        open_jobs = {job.new.id: job for job in self.open()}
        assert set(places) == set(open_jobs), "a job is nowhere, or its ghost somewhere"
        for id, job in open_jobs.items():
            record = records[id]
            assert len(places[id]) == (2 if job.claim else 1), places[id]
            assert record["state"] == ("running" if job.claim else "waiting")
            assert (places[id] == ["running", "holds"]) == (job.claim is not None)
            if job.claim:
                assert record["attempt"] == str(job.claim.attempt)
            readers = sorted(f"{front}/{reader}" for reader, front in job.readers.items())
            assert sorted(record["readers"].split()) == readers
            if job.new.idem and self.keys[job.new.idem] == id:
                assert held[f"gateway:idem:{job.new.idem}"].decode().split()[0] == id
            if not job.readers and not job.withdrawn:
                assert job.new.idem
                assert f"orphan {id}" in later, "nobody reads it, and it is never ended"
        assert not [key for key in held if key.startswith("arq:job:")], "only a worker makes those"
        for what in later:
            if what.startswith("orphan "):
                assert what.removeprefix("orphan ") in open_jobs

        queued = members(r"gateway:queued:(\w+)")
        running = members(r"gateway:running:(\w+)")
        lines = members(r"gateway:line:([\w:@]+)")
        leases = members(r"gateway:leases:(\w+:\w+)")
        seats_left: dict[str, bool] = {}
        for key, most in KEY_CAPS.items():
            its = queued.get(key, set())
            assert its == {
                id
                for id, job in open_jobs.items()
                if places[id] == ["queue"] and job.new.key == key
            }
            assert len({open_jobs[id].new.lane for id in its}) == len(its), "one for each lane"
            number = len(its) + len(running.get(key, set()))
            assert number <= (most or number)
            seats_left[key] = not most or number < most
            for lane in SHARED_LANES:
                name = f"{key}:{lane}:{shared_family(lane)}"
                stands = any(open_jobs[id].new.lane == lane for id in its)
                assert stands or not seats_left[key] or not lines.get(name), (
                    "a key has no job in the queue of a lane, and one waits for that"
                )
        for account, cap in CAPS.items():
            seated = {id for id in queued.get(account, set()) if open_jobs[id].new.own_slots}
            runs = {id for id in running.get(account, set()) if open_jobs[id].new.own_slots}
            hash = held.get(f"gateway:account:{account}", {})
            learned = float(hash.get("learned", cap))
            assert ("learned" in hash) == (account in held.get("gateway:limited", set()))
            capacity = max(1, min(cap, int(learned)))
            assert len(runs) <= cap
            assert not seated or len(seated) + len(runs) <= capacity
            resting = f"account {account}" in later
            assert not (resting and seated), "it rests, and its jobs may be claimed"
            is_paused = ("account", account) in paused
            assert not (is_paused and seated), "it is paused, and its jobs may be claimed"
            # Its time may be over, which the next claim will find.
            resting |= f"account {account}" in held.get("gateway:pauses", {})
            for family in FAMILIES:
                parked = f"family {account} {family}" in later
                assert not parked or not any(open_jobs[id].new.family == family for id in seated), (
                    "the family is parked, and its jobs may be claimed"
                )
                for lane in LANES:
                    if not lines.get(f"{account}:{lane}:{family}"):
                        continue
                    assert f"{lane} {family}" in held[f"gateway:lines:{account}"]
                    # One of a lane at a time: the first in line may wait for the one before.
                    stands = any(open_jobs[id].new.lane == lane for id in seated)
                    full = not seats_left[account] or len(seated) + len(runs) >= capacity
                    assert parked or resting or stands or full, (
                        "a seat is empty, a job waits for it"
                    )
        self.check_upstreams(held, open_jobs)

        for lane in [*LANES, *SHARED_LANES]:
            of_lane = {id: job for id, job in open_jobs.items() if job.new.lane == lane}
            waiting = {id for id, job in of_lane.items() if not job.claim}
            sort = lane.partition(":")[0]
            waits = held.get(f"gateway:waiting:{sort}", {})
            assert {id for id in waits if open_jobs[id].new.lane == lane} == waiting
            backlog = Counter(open_jobs[id].new.key for id in waiting)
            assert held.get(f"gateway:backlog:{lane}", {}) == backlog
            for key in CAPS:
                assert held.get(f"gateway:waits:{key}", {}).get(lane, 0) == backlog[key]
            leased = {
                id.partition(" ")[0]
                for of, ids in leases.items()
                for id in ids
                if of.endswith(f":{sort}")
            }
            assert leased & set(of_lane) == set(of_lane) - waiting
        kept = sum(job.new.bytes for job in open_jobs.values())
        assert int(held.get("gateway:bytes", 0)) == kept <= CONFIG.max_bytes
        endings = sum(
            int(value)
            for name, value in held.get("gateway:metrics", {}).items()
            if name.startswith("gateway_endings_total")
        )
        assert endings == len(self.jobs) - len(open_jobs), "each job has one ending"
        assert await reconcile(self.queue, 0.1) == 0, "nothing is to be repaired"
        await self.redis.delete("gateway:reconciler")

    def check_upstreams(self, held: dict[str, Any], open_jobs: dict[str, Job]) -> None:
        """Compare leases, slots of accounts and the lanes that have jobs in their queues."""
        leased = {
            key.removeprefix("gateway:leases:"): set(value)
            for key, value in held.items()
            if key.startswith("gateway:leases:")
        }
        slots = {
            key.removeprefix("gateway:holds:"): value
            for key, value in held.items()
            if key.startswith("gateway:holds:")
        }
        expected: defaultdict[str, set[str]] = defaultdict(set)
        of_accounts: defaultdict[str, set[str]] = defaultdict(set)
        for id, job in open_jobs.items():
            if job.claim:
                number = int(held[f"gateway:job:{id}"].get("leased", 1))
                assert number == (1 if job.new.own_slots else job.new.slots)
                names = {id, *(f"{id} {n}" for n in range(2, number + 1))}
                expected[f"{job.claim.upstream}:{job.new.lane.partition(':')[0]}"] |= names
                of_accounts[job.claim.account] |= names
        assert leased == expected
        assert slots == of_accounts
        for upstream, most in MOST.items():
            assert sum(len(of) for name, of in leased.items() if name.startswith(upstream)) <= most
        for account, most in (CAPS | ACCOUNTS).items():
            assert len(slots.get(account, ())) <= most
        queues = (re.fullmatch(r"arq:queue:([\w:@]+):\w+", key) for key in held)
        assert held.get(f"gateway:ready:{self.fingerprint}", set()) == {q[1] for q in queues if q}

    async def follow(self, records: dict[str, dict[str, str]]) -> None:
        """Record the jobs that the line itself has finished: they had no readers any more."""
        for job in self.open():
            record = records.get(job.new.id)
            if record is None:
                assert not job.claim
                assert not self.is_read(job)
                assert not job.new.idem, "it had its grace"
                self.ended(job.new.id, "cancelled")
            elif record["state"] == "cancelled":
                assert not job.claim
                assert not self.is_read(job)
                self.ended(job.new.id, "cancelled")
            elif record["state"] == "running":
                job.withdrawn |= "cancel" in record

    async def end(self) -> None:
        """Finish everything."""
        for front in FRONTS:
            self.alive[front] = True
            await self.queue.presences.show_front_end(front)
        self.workers = dict.fromkeys(WORKERS, True)
        await self.renew()
        await self.operator_resumes()
        for _ in range(2000):
            if not self.open():
                break
            await self.pass_time(20)
            await self.claim()
            await self.check()
            for job in self.open():
                if job.claim:
                    assert await self.queue.finish(
                        job.new.id, job.claim.attempt, "done", b"entry", {}
                    )
                    self.ended(job.new.id, "done")
            await self.reap()
            await self.check()
        assert not self.open(), "some jobs never got their turn"
        left = await self.snapshot()
        assert int(left.get("gateway:bytes", 0)) == 0
        expected = (
            r"gateway:(job|log|key|account|users|precedence|breaker|upstream|serves|servers|accounts|lane|promised|promises|outside|idem|front|worker|usage"
            r"):.*"
        )
        expected += r"|gateway:(metrics|counted|service|pulse|bytes|later|limited|version)"
        expected += r"|gateway:(upstreams|fingerprints|endings|workers:\w+)|test:clock"
        assert [key for key in left if not re.fullmatch(expected, key)] == []
        for what in left.get("gateway:later", {}):
            assert re.match("account |family ", what)


STEPS: dict[Callable[[Walk], Awaitable[None]], int] = {
    Walk.enqueue: 32,
    Walk.claim: 15,
    Walk.say_first: 10,
    Walk.finish: 10,
    Walk.put_back: 8,
    Walk.leave: 6,
    Walk.withdraw: 2,
    Walk.operator_cancels: 1,
    Walk.operator_pauses: 2,
    Walk.operator_resumes: 1,
    Walk.operator_wakes: 1,
    Walk.end_waiting: 1,
    Walk.front_dies: 2,
    Walk.front_comes_back: 3,
    Walk.renew: 4,
    Walk.token_changes: 2,
    Walk.worker_dies: 3,
    Walk.worker_stops: 1,
    Walk.worker_starts: 2,
    Walk.reap: 3,
    Walk.look: 2,
    Walk.time_passes: 7,
}


@pytest.mark.parametrize("seed", range(int(os.environ.get("WALKS", "3"))))
async def test_in_any_sequence_of_operations_a_job_is_in_one_place_and_finishes_once(
    redis: Redis, seal: Seal, seed: int
) -> None:
    queue = WholeLine(redis, seal, CONFIG, stopped_clock=True)
    walk = Walk(redis, queue, seal, seed)
    await walk.begin()
    took: list[str] = []
    try:
        for _ in range(250):
            (step,) = walk.random.choices(list(STEPS), list(STEPS.values()))
            took.append(step.__name__)
            await step(walk)
            await walk.check()
        await walk.end()
    except BaseException:
        print(seed, took[-30:])
        raise
    assert walk.taken["main/one"] + walk.taken["main/two"]
    for what in ("main", "gpu", "box", "ended done", "ended failed", "ended cancelled"):
        assert walk.taken[what], f"a walk in which nothing was {what} shows little"
