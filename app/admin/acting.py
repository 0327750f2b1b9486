"""The admin API: what operators and their programs can do, as `POST` with a JSON body."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal
from urllib.parse import unquote

import msgspec
from sanic import HTTPResponse, Request

import settings
from app.admin.access import Access
from app.admin.actions import ActionError, Actions
from app.admin.body import read_json
from app.admin.ledger import KeyEntry, key_entry
from app.admin.operator import Operator
from app.admin.sources import Sources
from app.http.json_answer import json
from app.openai.errors import BadRequest
from wire.keyring import IssuedKey
from wire.line.board import PauseKind

PATIENCE = 10.0
"""Seconds that an action may take. One that takes longer goes on, and its result is unknown."""

OWN_FIELDS = frozenset(("id", "sha256", "created", "revoked"))
"""Fields of a key's record that nobody chooses."""

AccountAction = Literal["park", "resume", "wake"]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body without fields."""


class Intake(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The intake of all requests, of those of a key, or an upstream."""

    key: str = ""
    upstream: str = ""

    @property
    def target(self) -> tuple[PauseKind, str]:
        """Kind and name of it."""
        if self.key and self.upstream:
            raise BadRequest("Name a key or an upstream, not both.", param="upstream")
        if self.upstream:
            return "upstream", self.upstream
        return ("key", self.key) if self.key else ("all", "")


class Pausing(Intake, frozen=True, forbid_unknown_fields=True):
    """A pause, for some seconds or until it is resumed."""

    seconds: float | None = None


class Parking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pause of an account, for some seconds or until it is resumed."""

    seconds: float | None = None


class Issued(msgspec.Struct, frozen=True):
    """A new gateway key, which is shown this once, and its entry."""

    key: str
    entry: KeyEntry
    result: str


class Changed(msgspec.Struct, frozen=True):
    """A gateway key after a change."""

    entry: KeyEntry
    result: str


class ActApi:
    """Handlers of all that changes something."""

    def __init__(
        self, server: settings.Server, access: Access, actions: Actions, sources: Sources
    ) -> None:
        self._server = server
        self._access = access
        self._actions = actions
        self._sources = sources

    async def pause(self, request: Request) -> HTTPResponse:
        """Pause the intake, or an upstream."""

        async def act(who: Operator, asked: Pausing) -> msgspec.Struct:
            return await self._actions.pause(who, *asked.target, asked.seconds)

        return await self._answer(request, act, Pausing)

    async def resume(self, request: Request) -> HTTPResponse:
        """Resume it."""

        async def act(who: Operator, asked: Intake) -> msgspec.Struct:
            return await self._actions.resume(who, *asked.target)

        return await self._answer(request, act, Intake)

    def account(self, action: AccountAction) -> Callable[..., Coroutine[Any, Any, HTTPResponse]]:
        """Return the handler of an action on an account, by its name on the board."""

        async def handle(request: Request, account: str, upstream: str = "") -> HTTPResponse:
            name = unquote(f"{upstream}/{account}" if upstream else account)

            async def park(who: Operator, asked: Parking) -> msgspec.Struct:
                return await self._actions.pause(who, "account", name, asked.seconds)

            async def resume(who: Operator, _: Nothing) -> msgspec.Struct:
                return await self._actions.resume(who, "account", name)

            async def wake(who: Operator, _: Nothing) -> msgspec.Struct:
                return await self._actions.wake(who, name)

            if action == "park":
                return await self._answer(request, park, Parking)
            return await self._answer(request, resume if action == "resume" else wake, Nothing)

        return handle

    async def cancel(self, request: Request, id: str) -> HTTPResponse:
        """Cancel a job."""

        async def act(who: Operator, _: Nothing) -> msgspec.Struct:
            return await self._actions.cancel(who, unquote(id))

        return await self._answer(request, act, Nothing)

    async def drain(self, request: Request, id: str) -> HTTPResponse:
        """Drain a worker."""

        async def act(who: Operator, _: Nothing) -> msgspec.Struct:
            return await self._actions.drain(who, unquote(id))

        return await self._answer(request, act, Nothing)

    async def issue_key(self, request: Request) -> HTTPResponse:
        """Issue a gateway key."""

        async def act(who: Operator, fields: dict[str, object]) -> msgspec.Struct:
            name = chosen_fields(fields).pop("name", None)
            if not isinstance(name, str):
                raise BadRequest("Give the key a name.", param="name")
            issued = await self._actions.issue_key(who, name, fields)
            return Issued(issued.key, key_entry(issued.record, {}), issued.result)

        return await self._answer(request, act, dict[str, object])

    async def change_key(self, request: Request, id: str) -> HTTPResponse:
        """Change fields of a gateway key."""

        async def act(who: Operator, fields: dict[str, object]) -> msgspec.Struct:
            if not chosen_fields(fields):
                raise BadRequest("Name at least one field to change.")
            changed = await self._actions.change_key(who, id, fields)
            return Changed(key_entry(changed.record, {}), changed.result)

        return await self._answer(request, act, dict[str, object])

    async def revoke_key(self, request: Request, id: str) -> HTTPResponse:
        """Revoke a gateway key."""

        async def act(who: Operator, _: Nothing) -> msgspec.Struct:
            revoked = await self._actions.revoke_key(who, id)
            return Changed(key_entry(revoked.record, {}), revoked.result)

        return await self._answer(request, act, Nothing)

    async def _answer(
        self,
        request: Request,
        act: Callable[[Operator, Any], Awaitable[msgspec.Struct]],
        asked: Any,
    ) -> HTTPResponse:
        """Act for an operator, and answer with the result."""
        who = self._access.admit_change(request).operator
        body = await read_json(request, self._server, asked)
        try:
            async with asyncio.timeout(PATIENCE):
                done = await act(who, body)
        except TimeoutError:
            late = "It may or may not have been done: Redis does not answer in time."
            raise ActionError(503, "redis_unavailable", late) from None
        self._sources.forget()
        return json(done)


def chosen_fields(fields: dict[str, object]) -> dict[str, object]:
    """Check that an operator chose only fields that a key has."""
    for name in fields:
        if name in OWN_FIELDS or name not in IssuedKey.__struct_fields__:
            raise BadRequest(f"A key has no field {name[:50]} to choose.", param=name[:50])
    return fields
