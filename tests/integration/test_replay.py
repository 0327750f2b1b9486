"""The socket that replays recordings sends them as they are, cut where a test wants it."""

from __future__ import annotations

import aiohttp
import pytest

from tests.support.replay import cut_places, played, recorded, replaying

STREAM = "llama.cpp/tiny-text-utf8-stream"


async def fetch(url: str) -> bytes:
    async with aiohttp.ClientSession() as http, http.post(url, data=b"{}") as response:
        return await response.read()


@pytest.mark.parametrize("part", list(cut_places(b"x\r\n\r\n")))
async def test_a_recording_arrives_whole_however_it_is_cut(part: str) -> None:
    raw = recorded(STREAM)
    cuts = cut_places(raw)[part]
    assert cuts, "the recording has no such part"
    async with replaying(played(raw), played(raw, cuts)) as server:
        whole, cut = await fetch(server.url), await fetch(server.url)
    assert b"data: [DONE]" in whole
    assert cut == whole


async def test_a_recording_can_break_off_anywhere() -> None:
    raw = recorded(STREAM)
    cut = cut_places(raw)["a character"][0]
    async with replaying(played(raw, end=cut)) as server:
        with pytest.raises(aiohttp.ClientPayloadError):
            await fetch(server.url)


async def test_recordings_without_chunks_and_of_errors_are_replayed() -> None:
    plain, refused = recorded("mlx-lm/stream"), recorded("vllm/queue-full-0")
    places = cut_places(plain)
    assert not places["a chunk's size"]
    async with replaying(played(plain, places["the end of a message"]), played(refused)) as server:
        assert (await fetch(server.url)).endswith(b"data: [DONE]\n\n")
        assert await fetch(server.url) != b""
