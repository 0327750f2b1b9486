"""Signing in and out: forms of the page, which are answered with a redirect.

A form comes from our own page, or it is refused: else another site could sign a browser in under a
name of its choice.
"""

from __future__ import annotations

import logging
from typing import Literal
from urllib.parse import parse_qs

from sanic import HTTPResponse, Request
from sanic.response import redirect

from app.admin.access import Access
from app.admin.body import read_small
from app.admin.sessions import Sessions
from app.http.address import client_address
from app.openai.errors import BadRequest
from app.refusals import Refusals
from app.throttle import LONGEST, Throttle
from settings import Settings

logger = logging.getLogger(__name__)

WEIGHT = 10.0
"""Wrong keys, which nobody can guess, for which one wrong password counts. After a few of these, an
address may try one more every ten seconds."""

LONGEST_NAME = 50
NOBODY = "operator"
"""Name of somebody who gives none."""

Problem = Literal["wrong_password", "too_many_attempts"]


class Login:
    """Handlers of both forms."""

    def __init__(
        self,
        config: Settings,
        sessions: Sessions,
        access: Access,
        refusals: Refusals,
        throttle: Throttle,
    ) -> None:
        self._server = config.server
        self._length = round(config.admin.session)
        self._path = f"{config.server.api_prefix}/admin"
        self._sessions = sessions
        self._access = access
        self._refusals = refusals
        self._throttle = throttle

    async def sign_in(self, request: Request) -> HTTPResponse:
        """Answer the form with `password` and `name`.

        Raises:
            CrossSite: it does not come from our page.
        """
        self._access.check_page(request)
        form = await self._form(request)
        address = client_address(request, self._server)
        problem, delay = self._judge(address, form.get("password", ""))
        if problem:
            log = {"event": "sign_in_refused", "address": address, "reason": problem}
            logger.warning("an operator could not sign in", extra=log)
            await self._refusals.wait(request, delay)
            return _redirect(f"{self._path}/login?error={problem}")
        name = _printable(form.get("name", "")) or NOBODY
        _, cookie = self._sessions.new(name)
        log = {"event": "operator_signed_in", "operator": name, "address": address}
        logger.info("an operator has signed in", extra=log)
        return _redirect(self._path, self._cookie(request, cookie, self._length))

    async def sign_out(self, request: Request) -> HTTPResponse:
        """Answer the form with the session's token as `form_token`.

        Raises:
            ApiError: nobody is signed in, or it does not come from our page.
        """
        self._access.admit(request)  # before its body is read
        form = await self._form(request)
        self._access.admit_change(request, form.get("form_token", ""))
        return _redirect(f"{self._path}/login", self._cookie(request, "", 0))

    def _judge(self, address: str, password: str) -> tuple[Problem | None, float]:
        """Return the problem with an attempt, and the seconds by which to delay the answer.

        An address with too many wrong ones gets no answer about this one.
        """
        if self._throttle.excess(address):
            return "too_many_attempts", LONGEST
        if self._sessions.is_password(password):
            return None, 0.0
        return "wrong_password", self._throttle.refuse(address, WEIGHT)

    async def _form(self, request: Request) -> dict[str, str]:
        body = (await read_small(request, self._server)).decode(errors="replace")
        try:
            fields = parse_qs(body, max_num_fields=10, errors="replace")
        except ValueError:
            raise BadRequest("The form has too many fields.") from None
        return {name: values[0] for name, values in fields.items()}

    def _cookie(self, request: Request, value: str, seconds: int) -> str:
        # A browser names its scheme here, also if a proxy with TLS does not.
        origin = request.headers.get("origin", "") or self._server.public_url
        secure = "; Secure" if origin.startswith("https:") else ""
        attributes = f"Path={self._path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
        return f"{self._sessions.cookie}={value}; {attributes}"


def _redirect(path: str, cookie: str = "") -> HTTPResponse:
    return redirect(path, {"set-cookie": cookie} if cookie else {}, 303)


def _printable(name: str) -> str:
    return "".join(filter(str.isprintable, name)).strip()[:LONGEST_NAME]
