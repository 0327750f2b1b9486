"""HTTP with one OpenAI-compatible server: through the operator's proxy, never redirected."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from types import SimpleNamespace

import aiohttp
import msgspec
import yarl

from runtime import tracing
from settings.credentials import Secret
from wire.jobs import ApiPath
from workers.http.body import HttpBody
from workers.http.unreachable import UnreachableError, passed, reaching
from workers.openai.addresses import Addresses
from workers.openai.error_object import MAX_ERROR
from workers.openai.request import Request

KEEPALIVE = 4.0
"""Seconds that an idle connection is kept: less than the 5 s after which servers close it."""

_ERROR_TIMEOUT = 5.0
"""Seconds for the body of an error: enough to read the reason, too few to hide it in a timeout."""

ANTHROPIC_VERSION = "2023-06-01"


class Found(msgspec.Struct, frozen=True):
    """The answer to a question about the server. `status` is 0 if none came in time; `trouble` is
    the reason, for the log alone."""

    status: int = 0
    body: bytes = b""
    trouble: str = ""


class _Try:
    """One try at a request. `reused`: it was sent on a connection that had been kept."""

    def __init__(self) -> None:
        self.reused = False


def trace_reuse() -> aiohttp.TraceConfig:
    """Return the tracing that a `Connection` needs of its session."""
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reuse)
    return trace


async def _note_reuse(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    context.trace_request_ctx.reused = True


class Connection:
    """Requests to one server, with our own credential if there is one."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        credential: Callable[[], Secret],
        connect_timeout: float = 10.0,
    ) -> None:
        self.addresses = Addresses(base_url)
        self._session = session
        self._credential = credential
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout, sock_connect=connect_timeout
        )

    async def post(
        self, path: ApiPath, request: Request, token: str = ""
    ) -> aiohttp.ClientResponse:
        """Send a request, with a token in place of our credential if there is one; the response is
        to be closed by the caller.

        A connection that was kept and breaks without an answer says nothing about the server, so
        the request is sent again at once.

        Raises:
            UnreachableError: no response came. Only connecting has a deadline.
        """
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if request.streamed else "application/json",
            **self._headers(path, token),
            **tracing.headers(),
        }
        url = self.addresses.api(path)
        while True:
            attempt = _Try()
            try:
                with reaching():
                    response = await self._session.post(
                        url,
                        data=io.BytesIO(request.body),  # bytes are written in one turn of the loop
                        headers=headers,
                        allow_redirects=False,
                        timeout=self._timeout,
                        trace_request_ctx=attempt,
                    )
                    return passed(response)
            except UnreachableError as error:
                if not (attempt.reused and error.broken):
                    raise

    async def get(self, url: yarl.URL, max_bytes: int, timeout: float) -> Found:
        """Ask a question, of whose answer at most `max_bytes` are read."""
        try:
            with reaching():
                async with asyncio.timeout(timeout):
                    response = await self._session.get(
                        url,
                        headers={"Accept": "application/json", **self._headers("models")},
                        allow_redirects=False,
                        timeout=self._timeout,
                        trace_request_ctx=_Try(),
                    )
                    body = await read_body(passed(response), max_bytes)
                    return Found(response.status, body)
        except UnreachableError as error:
            return Found(trouble=error.detail)

    def secrets(self, token: str = "") -> list[str]:
        """Return the texts that no client may see: our credential and the server's address."""
        return list(filter(None, (token or self._credential().reveal(), *self.addresses.texts)))

    def _headers(self, path: str, token: str = "") -> dict[str, str]:
        # A compressor in between would hold tokens back.
        headers = {"Accept-Encoding": "identity"}
        credential = token or self._credential().reveal()
        if credential:
            headers["Authorization"] = f"Bearer {credential}"
        if path.startswith("messages"):
            headers["anthropic-version"] = ANTHROPIC_VERSION
            if credential:
                headers["x-api-key"] = credential
        return headers


async def read_error_body(response: aiohttp.ClientResponse) -> bytes:
    """Read the body of an error as far as it comes within the limits, and close the response."""
    try:
        async with asyncio.timeout(_ERROR_TIMEOUT):
            return await read_body(response, MAX_ERROR)
    except TimeoutError:
        return b""


async def read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Read at most the given number of bytes of a body, and close the response."""
    stream, body = HttpBody(response), bytearray()
    try:
        while len(body) < max_bytes and (data := await stream.read()):
            body += data
    finally:
        await stream.close()
    return bytes(body[:max_bytes])
