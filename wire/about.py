"""Facts about an upstream that its workers send to front ends."""

from __future__ import annotations

from typing import Literal

import msgspec

Trouble = Literal["", "refused_us"]
"""Trouble that only an operator can end; `refused_us`: the upstream refused our credential."""


class About(msgspec.Struct, frozen=True):
    """Facts about an upstream that front ends need, and that the line does not.

    `models` are the names that clients may use, aliases included. With `any_model` the upstream
    takes every name. `max_n` is the largest number of choices that one request may ask for.
    `guarded`: it is asked with the gateway's own credential, so clients' keys have to be judged.
    """

    kind: Literal["pandora", "openai"]
    models: list[str]
    any_model: bool = False
    trouble: Trouble = ""
    max_n: int = 1
    guarded: bool = False


def encode_about(about: About) -> bytes:
    """Encode what an upstream offers, as JSON."""
    return msgspec.json.encode(about)


def decode_about(data: bytes) -> About:
    """Decode the result of `encode_about`.

    Raises:
        msgspec.MsgspecError: not of this version.
    """
    return msgspec.json.decode(data, type=About)
