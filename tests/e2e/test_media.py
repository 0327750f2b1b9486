"""Images and files of answers, which clients get as links to download."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from openai import OpenAI
from openai.types import Image, ImagesResponse

from tests.support.gateway import Gateway, serving

PNG = b"\x89PNG\r\n\x1a\n"


def say(client: OpenAI, prompt: str) -> str:
    """The text of a streamed answer."""
    stream = client.chat.completions.create(
        model="gpt-4-s", messages=[{"role": "user", "content": prompt}], stream=True
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


@pytest.mark.parametrize("fault", ["download=error", "blob=403", "blob=cut"])
def test_an_image_that_cannot_be_downloaded_is_reported_and_the_answer_goes_on(
    client: OpenAI, fault: str
) -> None:
    text = say(client, f"[[sim tool=dalle {fault} words=3]]")
    assert "Error: 图片下载失败" in text
    assert text.endswith("w0 w1 w2")


LARGE = 80_000_000
ROOM = 60_000_000
"""Bytes that a process may grow by meanwhile; holding the whole file would need more."""


def peak(process: psutil.Process) -> int:
    """The most memory that a process has had, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process")
def test_a_large_image_is_copied_in_little_memory_and_a_too_large_one_is_refused(
    directory: Path,
) -> None:
    with Gateway(
        directory,
        queue__heartbeat="0.5",
        media__max_bytes=str(LARGE),
        server__public_url="http://gateway.example:81/",
    ) as gateway:
        gateway.start()
        with OpenAI(base_url=f"{gateway.url}/v1", api_key="key", max_retries=0) as client:
            assert say(client, "[[sim words=3]]") == "w0 w1 w2"
            roles = [psutil.Process(gateway.workers[0].pid), *serving(gateway.fronts[0])]
            idle = [role.memory_info().rss for role in roles]
            text = say(client, f"[[sim tool=python link=/mnt/data/a.csv size={LARGE}]]")
            text += say(client, f"[[sim tool=dalle size={LARGE}]]")
            found = re.findall(r"\(http://gateway\.example:81(/\w+/[^)]*)\)", text)
            assert [name.split("/")[1] for name in found] == ["files", "images", "images"]
            for name in found[:2]:
                with httpx.stream("GET", gateway.url + name) as answer:
                    assert sum(len(piece) for piece in answer.iter_raw()) == LARGE
            grown = [peak(role) - before for role, before in zip(roles, idle, strict=True)]
            print(f"the worker and the front end grew by {grown} bytes")
            assert max(grown) < ROOM
            for tool, shown in (
                ("python link=/mnt/data/a.csv", "Error: 沙箱文件下载失败"),
                ("dalle", "Error: 图片下载失败"),
            ):
                text = say(client, f"[[sim tool={tool} size={LARGE + 1}]]")
                assert shown in text
        kept = [path for path in (directory / "media").rglob("*") if path.is_file()]
        assert sorted(path.stat().st_size for path in kept) == [LARGE, LARGE]


def test_links_of_the_upstream_are_passed_on_if_so_configured(
    directory: Path,
) -> None:
    with Gateway(
        directory, queue__heartbeat="0.5", media__use_oaiusercontent_url="true"
    ) as gateway:
        gateway.start()
        with OpenAI(base_url=f"{gateway.url}/v1", api_key="key", max_retries=0) as client:
            text = say(client, "[[sim tool=dalle words=3]]")
        (url,) = re.findall(r"!\[image\]\((.*?)\)", text)
        assert "/images/" not in url
        assert httpx.get(url).content.startswith(PNG)
        assert not [path for path in (directory / "media").rglob("*") if path.is_file()]


def draw(client: OpenAI, prompt: str, **more: Any) -> list[Image]:
    answer: ImagesResponse = client.images.generate(model="gpt-4-s", prompt=prompt, **more)
    assert answer.data is not None
    return answer.data


def test_an_image_is_drawn_and_fetched_from_its_url(client: OpenAI) -> None:
    (image,) = draw(client, "[[sim tool=dalle words=3]]")
    assert image.url is not None
    assert image.revised_prompt
    picture = httpx.get(image.url)
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(PNG)


def test_the_media_store_and_the_logs_are_not_readable_by_others(
    gateway: Gateway, client: OpenAI
) -> None:
    draw(client, "[[sim tool=dalle words=3]]")
    made = [*(gateway.directory / "media").rglob("*"), *gateway.directory.glob("log/*")]
    assert {path.is_dir() for path in made} == {True, False}
    assert any("log" in path.name for path in made)
    for path in made:
        assert path.stat().st_mode & 0o777 == (0o750 if path.is_dir() else 0o640), path


def test_several_images_are_drawn_in_as_many_turns_as_needed(
    gateway: Gateway, client: OpenAI
) -> None:
    images = draw(client, "[[sim tool=dalle]]", n=3, response_format="b64_json")
    assert [base64.b64decode(image.b64_json or "")[:8] for image in images] == [PNG] * 3
    assert gateway.stats()["started"] == 3
    assert len(draw(client, "[[sim tool=dalle images=3]]", n=2)) == 2
    assert len(draw(client, "[[sim tool=dalle images=3]]")) == 3
    assert gateway.stats()["started"] == 5


def test_the_text_of_an_answer_with_images_is_returned_as_the_reply(gateway: Gateway) -> None:
    body = {"prompt": "[[sim tool=dalle echo=1]] a cat", "size": "512x256"}
    response = httpx.post(
        f"{gateway.url}/v1/images/generations",
        json=body,
        headers={"authorization": "Bearer of-a-bot"},
        timeout=30,
    )
    answer = response.json()
    assert set(answer) == {"created", "data", "reply"}
    assert set(answer["data"][0]) == {"url", "revised_prompt"}
    assert answer["reply"].startswith("\n```\n{")
    assert answer["reply"].endswith("```\na cat\n\nSize: 1792x1024")
    assert "![image]" not in answer["reply"]


def test_an_answer_without_an_image_is_an_error_with_the_reason_of_the_upstream(
    client: OpenAI,
) -> None:
    for prompt, reason in (
        ("[[sim words=3]]", "w0 w1 w2"),
        ("[[sim tool=dalle policy=1 words=3]]", "w0 w1 w2"),
        ("[[sim tool=dalle blob=404]]", "http_404"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            draw(client, prompt)
        assert caught.value.code == "image_generate_fail"
        assert reason in caught.value.message


@pytest.mark.parametrize(
    ("prompt", "more", "param"),
    [
        ("a cat", {"n": 5}, "n"),
        ("a cat", {"n": 0}, "n"),
        ("a cat", {"size": "large"}, "size"),
        ("a cat", {"response_format": "gif"}, "response_format"),
        (" ", {}, "prompt"),
        ("a" * 32_001, {}, "prompt"),
    ],
)
def test_an_invalid_images_request_is_a_400_that_names_the_field(
    client: OpenAI, prompt: str, more: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        draw(client, prompt, **more)
    assert caught.value.param == param


def test_the_newer_image_models_answer_with_the_picture_itself(client: OpenAI) -> None:
    drawn = client.images.generate(model="gpt-image-1", prompt="[[sim tool=dalle]]")
    assert drawn.data
    assert base64.b64decode(drawn.data[0].b64_json or "").startswith(b"\x89PNG")
