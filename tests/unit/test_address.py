"""Addresses of clients, behind proxies or not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sanic.compat import Header

import settings
from app.http.address import client_address

DIRECT = settings.Server()
BEHIND = settings.Server(address_header="x-forwarded-for")


def request(peer: str, *forwarded: str) -> Any:
    headers = Header([("x-forwarded-for", value) for value in forwarded])
    return SimpleNamespace(conn_info=SimpleNamespace(client_ip=peer), headers=headers)


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        ("9.9.9.9", "9.9.9.9"),
        ("::ffff:9.9.9.9", "9.9.9.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_the_address_is_that_of_the_peer(peer: str, name: str) -> None:
    assert client_address(request(peer, "8.8.8.8"), DIRECT) == name


@pytest.mark.parametrize(
    ("forwarded", "name"),
    [
        (["8.8.8.8"], "8.8.8.8"),
        (["made-up, 7.7.7.7, 8.8.8.8, 10.0.0.3"], "8.8.8.8"),
        (["7.7.7.7", "8.8.8.8"], "8.8.8.8"),
        (["10.0.0.9, 10.0.0.3"], "10.0.0.9"),
        (["unknown"], "10.0.0.1"),
        ([], "10.0.0.1"),
    ],
)
def test_a_proxy_names_the_address_if_the_settings_say_so(forwarded: list[str], name: str) -> None:
    assert client_address(request("10.0.0.1", *forwarded), BEHIND) == name


def test_nobody_but_a_proxy_can_name_another_address() -> None:
    assert client_address(request("9.9.9.9", "8.8.8.8"), BEHIND) == "9.9.9.9"
