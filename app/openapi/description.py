"""The OpenAPI description of all routes of a front end. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import get_args

from app.openapi.errors import OTHERWISE, error_answers, header_references
from app.openapi.headers import (
    ANTHROPIC_LIMITS,
    ANTHROPIC_VERSION,
    EMULATED,
    ETAG,
    IF_NONE_MATCH,
    IN_LINE,
    LAST_EVENT_ID,
    OPENAI_LIMITS,
    REQUEST_ID,
    RETRY_AFTER,
    SCHEDULING,
    SHOULD_RETRY,
    Header,
)
from app.openapi.operations import JSON, SSE, Operation, Reply, Tag
from app.openapi.schemas import Schema, Schemas, any_of
from app.server import Route

VERSION = "3.1.0"

_PARAMETERS = (*SCHEDULING, LAST_EVENT_ID, ANTHROPIC_VERSION, IF_NONE_MATCH)
_HEADERS = (
    *(REQUEST_ID, RETRY_AFTER, SHOULD_RETRY, ETAG, *IN_LINE, *EMULATED),
    *(*OPENAI_LIMITS, *ANTHROPIC_LIMITS),
)
_KEY: list[Schema] = [{"bearer": []}, {"x-api-key": []}]
_PART = re.compile(r"<(\w+)(?::\w+)?>")

_WHOSE = "A key of this gateway, or, where keys are passed through, one of the upstream."

_ABOUT = """\
A waiting line in front of model servers, which clients of OpenAI and of Anthropic use as they are.

Fields of a request that are not described are allowed. Every answer has the header `x-request-id`.\
"""


class Description:
    """The description as it is being made."""

    def __init__(self, server: str, *, needs_key: bool = True) -> None:
        self._server = server
        self._security = _KEY if needs_key else [*_KEY, {}]
        self._schemas = Schemas()
        self._paths: dict[str, Schema] = {}

    def add(self, route: Route, operation: Operation) -> None:
        """Add the methods of a path."""
        path = _PART.sub(r"{\1}", route.path)
        for method in route.methods:
            item = self._paths.setdefault(path, {})
            item[method.lower()] = self._operation(route, method, operation)

    def document(self) -> Schema:
        """Return the whole description."""
        return {
            "openapi": VERSION,
            "info": {"title": "pandora-line", "version": "1", "description": _about()},
            "servers": [{"url": self._server or "/"}],
            "security": self._security,
            "tags": [{"name": tag} for tag in get_args(Tag)],
            "paths": self._paths,
            "components": {
                "schemas": dict(sorted(self._schemas.named.items())),
                "parameters": {header.id: header.parameter for header in _PARAMETERS},
                "headers": {header.id: header.header for header in _HEADERS},
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer", "description": _WHOSE},
                    "x-api-key": {
                        "type": "apiKey",
                        "in": "header",
                        "name": "x-api-key",
                        "description": _WHOSE,
                    },
                },
            },
        }

    def _operation(self, route: Route, method: str, operation: Operation) -> Schema:
        is_head = method == "HEAD"
        answers = error_answers(
            operation.errors,
            self._schemas,
            route.path,
            relayed=operation.relays,
        )
        for reply in operation.replies:
            answers[str(reply.status)] = self._reply(reply)
        if is_head:
            answers = {status: _headless(answer) for status, answer in answers.items()}
        described: Schema = {
            "operationId": f"{route.name}_head" if is_head else route.name,
            "tags": [operation.tag],
            "summary": operation.summary,
            "description": operation.description,
            "parameters": [_parameter(header) for header in operation.parameters],
            "responses": dict(sorted(answers.items())),
        }
        if operation.body:
            described["requestBody"] = self._body(operation)
        if operation.key != "needed":
            described["security"] = [*_KEY, {}] if operation.key == "optional" else []
        return described

    def _body(self, operation: Operation) -> Schema:
        schema = any_of([self._schemas.request(kind) for kind in operation.body])
        content = {JSON: {"schema": schema, "example": operation.example}}
        return {"required": True, "content": content}

    def _reply(self, reply: Reply) -> Schema:
        answer: Schema = {
            "description": reply.description,
            "headers": header_references((REQUEST_ID, *reply.headers)),
        }
        content = {
            media: {"schema": self._content(kinds)} for media, kinds in reply.content.items()
        }
        if reply.events:
            events = any_of([self._schemas.answer(kind) for kind in reply.events])
            content[SSE] |= {"x-event-schema": events}
        return answer | ({"content": content} if content else {})

    def _content(self, kinds: tuple[object, ...]) -> Schema:
        return any_of([self._schemas.answer(kind) for kind in kinds]) if kinds else {}


def describe(
    routes: Iterable[Route],
    operations: Mapping[str, Operation],
    server: str = "",
    *,
    needs_key: bool = True,
) -> Schema:
    """Return the description of all routes under the URL of a server.

    `needs_key` is False if clients need no key at all.
    """
    description = Description(server, needs_key=needs_key)
    for route in routes:
        description.add(route, operations[route.name])
    return description.document()


def _parameter(header: Header) -> Schema:
    if header.place == "path":
        return header.parameter
    return {"$ref": f"#/components/parameters/{header.id}"}


def _headless(answer: Schema) -> Schema:
    """Return an answer without its body."""
    return {name: value for name, value in answer.items() if name != "content"}


def _about() -> str:
    others = (f"{kind.status} `{kind.code}`: {kind.__doc__}" for kind in OTHERWISE)
    return "\n\n".join((_ABOUT, "\n".join(others)))
