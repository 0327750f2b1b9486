"""JSON answers by instruction, since the upstream has no JSON mode. Pure.

The worker checks the answer and asks for a correction (`workers/json_answers.py`).
"""

from __future__ import annotations

import msgspec

from app.openai.errors import BadRequest
from app.openai.requests import ChatRequest
from app.openai.tool_definitions import check_depth, check_size

_OBJECT = "{when} with a single JSON object and nothing else: no explanation, no code fence."
_SCHEMA = """\
{when} with a single JSON value and nothing else: no explanation, no code fence. It must be valid \
against this JSON Schema{named}:
{schema}"""
_PARAM = "response_format.json_schema.schema"


class JsonFormat(msgspec.Struct, frozen=True):
    """Format of a JSON answer: any object, or a value valid against a schema (in JSON)."""

    schema: bytes = b""
    name: str = ""
    description: str = ""

    def instruction(self, *, with_tools: bool) -> str:
        """Return the message that asks the model for this format."""
        when = "Unless you call a function, reply" if with_tools else "Reply"
        if not self.schema:
            return _OBJECT.format(when=when)
        named = f" ({self.name})" if self.name else ""
        named += f", {self.description}" if self.description else ""
        return _SCHEMA.format(when=when, named=named, schema=self.schema.decode())


def read_format(request: ChatRequest) -> JsonFormat | None:
    """Return the JSON format that a request asks for, None if it asks for text.

    Raises:
        BadRequest: the schema is no object, or too large.
    """
    form = request.response_format
    if form is None or form.type == "text":
        return None
    if form.type == "json_object" or form.json_schema is None:
        return JsonFormat()
    raw = form.json_schema.schema
    size = memoryview(raw).nbytes
    check_size(size + len(form.json_schema.description or ""), _PARAM)
    schema = msgspec.json.decode(raw) if size else None
    if schema is None:
        return JsonFormat()
    if not isinstance(schema, dict):
        raise BadRequest(f"`{_PARAM}` must be an object.", param=_PARAM)
    check_depth(schema, _PARAM)
    return JsonFormat(
        msgspec.json.encode(schema), form.json_schema.name, form.json_schema.description or ""
    )
