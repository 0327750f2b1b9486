"""Tools in answers, as web pages and as chat bots get them, over SSE and over WebSocket."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import httpx
import pytest
from openai import OpenAI

from tests.support.gateway import Gateway

Mode = Literal["web", "bot"]

PNG = b"\x89PNG\r\n\x1a\n"
LINK = r"(http://[^\s()]+)"


@pytest.fixture(scope="module", params=["web", "bot"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """Bot mode, off or on."""
    chosen: Mode = request.param
    return chosen


@pytest.fixture(scope="module")
def gateway(mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for each mode, with a GPT whose actions are allowed."""
    directory = tmp_path_factory.mktemp(mode)
    file = directory / "gpts.toml"
    file.write_text('[my-gpt]\nid = "g-abc-my-gpt"\n')
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("GATEWAY_GPTS", str(file))
        with Gateway(
            directory,
            gpts__confirm_actions="allow",
            queue__heartbeat="0.5",
            bot__enabled="true" if mode == "bot" else "false",
            bot__plain_image_url="true",
            bot__bing_reference="true",
        ) as gateway:
            yield gateway.start()


@pytest.fixture(params=["sse", "websocket"])
def account(request: pytest.FixtureRequest) -> str:
    """Transport by which the upstream answers this account."""
    chosen: str = request.param
    return chosen


@pytest.fixture
def client(gateway: Gateway, account: str) -> Iterator[OpenAI]:
    """The official client of a bot whose account answers in that way."""
    gateway.reset(account=account)
    key = f"bearer-of-{account}"
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        yield client
    assert (gateway.stats()["acks"] > 0) == (account == "websocket")
    assert gateway.stats()["peak"] == 1


def say(client: OpenAI, directive: str, model: str = "gpt-4-s") -> str:
    """The text of a streamed answer, equal to that of a whole one except for the names of
    copies."""
    prompt = f"[[sim {directive} words=3 interval=0.005]]"
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], stream=True
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    whole = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}]
    )
    names = re.compile("[0-9a-f]{32}")
    text = "".join(pieces)
    assert names.sub("name", text) == names.sub("name", whole.choices[0].message.content or "")
    return text


def test_an_image_is_drawn_and_fetched_from_the_url_in_the_text(
    gateway: Gateway, client: OpenAI, mode: Mode
) -> None:
    text = say(client, "tool=dalle")
    (url,) = set(re.findall(LINK, text))
    assert (
        text
        == {
            "web": '\n```\n{"size": "1024x1024", "prompt": "A cat"}\n```\n'
            f"\n![image]({url})\n[下载链接]({url})\nw0 w1 w2",
            "bot": f"图片链接：{url}\nw0 w1 w2",
        }[mode]
    )
    assert re.fullmatch(re.escape(gateway.url) + r"/images/[0-9a-f]{32}\.png", url)
    picture = httpx.get(url)
    assert picture.status_code == 200
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(PNG)


def test_a_gpt_calls_its_action_after_the_permission_was_given(
    gateway: Gateway, client: OpenAI, mode: Mode
) -> None:
    text = say(client, "tool=action calls=2 opening=1", "my-gpt")
    assert (
        text
        == {
            "web": 'Let me see.\n```\n{"id": 1}\n```\n\n```\n{"id": 2}\n```\nw0 w1 w2',
            "bot": "Let me see.w0 w1 w2",
        }[mode]
    )
    stats = gateway.stats()
    assert stats["confirmations"] == 4  # of two answers, streamed and whole
    assert stats["peak_per_account"] == 1


def test_code_makes_two_charts_and_a_table_that_can_be_downloaded(
    gateway: Gateway, client: OpenAI, mode: Mode
) -> None:
    text = say(client, "tool=python images=2 link=/mnt/data/squares.csv")
    *urls, link = dict.fromkeys(re.findall(LINK, text))
    one, two = urls
    shown = {
        "web": "\n```\nplt.show()\nplt.show()\n```\n`Result:` \n```\n"
        + "\n图片生成中，请稍后\n" * 2
        + "\n```\n"
        + "".join(f"![image]({url})\n[下载链接]({url})\n" for url in urls),
        "bot": f"图片链接：{one}\n图片链接：{two}\n",
    }[mode]
    assert text == f"{shown}w0 w1 w2 [squares.csv]({link})"
    charts = [httpx.get(url) for url in urls]
    assert [chart.status_code for chart in charts] == [200, 200]
    assert all(chart.headers["content-type"] == "image/png" for chart in charts)
    assert all(chart.content.startswith(PNG) for chart in charts)
    assert charts[0].content != charts[1].content
    table = httpx.get(link)
    assert table.status_code == 200
    assert table.text.startswith("n,square\n")
    assert table.headers["content-disposition"].startswith('attachment; filename="squares.csv"')


def test_browsing_cites_three_pages(client: OpenAI, mode: Mode) -> None:
    searched = '\n```\nsearch("the simulator")\n```\n\n```\nmclick([0, 1, 2])\n```\n'
    cited = " ".join(f"Fact {n}[[{n + 5}](https://example.org/{n + 5})]." for n in (1, 2, 3))
    text = say(client, "tool=browser citations=3")
    assert text == (searched if mode == "web" else "") + f"w0 w1 w2 {cited}"


def test_each_answer_has_its_own_copies_of_files(gateway: Gateway, client: OpenAI) -> None:
    """Two images of one second overwrote each other in the predecessor."""
    before = kept(gateway)
    text = say(client, "tool=dalle images=2")
    own = {url.rpartition("/")[2] for url in re.findall(LINK, text)}
    assert len(own) == 2
    assert len(kept(gateway) - before) == 4
    assert own < kept(gateway) - before


def kept(gateway: Gateway) -> set[str]:
    """The names in the media store."""
    return {path.name for path in (gateway.directory / "media").rglob("*") if path.is_file()}
