"""Actions of operators: the same for the page, the API and the terminal.

Each is written to the audit log with its result, also if it had been done already. Operators may
act at the same time: an action that is repeated does no harm, and of contrary ones the later holds.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, NoReturn, TypeVar

import msgspec
from msgspec.structs import replace
from redis.exceptions import ResponseError

from app.admin.operator import Operator
from app.openai.errors import ApiError
from wire.keyring import IssuedKey, Keyring, NoSuchKeyError, identity, revoked_now
from wire.line.audit import Audit, AuditEntry, log_action
from wire.line.board import Pause, PauseKind
from wire.line.operator import OperatorLine
from wire.redis.outage import REDIS_ERRORS, is_down_for_everyone
from wire.redis.trouble import trouble
from wire.seal import Seal
from wire.stream.endings import CANCELLED_BY_OPERATOR, finish_waiting

LONGEST_PAUSE = 31 * 86_400.0
"""Seconds that a pause with an end may last."""

ISSUED = re.compile("[0-9a-f]{16}")
"""Id of a gateway key; other names of keys are their HMACs."""

SHOWN = 200
"""Characters of a target or of a changed field that the audit log shows."""


class ActionError(ApiError):
    """The action failed."""

    def __init__(self, status: int, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.code = code
        self._status = status

    @property
    def http_status(self) -> int:
        """HTTP status of the answer."""
        return self._status

    @property
    def error_type(self) -> str:
        """OpenAI's `type` of the error."""
        return "server_error" if self._status >= 500 else "invalid_request_error"


class PauseResult(msgspec.Struct, frozen=True):
    """It is paused. `already`: without an end, and it was."""

    result: Literal["paused", "already"]
    pause: Pause


class ResumeResult(msgspec.Struct, frozen=True):
    """It is not paused. `already`: it was not."""

    result: Literal["resumed", "already"]
    what: PauseKind
    name: str


class WakeResult(msgspec.Struct, frozen=True):
    """The account is used. `already`: nothing kept it from that."""

    result: Literal["woken", "already"]
    account: str


class CancelResult(msgspec.Struct, frozen=True):
    """The job is cancelled: it has ended (`cancelled`), or its worker is ending it (`cancelling`).

    `already`: it had ended, or an operator had cancelled it; its `state` says which.
    """

    result: Literal["cancelled", "cancelling", "already"]
    id: str
    state: str


class DrainResult(msgspec.Struct, frozen=True):
    """The worker claims no more jobs, and ends. `already`: it was asked before."""

    result: Literal["draining", "already"]
    worker: str


class IssueResult(msgspec.Struct, frozen=True):
    """A new gateway key, which is shown this once, and its record."""

    key: str
    record: IssuedKey
    result: Literal["issued"] = "issued"


class KeyResult(msgspec.Struct, frozen=True):
    """The record of a gateway key after a change. `already`: it was so before."""

    result: Literal["changed", "revoked", "already"]
    record: IssuedKey


class ImportResult(msgspec.Struct, frozen=True):
    """Records of gateway keys were imported; `added` of them were missing."""

    added: int
    result: Literal["imported"] = "imported"


Result = (
    PauseResult
    | ResumeResult
    | WakeResult
    | CancelResult
    | DrainResult
    | IssueResult
    | KeyResult
    | ImportResult
)
_Result = TypeVar("_Result", bound=Result)


class Actions:
    """Everything that operators can do. Each method raises `ActionError` if it fails.

    A key is named by the id of a gateway key, or by its HMAC as on the board; an account by its
    name on the board.
    """

    def __init__(self, line: OperatorLine, keyring: Keyring, audit: Audit, seal: Seal) -> None:
        self.audit = audit
        self.keyring = keyring
        self._line = line
        self._seal = seal
        self._acting: set[asyncio.Task[object]] = set()

    async def pause(
        self, who: Operator, what: PauseKind, name: str = "", seconds: float | None = None
    ) -> PauseResult:
        """Pause the intake of all jobs or of a key's, an upstream, or an account: for some seconds,
        or until it is resumed. A pause that there is gets the new end.
        """
        if seconds is not None and not 0 < seconds <= LONGEST_PAUSE:
            message = f"A pause may last up to {LONGEST_PAUSE:.0f} seconds."
            raise ActionError(400, "invalid_seconds", message, param="seconds")

        async def act() -> PauseResult:
            named = await self._named(what, name)
            result, pause = await self._line.pause(what, named, who.name, seconds)
            if result == "unknown":
                _fail_unknown(what, name)
            if pause is None or result == "too_many":
                raise ActionError(409, "too_many_pauses", "Too many things are paused already.")
            return PauseResult(result, pause)

        ends = {} if seconds is None else {"seconds": f"{seconds:g}"}
        return await self._do(who, "pause", f"{what} {name}".strip(), act, ends)

    async def resume(self, who: Operator, what: PauseKind, name: str = "") -> ResumeResult:
        """End a pause."""

        async def act() -> ResumeResult:
            found = await self._line.resume(what, await self._named(what, name, new=False))
            return ResumeResult("resumed" if found else "already", what, name)

        return await self._do(who, "resume", f"{what} {name}".strip(), act)

    async def wake(self, who: Operator, account: str) -> WakeResult:
        """Use an account again at once, for all models: end its pause, its cool-down and the time
        for which it is set aside or has used up a model.
        """

        async def act() -> WakeResult:
            woken = await self._line.wake(account)
            if woken is None:
                _fail_unknown("account", account)
            return WakeResult("woken" if woken else "already", account)

        return await self._do(who, "wake", f"account {account}", act)

    async def cancel(self, who: Operator, id: str) -> CancelResult:
        """Cancel a waiting or running job; its clients get an error that says so."""

        async def act() -> CancelResult:
            # Its state may change at any time between these calls.
            while True:
                state, front_ends = await self._line.cancel(id)
                match state:
                    case "unknown":
                        _fail_unknown("job", id)
                    case "running":
                        return CancelResult("cancelling", id, "running")
                    case "already":
                        return CancelResult("already", id, "running")
                    case "waiting":
                        ending = CANCELLED_BY_OPERATOR
                        if await finish_waiting(self._line, self._seal, id, front_ends, ending):
                            return CancelResult("cancelled", id, "cancelled")
                    case _:
                        return CancelResult("already", id, state)

        return await self._do(who, "cancel", f"job {id}", act)

    async def drain(self, who: Operator, worker: str) -> DrainResult:
        """Have a worker finish its jobs, claim no more, and end, as after SIGTERM."""

        async def act() -> DrainResult:
            result = await self._line.drain(worker)
            if result == "unknown":
                _fail_unknown("worker", worker)
            if result == "unreachable":
                message = "The worker does not listen now. Nothing was changed; try again."
                raise ActionError(503, "worker_unreachable", message)
            return DrainResult(result, worker)

        return await self._do(who, "drain", f"worker {worker}", act)

    async def issue_key(
        self, who: Operator, name: str, fields: Mapping[str, object]
    ) -> IssueResult:
        """Issue a gateway key with values of some fields of its record."""

        async def act() -> IssueResult:
            return IssueResult(*await self.keyring.new(name, fields))

        return await self._do(who, "issue_key", "", act, _shown({"name": name} | dict(fields)))

    async def change_key(self, who: Operator, id: str, fields: Mapping[str, object]) -> KeyResult:
        """Change fields of the record of a gateway key."""

        async def act() -> KeyResult:
            before, record = await self.keyring.change(id, lambda one: one.changed(fields))
            return KeyResult("already" if record == before else "changed", record)

        return await self._do(who, "change_key", f"key {id}", act, _shown(fields))

    async def revoke_key(self, who: Operator, id: str) -> KeyResult:
        """Refuse a gateway key from now on, for good."""

        async def act() -> KeyResult:
            before, record = await self.keyring.change(id, revoked_now())
            return KeyResult("already" if before.revoked else "revoked", record)

        return await self._do(who, "revoke_key", f"key {id}", act)

    async def import_keys(self, who: Operator, records: Sequence[IssuedKey]) -> ImportResult:
        """Add records of an export that are missing."""

        async def act() -> ImportResult:
            return ImportResult(await self.keyring.import_(records))

        return await self._do(who, "import_keys", "", act, {"records": str(len(records))})

    async def _named(self, what: PauseKind, name: str, *, new: bool = True) -> str:
        """Return the name in Redis of what an operator names. `new`: it has to be known."""
        if what == "all":
            return ""
        if what == "key" and ISSUED.fullmatch(name) and await self.keyring.get(name):
            return self._seal.name("account", identity(name))
        if what == "key" and new and not await self._line.knows_key(name):
            _fail_unknown("key", name)
        return name

    async def _do(
        self,
        who: Operator,
        action: str,
        target: str,
        act: Callable[[], Awaitable[_Result]],
        details: Mapping[str, str] | None = None,
    ) -> _Result:
        """Carry out an action to its end, even if its caller goes away meanwhile."""
        entry = _entry(who, action, target, details or {})
        task = asyncio.ensure_future(self._carry_out(entry, act))
        self._acting.add(task)
        task.add_done_callback(self._acting.discard)
        # Without this asyncio logs the failure of an action whose caller has gone away.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _carry_out(self, entry: AuditEntry, act: Callable[[], Awaitable[_Result]]) -> _Result:
        try:
            await self._line.ping()
        except REDIS_ERRORS as error:
            _fail_redis("Nothing was changed", error)
        try:
            done = await act()
        except NoSuchKeyError as error:
            raise ActionError(404, "key_not_found", str(error)) from None
        except msgspec.ValidationError as error:
            raise _out_of_bounds(error) from error
        except REDIS_ERRORS as error:
            if isinstance(error, ResponseError) or is_down_for_everyone(error):
                _fail_redis("Nothing was changed", error)
            log_action(replace(entry, result="unknown"))
            _fail_redis(_UNKNOWN_OUTCOMES.get(entry.action, _UNKNOWN_OUTCOME), error)
        entry = replace(entry, result=done.result)
        if isinstance(done, IssueResult):
            entry = replace(entry, target=f"key {done.record.id}")
        try:
            await self.audit.add(entry)
        except REDIS_ERRORS as error:
            lost = isinstance(done, IssueResult)
            _fail_redis(f"The {entry.target} was issued; revoke it" if lost else _UNAUDITED, error)
        return done


_UNAUDITED = "It was done, but could not be written to the audit log"
_UNKNOWN_OUTCOME = "It may or may not have been done; doing it again does no harm"
_UNKNOWN_OUTCOMES = {
    "issue_key": "The key may or may not have been issued; if it is listed, revoke it",
}


def _entry(who: Operator, action: str, target: str, details: Mapping[str, str]) -> AuditEntry:
    return AuditEntry(
        who=who.name,
        via=who.via,
        address=who.address,
        action=action,
        target=target[:SHOWN],
        details=dict(details),
    )


def _shown(fields: Mapping[str, object]) -> dict[str, str]:
    return {name: msgspec.json.encode(value).decode()[:SHOWN] for name, value in fields.items()}


def _fail_unknown(what: str, name: str) -> NoReturn:
    raise ActionError(404, f"{what}_not_found", f"There is no {what} {name[:SHOWN]}.")


def _fail_redis(outcome: str, error: BaseException) -> NoReturn:
    message = f"{outcome}: Redis cannot be used ({trouble(error)})."
    raise ActionError(503, "redis_unavailable", message) from None


def _out_of_bounds(error: msgspec.ValidationError) -> ActionError:
    """Say which field was wrong."""
    expected, _, place = str(error).partition(" - at `$.")
    field = re.split(r"\W", place, maxsplit=1)[0]
    message = f"{field}: {expected}." if field else f"{expected}."
    return ActionError(400, "invalid_value", message, param=field or None)
