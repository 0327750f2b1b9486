"""IP networks in settings."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Parse networks such as `10.1.0.0/16`. Raises ValueError."""
    try:
        return tuple(map(ip_network, texts))
    except ValueError:
        raise ValueError(
            "expected networks as in 10.1.0.0/16 or fd00::/8 (no bits set beyond the prefix)"
        ) from None
