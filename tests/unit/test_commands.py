"""Commands to workers, between processes of this release and of older ones."""

from __future__ import annotations

import msgspec
import pytest

from wire.line.commands import Attach, Cancel, Drain, decode_command


class OldCancel(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """`Cancel` of a release without operators."""

    job: str
    attempt: int
    revoked: bool = False


def test_a_worker_of_an_older_release_obeys_a_cancellation_and_cannot_read_a_drain() -> None:
    old = msgspec.msgpack.Decoder(OldCancel | Attach)
    by_operator = msgspec.msgpack.encode(["cancel", "job", 1, False, True])
    assert old.decode(by_operator) == OldCancel("job", 1)
    with pytest.raises(msgspec.ValidationError):
        old.decode(msgspec.msgpack.encode(["drain"]))


def test_commands_of_an_older_release_are_obeyed() -> None:
    assert decode_command(msgspec.msgpack.encode(["cancel", "job", 1])) == Cancel("job", 1)
    assert decode_command(msgspec.msgpack.encode(["drain"])) == Drain()
