"""Models and slots, as servers state them."""

from __future__ import annotations

import json

import pytest

from tests.support.recorded_openai import recording
from workers.openai.addresses import Addresses
from workers.openai.survey import (
    is_local,
    lists_llama_cpp,
    read_models,
    read_props,
    read_server_info,
    read_tabby_model,
)


@pytest.mark.parametrize(
    ("base_url", "models", "props"),
    [
        ("http://h:1", "http://h:1/v1/models", "http://h:1/props"),
        ("http://h:1/", "http://h:1/v1/models", "http://h:1/props"),
        ("http://h:1/v1", "http://h:1/v1/models", "http://h:1/props"),
        ("http://v1:1", "http://v1:1/v1/models", "http://v1:1/props"),
        ("https://h/a/v1", "https://h/a/v1/models", "https://h/a/props"),
        (
            "https://h/v1beta/openai",
            "https://h/v1beta/openai/models",
            "https://h/v1beta/openai/props",
        ),
    ],
)
def test_addresses_are_made_of_the_base_url(base_url: str, models: str, props: str) -> None:
    addresses = Addresses(base_url)
    assert str(addresses.api("models")) == models
    assert str(addresses.root("props")) == props


def test_models_are_listed_with_their_aliases() -> None:
    listed = [{"id": "a", "aliases": ["a", "b"]}, {"id": "c"}, {"id": "b", "aliases": None}]
    odd: list[object] = [None, 5, {}, {"id": 5}, {"id": ""}, {"id": "x\n"}, {"id": "x" * 300}]
    body = json.dumps({"object": "list", "data": listed + odd}).encode()
    assert read_models(body) == ({"a": "a", "b": "b", "c": "c"}, 0)


def test_names_and_aliases_have_one_bound() -> None:
    many = [{"id": f"m{n}", "aliases": [f"{n}-{k}" for k in range(9)]} for n in range(600)]
    names, left_out = read_models(json.dumps({"data": many}).encode())
    assert (len(names), left_out) == (5000, 1000)
    assert names["499-8"] == "m499"


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"data":null}', b'{"data":{}}', b"<html>"])
def test_anything_else_is_an_empty_list(body: bytes) -> None:
    assert read_models(body) == ({}, 0)


@pytest.mark.parametrize("read", [read_props, read_server_info, read_tabby_model])
@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b'{"total_slots":"2"}', b'{"parameters":{}}', b'{"a":1}', b"{" * 9999],
)
def test_a_page_of_another_server_states_no_slots(read: object, body: bytes) -> None:
    assert callable(read)
    assert read(body) == 0


def test_slots_are_read() -> None:
    assert read_props(b'{"total_slots":2,"model_alias":"x"}') == 2
    assert read_props(b'{"role":"router","max_instances":3,"total_slots":0}') == 1
    assert read_server_info(b'{"max_running_requests":48,"tp_size":1}') == 48
    assert read_server_info(b'{"max_running_requests":null}') == 0
    assert read_tabby_model(b'{"id":"m","parameters":{"max_batch_size":4}}') == 4


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("10.1.2.3", True),
        ("192.168.1.5", True),
        ("localhost", True),
        ("8.8.8.8", False),
        ("2001:4860:4860::8888", False),
        ("no-such-host.invalid", True),
    ],
)
async def test_hosts_of_private_networks_are_local(host: str, expected: bool) -> None:
    assert await is_local(host) is expected


def test_recorded_pages() -> None:
    assert read_props(recording("llama.cpp/props").body) == 2
    assert read_props(recording("llama.cpp-router/props").body) == 1
    assert read_models(recording("llama.cpp/models").body)[0] == {
        "smollm2": "smollm2",
        "tiny": "smollm2",
    }
    assert set(read_models(recording("llama.cpp-router/models-alpha-loaded").body)[0]) == {
        "alpha",
        "beta",
    }
    assert set(read_models(recording("vllm/models").body)[0]) == {"tiny", "tiny-alias"}
    assert read_models(recording("mlx-lm/models").body) == ({}, 0)
    assert lists_llama_cpp(recording("llama.cpp/models").body)
    assert lists_llama_cpp(recording("llama.cpp-router/models-alpha-loaded").body)
    assert not lists_llama_cpp(recording("vllm/models").body)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data":[]}', b'{"data":[5]}', b'{"data":[{}]}'])
def test_another_list_of_models_is_not_that_of_llama_cpp(body: bytes) -> None:
    assert not lists_llama_cpp(body)
