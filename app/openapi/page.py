"""A page of the description for readers: plain HTML that loads nothing and runs no script. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from html5tagger import Builder, Document, E

from app.openapi.operations import JSON
from app.openapi.schemas import REFERENCE, Schema

_BOUNDS = {"minimum": "≥", "maximum": "≤", "maxLength": "length ≤", "maxItems": "length ≤"}


def read_style() -> str:
    """Read the style sheet, which is a part of the page."""
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def page_headers(style: str) -> dict[str, str]:
    """Return headers that keep a browser from loading or running anything but this style."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return {
        "content-security-policy": (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none';"
            " form-action 'none'; frame-ancestors 'none'"
        ),
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


def render(described: Schema, style: str) -> str:
    """Return the page of a description."""
    info = described["info"]
    page = Document(info["title"], lang="en", _viewport=True)
    page.meta(name="color-scheme", content="light dark").style(style)
    page.body(
        E.a("Skip to the operations", href="#operations", class_="skip"),
        E.header(E.h1(info["title"]), *_paragraphs(info["description"]), _server(described)),
        E.nav(_contents(described), aria_label="Operations"),
        E.main(*_operations(described), _schemas(described), id="operations"),
    )
    return str(page)


def _server(described: Schema) -> Builder:
    (server,) = described["servers"]
    address = E.code(server["url"]) if server["url"] != "/" else "the address of this page"
    return E.p("Server: ", address, ". As JSON: ", E.a("openapi.json", href="openapi.json"), ".")


def _listed(described: Schema) -> Iterator[tuple[str, str, Schema]]:
    """Method, path and description of each operation. `HEAD` is the same as `GET`."""
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if method != "head":
                yield method.upper(), path, operation


def _contents(described: Schema) -> Builder:
    entries = (
        E.li(E.a(_name(method, path), href=f"#{operation['operationId']}"))
        for method, path, operation in _listed(described)
    )
    return E.ul(*entries)


def _name(method: str, path: str) -> Builder:
    return E.code(E.b(method), f" {path}")


def _operations(described: Schema) -> Iterator[Builder]:
    for tag in described["tags"]:
        found = [entry for entry in _listed(described) if tag["name"] in entry[2]["tags"]]
        yield E.h2(tag["name"])
        yield from (_operation(described, *entry) for entry in found)


def _operation(described: Schema, method: str, path: str, operation: Schema) -> Builder:
    return E.section(
        E.h3(_name(method, path)),
        E.p(E.b(operation["summary"]), ". ", *_marked(operation["description"])),
        E.p("No key is needed.") if operation.get("security") == [] else None,
        _parameters(described, operation["parameters"]),
        _body(operation.get("requestBody")),
        *_answers(operation["responses"]),
        id=operation["operationId"],
    )


def _parameters(described: Schema, parameters: list[Schema]) -> Builder | None:
    if not parameters:
        return None
    rows = []
    for given in parameters:
        known = described["components"]["parameters"]
        one = known[given["$ref"].rpartition("/")[2]] if "$ref" in given else given
        name = one["name"] if one["in"] == "header" else f"{{{one['name']}}}"
        rows.append((E.code(name), _type(one["schema"]), _lines(one["description"])))
    return _table("Headers and parts of the path", ("Name", "Type", "Meaning"), rows)


def _body(body: Schema | None) -> Builder | None:
    if body is None:
        return None
    content = body["content"][JSON]
    example = msgspec.json.format(msgspec.json.encode(content["example"])).decode()
    return E.h4("Body")(E.p(_type(content["schema"]), ", for example:"), E.pre(E.code(example)))


def _answers(answers: Schema) -> Iterator[Builder]:
    good = {status: one for status, one in answers.items() if status < "4"}
    for status, answer in good.items():
        yield E.h4(f"Answer {status}")
        yield E.p(answer["description"], *_content(answer.get("content", {})))
        yield E.p("Headers: ", *_joined((E.code(name) for name in answer["headers"]), ", "))
    rows = [
        (E.code(status), _lines(answer["description"]))
        for status, answer in answers.items()
        if status not in good
    ]
    yield E.details(E.summary("Errors"), _table("Errors", ("Status", "Cause"), rows))


def _content(content: Schema) -> Iterator[Builder]:
    for media, one in content.items():
        events = one.get("x-event-schema")
        of = (" of events: ", _type(events)) if events else (": ", _type(one["schema"]))
        yield E._(" ", E.code(media), *(of if one["schema"] or events else ()), ".")


def _schemas(described: Schema) -> Builder:
    named = described["components"]["schemas"].items()
    return E.section(E.h2("Types"), *(_schema(name, schema) for name, schema in named))


def _schema(name: str, schema: Schema) -> Builder:
    required = schema["required"]
    rows = [
        (E.code(field), _type(kind), "yes" if field in required else "")
        for field, kind in schema["properties"].items()
    ]
    fields = _table(f"Fields of {name}", ("Field", "Type", "Always"), rows) if rows else None
    return E.section(E.h3(name), *_paragraphs(schema["description"]), fields, id=_anchor(name))


def _anchor(name: str) -> str:
    return f"type-{name}"


def _table(
    caption: str, head: tuple[str, ...], rows: Iterable[tuple[Builder | str, ...]]
) -> Builder:
    lines = (E.tr(*(E.td(cell) for cell in row)) for row in rows)
    table = E.table(
        E.caption(caption),
        E.thead(E.tr(*(E.th(name, scope="col") for name in head))),
        E.tbody(*lines),
    )
    return E.div(table, class_="wide", tabindex="0", role="region", aria_label=caption)


def _type(schema: Schema) -> Builder:
    match schema:
        case {"$ref": reference}:
            name = reference.removeprefix(REFERENCE)
            return E.a(name, href=f"#{_anchor(name)}")
        case {"anyOf": schemas}:
            return E._(*_joined(map(_type, schemas), " or "))
        case {"enum": values}:
            return E._(*_joined((E.code(_json(value)) for value in values), " or "))
        case {"const": value}:
            return E._(E.code(_json(value)))
        case {"type": "array", "items": items} if items:
            return E._("array of ", _type(items), _bounds(schema))
        case {"type": [*kinds]}:
            return E._(" or ".join(kinds))
        case {"type": kind}:
            return E._(kind, _bounds(schema))
    return E._("any")


def _bounds(schema: Schema) -> str:
    given = ((sign, schema[name]) for name, sign in _BOUNDS.items() if name in schema)
    return "".join(f", {sign}\N{NO-BREAK SPACE}{bound}" for sign, bound in given)


def _joined(parts: Iterable[Builder], separator: str) -> Iterator[Builder | str]:
    for number, part in enumerate(parts):
        if number:
            yield separator
        yield part


def _paragraphs(text: str) -> Iterator[Builder]:
    return (E.p(_lines(part)) for part in text.split("\n\n") if part)


def _lines(text: str) -> Builder:
    """Return a text, with its lines and its code."""
    lines = E._()
    for number, line in enumerate(text.split("\n")):
        if number:
            lines._(E.br)
        lines._(*_marked(line))
    return lines


def _marked(line: str) -> Iterator[Builder | str]:
    for number, part in enumerate(line.split("`")):
        yield E.code(part) if number % 2 else part


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
