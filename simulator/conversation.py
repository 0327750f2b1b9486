"""`/backend-api/conversation`: takes a POST, plays the script on the wire, and keeps the caps."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from itertools import islice
from uuid import uuid4

import msgspec
from aiohttp import web

from simulator import events, payload
from simulator.accounts import Accounts, Hold
from simulator.body import Body, CutError
from simulator.clock import Clock
from simulator.errors import NO_CONVERSATION, NO_TOKEN, ErrorAnswer, RefusedError, named
from simulator.history import History
from simulator.sample import sample
from simulator.script import Script, ScriptBook, parse_directive


def answer(error: ErrorAnswer) -> web.Response:
    """An error as an HTTP response."""
    headers = {"Content-Type": error.content_type, **dict(error.headers)}
    return web.Response(status=error.status, body=error.body, headers=headers)


class Conversations:
    """The handlers of the conversation endpoint."""

    def __init__(
        self, accounts: Accounts, scripts: ScriptBook, history: History, clock: Clock
    ) -> None:
        self._accounts = accounts
        self._scripts = scripts
        self._history = history
        self._clock = clock

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Start a conversation and stay with it to its end."""
        try:
            bearer = _bearer(request)
            asked = payload.decode(await request.read())
            if asked.conversation_id and not self._history.knows(asked.conversation_id, bearer):
                raise RefusedError(NO_CONVERSATION)
            prompt = asked.prompt.text if asked.prompt else ""
            directive, rest = parse_directive(prompt)
            self._accounts.check(bearer)
        except RefusedError as refused:
            return answer(refused.answer)
        # Nothing waits from here to `hold`, so nobody can come in between.
        script = directive or self._scripts.take(bearer) or sample(rest)
        if script.error is not None:
            self._accounts.count_error()
            return answer(named(script.error, script.clears_in))
        turn = _turn(asked)
        self._history.remember(turn.conversation_id, bearer)
        response = _stream_response()
        try:
            with self._accounts.hold(bearer) as hold:
                await _play(script, rest, turn, request, response, hold, self._clock)
        except ConnectionError:
            # The client left between two writes: aborted, counted, and no error of ours.
            pass
        return response

    async def patch(self, request: web.Request) -> web.Response:
        """Hide or rename a conversation, which changes nothing here."""
        try:
            bearer = _bearer(request)
        except RefusedError as refused:
            return answer(refused.answer)
        if not self._history.knows(request.match_info["id"], bearer):
            return answer(NO_CONVERSATION)
        return web.json_response({"success": True})


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise RefusedError(NO_TOKEN)
    return token.strip()


def _turn(asked: payload.Payload) -> events.Turn:
    now = time.time()
    parent_id = asked.prompt.id if asked.prompt else asked.parent_message_id
    return events.Turn(
        conversation_id=asked.conversation_id or str(uuid4()),
        system_id=str(uuid4()),
        message_id=str(uuid4()),
        parent_id=parent_id or str(uuid4()),
        model=asked.model,
        action=asked.action,
        created=round(now, 6),
        finished=round(now + 1, 6),
        prompt_moderation_id=f"modr-{uuid4().hex[:29]}",
        completion_moderation_id=f"modr-{uuid4().hex[:29]}",
        prompt=asked.prompt,
    )


def _stream_response() -> web.StreamResponse:
    return web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-cache",
            "CF-Cache-Status": "DYNAMIC",
            "Server": "cloudflare",
            "CF-RAY": f"{uuid4().hex[:16]}-SIM",
        }
    )


async def _play(
    script: Script,
    rest: str,
    turn: events.Turn,
    request: web.Request,
    response: web.StreamResponse,
    hold: Hold,
    clock: Clock,
) -> None:
    """Play one script. `rest` is the prompt without its directive."""
    if script.fault == "hang":
        await _forever()
    if script.fault == "reset":
        hold.finish()
        _reset(request)
        return
    if script.echo and script.text is None:
        script = msgspec.structs.replace(script, text=rest)
    reply = events.reply(script, turn)
    start = clock.now() + script.delay
    await response.prepare(request)
    body = Body(response, script, clock)
    try:
        await body.write(start, reply.lead)
        sent = 0
        while beat := b"".join(islice(reply.texts, script.burst)):
            sent += script.burst
            await body.write(start + sent * script.interval, beat)
        if script.fault == "silence":
            await body.stay()
        await body.wait(start + (sent + 1) * script.interval)
        body.spend(reply.tail)
    except CutError as cut:
        # Freed first: a client that sees the end must be able to start the next one at once.
        hold.finish()
        await response.write(cut.rest)
        if request.transport is not None:
            request.transport.close()  # what is written still goes out, the last chunk does not
        return
    hold.finish()
    await response.write_eof(reply.tail)


async def _forever() -> None:
    await asyncio.Event().wait()


def _reset(request: web.Request) -> None:
    """Close the connection with a TCP reset."""
    transport = request.transport
    if transport is None:
        return
    # Lingering for no time at all turns the close into a reset.
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
