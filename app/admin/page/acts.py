"""Handlers of the actions: a question or form for each, and what carries it out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Literal, get_args
from urllib.parse import parse_qs

import msgspec
from sanic import HTTPResponse, Request
from sanic.response import redirect

from app.admin.access import Access, Admitted
from app.admin.actions import ISSUED, ActionError, Actions, IssueResult, Result
from app.admin.boards import RedisGone, in_time
from app.admin.body import read_small
from app.admin.errors import RedisUnusable
from app.admin.operator import Operator
from app.admin.page import forms
from app.admin.page.layout import FORM_TOKEN
from app.admin.page.look import THEMES, Look
from app.admin.page.pages import LANGUAGE_COOKIE, THEME_COOKIE, Surroundings
from app.admin.page.texts import LANGUAGES
from app.openai.errors import ApiError, BadRequest, NotFound
from settings import Settings
from wire.keyring import IssuedKey, Keyring

YEAR = 31_536_000

Asking = Literal["pause", "cancel", "drain", "revoke"]
"""An action before which the page asks."""

Act = Callable[[Actions, Operator, "Subject"], Awaitable[Result]]


class Subject(msgspec.Struct, frozen=True):
    """Subject of an action, as the query of its address names it; `seconds` is from the form."""

    what: Literal["all", "key", "upstream", "account"] = "all"
    name: str = ""
    id: str = ""
    worker: str = ""
    seconds: float = 0.0


ACTS: Mapping[str, Act] = {
    "pause": lambda do, who, of: do.pause(who, of.what, of.name, of.seconds or None),
    "resume": lambda do, who, of: do.resume(who, of.what, of.name),
    "cancel": lambda do, who, of: do.cancel(who, of.id),
    "drain": lambda do, who, of: do.drain(who, of.worker),
    "wake": lambda do, who, of: do.wake(who, of.name),
    "revoke": lambda do, who, of: do.revoke_key(who, of.id),
}


class Acts:
    """Handlers of `act/<action>`: those that ask, and those that act and then show the result."""

    def __init__(
        self,
        config: Settings,
        around: Surroundings,
        access: Access,
        actions: Actions,
        keyring: Keyring,
        changed: Callable[[], None],
    ) -> None:
        self._server = config.server
        self._around = around
        self._access = access
        self._actions = actions
        self._keyring = keyring
        self._changed = changed

    async def ask(self, request: Request, action: str) -> HTTPResponse:
        """Answer with the question before an action, or the form of a key.

        Raises:
            ApiError: there is no such action, or it needs no question.
        """
        admitted = self._access.admit(request)
        if action in ("issue", "change"):
            return await self._key_form(request, admitted, action)
        return await self._question(request, admitted, action)

    async def act(self, request: Request, action: str) -> HTTPResponse:
        """Carry out an action.

        Raises:
            ApiError: it comes from elsewhere, or there is no such action.
        """
        self._access.admit(request)  # before its body is read
        form = await self._form(request)
        admitted = self._access.admit_change(request, form.get(FORM_TOKEN, ""))
        if action in ("issue", "change"):
            return await self._change_key(request, admitted, action, form)
        if action not in ACTS:
            raise NotFound("There is no such action.")
        subject = _subject(request, form)
        try:
            done = await ACTS[action](self._actions, admitted.operator, subject)
        except ActionError as error:
            if action in get_args(Asking):
                return await self._question(request, admitted, action, error)
            raise
        self._changed()
        return self._result(request, action, subject, done)

    def _result(
        self, request: Request, action: str, subject: Subject, done: Result
    ) -> HTTPResponse:
        look = self._around.look(request)
        is_parking = action == "pause" and subject.what == "account"
        query = {"done": "park" if is_parking else action}
        if done.result == "already":
            query["already"] = "1"
        return redirect(look.url(*_view_of(action, subject), **query), status=303)

    async def _question(
        self, request: Request, admitted: Admitted, action: str, error: ApiError | None = None
    ) -> HTTPResponse:
        if action not in get_args(Asking):
            raise NotFound("There is no such action.")
        look, subject = self._around.look(request), _subject(request, {})
        ask = f"pause_{subject.what}" if action == "pause" else action
        body = forms.question(
            look,
            ask,
            await self._name(subject),
            f"{look.url('act', action)}?{request.query_string}",
            self._around.token(admitted),
            back=look.url(*_view_of(action, subject)),
            has_duration=action == "pause",
            error=str(error or ""),
        )
        frame = (_view_of(action, subject)[0], look.texts.ask[ask], "")
        status = error.http_status if error else 200
        return self._around.page(request, look, admitted, frame, body, status=status)

    async def _name(self, subject: Subject) -> str:
        """Return the name of a subject: of a gateway key its own, unless Redis is unreachable."""
        name = subject.name or subject.id or subject.worker
        if not ISSUED.fullmatch(name):
            return name
        with suppress(RedisUnusable):  # the page may have to say what an action has done
            record = await self._record(name)
            return record.name if record else name
        return name

    async def _key_form(
        self,
        request: Request,
        admitted: Admitted,
        action: str,
        given: Mapping[str, str] | None = None,
        error: ApiError | None = None,
    ) -> HTTPResponse:
        look, id = self._around.look(request), _subject(request, {}).id
        is_new = action == "issue"
        if given is None:
            record = None if is_new else await self._record(id)
            if not is_new and record is None:
                raise NotFound("There is no such key.")
            given = forms.values_of(record)
        body = forms.key_form(
            look,
            given,
            look.url("act", action, id=id),
            self._around.token(admitted),
            is_new=is_new,
            error=str(error or ""),
        )
        frame = ("keys", look.texts.new_key if is_new else look.texts.change, "")
        status = error.http_status if error else 200
        return self._around.page(request, look, admitted, frame, body, status=status)

    async def _change_key(
        self, request: Request, admitted: Admitted, action: str, form: Mapping[str, str]
    ) -> HTTPResponse:
        look, id = self._around.look(request), _subject(request, {}).id
        try:
            record = None if action == "issue" else await self._record(id)
            fields = forms.changes(record, form)
            if action == "issue":
                name = str(fields.pop("name", ""))
                issued = await self._actions.issue_key(admitted.operator, name, fields)
                self._changed()
                return self._issued(request, look, admitted, issued)
            done = await self._actions.change_key(admitted.operator, id, fields)
        except ActionError as error:
            return await self._key_form(request, admitted, action, form, error)
        except ValueError as error:
            field = look.texts.fields.get(str(error), str(error))
            wrong = BadRequest(look.texts.wrong_value.format(field))
            return await self._key_form(request, admitted, action, form, wrong)
        self._changed()
        return self._result(request, action, Subject(id=id), done)

    def _issued(
        self, request: Request, look: Look, admitted: Admitted, issued: IssueResult
    ) -> HTTPResponse:
        """Show a new key. There is no redirect, as it is kept nowhere."""
        body = forms.issued(look, issued.record.name, issued.key)
        return self._around.page(request, look, admitted, ("keys", look.texts.issued_key, ""), body)

    async def _record(self, id: str) -> IssuedKey | None:
        try:
            return await in_time(self._keyring.get(id))
        except RedisGone as gone:
            raise RedisUnusable(f"Redis cannot be used ({gone}).") from None

    async def choose(self, request: Request) -> HTTPResponse:
        """Keep the theme and the language that somebody has chosen, and go back."""
        self._access.check_page(request)
        form = await self._form(request)
        base = self._around.base
        back = form.get("back", "")
        is_ours = back.isprintable() and (back == base or back.startswith((f"{base}/", f"{base}?")))
        response = redirect(back if is_ours else base, status=303)
        for cookie, field, choices in (
            (THEME_COOKIE, "theme", THEMES),
            (LANGUAGE_COOKIE, "language", LANGUAGES),
        ):
            if form.get(field) in choices:
                response.add_cookie(
                    cookie,
                    form[field],
                    path=base,
                    max_age=YEAR,
                    httponly=True,
                    samesite="Strict",
                    secure=False,  # not a secret, and it must also work without TLS
                )
        return response

    async def _form(self, request: Request) -> dict[str, str]:
        body = (await read_small(request, self._server)).decode(errors="replace")
        try:
            fields = parse_qs(
                body, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="replace"
            )
        except ValueError:
            raise BadRequest("The form has too many fields.") from None
        return {name: values[0] for name, values in fields.items()}


MOST_FIELDS = 30


def _subject(request: Request, form: Mapping[str, str]) -> Subject:
    """Read the subject of an action.

    Raises:
        BadRequest: the query or the form is not one of ours.
    """
    given = dict(request.query_args) | {"seconds": form.get("seconds", "0")}
    try:
        return msgspec.convert(given, Subject, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{error}.") from None


def _view_of(action: str, subject: Subject) -> tuple[str, ...]:
    """Return the path of the view that shows the result of an action."""
    match action, subject.what:
        case "cancel", _:
            return "jobs", subject.id
        case "drain", _:
            return ("processes",)
        case ("revoke" | "issue" | "change", _) | ("pause" | "resume", "key"):
            return ("keys",)
        case "pause" | "resume", "all":
            return ("",)
        case _:
            return ("upstreams",)
