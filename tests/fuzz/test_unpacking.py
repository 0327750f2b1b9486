"""Packed bodies: whatever the bytes, a body or a refusal, in bounded pieces."""

from __future__ import annotations

import asyncio
import gzip
import sys
import zlib
from collections.abc import AsyncIterator, Callable

import brotli  # type: ignore[import-untyped]  # it has none
from hypothesis import strategies as st

from app.http.unpacking import PIECE, unpacked
from app.openai.errors import ApiError
from tests.support.fuzzing import PLACES, cut, fuzzed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


_PACKERS: dict[str, list[Callable[[bytes], bytes]]] = {
    "gzip": [gzip.compress],
    "deflate": [zlib.compress, _raw_deflate],
    "br": [brotli.compress],
    "zstd": [zstd.compress],
    " X-GZIP": [gzip.compress],
}
ENCODINGS = st.sampled_from([*_PACKERS, "", "identity", "gzip, br", "\ufeff", "zstd\0"])
DATA = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda part, number: part * number, st.binary(max_size=9), st.integers(0, 30_000)),
)


@st.composite
def packed(draw: st.DrawFn) -> tuple[str, bytes]:
    """An encoding, and bytes that may be packed in it, and damaged."""
    packers = draw(st.sampled_from([pack for packs in _PACKERS.values() for pack in packs]))
    data = packers(draw(DATA))
    match draw(st.sampled_from(["whole", "whole", "cut", "changed", "followed", "not packed"])):
        case "cut":
            data = data[: draw(st.integers(0, len(data)))]
        case "changed":
            at = draw(st.integers(0, len(data)))
            data = data[:at] + draw(st.binary(max_size=3)) + data[at + 1 :]
        case "followed":
            data += draw(st.sampled_from([data, b"\0", b"\x1f\x8b"]))
        case "not packed":
            data = draw(st.binary(max_size=50))
    return draw(ENCODINGS), data


async def unpack(parts: list[bytes], encoding: str) -> tuple[list[bytes], ApiError | None]:
    """The pieces of a body, as far as it can be unpacked, and the refusal of the rest."""

    async def arriving() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    pieces: list[bytes] = []
    try:
        async for piece in unpacked(arriving(), encoding):
            pieces.append(piece)
    except ApiError as failure:
        return pieces, failure
    return pieces, None


@fuzzed(packed(), PLACES)
def test_a_body_is_unpacked_in_small_pieces_or_refused(
    given: tuple[str, bytes], places: list[int]
) -> None:
    encoding, data = given
    parts = [part for part in cut(data, places) if part]  # as a server passes them on
    pieces, failure = asyncio.run(unpack(parts, encoding))
    if failure is not None:
        assert 400 <= failure.http_status < 500
    if encoding.strip().lower() not in ("", "identity"):
        assert max(map(len, pieces), default=0) <= 4 * PIECE
    whole, refused = asyncio.run(unpack([data] if data else [], encoding))
    assert (refused is None) == (failure is None)
    if failure is None:
        assert b"".join(whole) == b"".join(pieces)


@fuzzed(st.sampled_from(list(_PACKERS)), DATA, PLACES)
def test_what_a_client_packs_is_what_is_read(encoding: str, data: bytes, places: list[int]) -> None:
    for pack in _PACKERS[encoding]:
        pieces, failure = asyncio.run(unpack(cut(pack(data), places), encoding))
        assert failure is None
        assert b"".join(pieces) == data
