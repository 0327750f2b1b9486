"""Headers of requests and answers, as the description has them."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from app.chat import FORMAT_WARNING
from app.http.dialect import VERSION_HEADER, is_message_path
from app.http.keepalive import HEADER, StreamKeepalive, WholeKeepalive
from app.idempotency import LONGEST_KEY
from app.openai.emulation import IGNORED
from app.openapi.schemas import Schema


class Header(msgspec.Struct, frozen=True):
    """A header, or a part of a path."""

    name: str
    description: str
    schema: Schema
    place: Literal["header", "path"] = "header"
    always: bool = False
    """True if every answer, or every request, has it."""

    @property
    def id(self) -> str:
        """Its name among the components."""
        return self.name.lower()

    @property
    def parameter(self) -> Schema:
        """Its description as a parameter of a request."""
        return {"name": self.name, "in": self.place} | self.header

    @property
    def header(self) -> Schema:
        """Its description as a header of an answer."""
        return {
            "description": self.description,
            "required": self.always or self.place == "path",
            "schema": self.schema,
        }


_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_PRINTABLE: Schema = {
    "type": "string",
    "pattern": "^[!-~]([ -~]*[!-~])?$",
    "maxLength": LONGEST_KEY,
}

IDEMPOTENCY_KEY = Header(
    "Idempotency-Key",
    "The client's own name for this request. A second request with the same name and body gets the"
    " answer of the first one.",
    _PRINTABLE,
)
LAST_EVENT_ID = Header(
    "Last-Event-ID",
    "With an `Idempotency-Key`: the `id:` of the last message received. The stream goes on after"
    " it.",
    _TEXT,
)
MAX_WAIT = Header(
    "X-Max-Wait",
    "Refuse the request at once, with 429, if its estimated wait is longer than this number of"
    " seconds.",
    {"type": "number", "minimum": 0},
)
KEEPALIVE = Header(
    HEADER.title(),
    "Form of the keep-alive while nothing else is sent. With `whitespace`, a whole answer may begin"
    " with empty lines, and an error may come with the status 200.",
    {"enum": [*dict.fromkeys((*get_args(StreamKeepalive), *get_args(WholeKeepalive)))]},
)
ANTHROPIC_VERSION = Header(
    VERSION_HEADER, "With it, or with `x-api-key` alone, the answer is in Anthropic's form.", _TEXT
)
IF_NONE_MATCH = Header(
    "If-None-Match", "An `ETag` that is known. If it is still right, the answer is 304.", _TEXT
)

SCHEDULING = (IDEMPOTENCY_KEY, MAX_WAIT, KEEPALIVE)

REQUEST_ID = Header("x-request-id", "Id of this request in the gateway's logs.", _TEXT, always=True)
RETRY_AFTER = Header("retry-after", "Seconds after which to send the request again.", _COUNT)
SHOULD_RETRY = Header(
    "x-should-retry", "`false` if it is of no use to send the request again.", {"const": "false"}
)
ETAG = Header("etag", "Name of this version of the document.", _TEXT, always=True)
IN_LINE = (
    Header("x-queue-id", "Id of the request in the line. The answer has the same.", _TEXT),
    Header("x-queue-position", "Its position when it was put in line. 1 is next.", _COUNT),
    Header("x-queue-eta", "The estimated wait in seconds.", _COUNT),
)
OPENAI_LIMITS = (
    Header("x-ratelimit-limit-requests", "Requests that the key may make in a minute.", _COUNT),
    Header("x-ratelimit-remaining-requests", "Those that are left.", _COUNT),
    Header("x-ratelimit-reset-requests", "Time until all are free again, as in `1m0s`.", _TEXT),
)
ANTHROPIC_LIMITS = (
    Header(
        "anthropic-ratelimit-requests-limit", "Requests that the key may make in a minute.", _COUNT
    ),
    Header("anthropic-ratelimit-requests-remaining", "Those that are left.", _COUNT),
    Header(
        "anthropic-ratelimit-requests-reset",
        "Time at which all are free again.",
        {"type": "string", "format": "date-time"},
    ),
)


def request_limits(path: str) -> tuple[Header, ...]:
    """Return the headers with the limits of a key, in the dialect of a path."""
    return ANTHROPIC_LIMITS if is_message_path(path) else OPENAI_LIMITS


EMULATED = (
    Header(IGNORED, "Fields of the request that had no effect.", _TEXT),
    Header(FORMAT_WARNING, "Code of a warning about the JSON of the answer.", _TEXT),
)
