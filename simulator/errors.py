"""The error answers of the real server, by name, as bytes."""

from __future__ import annotations

import json
from typing import Literal, assert_never

import msgspec

ErrorName = Literal[
    "token_expired",
    "invalid_jwt",
    "deactivated",
    "no_token",
    "unusual_activity",
    "cloudflare",
    "too_long",
    "validation",
    "cap",
    "busy",
    "rate",
    "upgrade",
    "oops",
    "bad_gateway",
    "unavailable",
]

UNUSUAL_ACTIVITY = (
    "Our systems have detected unusual activity from your system. Please try again later."
)


class ErrorAnswer(msgspec.Struct, frozen=True):
    """One HTTP error, ready to be sent."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class RefusedError(Exception):
    """The request is refused with this error answer."""

    def __init__(self, answer: ErrorAnswer) -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer


def detail(status: int, content: object) -> ErrorAnswer:
    """Make `{"detail": content}`, the form of nearly all errors."""
    return ErrorAnswer(status, msgspec.json.encode({"detail": content}))


def _auth(message: str, code: str) -> ErrorAnswer:
    content = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return detail(401, content)


def _page(status: int, title: str, text: str, head: str = "") -> ErrorAnswer:
    html = (
        f"<!DOCTYPE html>\n<html>\n<head>\n<title>{title}</title>\n{head}</head>\n"
        f'<body>\n<div id="cf-wrapper">{text}</div>\n</body>\n</html>\n'
    )
    return ErrorAnswer(status, html.encode(), "text/html; charset=UTF-8")


NO_TOKEN = ErrorAnswer(401, b'{"message":"Unauthorized - Access token is missing"}')
NOT_FOUND = detail(404, "Not Found")
NO_CONVERSATION = detail(
    404, {"message": "Conversation not found", "code": "conversation_not_found"}
)
MISSING_MODEL = detail(
    422, [{"loc": ["body", "model"], "msg": "field required", "type": "value_error.missing"}]
)
BUSY = detail(
    429,
    "Only one message at a time. Please allow any other responses to complete"
    " before sending another message, or wait one minute.",
)
TOO_MANY = detail(429, "Too many requests in 1 hour. Try again later.")


def bad_json(body: bytes) -> ErrorAnswer:
    """Make the answer to a body that is not JSON: the parser's position, and the body itself."""
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        ctx = {
            "msg": error.msg,
            "doc": error.doc,
            "pos": error.pos,
            "lineno": error.lineno,
            "colno": error.colno,
        }
        item = {
            "loc": ["body", error.pos],
            "msg": str(error),
            "type": "value_error.jsondecode",
            "ctx": ctx,
        }
        return detail(422, [item])
    except (UnicodeDecodeError, RecursionError):
        pass
    return detail(400, "There was an error parsing the body")


def bad_field(sentence: str) -> ErrorAnswer:
    """Make the answer to JSON that does not fit the schema. The real one words it differently."""
    return detail(422, [{"loc": ["body"], "msg": sentence, "type": "type_error"}])


def invalid(loc: list[str | int], sentence: str) -> ErrorAnswer:
    """Make the answer to a field of the right type with an invalid value."""
    item = {"loc": ["body", *loc], "msg": sentence, "type": "value_error"}
    return detail(422, [item])


def web_page(status: int) -> ErrorAnswer:
    """Make an HTML page, in place of JSON."""
    return _page(status, "ChatGPT", "Please enable JavaScript")


def storage(status: int, code: str) -> ErrorAnswer:
    """Make an error of the file host."""
    xml = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code></Error>'
    return ErrorAnswer(status, xml.encode(), "application/xml")


def named(name: ErrorName, clears_in: int) -> ErrorAnswer:
    """Make the error that a script names. `clears_in` are the seconds in the body of `cap`."""
    match name:
        case "token_expired":
            return _auth(
                "Your authentication token has expired. Please try signing in again.", name
            )
        case "invalid_jwt":
            return _auth(
                "Could not parse your authentication token. Please try signing in again.", name
            )
        case "deactivated":
            return _auth(
                "This key is associated with a deactivated account. If you feel this is an"
                " error, contact us through our help center at help.openai.com.",
                "account_deactivated",
            )
        case "no_token":
            return NO_TOKEN
        case "unusual_activity":
            return detail(403, UNUSUAL_ACTIVITY)
        case "cloudflare":
            return _page(
                403,
                "Just a moment...",  # english: ok
                '<form id="challenge-form"><div id="cf-please-wait"></div></form>'
                "<script>window._cf_chl_opt = {};</script>",
                '<meta http-equiv="refresh" content="375">\n',
            )
        case "too_long":
            message = (
                "The message you submitted was too long, please reload the conversation"
                " and submit something shorter."
            )
            return detail(413, {"message": message, "code": "message_length_exceeds_limit"})
        case "validation":
            return MISSING_MODEL
        case "cap":
            message = "You have sent too many messages to the model. Please try again later."
            return detail(
                429, {"message": message, "code": "model_cap_exceeded", "clears_in": clears_in}
            )
        case "busy":
            return BUSY
        case "rate":
            return msgspec.structs.replace(TOO_MANY, headers=(("Retry-After", "60"),))
        case "upgrade":
            return detail(
                429,
                "It is recommended to upgrade to the latest PandoraNext:"
                " https://github.com/pandora-next/deploy",
            )
        case "oops":
            return detail(
                500,
                "Hmm...something seems to have gone wrong. Maybe try me again in a little bit.",
            )
        case "bad_gateway":
            return _page(502, "chat.openai.com | 502: Bad gateway", "Bad gateway")
        case "unavailable":
            return _page(503, "chat.openai.com | 503: Service unavailable", "Try again later")
        case _:
            assert_never(name)
