"""Keys that an idle gateway must not leave in Redis.

Everything that this test knows of its keys is here.
"""

from __future__ import annotations

import redis

HOLDERS = ("gateway:*", "arq:queue:*")
"""Sorted sets, sets and lists that hold jobs: none may have any member left."""

NO_HOLDERS = (
    *("gateway:deletions:", "gateway:front", "gateway:worker"),
    # Fair shares of users, and promises to refused clients.
    *("gateway:users:", "gateway:promise"),
    "gateway:outside:",
    # Of live processes.
    *("gateway:fingerprints", "gateway:processes"),
    "gateway:later",
    # Of upstreams and their accounts.
    *("gateway:upstreams", "gateway:serves:", "gateway:servers:", "gateway:accounts:"),
    "gateway:limited",
)
"""Prefixes of keys that hold no jobs, or other members too."""

LATER = "gateway:later"
"""Entries that continue at a given time: accounts, and jobs as `job <id>` and `orphan <id>`."""

RECORDS = "gateway:job:*"
"""The jobs' hashes, with their state."""

ENDED = {b"done", b"failed", b"cancelled"}

ARQ = ("arq:job:*", "arq:retry:*", "arq:in-progress:*")
"""Records that arq keeps of a job until it finishes."""


def leftovers(url: str) -> list[str]:
    """Everything that is left of jobs, one sentence each."""
    found = []
    with redis.Redis.from_url(url) as client:
        for pattern in HOLDERS:
            for kind in ("zset", "set", "list"):
                for key in client.scan_iter(pattern, count=1000, _type=kind):
                    name = key.decode()
                    if not name.startswith(NO_HOLDERS):
                        found.append(f"{name} is not empty")
        for member in client.zrange(LATER, 0, -1):
            if member.startswith((b"job ", b"orphan ")):
                found.append(f"{LATER} holds {member.decode()}")
        for key in client.scan_iter(RECORDS, count=1000, _type="hash"):
            state = client.hget(key, "state")
            if state is not None and state not in ENDED:
                found.append(f"{key.decode()} is {state.decode()}")
        for pattern in ARQ:
            found += [f"{key.decode()} exists" for key in client.scan_iter(pattern, count=1000)]
    return found
