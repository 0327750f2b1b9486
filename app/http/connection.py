"""HTTP/1 as clients of all ages speak it: repairs of Sanic's protocol.

A request that is refused before its body was read is answered at once, and the rest of the body is
read and discarded, for a limited time and amount. Closing the connection instead would reset it,
and a client that is still sending would lose the answer.
"""

from __future__ import annotations

import asyncio
import logging
import re
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from sanic import Request
from sanic.compat import Header
from sanic.exceptions import BadRequest
from sanic.headers import format_http1_response
from sanic.http import Http, Stage
from sanic.server.protocols.http_protocol import HttpProtocol

from app.http.access_log import entry_of, log_request
from app.http.connections import Connection, Connections
from app.http.flag import Flag
from app.http.pacing import Pacer
from app.openai.errors import ApiError, TlsToPlainPort, TooManyConnections
from runtime import tracing

logger = logging.getLogger(__name__)

LONGEST_TRAILERS = 16_384
"""Bytes of the trailer section after a body in chunks. It is not read."""

UNPARSED = "NONE"
"""Method of the request that Sanic makes up to answer one that it could not parse."""

TLS_HANDSHAKE = 0x16
"""First byte of a connection over TLS. No request begins with it."""

_DIGITS = re.compile("[0-9a-fA-F]+")
_SLASHES = re.compile(rb"/{2,}")
_INVALID_HEAD = re.compile(rb"\0|(?<!\r)\n|\r(?!\n)|\r\n(?![!#$%&'*+.^_`|~0-9A-Za-z-]+:)")
"""Lone ends of lines, and names of headers that are no token, such as one with a space behind it.

Sanic would ignore a length in such a header, which another server on the way may have read, and
would take the body for the next request."""


class GatewayRequest(Request[Any, Any]):
    """A request whose target and headers are in the one form that Sanic reads.

    It can also be created for a target that could not be parsed: Sanic creates such a request to
    answer the error with, from the very target that just failed.
    """

    def __init__(
        self, url_bytes: bytes, headers: Header, version: str, method: str, *more: Any, **named: Any
    ) -> None:
        if _INVALID_HEAD.search(named.get("head", b"")):
            raise BadRequest("The request has an invalid header.")
        target = b"*" if method == UNPARSED else _single_slashes(url_bytes)
        super().__init__(target, headers, version, method, *more, **named)
        self.had_more_slashes = len(target) < len(url_bytes)
        if coding := self.headers.get("transfer-encoding"):
            self.headers["transfer-encoding"] = coding.strip().lower()
        # HTTP allows to ignore an expectation that is unknown; a client of HTTP/1.0 has none.
        expected = self.headers.get("expect", "").strip().lower()
        self.headers.popall("expect", None)
        if expected == "100-continue" and version != "1.0":
            self.headers["expect"] = expected


def _single_slashes(target: bytes) -> bytes:
    """Serve `//v1/...`: many clients join a base URL and a path, each with a slash."""
    if not target.startswith(b"/"):
        return target
    path, mark, query = target.partition(b"?")
    return _SLASHES.sub(b"/", path) + mark + query


class GatewayHttp(Http):
    """The requests of one connection, one after the other.

    `unread` is set to read and discard what the client still sends, after the last answer.
    """

    __slots__ = ["unread"]
    protocol: GatewayProtocol

    def __init__(self, protocol: GatewayProtocol) -> None:
        super().__init__(protocol)  # type: ignore[no-untyped-call]
        self.unread = False

    def init_for_request(self) -> None:
        """Reset everything, and wait for the next request."""
        super().init_for_request()  # type: ignore[no-untyped-call]
        self.protocol.waits()

    @staticmethod
    def _safe_int(value: str, base: int = 10) -> int:
        """Read a length in the one form that no other server on the way reads in another way."""
        digits = value.strip(" \t")
        if not _DIGITS.fullmatch(digits):
            raise ValueError
        return int(digits, base)

    async def http1(self) -> None:
        """Handle requests while the connection is reusable."""
        await super().http1()  # type: ignore[no-untyped-call]
        # An answer that was cut off would leave this object in a cycle with its own method.
        self.response_func = None  # type: ignore[assignment]  # as Sanic's own do
        if self.unread:
            await self._discard()

    async def http1_request_header(self) -> None:
        """Receive the head of a request. Old clients send an empty line after a body."""
        while self.recv_buffer.startswith(b"\r\n"):
            del self.recv_buffer[:2]
            if not self.recv_buffer:
                await self._receive_more()
        await super().http1_request_header()  # type: ignore[no-untyped-call]

    async def error_response(self, exception: Exception) -> None:
        """Answer an error; nothing if the client is gone, as thousands may be at once."""
        info = self.protocol.conn_info
        if info is not None and info.lost:
            self.keep_alive = False
            self.request_body = None
            return
        await super().error_response(exception)

    async def _discard(self) -> None:
        server = self.protocol.app.ctx.server
        left = 2 * server.max_body_bytes
        transport = self.protocol.transport
        if transport is None or transport.is_closing():
            return
        self.protocol.waits()
        transport.write_eof()  # for clients that read up to the end of the connection
        try:
            async with asyncio.timeout(server.body_timeout):
                while left > 0:
                    left -= len(self.recv_buffer)
                    self.recv_buffer.clear()
                    await self._receive_more()  # cancelled as soon as the client disconnects
        except TimeoutError:
            pass

    async def http1_response_header(self, data: bytes, end_stream: bool) -> None:
        """Send the head of an answer. HTTP/1.0 has no chunks: there the end of the connection is
        the end of an answer of unknown length."""
        response = self.response
        if (
            self.request.version != "1.0"
            or end_stream
            or getattr(response, "body", None)
            or self.head_only
            or "content-length" in response.headers
            or response.status in (204, 304)
        ):
            await super().http1_response_header(data, end_stream)
            return
        self.keep_alive = False
        response.headers["connection"] = "close"
        head = format_http1_response(response.status, response.processed_headers)
        self.response_func = self._until_close
        self.stage = Stage.RESPONSE
        await self._send(head + data)

    async def _until_close(self, data: bytes, end_stream: bool) -> None:
        if data:
            await self._send(data)
        if end_stream:
            self.response_func = None  # type: ignore[assignment]  # as Sanic's own do
            self.stage = Stage.IDLE

    async def read(self) -> bytes | None:
        """Read some bytes of the request's body; None at its end."""
        data = await self._read()
        if self.request_body is None:
            self.protocol.serves()
        return data

    async def _read(self) -> bytes | None:
        try:
            data: bytes | None = await super().read()
        except BadRequest:
            if self.request_body is not None:
                raise
            # The last chunk has been read, and is followed by trailers, which Sanic refuses.
            await self._skip_trailers()
            return None
        return data

    async def _skip_trailers(self) -> None:
        # Another server in between may see their end elsewhere, so nothing after them is a request:
        # Sanic has set `keep_alive` to false.
        buffer = self.recv_buffer
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            if len(buffer) > LONGEST_TRAILERS:
                raise BadRequest("Bad chunked encoding")
            await self._receive_more()
        del buffer[: end + 4]


class GatewayProtocol(HttpProtocol):
    """One connection of a client, within the limits of `Connections`."""

    HTTP_CLASS = GatewayHttp
    __slots__ = ["_counted", "_has_sent"]

    def _setup(self) -> None:
        super()._setup()  # type: ignore[no-untyped-call]
        self._can_write = Flag(is_set=True)  # type: ignore[assignment]  # as an asyncio.Event
        self._data_received = Flag()  # type: ignore[assignment]  # as an asyncio.Event
        self.request_handler = self._serve
        self._counted: Connection | None = None
        self._has_sent = False

    @property
    def _connections(self) -> Connections:
        connections: Connections = self.app.ctx.connections
        return connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or refuse it."""
        peer = transport.get_extra_info("peername")
        self._counted = self._connections.open(peer, transport.abort)
        if self._counted is None:
            transport.write(_TOO_MANY)
            transport.close()
            return
        super().connection_made(transport)  # type: ignore[no-untyped-call]

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and cancel its handler soon."""
        if self._counted is not None:
            self._connections.remove(self._counted)
            departures: Pacer = self.app.ctx.departures
            departures.add(partial(super().connection_lost, exc))

    def data_received(self, data: bytes) -> None:
        """Receive some bytes. Those of a head do not extend the time that is left for it."""
        if self._counted is None:
            return
        if not self._has_sent and data[0] == TLS_HANDSHAKE:
            self._refuse_tls()
            return
        self._has_sent = True
        began = self._time
        super().data_received(data)
        if self.http is not None and self.http.stage is Stage.REQUEST:
            self._time = began

    def _refuse_tls(self) -> None:
        """Answer in plain HTTP, which TLS libraries report by its well-known name."""
        address = self.conn_info.client_ip if self.conn_info else ""
        logger.warning(
            "the client speaks TLS to a plain port; its base URL should begin with http://",
            extra={"event": "tls_to_plain_port", "address": address},
        )
        if self.transport is not None:
            self.transport.write(_TLS)
            self.transport.close()

    def waits(self) -> None:
        """Note that the connection waits for its next request, or for its end."""
        if self._counted is not None:
            self._connections.waits(self._counted)

    def serves(self) -> None:
        """Note that a whole request has been received."""
        if self._counted is not None:
            self._connections.serves(self._counted)

    async def _serve(self, request: GatewayRequest) -> None:
        if self._http.request_body is None:
            self.serves()
        entry = entry_of(request)
        entry.is_served = True
        if request.method == "POST":
            entry.span = tracing.root("request", request.headers.get("traceparent", ""))
        try:
            await self.app.handle_request(request)
        except BaseException:
            entry.is_cut = True
            raise
        finally:
            log_request(request, failures_only=not self.app.ctx.logs_requests)


def _refusal(failure: ApiError) -> bytes:
    body = msgspec.json.encode(failure.object)
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **failure.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    status = HTTPStatus(failure.status)
    return f"HTTP/1.1 {status} {status.phrase}\r\n{lines}\r\n".encode() + body


_TOO_MANY = _refusal(TooManyConnections())
_TLS = _refusal(TlsToPlainPort())
