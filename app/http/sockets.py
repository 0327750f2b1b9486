"""The socket that clients connect to: our own, or one that systemd holds (socket activation)."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

import settings

BACKLOG = 1024
"""Connections that the kernel keeps waiting until a front end accepts them."""

_FIRST_PASSED = 3  # SD_LISTEN_FDS_START of <systemd/sd-daemon.h>


def listen(server: settings.Server) -> socket.socket:
    """Open the socket that clients connect to.

    Raises:
        settings.SettingsError: the address cannot be listened on.
    """
    return _listen("server", server.host, server.port)


def listen_for_operators(config: settings.Settings) -> socket.socket | None:
    """Open the socket that operators connect to, if they have a port of their own.

    Raises:
        settings.SettingsError: the address cannot be listened on.
    """
    return _listen("admin", *config.admin_address) if config.admin_address else None


def _listen(section: str, host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        raise settings.SettingsError(
            f"{section}.host and {section}.port: cannot listen on {host} port {port}: "
            f"{(error.strerror or '').partition(' (')[0]}"
        ) from None


def passed_by_systemd(environ: MutableMapping[str, str]) -> socket.socket | None:
    """Return the socket of a systemd socket unit; None if this process was started without one.

    The variables that describe it are removed, as they are not about our own children.

    Raises:
        settings.SettingsError: there are several.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count:
        return None
    if count != "1":
        raise settings.SettingsError(f"the socket unit passes {count} sockets, expected one")
    return socket.socket(fileno=_FIRST_PASSED)


def host(listener: socket.socket) -> str:
    """Return the host of a socket's address, or its path; systemd's is not that of the settings."""
    name = listener.getsockname()
    return str(name[0] if isinstance(name, tuple) else name)


def address(listener: socket.socket) -> str:
    """Describe the address of a socket for the log."""
    name = listener.getsockname()
    if not isinstance(name, tuple):
        return str(name)
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
