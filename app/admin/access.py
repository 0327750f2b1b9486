"""Admission of operators: programs by the bearer of the settings, people by their session.

No key of a client is looked up here, so none can ever be enough.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec
from sanic import Request

from app.admin.errors import CrossSite, NotAnOperator
from app.admin.operator import Operator
from app.admin.sessions import Session, Sessions
from app.http.access_log import entry_of
from app.http.address import client_address
from settings import Settings, SettingsError
from settings.client_access import ClientAccess

TOKEN_NAME = "admin.token"  # noqa: S105 - the name of all who send it
FORM_TOKEN = "x-form-token"  # noqa: S105 - the header of a session's token


class Admitted(msgspec.Struct, frozen=True):
    """An operator, and the session of a person."""

    operator: Operator
    session: Session | None = None


class Access:
    """Decides who is an operator."""

    def __init__(self, config: Settings, sessions: Sessions) -> None:
        self._server = config.server
        self._token = config.admin.token
        self._sessions = sessions

    def admit(self, request: Request) -> Admitted:
        """Return the sender of a request that changes nothing.

        Raises:
            NotAnOperator: it is no operator.
        """
        admitted = self._admitted(request)
        entry_of(request).sign(admitted.operator.name)
        return admitted

    def admit_change(self, request: Request, form_token: str = "") -> Admitted:
        """Return the sender of a request that changes something.

        A person's must come from a page of ours, and bring the token of the session, in a form or
        in the header `x-form-token`: a browser adds the cookie by itself.

        Raises:
            NotAnOperator: it is no operator.
            CrossSite: a page of another site may have sent it.
        """
        admitted = self.admit(request)
        if admitted.session is not None:
            self.check_page(request)
            given = form_token or request.headers.get(FORM_TOKEN, "")
            if not self._sessions.is_form_token(admitted.session, given):
                raise CrossSite
        return admitted

    def check_page(self, request: Request) -> None:
        """Check that a page of ours sent a request.

        Browsers add `Sec-Fetch-Site` behind HTTPS, and `Origin` to every POST.

        Raises:
            CrossSite: another one did, or no browser.
        """
        site = request.headers.get("sec-fetch-site")
        is_ours = site == "same-origin" if site else self._is_own_origin(request)
        if not is_ours:
            raise CrossSite

    def _is_own_origin(self, request: Request) -> bool:
        host = request.headers.get("host", "").lower()
        own = {f"http://{host}", f"https://{host}"} if host else set()
        public = "/".join(self._server.public_url.lower().split("/")[:3])
        return request.headers.get("origin", "").lower() in own | ({public} if public else set())

    def _admitted(self, request: Request) -> Admitted:
        address = client_address(request, self._server)
        if request.headers.get("authorization"):
            if not self._is_token(request):
                raise NotAnOperator
            return Admitted(Operator(name=TOKEN_NAME, via="api", address=address))
        session = self._sessions.find(request.cookies.get(self._sessions.cookie) or "")
        if session is None:
            raise NotAnOperator
        return Admitted(Operator(name=session.name, via="page", address=address), session)

    def _is_token(self, request: Request) -> bool:
        given = request.headers.getall("authorization", [])
        scheme, _, bearer = given[0].partition(" ")
        is_same = hmac.compare_digest(_digest(bearer.strip()), _digest(self._token.reveal()))
        return is_same and bool(self._token) and len(given) == 1 and scheme.lower() == "bearer"


def check_token(config: Settings, clients: ClientAccess) -> None:
    """Check that the bearer of operators is not one that others have, too.

    Raises:
        SettingsError: it is.
    """
    token = config.admin.token
    others = [one.credential for one in config.upstreams.values()] + [config.metrics.token]
    if token and (token in others or clients.lists(token.reveal())):
        raise SettingsError(
            "admin.token: expected a secret of its own, as clients, upstreams or Prometheus have"
            " this one"
        )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
