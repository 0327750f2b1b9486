"""Media types of files that are not pictures."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.files.media_types import UNKNOWN, media_type

OFFICE = "application/vnd.openxmlformats-officedocument."
DOCX = f"{OFFICE}wordprocessingml.document"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0"


def archive(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in names:
            file.writestr(name, "content")
    return out.getvalue()


WORD = archive("[Content_Types].xml", "_rels/.rels", "word/document.xml")


@pytest.mark.parametrize(
    "declared", ["", UNKNOWN, "binary/octet-stream", "text/plain", "image/png"]
)
@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"%PDF-1.4\n", "application/pdf"),
        (b"\n%PDF-1.7\n", "application/pdf"),
        (WORD, DOCX),
        (archive("ppt/presentation.xml", "_rels/.rels"), f"{OFFICE}presentationml.presentation"),
        (archive("docProps/app.xml", "xl/workbook.xml"), f"{OFFICE}spreadsheetml.sheet"),
        (OLE + "WordDocument".encode("utf-16-le"), "application/msword"),
        (OLE + "Workbook".encode("utf-16-le"), "application/vnd.ms-excel"),
    ],
)
def test_the_bytes_decide_before_name_and_declaration(
    declared: str, head: bytes, kind: str
) -> None:
    assert media_type(head, "a.txt", declared) == kind


@pytest.mark.parametrize(
    ("head", "name", "declared", "in_url", "kind"),
    [
        (b"print()", "a.py", "text/plain", "", "text/x-script.python"),
        (b"print()", "A.PY", UNKNOWN, "", "text/x-script.python"),
        (b"a,b\n", "a.csv", UNKNOWN, "", "text/csv"),
        (OLE, "a.xls", UNKNOWN, "", "application/vnd.ms-excel"),
        (OLE, "a.doc", "", "", "application/msword"),
        (b"a,b\n", "", "text/csv", "", "text/csv"),
        (b"a,b\n", "", "text/csv", "view.php", "text/csv"),
        (b"a,b\n", "", UNKNOWN, "a.csv", "text/csv"),
        (b"a,b\n", "", UNKNOWN, "download", "text/plain"),
        ("好".encode()[:-1], "", "", "", "text/plain"),
        (b"\0\1", "", "", "", UNKNOWN),
        (b"\xff\1", "", "binary/octet-stream", "", "binary/octet-stream"),
        (b"?", "", "application/x-nobody-knows", "", "application/x-nobody-knows"),
        (archive("word/a.txt"), "a.zip", "", "", "application/zip"),
        (b"not a picture", "a.png", "image/png", "", "text/plain"),
        (b"<svg/>", "", "image/svg+xml", "a.svg", "text/plain"),
    ],
)
def test_name_and_declaration_decide_where_the_bytes_do_not(
    head: bytes, name: str, declared: str, in_url: str, kind: str
) -> None:
    assert media_type(head, name, declared, in_url) == kind


@given(st.binary(max_size=200), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_every_file_has_a_type(head: bytes, name: str, declared: str, in_url: str) -> None:
    assert media_type(head, name, declared, in_url)
