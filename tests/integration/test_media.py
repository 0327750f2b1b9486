"""The media store on both available kinds: a folder, and a store given by URL."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

import pytest
from obstore.store import ObjectStore, S3Store

from settings import SettingsError
from store.media import Media
from store.objects import StoreError, open_store
from tests.support.listeners import listening

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
WEEK = 604_800.0


@pytest.fixture(params=["media", "memory:///"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return open_store(request.param, tmp_path)


@pytest.fixture
def media(store: ObjectStore) -> Media:
    return Media(store, max_bytes=30_000_000, ttl=WEEK)


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def content(media: Media, name: str) -> bytes:
    return b"".join([piece async for piece in media.read("files", name)])


async def test_a_stored_file_keeps_its_type_and_name(media: Media) -> None:
    name = await media.put("files", pieces(b"n,squ", b"are\n", b"1,1\n"), "数据.csv")
    kept = await media.find("files", name)
    assert kept is not None
    assert (kept.size, kept.type, kept.filename, kept.inline) == (
        13,
        "text/csv; charset=utf-8",
        "数据.csv",
        False,
    )
    assert await content(media, name) == b"n,square\n1,1\n"


async def test_the_type_of_an_image_is_detected_even_if_it_arrives_byte_by_byte(
    media: Media,
) -> None:
    name = await media.put("images", pieces(*(PNG[i : i + 1] for i in range(len(PNG)))))
    kept = await media.find("images", name)
    assert kept is not None
    assert (kept.type, kept.inline, kept.size) == ("image/png", True, len(PNG))
    assert kept.filename == name
    assert await media.find("files", name) is None


async def test_a_file_larger_than_one_part_is_read_back_whole(media: Media) -> None:
    piece = bytes(range(256)) * 1024
    name = await media.put("files", pieces(*[piece] * 100), "big.dat")
    assert await content(media, name) == piece * 100


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ([], "empty"),
        ([b""], "empty"),
        ([b"<html>an error page</html>"], "not_an_image"),
        ([PNG, *[b"\0" * 1_000_000] * 31], "too_large"),
    ],
)
async def test_a_refused_file_leaves_nothing_in_the_store(
    given: list[bytes], error: str, tmp_path: Path
) -> None:
    media = Media(open_store("media", tmp_path), max_bytes=30_000_000, ttl=WEEK)
    with pytest.raises(StoreError, match=error):
        await media.put("images", pieces(*given))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_a_cancelled_put_leaves_nothing_in_the_store(tmp_path: Path) -> None:
    media = Media(open_store("media", tmp_path), max_bytes=30_000_000, ttl=WEEK)
    half = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield PNG * 40_000
        half.set()
        await asyncio.Event().wait()

    putting = asyncio.ensure_future(media.put("images", endless()))
    await half.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "name",
    ["", "..", "../x.png", "%2e%2e", "a.png", "0" * 32, "0" * 32 + ".png", "0" * 32 + "_../x.png"],
)
async def test_an_unknown_or_invalid_name_is_not_found(media: Media, name: str) -> None:
    assert await media.find("images", name) is None


async def test_an_expired_file_is_not_found_before_and_after_it_is_swept(tmp_path: Path) -> None:
    media = Media(open_store("media", tmp_path), max_bytes=1000, ttl=WEEK)
    old = await media.put("images", pieces(PNG))
    new = await media.put("files", pieces(b"1,2\n"), "a.csv")
    path = tmp_path / "media" / "images" / old
    os.utime(path, (path.stat().st_mtime - WEEK - 1,) * 2)
    assert await media.find("images", old) is None
    removed = await asyncio.gather(media.sweep(), media.sweep())
    assert sum(removed) == 1
    assert not path.exists()
    assert await media.find("files", new) is not None


async def test_the_unfinished_file_of_a_killed_process_is_swept(tmp_path: Path) -> None:
    """The store does not list it, so it was kept forever."""
    write = (
        "import asyncio, obstore, os, sys\n"
        "from obstore.store import S3Store, LocalStore\n"
        "async def main():\n"
        "    store = LocalStore(sys.argv[1])\n"
        "    writer = obstore.open_writer_async(store, 'images/a.png', buffer_size=10)\n"
        "    for _ in range(10):\n"
        "        await writer.write(bytes(100))\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    media = Media(open_store("media", tmp_path), max_bytes=1000, ttl=WEEK)
    killed = subprocess.run([sys.executable, "-c", write, tmp_path / "media"])
    assert killed.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "media" / "images").iterdir()
    assert await media.sweep() == 0  # it may still be written to
    os.utime(left, (left.stat().st_mtime - WEEK - 1,) * 2)
    assert await media.sweep() == 1
    assert not left.exists()


async def test_an_error_of_the_store_contains_no_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    media = Media(open_store("media", tmp_path), max_bytes=1000, ttl=WEEK)
    (tmp_path / "media" / "images").write_text("a file in the place of the folder")
    with pytest.raises(StoreError) as caught:
        await media.put("images", pieces(PNG))
    assert str(caught.value) == "store_failed"
    [record] = caplog.records
    told = vars(record)
    assert (told["reason"], told["store"]) == ("Not a directory [ENOTDIR]", f"{tmp_path}/media")
    assert ".png" not in str(told), "a name is all that one needs to fetch the picture"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (403, "<Error><Code>AccessDenied</Code></Error>", "the server answered 403 AccessDenied"),
        (404, "<Error><Code>NoSuchBucket</Code></Error>", "the server answered 404 NoSuchBucket"),
        (0, "", "it cannot be reached"),
    ],
)
async def test_the_reason_of_a_bucket_is_logged_with_the_address_of_its_server(
    loop: asyncio.AbstractEventLoop,
    caplog: pytest.LogCaptureFixture,
    status: int,
    body: str,
    reason: str,
) -> None:
    answer = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    async with listening(answer.encode()) as port:
        address = f"127.0.0.1:{port if status else 9}"
        bucket = S3Store(
            "bucket",
            endpoint=f"http://{address}",
            region="here",
            access_key_id="AKSECRET",
            secret_access_key="SKSECRET",
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
        with pytest.raises(StoreError):
            await Media(bucket, max_bytes=1000, ttl=WEEK).put("images", pieces(PNG))
    [record] = caplog.records
    told = vars(record)
    assert told["reason"] == f"{reason} ({address})"
    assert told["store"] == 'S3Store(bucket="bucket")'
    assert "SECRET" not in str(told)
    assert ".png" not in str(told)


@pytest.mark.parametrize("where", ["ftp://example.com/x", "nonsense://", "s3://"])
def test_an_invalid_store_url_is_refused(where: str, tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"^media\.store: expected a folder, or a bucket as in s3:"
    ):
        open_store(where, tmp_path)


def test_a_folder_that_cannot_be_made_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "media").touch()
    with pytest.raises(SettingsError) as caught:
        open_store("media", tmp_path)
    folder = tmp_path / "media"
    assert str(caught.value) == f"media.store: the folder {folder} cannot be created: File exists"


def test_a_folder_that_cannot_be_written_to_prevents_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a folder that root has made: the first image failed, hours later."""
    (tmp_path / "media" / "images").mkdir(parents=True)

    def refuse(dir: Path) -> IO[bytes]:
        if dir.name == "images":
            raise PermissionError(errno.EACCES, "Permission denied")
        return tempfile.TemporaryFile(dir=dir)

    monkeypatch.setattr("store.objects.TemporaryFile", refuse)
    with pytest.raises(SettingsError, match=r"media/images cannot be written to: Permission"):
        open_store("media", tmp_path)
