"""One question to the gateway over HTTP: its place in the line, and the answer as it streams."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec

CONNECT_TIMEOUT = 10.0
"""Seconds for connecting, with the TLS handshake."""

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of one line of an answer: a JSON answer is a single event."""

LONGEST_BODY = 1024 * 1024
"""Bytes of a list of models or of an error."""


class AskError(Exception):
    """A question cannot be asked, or its answer failed; the message is for its author."""


class Place(msgspec.Struct, frozen=True):
    """Place in the line, 1 is next, and the forecast of the wait in seconds."""

    position: int
    eta: int = 0


Step = Place | str
"""A place while the question waits, then pieces of the answer, empty if there was only a sign of
life."""


class _Delta(msgspec.Struct):
    role: str | None = None
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)


class _Error(msgspec.Struct):
    message: str = ""
    code: str | int | None = None


class _Chunk(msgspec.Struct):
    """One message of a stream, or the body of an error."""

    choices: list[_Choice] = []
    queue: Place | None = None
    error: _Error | None = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model] = []


class Api:
    """An OpenAI-compatible API at a URL that ends with `/v1`.

    `silence` is the number of seconds for which the server may send nothing.
    """

    def __init__(self, url: str, key: str, silence: float) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=CONNECT_TIMEOUT, sock_read=silence
        )

    async def first_model(self) -> str:
        """Return the first model that the server lists. Raises AskError."""
        async with self._answer("GET", "/models") as answer:
            try:
                models = msgspec.json.decode(await answer.content.read(LONGEST_BODY), type=_Models)
            except msgspec.MsgspecError:
                raise AskError(f"{self._url}/models is not the list of an OpenAI API.") from None
        if not models.data:
            raise AskError("The gateway lists no model at present. Name one with --model.")
        return models.data[0].id

    async def ask(self, model: str, question: str) -> AsyncIterator[Step]:
        """Ask, and yield the steps to the end of the answer. Closing the iterator cancels.

        Raises:
            AskError: the question was refused, or its answer failed or broke off.
        """
        body = {
            "model": model,
            "stream": True,
            "messages": [{"role": "user", "content": question}],
        }
        async with self._answer("POST", "/chat/completions", body) as answer:
            async for line in answer.content:
                data = line.strip().removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    return
                if line.startswith(b"data:") and (step := read_message(data)) is not None:
                    yield step
        raise AskError("The answer broke off.")

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: object = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = self._headers | {"x-keepalive": "empty_delta"}
        session = aiohttp.ClientSession(
            timeout=self._timeout, headers=headers, read_bufsize=LONGEST_LINE
        )
        try:
            async with (
                session,
                session.request(
                    method, self._url + path, json=body, allow_redirects=False
                ) as answer,
            ):
                if answer.status != 200:
                    raise await _refusal(answer)
                yield answer
        except aiohttp.ClientConnectorError as error:
            raise AskError(f"{self._url} cannot be reached: {_cause(error)}.") from None
        except TimeoutError:
            raise AskError(f"{self._url} did not answer in time.") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise AskError(f"{self._url}: the connection failed ({error}).") from None


def read_message(data: bytes) -> Step | None:
    """Read one message of the stream; None if it says nothing.

    Raises:
        AskError: it is the error that ends the answer, or no message of a chat.
    """
    try:
        chunk = msgspec.json.decode(data, type=_Chunk)
    except msgspec.MsgspecError:
        raise AskError("The server's answer is not the stream of a chat.") from None
    if chunk.error:
        raise AskError(_described(chunk.error, "the answer failed"))
    if chunk.queue:
        return chunk.queue
    deltas = [choice.delta for choice in chunk.choices]
    text = "".join(delta.content or "" for delta in deltas)
    # The first message has only the role, and says nothing of the question's place.
    return text if text or not any(delta.role for delta in deltas) else None


async def _refusal(answer: aiohttp.ClientResponse) -> AskError:
    status = f"HTTP {answer.status}"
    try:
        body = msgspec.json.decode(await answer.content.read(LONGEST_BODY), type=_Chunk)
    except msgspec.MsgspecError:
        return AskError(f"{answer.url} answered with {status}. Is it the URL of an OpenAI API?")
    text = _described(body.error or _Error(), status)
    after = answer.headers.get("retry-after")
    return AskError(f"{text} Retry after {after} s." if after else text)


def _described(error: _Error, place: str) -> str:
    words = ", ".join(str(word) for word in (place, error.code) if word)
    return f"{error.message or 'The request was refused.'} ({words})"


def _cause(error: aiohttp.ClientConnectorError) -> str:
    number = error.os_error.errno or 0
    # That of a name that cannot be resolved is negative, and asyncio's own text of others is long.
    return os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)
