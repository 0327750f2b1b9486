"""Which addresses a front end may connect to for a client: those of the public Internet. Pure.

Python's `is_global` alone does not do: it has changed between its patch releases, lets multicast
through, and takes an IPv6 address that only wraps an IPv4 one for what it looks like.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' own; Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, to each of its machines; otherwise a public address
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",  # documentation, as the next ones
        "198.51.100.0/24",
        "203.0.113.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which can name any IPv4 address
        "3fff::/20",  # documentation
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
"""All that is handed out for the Internet; everything else is local, mapped or reserved."""

_NAT64 = IPv6Network("64:ff9b::/96")
"""Behind a NAT64 the whole IPv4 Internet looks like this; the last 32 bits are what is meant."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks as settings name them, and have checked them."""
    return tuple(ip_network(text) for text in texts)


def may_connect(text: str, allowed: Iterable[Network] = ()) -> bool:
    """Whether an address, as a socket names it, is public or in one of the networks allowed."""
    try:
        address = _meant(ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    return any(address in network for network in allowed) or _is_public(address)


def _meant(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one that is only another way to write it."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_V6:
        return False
    return not any(address in network for network in _NOT_PUBLIC)
