"""`/backend-api/conversation`: the script of each POST is played, within the caps."""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from uuid import uuid4

import msgspec
from aiohttp import web

from simulator import payload, tools
from simulator.accounts import Hold
from simulator.body import Body, CutError
from simulator.checks import check_conversation, check_files, check_gizmo
from simulator.errors import NO_CONVERSATION, RefusedError, named
from simulator.events import Turn
from simulator.handlers import answer, bearer_of, reset, side_host
from simulator.history import Conversation
from simulator.instructions import Instructions, read_instructions
from simulator.layout import place
from simulator.payload import Payload
from simulator.reply import Reply, pings, reply
from simulator.sample import sample
from simulator.script import Script, parse_directive
from simulator.state import State
from simulator.steps import Step
from simulator.transport import HttpTransport, SocketTransport, Transport


class StopRequest(msgspec.Struct, frozen=True):
    """The body of `POST /stop_conversation`."""

    conversation_id: str


class Conversations:
    """The handlers of the conversation endpoint."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._running: dict[str, asyncio.Task[None]] = {}

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Start a conversation, and answer it here or over the account's socket."""
        state = self._state
        bearer = bearer_of(request)
        asked = payload.decode(await request.read())
        known = self._checked(asked, bearer)
        instructions = read_instructions(asked.messages)
        directive, rest = parse_directive(instructions.question)
        state.accounts.check(bearer)
        # Nothing awaits from here to `hold`, so no other request can come in between.
        if asked.choice is not None and known is not None:
            script = known.script
        else:
            script = _instructed(
                directive or state.scripts.take(bearer, asked.model), instructions, rest
            )
        if script.error is not None:
            state.accounts.count_error()
            return answer(named(script.error, script.clears_in))
        if script.arkose:
            self._spend(asked, request)
        if script.echo and script.text is None:
            script = msgspec.structs.replace(script, text=rest)
        turn = _turn(asked)
        if known is None:
            known = Conversation(bearer, asked.history_and_training_disabled, script)
            state.history.remember(turn.conversation_id, known)
        reply = self._reply(script, asked, turn, known)
        over_socket = (script.account or state.scripts.standing(bearer).account) == "websocket"
        # `stop_conversation` ends an answer over a socket at once, so it never lingers.
        hold = state.accounts.hold(bearer, 0.0 if over_socket else script.linger)
        if script.fault in ("hang", "reset"):
            return await _unanswered(script, hold, request)
        if over_socket:
            # A confirmation is answered over the socket that the client already has.
            address = self._address(bearer, request) if asked.choice is None else {}
            return self._over_socket(script, reply, turn.conversation_id, hold, address)
        response = _stream_response()
        try:
            with hold:
                await _perform(script, reply, HttpTransport(request, response), hold, state)
        except ConnectionError:
            # The client disconnected between two writes: counted as aborted, and not an error.
            pass
        return response

    async def patch(self, request: web.Request) -> web.Response:
        """Hide or rename a conversation; only the counts change."""
        state = self._state
        known = state.history.find(request.match_info["id"], bearer_of(request))
        if known is None:
            raise RefusedError(NO_CONVERSATION)
        asked = payload.decode_patch(await request.read())
        state.counts.patched += 1
        if asked.is_visible is False and not known.hidden:
            known.hidden = True
            state.counts.hidden += 1
        return web.json_response({"success": True})

    async def stop(self, request: web.Request) -> web.Response:
        """End the answer that a conversation is sending over a socket."""
        bearer = bearer_of(request)
        try:
            asked = msgspec.json.decode(await request.read(), type=StopRequest)
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

    def _checked(self, asked: Payload, bearer: str) -> Conversation | None:
        """Return the conversation that is continued, or None for a new one. Raises RefusedError."""
        state = self._state
        try:
            known = check_conversation(asked, bearer, state.history)
            check_gizmo(asked)
            check_files(asked, bearer, state.files)
        except RefusedError:
            state.counts.invalid += 1
            raise
        return known

    def _spend(self, asked: Payload, request: web.Request) -> None:
        header = request.headers.get("Openai-Sentinel-Arkose-Token")
        try:
            self._state.arkose.spend(asked.arkose_token, header)
        except RefusedError:
            self._state.counts.invalid += 1
            raise

    def _reply(self, script: Script, asked: Payload, turn: Turn, known: Conversation) -> Reply:
        """Make the answer to this request, and remember what it offers."""
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

    def _over_socket(
        self,
        script: Script,
        reply: Reply,
        conversation_id: str,
        hold: Hold,
        address: dict[str, str | None],
    ) -> web.Response:
        """Answer over the socket in the background, and say so in the response."""
        state = self._state
        bearer = hold.bearer
        response_id = f"{uuid4().hex[:16]}-SIM"
        transport = SocketTransport(state.hub, bearer, script, conversation_id, response_id)

        async def perform() -> None:
            with hold:
                await _perform(script, reply, transport, hold, state)

        task = asyncio.ensure_future(perform())
        self._running[conversation_id] = task

        def ended(task: asyncio.Task[None]) -> None:
            if self._running.get(conversation_id) is task:
                del self._running[conversation_id]
            if not task.cancelled():
                task.result()

        task.add_done_callback(ended)
        ids = {"conversation_id": conversation_id, "response_id": response_id}
        return web.json_response({**address, **ids})

    def _address(self, bearer: str, request: web.Request) -> dict[str, str | None]:
        """Return the address of the account's socket, and an id for requesting its frames."""
        state = self._state
        host = side_host(request, state.side_port)
        address: dict[str, str | None] = {**state.hub.register(bearer, host)}
        if state.scripts.standing(bearer).register == "nowhere":
            address["wss_url"] = None
        return address | {"websocket_request_id": str(uuid4())}


def _instructed(script: Script | None, instructions: Instructions, rest: str) -> Script:
    """Return the script, or the sample answer, with the reply that the instructions want."""
    text = instructions.reply(script)
    if text is None:
        return script or sample(rest)
    return msgspec.structs.replace(script or Script(), text=text)


def _steps(script: Script, asked: Payload, known: Conversation) -> tuple[Step, ...]:
    choice = asked.choice
    if choice is None:
        known.script, known.confirmed = script, 0
        if asked.prompt is not None and asked.prompt.metadata.attachments:
            known.document = str(asked.prompt.metadata.attachments[-1]["id"])
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


async def _unanswered(script: Script, hold: Hold, request: web.Request) -> web.StreamResponse:
    """Hang until the client disconnects, or reset the connection."""
    with hold:
        if script.fault == "hang":
            await asyncio.Event().wait()
        hold.finish()
        reset(request)
    return _stream_response()


async def _perform(
    script: Script, reply: Reply, transport: Transport, hold: Hold, state: State
) -> None:
    """Send one answer at the script's pace."""
    clock = state.clock
    start = clock.now() + script.delay
    await transport.open()
    cut_at = script.at if script.fault == "cut" else None
    body = Body(transport.write, clock, pings(script), every=script.ping, cut_at=cut_at)
    try:
        await body.write(start, reply.lead)
        sent = 0
        for segment in reply.segments:
            start += segment.pause
            while beat := b"".join(islice(segment.events, script.burst)):
                if 0 < script.gate <= sent:
                    since = clock.now()
                    await state.gate.wait()
                    start += clock.now() - since
                sent += script.burst
                await body.write(start + sent * script.interval, beat)
        if script.fault == "silence":
            await body.stay()
        await body.wait(start + (sent + 1) * script.interval)
        tail = reply.tail()
        body.spend(tail)
    except CutError as cut:
        # Freed first: a client that sees the end can start the next conversation at once.
        hold.finish()
        await transport.cut(cut.rest)
        return
    hold.finish()
    await transport.end(tail)
