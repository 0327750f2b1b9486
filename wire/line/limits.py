"""Limits of admission and forecast, as the scripts read them."""

from __future__ import annotations

from typing import Self

import msgspec

import settings
from wire.jobs import Sort


class Limits(msgspec.Struct, frozen=True):
    """The settings that the scripts need, with all times in milliseconds."""

    max_waiting: int
    max_waiting_per_key: int
    max_bytes: int
    max_wait: int
    longest: int
    max_retry_after: int
    refuse_capped: bool
    grace: int
    keep: int
    lease: int
    gap: int
    front_ttl: int

    @classmethod
    def of(cls, config: settings.Queue, presence_ttl: int) -> Self:
        """Convert the settings. `presence_ttl` is the lifetime of a front end's presence."""
        return cls(
            max_waiting=config.max_waiting,
            max_waiting_per_key=config.max_waiting_per_key,
            max_bytes=config.max_bytes,
            max_wait=round(config.max_wait * 1000),
            longest=round(config.longest_wait * 1000),
            max_retry_after=round(config.max_retry_after * 1000),
            refuse_capped=config.on_model_cap == "refuse",
            grace=round(config.resume_grace * 1000),
            keep=round(config.keep_result * 1000),
            lease=round(config.lease * 1000),
            gap=gap(config),
            front_ttl=presence_ttl,
        )


def gap(config: settings.Queue) -> int:
    """Time (ms) without calls to Redis that is a disturbance; after one, the line settles as long.

    Some process calls at every heartbeat, and while the line settles every worker renews.
    """
    return round(2 * config.heartbeat * 1000)


def reserves(config: settings.Queue) -> dict[Sort, int]:
    """Slots reserved for each sort of job while the others want theirs."""
    return {
        "chat": config.chat_slots,
        "images": config.images_slots,
        "embeddings": config.embeddings_slots,
    }
