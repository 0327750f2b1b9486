"""Operators: people, and programs of theirs, who run the gateway."""

from __future__ import annotations

from typing import Literal

import msgspec

Via = Literal["page", "api", "terminal"]


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """Sender of a request to the admin API, or user of a command.

    People choose their names when they sign in, so a name proves nothing; `address` is that of the
    client, "" in a terminal.
    """

    name: str
    via: Via
    address: str = ""
