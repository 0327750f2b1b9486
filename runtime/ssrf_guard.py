"""Addresses that a role may connect to for a stranger: those of the public Internet. Pure.

A stranger is a client that names a file by URL, or an upstream whose answer refers to a server.

Python's `is_global` alone is not enough: it has changed between patch releases, allows multicast,
and judges an IPv6 address that wraps an IPv4 one by its outer form.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from settings.networks import Network

Address = IPv4Address | IPv6Address

_NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # the host of each Azure machine; otherwise a public address
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",  # documentation, like the next two
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
"""All addresses assigned to the Internet; the others are local, mapped or reserved."""

_NAT64 = IPv6Network("64:ff9b::/96")
"""Prefix of the IPv4 Internet behind a NAT64; the last 32 bits are the IPv4 address."""


def may_connect(text: str, allowed: Iterable[Network] = ()) -> bool:
    """Return True if a socket's address is public or in one of the allowed networks."""
    try:
        address = _effective(ip_address(text.partition("%")[0]))
    except ValueError:
        return False
    return any(address in network for network in allowed) or _is_public(address)


def may_name(host: str, allowed: Iterable[Network] = ()) -> bool:
    """Return False for the host of a URL that is itself an address which may not be reached.

    For connections through a proxy, which looks up names itself.
    """
    if host.rstrip(".").rpartition(".")[2].lower() == "localhost":
        host = "127.0.0.1"
    try:
        host = socket.inet_ntoa(socket.inet_aton(host))  # 127.1, 0x7f000001 and the like
    except ValueError:  # NUL, or half a character: no name has one
        return False
    except OSError:
        if ":" not in host:
            return True  # a name
    return may_connect(host, allowed)


def _effective(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address maps, or the address itself."""
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
