"""Handlers of the views: pages, and the stream of what changes in them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from html5tagger import Builder, E
from sanic import HTTPResponse, Request
from sanic.response import html, redirect

from app.admin.access import Access, Admitted
from app.admin.boards import RedisGone
from app.admin.errors import NotAnOperator
from app.admin.page import forms, jobs, keys
from app.admin.page.assets import Assets
from app.admin.page.layout import Frame, document, notice, regions
from app.admin.page.look import THEMES, Look, Theme
from app.admin.page.tables import Cell
from app.admin.page.texts import LANGUAGES, Language, preferred
from app.admin.page.views import Asked, Region, View, Views, gone, regions_of
from app.admin.sessions import Sessions
from app.admin.streams import Streams
from app.openai.errors import ApiError, BadRequest
from app.refusals import Handler

CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

THEME_COOKIE = "gateway_theme"
LANGUAGE_COOKIE = "gateway_language"


class Surroundings:
    """Everything that all pages share: the frame, for the language and theme of a request."""

    def __init__(self, base: str, sessions: Sessions) -> None:
        self.base = base
        self.assets = Assets(base)
        self._sessions = sessions

    def look(self, request: Request, now: float | None = None) -> Look:
        """Return the look of a page: in the language that its reader has chosen, or prefers."""
        return Look(_language(request), self.base, time.time() if now is None else now)

    def page(
        self,
        request: Request,
        look: Look,
        admitted: Admitted | None,
        frame: tuple[str, str, str],
        *content: Cell,
        status: int = 200,
    ) -> HTTPResponse:
        """Answer with a page; its `frame` has a view, a title and the address of a stream."""
        view, title, stream = frame
        query = f"?{request.query_string}" if request.query_string else ""
        here = look.base if request.method == "POST" else f"{request.path}{query}"
        around = Frame(
            view=view,
            title=title,
            assets=self.assets.urls,
            here=here,
            theme=_theme(request),
            stream=stream,
            operator=admitted.operator.name if admitted else "",
            form_token=self.token(admitted),
        )
        headers = {"content-security-policy": CSP}
        return html(document(look, around, *content), status=status, headers=headers)

    def token(self, admitted: Admitted | None) -> str:
        """Return the token for the forms of a session."""
        session = admitted.session if admitted else None
        return self._sessions.form_token(session) if session else ""

    def shown(self, handler: Handler) -> Handler:
        """Wrap a handler: its errors are pages, and everybody else is sent to the login."""

        async def answer(request: Request, **named: str) -> HTTPResponse | None:
            try:
                return await handler(request, **named)
            except NotAnOperator:
                return redirect(f"{self.base}/login", status=303)
            except ApiError as error:
                return self._failure(request, error)

        return answer

    def _failure(self, request: Request, error: ApiError) -> HTTPResponse:
        look = self.look(request)
        texts = look.texts
        back = E.div(E.a(texts.back, href=self.base))
        parts = E.div(E.h1(texts.error), notice(str(error), "bad"), back, class_="card form")
        return self.page(
            request, look, None, ("", texts.error, ""), parts, status=error.http_status
        )


class Pages:
    """Handlers of the views."""

    def __init__(
        self, around: Surroundings, access: Access, views: Views, streams: Streams
    ) -> None:
        self._around = around
        self._access = access
        self._views = views
        self._streams = streams

    def of(self, view: View) -> Handler:
        """Return the handler of a view; `id` is that of a job."""

        async def answer(request: Request, id: str = "") -> HTTPResponse:
            searched = str(request.args.get("id") or "").strip()
            if view == "jobs" and searched:
                return redirect(self._around.look(request).url("jobs", searched), status=303)
            return await self._answer(request, view, **({"id": id} if id else {}))

        return answer

    async def _answer(self, request: Request, view: View, **given: str) -> HTTPResponse:
        admitted = self._access.admit(request)
        asked = _asked(request, view=view, **given)
        drawn: Sequence[Region]
        try:
            board = await self._views.boards.latest()
            look = self._around.look(request, board.at)
            drawn = await self._views.rendered(look, asked, board)
        except RedisGone:
            look = self._around.look(request)
            bare = regions_of(view)
            drawn = [bare[0]._replace(html=str(gone(look))), *bare[1:]]
        tab = "jobs" if view == "job" else view
        title = look.texts.views[tab] if view != "job" else f"{look.texts.job} {asked.id}"
        shown = {name: value for name, value in msgspec.structs.asdict(asked).items() if value}
        frame = (tab, title, look.url("stream", **shown))
        content = (_flash(request, look), E.h1(title), *_above(look, asked), *regions(drawn))
        return self._around.page(request, look, admitted, frame, *content)

    async def stream(self, request: Request) -> None:
        """Answer with a stream of the regions of a view that change.

        An operator who has been signed out learns that, so that the page does not try again.
        """
        try:
            admitted = self._access.admit(request)
        except NotAnOperator:
            if "authorization" in request.headers:
                raise
            response = await request.respond(content_type="text/event-stream")
            await response.send(b"event: signed_out\ndata:\n\n")
            await response.eof()
            return
        asked = _asked(request)
        look = Look(_language(request), self._around.base)
        await self._streams.send(request, admitted, self._views.changes(look, asked))

    async def login(self, request: Request) -> HTTPResponse:
        """Answer with the login."""
        look = self._around.look(request)
        error = look.texts.login_errors.get(str(request.args.get("error") or ""), "")
        frame = ("", look.texts.sign_in, "")
        return self._around.page(request, look, None, frame, forms.login(look, error))


_Choice = TypeVar("_Choice", bound=str)


def _chosen(given: str | None, choices: Sequence[_Choice]) -> _Choice | None:
    return next((choice for choice in choices if choice == given), None)


def _language(request: Request) -> Language:
    chosen = _chosen(request.cookies.get(LANGUAGE_COOKIE), LANGUAGES)
    return chosen or preferred(request.headers.get("accept-language", ""))


def _theme(request: Request) -> Theme:
    return _chosen(request.cookies.get(THEME_COOKIE), THEMES) or "auto"


def _asked(request: Request, **given: str) -> Asked:
    """Read the query of a view.

    Raises:
        BadRequest: a value is out of its bounds.
    """
    fields = set(Asked.__struct_fields__)
    query = {name: value for name, value in request.query_args if name in fields}
    try:
        return msgspec.convert(query | given, Asked, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{error}.") from None


def _above(look: Look, asked: Asked) -> Sequence[Builder]:
    """Return the form above the regions of a view, which does not change by itself."""
    match asked.view:
        case "keys":
            return (keys.search(look, asked.q),)
        case "jobs" | "job":
            return (jobs.search(look, asked.id),)
        case _:
            return ()


def _flash(request: Request, look: Look) -> Cell:
    """Return the message about an action that has just been carried out."""
    texts = look.texts
    text = texts.done.get(str(request.args.get("done") or ""))
    if text is None:
        return ""
    already = f" {texts.already}" if request.args.get("already") else ""
    return notice(f"{text}{already}", "good")
