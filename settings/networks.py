"""IP networks in settings."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network


PRIVATE: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "::1/128",
            "fc00::/7",
        ),
    )
)
"""This machine, and the addresses of private networks."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Parse networks such as `10.1.0.0/16`. Raises ValueError."""
    try:
        return tuple(map(ip_network, texts))
    except ValueError:
        raise ValueError(
            "expected networks as in 10.1.0.0/16 or fd00::/8 (no bits set beyond the prefix)"
        ) from None
