"""Addresses that a front end connects to for a client, and addresses that it refuses."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.ssrf_guard import may_connect
from settings.networks import networks

PRIVATE = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 127.0.0.1 127.255.0.1
168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.192
192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.250
240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:7f00:1
::ffff:169.254.169.254 ::ffff:10.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::a00:1
64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378::1 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe::
2002:808:808:: 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1
"""
PUBLIC = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1
169.253.0.1 172.15.0.1 172.32.0.0 192.0.1.1 192.167.0.1 223.255.255.255 ::ffff:8.8.8.8
64:ff9b::808:808 2606:4700:4700::1111 2a00:1450::1 2001:4860:4860::8888
"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_an_address_that_is_not_public_is_not_connected_to(address: str) -> None:
    assert not may_connect(address)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_a_public_address_is_connected_to(address: str) -> None:
    assert may_connect(address)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "0177.0.1"])
def test_a_string_that_is_not_an_address_is_not_connected_to(text: str) -> None:
    assert not may_connect(text)


def test_an_allowed_network_is_reachable_in_every_spelling_and_no_other_network() -> None:
    allowed = networks(["10.1.0.0/16", "fd00:1::/32"])
    assert may_connect("10.1.2.3", allowed)
    assert may_connect("::ffff:10.1.2.3", allowed)
    assert may_connect("fd00:1::9", allowed)
    assert not may_connect("10.2.0.1", allowed)
    assert not may_connect("127.0.0.1", allowed)
    assert may_connect("8.8.8.8", allowed)


@given(st.ip_addresses(v=4).filter(lambda address: not address.is_global))
def test_every_address_that_is_not_global_in_python_is_refused_also_mapped_into_ipv6(
    address: ipaddress.IPv4Address,
) -> None:
    assert not may_connect(str(address))
    assert not may_connect(f"::ffff:{address}")
    prefix = int(ipaddress.IPv6Address("64:ff9b::"))
    assert not may_connect(str(ipaddress.IPv6Address(prefix + int(address))))


@given(st.ip_addresses(v=6).filter(lambda address: not address.is_global))
def test_every_ipv6_address_that_is_not_global_in_python_is_refused(
    address: ipaddress.IPv6Address,
) -> None:
    inner = address.ipv4_mapped
    assert not may_connect(str(address)) or (inner is not None and inner.is_global)
