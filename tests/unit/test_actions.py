"""An operator learns whether an action was done when Redis cannot be used."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest
import redis.exceptions as errors

from app.admin.actions import ActionError, Actions
from app.admin.operator import Operator
from wire.keyring import IssuedKey, Keyring
from wire.line.audit import Audit, AuditEntry
from wire.line.operator import OperatorLine
from wire.seal import Seal

ANNA = Operator(name="Anna", via="api")
RECORD = IssuedKey(id="0" * 16, sha256="0" * 64, name="bot", created=1)

REFUSED = ConnectionRefusedError()
LOST = errors.ConnectionError("Connection closed by server.")
LATE = errors.TimeoutError()
READ_ONLY = errors.ReadOnlyError()


class Fake:
    """Line, keyring and audit log in one; each call named in `fails` raises its error."""

    def __init__(self, **fails: BaseException) -> None:
        self._fails = fails
        self.done: list[str] = []
        self.entries: list[AuditEntry] = []
        self.begun, self.goes_on = asyncio.Event(), asyncio.Event()
        self.goes_on.set()

    async def _call(self, name: str) -> None:
        self.begun.set()
        await self.goes_on.wait()
        if error := self._fails.get(name):
            raise error
        self.done.append(name)

    async def ping(self) -> None:
        if error := self._fails.get("ping"):
            raise error

    async def resume(self, what: str, name: str) -> bool:
        await self._call("resume")
        return True

    async def new(self, name: str, fields: object) -> tuple[str, IssuedKey]:
        await self._call("new")
        return "gw-secret", RECORD

    async def add(self, entry: AuditEntry) -> None:
        await self._call("add")
        self.entries.append(entry)


def actions_on(fake: Fake) -> Actions:
    parts = cast(Any, fake)  # it plays all three
    line, keyring, audit = cast(OperatorLine, parts), cast(Keyring, parts), cast(Audit, parts)
    return Actions(line, keyring, audit, Seal(b"a secret of the tests"))


async def failure(fake: Fake, *, issues: bool = False) -> str:
    actions = actions_on(fake)
    with pytest.raises(ActionError) as failed:
        await (actions.issue_key(ANNA, "bot", {}) if issues else actions.resume(ANNA, "all"))
    error = failed.value
    assert (error.http_status, error.code) == (503, "redis_unavailable")
    return str(error)


@pytest.mark.parametrize(
    ("fails", "outcome"),
    [
        ({"ping": LATE}, "Nothing was changed"),
        ({"ping": REFUSED}, "Nothing was changed"),
        ({"resume": REFUSED}, "Nothing was changed"),
        ({"resume": READ_ONLY}, "Nothing was changed"),
        ({"resume": LOST}, "It may or may not have been done; doing it again does no harm"),
        ({"resume": LATE}, "It may or may not have been done; doing it again does no harm"),
        ({"add": LATE}, "It was done, but could not be written to the audit log"),
        ({"add": REFUSED}, "It was done, but could not be written to the audit log"),
    ],
)
async def test_an_action_says_if_it_was_done_as_far_as_that_is_known(
    fails: dict[str, BaseException], outcome: str
) -> None:
    assert (await failure(Fake(**fails))).startswith(f"{outcome}: Redis cannot be used (")


async def test_an_action_of_which_nothing_is_known_is_in_the_log_of_the_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    await failure(Fake(resume=LOST))
    (record,) = caplog.records
    assert record.event == "operator_action"  # type: ignore[attr-defined]  # of `extra`
    assert record.result == "unknown"  # type: ignore[attr-defined]  # of `extra`


async def test_a_new_key_that_cannot_be_shown_is_to_be_revoked() -> None:
    unknown = "The key may or may not have been issued; if it is listed, revoke it"
    assert (await failure(Fake(new=LATE), issues=True)).startswith(unknown)
    known = f"The key {RECORD.id} was issued; revoke it"
    assert (await failure(Fake(add=LATE), issues=True)).startswith(known)


async def test_an_action_whose_caller_goes_away_is_carried_out_and_written() -> None:
    fake = Fake()
    fake.goes_on.clear()
    acting = asyncio.create_task(actions_on(fake).resume(ANNA, "all"))
    await fake.begun.wait()
    acting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acting
    fake.goes_on.set()
    while not fake.entries:
        await asyncio.sleep(0)
    assert fake.done == ["resume", "add"]
    assert fake.entries[0].result == "resumed"


class FullRedis:
    """A Redis that takes no writes."""

    async def xadd(self, *_: object, **__: object) -> None:
        raise errors.OutOfMemoryError


async def test_an_action_is_in_the_log_of_the_process_even_if_redis_takes_no_entry(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    entry = AuditEntry(who="Anna", via="api", action="resume", target="all", result="resumed")
    with pytest.raises(errors.OutOfMemoryError):
        await Audit(cast(Any, FullRedis())).add(entry)
    (record,) = caplog.records
    fields = ("event", "who", "action", "target", "result")
    found = [getattr(record, name) for name in fields]
    assert found == ["operator_action", "Anna", "resume", "all", "resumed"]
