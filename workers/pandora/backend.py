"""The upstream's HTTP API: one way to call it, with its bearer, deadlines, size caps and failures.

Every request to the upstream, and to the servers it refers to (files, Arkose tokens), goes through
`Backend`: through the operator's proxy, without following redirects, and to addresses that the
upstream may refer to (`referrals`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Mapping

import aiohttp
import msgspec
import yarl

from runtime import tracing
from settings.urls import read_url
from workers.http.body import salvage
from workers.http.trouble import host_of
from workers.http.unreachable import passed, reaching
from workers.pandora.referrals import Referrals
from workers.pandora.refusals import judge
from workers.upstream import UpstreamBusy, UpstreamError

logger = logging.getLogger(__name__)

SMALL = 64 * 1024
"""Bytes that most answers of the API stay far below."""

TOO_LARGE = "too_large"


class Response(msgspec.Struct, frozen=True):
    """A response and as much of its body as arrived within the limits.

    `flaw` is "" for a whole body, otherwise `TOO_LARGE` or the name of the exception that ended it.
    """

    status: int
    content_type: str
    retry_after: str | None
    body: bytes = b""
    flaw: str = ""

    def refusal(self) -> UpstreamBusy | UpstreamError:
        """The error to raise for it."""
        return judge(self.status, self.content_type, self.body, self.retry_after)


class Backend:
    """The API below `/backend-api` of one server.

    A `target` is a path of this API, or the URL of another server. It is sent as it is, so it must
    be encoded already.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        api_prefix: str = "",
        connect_timeout: float = 10.0,
        referrals: Referrals | None = None,
    ) -> None:
        prefix = api_prefix.strip("/")
        root = base_url.rstrip("/") + (f"/{prefix}" if prefix else "") + "/backend-api"
        self.connect_timeout = connect_timeout
        self._root = str(yarl.URL(root))
        self.host = host_of(yarl.URL(root))
        """The server's host and port, for the log."""
        self._session = session
        # Without referrals, the upstream's own host is the only one.
        self._referrals = referrals or Referrals(session, [base_url])

    async def call(
        self,
        method: str,
        target: str,
        bearer: str = "",
        *,
        json: msgspec.Struct | None = None,
        form: Mapping[str, str] | None = None,
        timeout: float,
        max_bytes: int = SMALL,
    ) -> Response:
        """Send a request and read its response, of which the body stays small.

        With a `max_bytes` of 0 the body is not read.

        Raises:
            UnreachableError: no response came within `timeout` seconds.
        """
        data = form if json is None else msgspec.json.encode(json)
        headers = {} if json is None else {"Content-Type": "application/json"}
        with reaching():
            async with asyncio.timeout(timeout):
                response = await self._send(method, target, bearer, headers, data)
                return await read_response(response, max_bytes)

    async def put(
        self, url: str, chunks: AsyncIterable[bytes], headers: Mapping[str, str], timeout: float
    ) -> int:
        """Upload chunks to another server and return the status of its response.

        Raises:
            UnreachableError: as for `call`, also for an exception of `chunks`.
        """
        with reaching():
            async with asyncio.timeout(timeout):
                response = await self._send("PUT", url, "", headers, chunks)
                return (await read_response(response, 0)).status

    async def get(self, url: str) -> aiohttp.ClientResponse:
        """Begin a download from another server. The caller sets a deadline and closes it.

        Raises:
            UnreachableError: no response came.
        """
        with reaching():
            return await self._send("GET", url, "", {"Accept-Encoding": "identity"})

    async def post_conversation(
        self, bearer: str, body: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Send a question; the response is the answer's stream, to be closed by the caller.

        Raises:
            UnreachableError: no response came. Only connecting has a deadline.
        """
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",  # a compressor in between would hold tokens back
            **headers,
            **tracing.headers(),
        }
        with reaching():
            return await self._send(
                "POST", "/conversation", bearer, headers, body, self.connect_timeout
            )

    async def open_websocket(
        self, url: str, *, protocol: str, heartbeat: float, max_frame: int
    ) -> aiohttp.ClientWebSocketResponse:
        """Connect to one of the upstream's WebSockets; `protocol` is offered.

        Raises:
            UnreachableError: there is no connection within the time to connect.
        """
        with reaching():
            async with asyncio.timeout(self.connect_timeout):
                address = read_url(url, encoded=True)
                return await self._referrals.session(address).ws_connect(
                    address,
                    protocols=(protocol,),
                    heartbeat=heartbeat,
                    max_msg_size=max_frame,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                )

    async def _send(
        self,
        method: str,
        target: str,
        bearer: str,
        headers: Mapping[str, str],
        data: bytes | Mapping[str, str] | AsyncIterable[bytes] | None = None,
        connect_timeout: float | None = None,
    ) -> aiohttp.ClientResponse:
        is_path = target.startswith("/")
        url = read_url(self._root + target if is_path else target, encoded=True)
        session = self._session if is_path else self._referrals.session(url)
        authorization = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        answer = await session.request(
            method,
            url,
            data=data,
            headers={**authorization, **headers},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=connect_timeout, sock_connect=connect_timeout
            ),
        )
        response = passed(answer)
        # The paths of other servers, and queries, may be credentials.
        asked = {"method": method, "host": url.host, "path": url.path if is_path else ""}
        logger.debug(
            "the upstream answers",
            extra={"event": "upstream_answers", **asked, "status": response.status},
        )
        return response


async def read_response(
    response: aiohttp.ClientResponse, max_bytes: int, timeout: float | None = None
) -> Response:
    """Read a response that should be small, as far as it comes within the limits, and close it."""
    body, flaw = b"", ""
    try:
        async with asyncio.timeout(timeout):
            while 0 < max_bytes >= len(body) and not response.content.at_eof():
                body += await response.content.readany()
    except (aiohttp.ClientError, OSError) as error:
        body += salvage(response)
        flaw = type(error).__name__
    finally:
        response.close()
    if len(body) > max_bytes:
        body, flaw = body[:max_bytes], TOO_LARGE
    retry_after = response.headers.get("Retry-After")
    return Response(response.status, response.content_type, retry_after, body, flaw)
