"""Ids of jobs, from which every rendering of an answer takes the same time."""

from __future__ import annotations

import time

from app.job_ids import accepted_at, new_job_id


def test_an_id_says_when_its_job_was_accepted() -> None:
    before = int(time.time())
    ids = [new_job_id("chatcmpl-") for _ in range(3)]
    assert all(before <= accepted_at(id) <= time.time() for id in ids)
    assert {len(id) for id in ids} == {len("chatcmpl-") + 32}
    assert len({id[:-8] for id in ids}) == 3
