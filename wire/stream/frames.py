"""Frames: sealed batches of events, as they cross a front end's channel."""

from __future__ import annotations

from collections.abc import Iterable

from wire.events import Batch, decode_frame, encode_frame
from wire.line import keys
from wire.seal import Seal


def seal_frame(seal: Seal, front_end: str, batches: list[Batch]) -> bytes:
    """Seal batches for one front end, which alone can open them."""
    return seal.seal(encode_frame(batches), keys.front_end(front_end))


def seal_frames(seal: Seal, front_ends: Iterable[str], batch: Batch) -> dict[str, bytes]:
    """Seal a batch for each of some front ends."""
    return {front_end: seal_frame(seal, front_end, [batch]) for front_end in front_ends}


def open_frame(seal: Seal, front_end: str, frame: bytes) -> list[Batch]:
    """Open a frame that was sealed for this front end.

    Raises:
        SealError: it was sealed for another front end, or with another secret.
        msgspec.MsgspecError: it is not a frame of this version.
    """
    return decode_frame(seal.open(frame, keys.front_end(front_end)))
