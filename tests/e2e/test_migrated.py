"""The predecessor's own files, migrated, give a gateway in which every one of their keys works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import redis
from openai import OpenAI

import settings
from tests.support.gateway import Gateway, status, until

PREFIX = "prefix-1"
PASSWORD = "hush/@:#"
GPTS = {"pandoraNext": {"id": "g-CFsXuTRfy-pandoranextzhu-shou"}}


def config(gateway: Gateway) -> dict[str, object]:
    """A config.json with every key that the predecessor's README names, none at its default."""
    return {
        "log_level": "DEBUG",
        "need_log_to_file": "true",
        "process_workers": 2,
        "process_threads": 2,
        "pandora_base_url": gateway.simulator,
        "pandora_api_prefix": PREFIX,
        "backend_container_url": "http://bots.example:50011",
        "backend_container_api_prefix": "666 ",
        "key_for_gpts_info": "fk-for-info",
        "gpt_4_s_new_name": "gpt-4-s,dall-e-3",
        "gpt_4_mobile_new_name": "my-mobile",
        "gpt_3_5_new_name": "gpt-3.5-turbo,gpt-3.5",
        "need_delete_conversation_after_response": "true",
        "use_oaiusercontent_url": "false",
        "use_pandora_file_server": "false",
        "custom_arkose_url": "true",
        "arkose_urls": f"http://127.0.0.1:1/gone,{gateway.simulator}/{PREFIX}",
        "dalle_prompt_prefix": "[[sim tool=dalle echo=1 arkose=1]]请画出：",
        "bot_mode": {
            "enabled": "true",
            "enabled_markdown_image_output": "true",
            "enabled_plain_image_url_output": "false",
            "enabled_bing_reference_output": "true",
            "enabled_plugin_output": "true",
        },
        "redis": {"host": "127.0.0.1", "port": gateway.redis.port, "password": PASSWORD, "db": 3},
    }


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with the settings that `python -m settings.migrate` has made from the files."""
    files = tmp_path_factory.mktemp("migrated")
    with Gateway(files, simulator=("--prefix", PREFIX)) as gateway:
        with redis.Redis.from_url(gateway.redis.url) as client:
            client.config_set("requirepass", PASSWORD)
        (files / "config.json").write_text(json.dumps(config(gateway)))
        (files / "gpts.json").write_text(json.dumps(GPTS))
        given = [str(files / "config.json"), str(files / "gpts.json"), "--to", str(files)]
        command = [sys.executable, "-m", "settings.migrate", *given]
        subprocess.run(command, cwd=settings.HERE, check=True, capture_output=True)
        gateway.files = files
        yield gateway.start()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    """The official client, at the prefix."""
    gateway.reset()
    url = f"{gateway.url}/666/v1"
    with OpenAI(base_url=url, api_key="bearer-of-a-bot", max_retries=0) as client:
        yield client


def ask(client: OpenAI, prompt: str, model: str = "gpt-4-s") -> str:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}]
    )
    return answer.choices[0].message.content or ""


def test_a_migrated_gateway_answers_under_its_prefix_and_nowhere_else(
    gateway: Gateway, client: OpenAI
) -> None:
    assert ask(client, "[[sim words=3]]") == "w0 w1 w2"
    assert status(f"{gateway.url}/666/v1/models") == 200
    assert status(f"{gateway.url}/v1/models") == 404
    assert status(f"{gateway.url}/healthz") == 200


def test_models_have_their_new_names_and_gpts_theirs(gateway: Gateway, client: OpenAI) -> None:
    names = ["gpt-4-s", "dall-e-3", "my-mobile", "gpt-3.5-turbo", "gpt-3.5", "pandoraNext"]
    assert {model.id for model in client.models.list()} == {*names, "gpt-4"}
    for name in names:
        assert ask(client, "[[sim words=2]]", name) == "w0 w1", name
    assert gateway.stats()["started"] == len(names)


def test_an_image_is_drawn_with_the_prompt_prefix_and_linked_at_the_public_address(
    gateway: Gateway, client: OpenAI
) -> None:
    drawn = client.images.generate(model="dall-e-3", prompt="a cat")
    assert drawn.data is not None
    (image,) = drawn.data
    url = urlsplit(image.url or "")
    assert f"{url.scheme}://{url.netloc}" == "http://bots.example:50011"
    picture = httpx.get(f"{gateway.url}{url.path}")
    assert picture.headers["content-type"] == "image/png"
    assert (drawn.model_extra or {})["reply"].endswith("请画出：a cat")
    assert gateway.stats()["downloads"] == 1


def test_arkose_tokens_come_from_the_first_address_that_has_one(
    gateway: Gateway, client: OpenAI
) -> None:
    assert ask(client, "[[sim arkose=1 words=2]]", "my-mobile") == "w0 w1"
    assert gateway.stats()["arkose"] == 1


def test_conversations_are_deleted(gateway: Gateway, client: OpenAI) -> None:
    url = f"redis://127.0.0.1:{gateway.redis.port}/3"
    with redis.Redis.from_url(url, password=PASSWORD) as database:
        earlier = "conversations of other tests are still to be deleted"
        until(lambda: not database.keys("gateway:deletion*"), 15, earlier)
    gateway.reset()
    ask(client, "[[sim words=2]]")
    until(lambda: gateway.stats()["hidden"] == 1, 60, "the conversation was not deleted")


def test_bot_mode_shows_what_its_options_say(client: OpenAI) -> None:
    assert ask(client, "[[sim tool=python code=1+1 output=2 words=2]]") == (
        "\n```\n1+1\n```\n`Result:` \n```\n2\n```\nw0 w1"
    )
    cited = ask(client, "[[sim tool=browser citations=1 words=1]]")
    assert cited.endswith("Fact 1[[6](https://example.org/6)].")
    assert re.search(r"!\[image\]\(http://bots", ask(client, "[[sim tool=dalle]]"))


def test_all_keys_are_in_the_configured_redis_database(gateway: Gateway) -> None:
    url = f"redis://127.0.0.1:{gateway.redis.port}"
    with redis.Redis.from_url(f"{url}/3", password=PASSWORD) as client:
        assert client.exists("gateway:pulse")
    with redis.Redis.from_url(f"{url}/0", password=PASSWORD) as client:
        assert client.dbsize() == 0


def test_two_processes_serve_and_one_log_file_has_the_level(gateway: Gateway) -> None:
    (front,) = gateway.fronts
    assert len(psutil.Process(front.pid).children()) == 2
    written = Path(gateway.directory / "log" / "access.log").read_text()
    assert " DEBUG " in written
    assert "bearer-of-a-bot" not in written
    assert "fk-for-info" not in written
    assert PASSWORD not in written
