"""Images and files of answers, as a client gets them: links that download."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from tests.e2e.gateway import Gateway

PNG = b"\x89PNG\r\n\x1a\n"


def say(client: OpenAI, prompt: str) -> str:
    """The text of a streamed answer."""
    stream = client.chat.completions.create(
        model="gpt-4-s", messages=[{"role": "user", "content": prompt}], stream=True
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def test_two_charts_and_a_table_that_code_made_can_be_fetched(
    gateway: Gateway, client: OpenAI
) -> None:
    text = say(client, "[[sim tool=python images=2 link=/mnt/data/squares.csv words=3]]")
    charts = re.findall(r"!\[image\]\((.*?)\)\n\[下载链接\]\((.*?)\)\n", text)
    assert len(charts) == 2
    assert all(shown == linked for shown, linked in charts)
    pictures = [httpx.get(shown) for shown, _ in charts]
    for (url, _), picture in zip(charts, pictures, strict=True):
        assert re.fullmatch(re.escape(gateway.url) + r"/images/[0-9a-f]{32}\.png", url)
        assert picture.status_code == 200
        assert picture.headers["content-type"] == "image/png"
        assert picture.content.startswith(PNG)
    assert pictures[0].content != pictures[1].content
    (link,) = re.findall(r"\((http://[^)]*/files/[^)]*)\)", text)
    table = httpx.get(link)
    assert table.status_code == 200
    assert table.text.startswith("n,square\n")
    assert "squares.csv" in table.headers["content-disposition"]
    assert table.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize("fault", ["download=error", "blob=403", "blob=cut"])
def test_an_image_that_cannot_be_had_is_told_and_the_answer_goes_on(
    client: OpenAI, fault: str
) -> None:
    text = say(client, f"[[sim tool=dalle {fault} words=3]]")
    assert "Error: 图片下载失败" in text
    assert text.endswith("w0 w1 w2")


def test_a_large_file_passes_through_and_one_that_is_too_large_is_refused(
    directory: Path,
) -> None:
    with Gateway(
        directory,
        media__max_bytes="30000000",
        server__public_url="http://gateway.example:81/",
    ) as gateway:
        gateway.start()
        with OpenAI(base_url=f"{gateway.url}/v1", api_key="key", max_retries=0) as client:
            text = say(client, "[[sim tool=python link=/mnt/data/a.csv size=29000000]]")
            (name,) = re.findall(r"\(http://gateway\.example:81(/files/[^)]*)\)", text)
            size = 0
            with httpx.stream("GET", gateway.url + name) as answer:
                for piece in answer.iter_bytes():
                    size += len(piece)
            assert size == 29_000_000
            text = say(client, "[[sim tool=python link=/mnt/data/a.csv size=31000000]]")
            assert "Error: 沙箱文件下载失败" in text
        kept = [path for path in (directory / "media").rglob("*") if path.is_file()]
        assert len(kept) == 1


def test_the_upstreams_own_links_are_handed_out_where_the_operator_wants_that(
    directory: Path,
) -> None:
    with Gateway(directory, media__use_oaiusercontent_url="true") as gateway:
        gateway.start()
        with OpenAI(base_url=f"{gateway.url}/v1", api_key="key", max_retries=0) as client:
            text = say(client, "[[sim tool=dalle words=3]]")
        (url,) = re.findall(r"!\[image\]\((.*?)\)", text)
        assert "/images/" not in url
        assert httpx.get(url).content.startswith(PNG)
        assert not [path for path in (directory / "media").rglob("*") if path.is_file()]
