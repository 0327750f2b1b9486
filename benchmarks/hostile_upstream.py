"""The simulator, with answers that were made to be slow: `python -m benchmarks.hostile_upstream`.

A prompt names one: `[[hostile marks]]`. Any other prompt gets the simulator's own answer.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
from collections.abc import Awaitable, Callable, Iterator

import msgspec
import uvloop
from aiohttp import web

from simulator.accounts import Limits
from simulator.server import serve

PATH = "/backend-api/conversation"
PIECE = 65_536
_NAME = re.compile(rb"\[\[hostile ([a-z_]+)\]\]")
_DONE = b"data: [DONE]\n\n"


def _record(
    text: str, id: str = "m", *, ends: bool = False, citations: list[object] | None = None
) -> dict[str, object]:
    message = {
        "id": id,
        "author": {"role": "assistant", "metadata": {}},
        "content": {"content_type": "text", "parts": [text]},
        "status": "finished_successfully" if ends else "in_progress",
        "end_turn": ends or None,
        "metadata": {"model_slug": "gpt-4", "citations": citations or []},
        "recipient": "all",
    }
    return {"message": message, "conversation_id": "c", "error": None}


def _whole(text: str, citations: list[object] | None = None) -> Iterator[bytes]:
    record = _record(text, ends=True, citations=citations)
    yield b"data: " + msgspec.json.encode(record) + b"\n\n"
    yield _DONE


def _marks(number: int) -> str:
    return "".join(f"【{n % 9999}†s】" for n in range(number))


def _cited(number: int) -> dict[str, object]:
    extra = {"cited_message_idx": number, "search_result_idx": None}
    source = {"type": "webpage", "url": "https://example.org", "extra": extra}
    return {"start_ix": number, "end_ix": number + 10, "metadata": source}


def _marks_and_sources() -> Iterator[bytes]:
    return _whole(_marks(9000), citations=[_cited(n) for n in range(9000)])


def _messages() -> Iterator[bytes]:
    for number in range(500_000):
        record = _record("a", f"m{number}", ends=True)
        yield b"data: " + msgspec.json.encode(record) + b"\n\n"
    yield _DONE


def _pieces() -> Iterator[bytes]:
    first = {"p": "", "o": "add", "v": _record("")}
    piece = {"p": "/message/content/parts/0", "o": "append", "v": "x" * 1024}
    for operation in (first, *[piece] * 60_000):
        yield b"event: delta\ndata: " + msgspec.json.encode(operation) + b"\n\n"
    yield _DONE


ANSWERS: dict[str, Callable[[], Iterator[bytes]]] = {
    "many_marks": lambda: _whole(_marks(500_000)),
    "marks": lambda: _whole(_marks(27_000)),
    "marks_and_sources": _marks_and_sources,
    "parentheses": lambda: _whole("(" * 10_000),
    "nested_links": lambda: _whole("(sandbox:/a(" * 100_000),
    "messages": _messages,
    "pieces": _pieces,
    "calls": lambda: _whole('<tool_call>\n{"name": "f", "arguments": {' * 20_000),
    "json": lambda: _whole(msgspec.json.encode({"items": ["a" * 40] * 5000}).decode()),
}


async def _answer(request: web.Request, name: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    buffer = bytearray()
    for piece in ANSWERS[name]():
        buffer += piece
        if len(buffer) >= PIECE:
            await response.write(bytes(buffer))
            buffer.clear()
            await asyncio.sleep(0)
    await response.write(bytes(buffer))
    return response


@web.middleware
async def _hostile(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if request.method == "POST" and request.path == PATH:
        found = _NAME.search(await request.read())
        if found:
            return await _answer(request, found[1].decode())
    return await handler(request)


async def _serve(port: int, slots: int) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with serve(Limits(slots, slots), port=port, middlewares=[_hostile]):
        await stopping.wait()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-active", type=int, required=True)
    given = parser.parse_args()
    uvloop.run(_serve(given.port, given.max_active))


if __name__ == "__main__":
    main()
