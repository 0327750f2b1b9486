"""The OpenAPI description: it has every route, and every error that a client can meet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser

import pytest
from obstore.store import MemoryStore

import settings
from app.composition import build_server
from app.http.framework import EXPOSED
from app.openai import errors
from app.openai.requests import decode_body
from app.openapi.description import describe
from app.openapi.documents import Documents
from app.openapi.errors import OTHERWISE
from app.openapi.operations import operations
from app.openapi.page import page_headers, read_style, render
from app.openapi.schemas import Schema
from app.relayed.requests import RelayedRequest
from app.server import Route
from store.blobs import Blobs
from store.media import Media
from wire.jobs import ApiPath
from wire.seal import Seal

OPENAI = settings.Upstream(kind="openai", base_url="http://127.0.0.1:1")
PANDORA = settings.Upstream(base_url="http://127.0.0.1:1")
KINDS = {
    "pandora": settings.Settings(upstream=PANDORA, server=settings.Server(api_prefix="666")),
    "openai": settings.Settings(upstream=OPENAI),
    "both": settings.Settings(upstream=PANDORA, others={"second": OPENAI}),
}
EVERY = pytest.mark.parametrize("kind", KINDS)


@cache
def routes(kind: str) -> tuple[Route, ...]:
    """The routes of a front end, which is never started."""
    seal, store = Seal(b"a secret of the tests"), MemoryStore()
    media, blobs = Media(store, 1, 1.0), Blobs(store, seal, 1.0)
    server = build_server(KINDS[kind], seal, host="127.0.0.1", media=media, blobs=blobs)
    return tuple(server.routes)


@cache
def description(kind: str) -> Schema:
    """The description as that front end serves it."""
    documents = next(route for route in routes(kind) if route.name == "openapi").handler
    documents_of = documents.__self__  # type: ignore[attr-defined]  # a method
    assert isinstance(documents_of, Documents)
    described: Schema = json.loads(documents_of.make()[0].body)
    return described


def found(part: object, key: str) -> Iterator[object]:
    """Every value of a key, however deep."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == key:
                yield value
            yield from found(value, key)
    elif isinstance(part, list):
        for value in part:
            yield from found(value, key)


def described_operations(kind: str) -> Iterator[tuple[str, str, Schema]]:
    for path, methods in description(kind)["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


# ----- routes


@EVERY
def test_every_method_of_every_route_is_described_and_no_other(kind: str) -> None:
    served = {
        (re.sub(r"<(\w+)(:\w+)?>", r"{\1}", route.path), method.lower())
        for route in routes(kind)
        for method in route.methods
    }
    assert {(path, method) for path, method, _ in described_operations(kind)} == served
    ids = [operation["operationId"] for _, _, operation in described_operations(kind)]
    assert len(ids) == len(set(ids)) == len(served)


def test_paths_have_the_prefix_of_the_operator_and_the_server_its_public_url() -> None:
    assert "/666/v1/chat/completions" in description("pandora")["paths"]
    assert {"/666/docs", "/666/openapi.json", "/readyz"} <= set(description("pandora")["paths"])
    (server,) = describe((), {}, "https://bots.example")["servers"]
    assert server == {"url": "https://bots.example"}


@EVERY
def test_every_reference_leads_somewhere(kind: str) -> None:
    described = description(kind)
    references = set(found(described, "$ref"))
    assert len(references) > 30
    for reference in references:
        part = described
        for name in str(reference).removeprefix("#/").split("/"):
            part = part[name]


@EVERY
def test_the_description_is_valid_openapi(kind: str) -> None:
    # Loading it takes a second, so only here.
    from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

    OPENAPI_31_VALIDATOR.validate(description(kind))


@EVERY
def test_every_part_of_a_path_is_described(kind: str) -> None:
    for path, _, operation in described_operations(kind):
        named = {p["name"] for p in operation["parameters"] if p.get("in") == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))


def test_a_key_is_optional_where_the_gateway_asks_for_none() -> None:
    assert {} in description("openai")["security"]  # it listens on this machine alone
    assert {} not in description("pandora")["security"]
    assert description("pandora")["paths"]["/readyz"]["get"]["security"] == []


# ----- errors


def kinds(kind: type[errors.ApiError]) -> Iterator[type[errors.ApiError]]:
    """All kinds of an error that clients can meet, unlike those of operators."""
    for each in kind.__subclasses__():
        if not each.__module__.startswith("app.admin."):
            yield each
            yield from kinds(each)


def documented(kind: str) -> dict[str, str]:
    """The causes of each status, over all operations of OpenAI's dialects."""
    causes: dict[str, str] = {}
    for path, _, operation in described_operations(kind):
        for status, answer in operation["responses"].items():
            if "/messages" not in path:
                causes[status] = causes.get(status, "") + answer["description"] + "\n"
    return causes


@EVERY
def test_every_error_of_the_gateway_is_documented_with_its_status_and_code(kind: str) -> None:
    causes = documented(kind)
    missing = []
    for error in kinds(errors.ApiError):
        if error in (*OTHERWISE, errors.JobFailed):
            continue
        if error is errors.ImageGenerateFail and kind == "openai":
            continue  # no images
        cause = f"`{error.code}`: {error.__doc__}" if error.code else str(error.__doc__)
        if cause not in causes.get(str(error.status), ""):
            missing.append(error.__name__)
    assert not missing, f"add them to app/openapi/errors.py or operations.py: {missing}"


@EVERY
def test_every_way_in_which_a_job_can_fail_is_documented_for_what_waits_in_line(kind: str) -> None:
    for path, _, operation in described_operations(kind):
        if "x-queue-id" in operation["responses"].get("200", {}).get("headers", {}):
            for status, code in errors.FAULT_STATUSES:
                if "/messages" in path and status == 503:
                    status = 529
                assert f"`{code}`" in operation["responses"][str(status)]["description"]


def test_errors_of_no_operation_are_in_the_introduction() -> None:
    text = description("both")["info"]["description"]
    assert all(f"{error.status} `{error.code}`" in text for error in OTHERWISE)


def test_errors_have_the_form_of_their_dialect() -> None:
    paths = description("both")["paths"]
    for path, form in {"chat/completions": "ErrorObject", "messages": "MessageError"}.items():
        answers = paths[f"/v1/{path}"]["post"]["responses"]
        schema = answers["429"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{form}"}
        assert ("503" in answers) == (path != "messages")
        assert ("529" in answers) == (path == "messages")


def test_a_refusal_for_too_many_requests_says_when_to_retry_in_its_dialect() -> None:
    paths = description("both")["paths"]
    for path, header in {
        "chat/completions": "x-ratelimit-reset-requests",
        "messages": "anthropic-ratelimit-requests-reset",
    }.items():
        answers = paths[f"/v1/{path}"]["post"]["responses"]
        assert {"retry-after", header} <= set(answers["429"]["headers"])
        assert header in answers["200"]["headers"]
        assert header not in answers["400"]["headers"]


def test_errors_of_model_servers_are_allowed_only_where_there_are_some() -> None:
    for kind in KINDS:
        answers = description(kind)["paths"]
        relayed = [p for p, _, o in described_operations(kind) if "4XX" in o["responses"]]
        assert bool(relayed) == (kind != "pandora"), answers
        assert all("/v1/" in path for path in relayed)


def test_headers_that_pages_may_read_are_described() -> None:
    assert set(EXPOSED.split(", ")) <= set(description("both")["components"]["headers"])


# ----- requests


def test_every_example_is_a_valid_request_to_either_kind_of_upstream() -> None:
    checked = 0
    for operation in operations(OWN, relayed=True).values():
        for form in operation.body:
            request: object = decode_body(form, json.dumps(operation.example).encode())
            if isinstance(request, RelayedRequest):
                request.check()
            checked += 1
    assert checked > 10


OWN: tuple[ApiPath, ...] = (
    "chat/completions",
    "responses",
    "completions",
    "messages",
    "messages/count_tokens",
)


def test_a_field_that_is_always_sent_is_required_and_one_that_may_be_missing_is_not() -> None:
    named = description("pandora")["components"]["schemas"]
    assert {"id", "object", "usage", "choices"} <= set(named["Completion"]["required"])
    assert "warning" not in named["Completion"]["required"]
    assert named["ChatRequest"]["required"] == ["model", "messages"]
    assert "additionalProperties" not in named["ChatRequest"]


# ----- the page


class Page(HTMLParser):
    """The elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, attribute: str) -> list[str]:
        """The values of an attribute."""
        return [str(given[attribute]) for _, given in self.elements if attribute in given]


@EVERY
def test_the_page_loads_nothing_and_all_its_links_lead_somewhere(kind: str) -> None:
    page = Page(render(description(kind), read_style()))
    assert not {tag for tag, _ in page.elements} & {"script", "img", "link", "iframe", "form"}
    assert not page.all("src")
    assert not page.all("style")
    ids = page.all("id")
    assert len(ids) == len(set(ids))
    outside = {link for link in page.all("href") if link.removeprefix("#") not in ids}
    assert outside == {"openapi.json"}


def test_the_page_shows_every_operation_and_every_type() -> None:
    described = description("both")
    ids = set(Page(render(described, read_style())).all("id"))
    shown = {o["operationId"] for _, method, o in described_operations("both") if method != "head"}
    assert shown <= ids
    assert {f"type-{name}" for name in described["components"]["schemas"]} <= ids


def test_text_of_the_description_is_escaped() -> None:
    described = describe((), {}, "https://x/<script>")
    assert "<script" not in render(described, "")


def test_the_policy_allows_the_style_that_is_in_the_page_and_nothing_else() -> None:
    style = read_style()
    assert f"<style>{style}</style>" in render(description("both"), style)
    policy = page_headers(style)["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_all_text_has_the_contrast_that_readers_with_weak_sight_need(theme: int) -> None:
    """4.5 to 1, as level AA of the web's guidelines asks for text."""
    block = re.findall(r":root \{(.*?)\}", read_style(), re.DOTALL)[theme]
    colors = dict(re.findall(r"--(\w+): (#\w{6})", block))
    for text in ("ink", "faint", "link"):
        for ground in ("paper", "code"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
