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

from simulator import payload, tools
from simulator.accounts import Hold
from simulator.body import Body, CutError
from simulator.checks import check_conversation, check_files, check_gizmo
from simulator.clock import Clock
from simulator.errors import NO_CONVERSATION, RefusedError, named
from simulator.events import Turn
from simulator.history import Conversation
from simulator.http import answer, bearer_of
from simulator.payload import Payload
from simulator.reply import Reply, reply
from simulator.sample import sample
from simulator.script import Script, parse_directive
from simulator.sockets import SocketTransport
from simulator.stage import place
from simulator.state import State
from simulator.steps import Step
from simulator.transport import HttpTransport, Transport


class Stopping(msgspec.Struct, frozen=True):
    """The body of `POST /stop_conversation`."""

    conversation_id: str


class Conversations:
    """The handlers of the conversation endpoint."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._running: dict[str, asyncio.Task[None]] = {}

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Start a conversation and stay with it to its end, or leave it to the account's socket."""
        state = self._state
        bearer = bearer_of(request)
        asked = payload.decode(await request.read())
        try:
            going_on = check_conversation(asked, bearer, state.history)
            check_gizmo(asked)
            attached = check_files(asked, bearer, state.files)
        except RefusedError:
            state.counts.invalid += 1
            raise
        directive, rest = parse_directive(asked.prompt.text if asked.prompt else "")
        state.accounts.check(bearer)
        # Nothing waits from here to `hold`, so nobody can come in between.
        script: Script
        if asked.choice is not None and going_on is not None:
            script = going_on.script
        else:
            script = directive or state.scripts.take(bearer) or sample(rest)
        if script.error is not None:
            state.accounts.count_error()
            return answer(named(script.error, script.clears_in))
        if script.arkose:
            try:
                header = request.headers.get("Openai-Sentinel-Arkose-Token")
                state.arkose.spend(asked.arkose_token, header)
            except RefusedError:
                state.counts.invalid += 1
                raise
        if script.echo and script.text is None:
            script = msgspec.structs.replace(script, text=rest)
        turn = _turn(asked)
        if going_on is None:
            private = asked.history_and_training_disabled
            going_on = Conversation(bearer, private, script)
            state.history.remember(turn.conversation_id, going_on)
        if attached:
            going_on.document = attached[-1].id
        reply = self._reply(script, asked, turn, going_on)
        return await self._play(script, reply, turn.conversation_id, bearer, request)

    async def patch(self, request: web.Request) -> web.Response:
        """Hide or rename a conversation, which changes nothing but the counts."""
        state = self._state
        known = state.history.find(request.match_info["id"], bearer_of(request))
        if known is None:
            raise RefusedError(NO_CONVERSATION)
        state.counts.patched += 1
        if b"is_visible" in await request.read() and not known.hidden:
            known.hidden = True
            state.counts.hidden += 1
        return web.json_response({"success": True})

    async def stop(self, request: web.Request) -> web.Response:
        """End the answer that a conversation is sending over a socket."""
        bearer = bearer_of(request)
        try:
            asked = msgspec.json.decode(await request.read(), type=Stopping)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RefusedError(NO_CONVERSATION) from None
        task = self._running.get(asked.conversation_id)
        if task is None or self._state.history.find(asked.conversation_id, bearer) is None:
            raise RefusedError(NO_CONVERSATION)
        task.cancel()
        await asyncio.wait([task])
        self._state.counts.stopped += 1
        return web.json_response({"success": True})

    async def close(self) -> None:
        """End every answer that goes over a socket."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _reply(self, script: Script, asked: Payload, turn: Turn, known: Conversation) -> Reply:
        """The answer to this request, with what it makes remembered."""
        state = self._state
        steps = _steps(script, asked, known)
        if asked.choice is not None:
            state.counts.confirmations += 1
        placed = place(
            steps,
            script,
            state.files,
            known.owner,
            parent_id=turn.parent_id,
            last_id=turn.message_id,
        )
        known.said(placed)
        return reply(script, turn, placed)

    async def _play(
        self,
        script: Script,
        reply: Reply,
        conversation_id: str,
        bearer: str,
        request: web.Request,
    ) -> web.StreamResponse:
        state = self._state
        account = script.account or state.scripts.standing(bearer).account
        hold = state.accounts.hold(bearer)
        if script.fault in ("hang", "reset"):
            with hold:
                if script.fault == "hang":
                    await _forever()
                hold.finish()
                _reset(request)
            return _stream_response()
        if account == "websocket":
            return self._over_socket(script, reply, conversation_id, hold, request)
        response = _stream_response()
        try:
            with hold:
                await _perform(script, reply, HttpTransport(request, response), hold, state.clock)
        except ConnectionError:
            # The client left between two writes: aborted, counted, and no error of ours.
            pass
        return response

    def _over_socket(
        self, script: Script, reply: Reply, conversation_id: str, hold: Hold, request: web.Request
    ) -> web.Response:
        """Say that the answer comes over the socket, and let it."""
        state = self._state
        bearer = hold.bearer
        response_id = f"{uuid4().hex[:16]}-SIM"
        transport = SocketTransport(state.hub, bearer, script, conversation_id, response_id)

        async def perform() -> None:
            with hold:
                await _perform(script, reply, transport, hold, state.clock)

        task = asyncio.ensure_future(perform())
        self._running[conversation_id] = task

        def ended(task: asyncio.Task[None]) -> None:
            if self._running.get(conversation_id) is task:
                del self._running[conversation_id]
            if not task.cancelled():
                task.result()

        task.add_done_callback(ended)
        address: dict[str, str | None] = {
            **state.hub.register(bearer, f"{request.url.host}:{state.side_port}")
        }
        if state.scripts.standing(bearer).register == "null":
            address["wss_url"] = None
        return web.json_response(
            {
                **address,
                "conversation_id": conversation_id,
                "response_id": response_id,
                "websocket_request_id": str(uuid4()),
            }
        )


def _steps(script: Script, asked: Payload, known: Conversation) -> tuple[Step, ...]:
    choice = asked.choice
    if choice is None:
        known.script, known.confirmed = script, 0
        return tools.steps(script, known.document)
    if choice.data.type == "deny":
        return tools.DENIED
    known.confirmed += 1
    if choice.data.type == "always_allow":
        known.script = script = msgspec.structs.replace(script, confirm=False)
    return tools.steps(script, known.document, known.confirmed)


def _turn(asked: Payload) -> Turn:
    now = time.time()
    parent_id = asked.prompt.id if asked.prompt else asked.parent_message_id
    return Turn(
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


async def _perform(
    script: Script, reply: Reply, transport: Transport, hold: Hold, clock: Clock
) -> None:
    """Send one answer in its time."""
    start = clock.now() + script.delay
    await transport.open()
    body = Body(transport, script, clock)
    try:
        await body.write(start, reply.lead)
        sent = 0
        for act in reply.acts:
            start += act.pause
            while beat := b"".join(islice(act.events, script.burst)):
                sent += script.burst
                await body.write(start + sent * script.interval, beat)
        if script.fault == "silence":
            await body.stay()
        await body.wait(start + (sent + 1) * script.interval)
        tail = reply.tail()
        body.spend(tail)
    except CutError as cut:
        # Freed first: a client that sees the end must be able to start the next one at once.
        hold.finish()
        await transport.cut(cut.rest)
        return
    hold.finish()
    await transport.end(tail)


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
