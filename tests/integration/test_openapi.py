"""`/openapi.json` and `/docs` of a front end."""

from __future__ import annotations

import asyncio

import pytest

from app.openapi.documents import Document, Documents
from tests.support.sanic_adapter import Client

DOCUMENTS = pytest.mark.parametrize("path", ["/openapi.json", "/docs"])


@DOCUMENTS
async def test_a_client_that_knows_a_document_does_not_get_it_again(
    front: Client, path: str
) -> None:
    first = await front.get(path)
    assert first.status_code == 200
    assert len(first.content) > 10_000
    etag = first.headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        again = await front.get(path, headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    changed = await front.get(path, headers={"if-none-match": '"other"'})
    assert (changed.status_code, changed.content) == (200, first.content)


@DOCUMENTS
async def test_the_head_of_a_document_has_its_length_and_no_body(front: Client, path: str) -> None:
    whole = await front.get(path)
    head = await front.session.head(front.make_url(path))
    assert head.headers["content-length"] == str(len(whole.content))
    assert head.content == b""


async def test_the_page_is_html_that_may_load_nothing(front: Client) -> None:
    page = await front.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.text.startswith("<!DOCTYPE html>")


async def test_the_documents_are_made_once(front: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    make = Documents.make

    def counted(documents: Documents) -> tuple[Document, Document]:
        made.append(documents)
        return make(documents)

    monkeypatch.setattr(Documents, "make", counted)
    await front.get("/docs")
    await asyncio.gather(*(front.get("/openapi.json") for _ in range(5)))
    assert len(made) == 1
