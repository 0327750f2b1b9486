"""Address of a client, as far as it can be relied on."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from sanic import Request

import settings
from settings.networks import Network

Address = IPv4Address | IPv6Address

_IPV6_SITE = 64
"""Bits of an IPv6 address that name a client; it may choose the others as it likes."""


def client_address(request: Request, server: settings.Server) -> str:
    """Return the name of the address of a client, "" on a Unix socket.

    It is that of the peer. If that is a proxy, and `server.address_header` is set, it is the last
    address in that header which is not a proxy's: a client can only choose those before it.
    """
    peer = parse_address(request.conn_info.client_ip if request.conn_info else "")
    if peer is None:
        return ""
    if server.address_header and is_in(peer, server.proxies):
        given = request.headers.getall(server.address_header, [])
        for text in reversed(",".join(given).split(",")):
            address = parse_address(text.strip())
            if address is None:
                break
            peer = address
            if not is_in(address, server.proxies):
                break
    return address_name(peer)


def parse_address(text: str) -> Address | None:
    """Return an address, without its zone and as IPv4 if it is a mapped one; None if it is none."""
    try:
        address = ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_in(address: Address, networks: Sequence[Network]) -> bool:
    """Return True if an address is in one of these networks."""
    return any(address in network for network in networks)


def address_name(address: Address) -> str:
    """Return the name under which an address is counted: of IPv6, that of the whole site."""
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), _IPV6_SITE), strict=False))
    return str(address)
