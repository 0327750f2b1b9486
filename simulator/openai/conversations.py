"""The paths that generate: each request waits for a slot, and its script is played."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from uuid import uuid4

import msgspec
from aiohttp import web

from simulator.body import Body, CutError
from simulator.directive import ScriptError, read_directive
from simulator.handlers import reset
from simulator.openai import asked as asking
from simulator.openai.about import authorize
from simulator.openai.answer import Answer, answer
from simulator.openai.asked import Asked, EmbeddingsBody
from simulator.openai.dialects.message import Dialect
from simulator.openai.embeddings import embeddings, question
from simulator.openai.errors import ERRORS, ErrorAnswer, RefusedError, invalid
from simulator.openai.likeness import LIKENESSES, Likeness
from simulator.openai.script import Script
from simulator.openai.slots import Hold
from simulator.openai.state import Seen, State
from simulator.openai.stream import ERROR_FAULTS, Stream
from simulator.openai.transport import UntilClosed
from simulator.transport import HttpTransport, Transport

Read = Callable[[bytes], Asked]
Say = Callable[[Asked, Answer, Likeness, str], Dialect]


class Conversations:
    """The handlers."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def ask(self, request: web.Request, read: Read, say: Say) -> web.StreamResponse:
        """Answer one request in its dialect."""
        asked = read(await self._received(request))
        self._check_model(asked.model)
        script, rest = self._script(asked.question)
        if script is not None and (broken := await self._unanswered(request, script)):
            return broken
        like = LIKENESSES[(script and script.like) or self._state.config.like]
        said = answer(asked, script, rest)
        dialect = say(asked, said, like, uuid4().hex[:24])
        script = script or Script()
        if not asked.stream:
            return await self._whole(script, dialect, asked, said)
        stream = Stream(dialect, said, script, like)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        transport = UntilClosed(request) if like.until_closed else HttpTransport(request, response)
        try:
            if like.head:
                await transport.open()
            with await self._state.slots.take(asked.number) as hold:
                if not like.head:
                    await transport.open()
                await self._play(stream, script, transport, hold)
        except ConnectionError:
            pass  # the client disconnected between two writes: counted as aborted
        return response

    async def embed(self, request: web.Request) -> web.StreamResponse:
        """Answer with vectors, after the script's delay."""
        given = asking.decode(await self._received(request), EmbeddingsBody)
        script, _ = self._script(question(given))
        if script is not None and (broken := await self._unanswered(request, script)):
            return broken
        self._state.counts.embeddings += 1
        with await self._state.embeddings.take():
            await asyncio.sleep(script.delay if script else 0)
            return web.json_response(embeddings(given))

    async def count(self, request: web.Request) -> web.StreamResponse:
        """Count the tokens of a request in Anthropic's dialect."""
        given = asking.messages(await self._received(request))
        script, _ = self._script(given.question)
        if script is not None and (broken := await self._unanswered(request, script)):
            return broken
        self._state.counts.counted += 1
        return web.json_response({"input_tokens": given.prompt_tokens})

    async def _received(self, request: web.Request) -> bytes:
        body = await request.read()
        headers = dict(request.headers)
        if "Authorization" in headers:
            headers["Authorization"] = headers["Authorization"].partition(" ")[0]
        authorize(self._state, request)
        try:
            msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RefusedError(invalid(f"parse error: {error}")) from None
        self._state.seen.append(Seen(request.path, headers, msgspec.Raw(body)))
        return body

    def _check_model(self, model: str) -> None:
        config = self._state.config
        if config.like != "llama" and model not in config.models:
            error = {"message": f"The model `{model}` does not exist.", "type": "NotFoundError"}
            raise RefusedError(
                ErrorAnswer(404, {"error": {**error, "param": "model", "code": 404}})
            )

    def _script(self, question: str) -> tuple[Script | None, str]:
        try:
            directive, rest = read_directive(question, Script)
        except ScriptError as error:
            raise RefusedError(invalid(str(error))) from None
        script = directive or self._state.scripts.posted
        if script is None:
            return None, rest
        return self._state.scripts.play(script, question if directive else ""), rest

    async def _unanswered(self, request: web.Request, script: Script) -> web.StreamResponse | None:
        """Refuse the request, or break off without an answer, if the script says so."""
        if script.error is not None and script.fault not in ERROR_FAULTS:
            self._state.counts.errors += 1
            raise RefusedError(ERRORS[script.error])
        match script.fault:
            case "hang":
                with await self._state.slots.take():
                    await asyncio.Event().wait()
            case "reset":
                reset(request)
            case "stale" if request.transport is not None and self._state.is_kept(request):
                request.transport.close()
            case _:
                return None
        return web.Response()

    async def _whole(
        self, script: Script, dialect: Dialect, asked: Asked, said: Answer
    ) -> web.StreamResponse:
        self._state.counts.whole += 1
        clock = self._state.clock
        with await self._state.slots.take(asked.number):
            await clock.until(clock.now() + script.delay + script.interval * len(said.pieces))
            body = msgspec.json.encode(dialect.whole())
            return web.Response(body=body, content_type="application/json")

    async def _play(self, stream: Stream, script: Script, transport: Transport, hold: Hold) -> None:
        """Send one stream at the script's pace."""
        clock = self._state.clock
        cut_at = script.at if script.fault == "cut" else None
        body = Body(transport.write, clock, stream.pings(), every=script.ping, cut_at=cut_at)
        start, sent, words = clock.now() + script.delay, 0, stream.words()
        try:
            await body.write(start, stream.lead())
            while beat := list(islice(words, script.burst)):
                if 0 < script.gate <= sent:
                    since = clock.now()
                    await self._state.gate.wait()
                    start += clock.now() - since
                sent += script.burst
                await body.write(start + sent * script.interval, b"".join(beat))
            if script.fault == "silence":
                await body.stay()
            await body.wait(start + (sent + 1) * script.interval)
            tail = stream.tail()
            body.spend(tail)
        except CutError as cut:
            # Freed first: a client that sees the end can start the next conversation at once.
            hold.finish()
            await transport.cut(cut.rest)
            return
        hold.finish()
        await (transport.cut if script.fault == "cut_after_finish" else transport.end)(tail)
