"""Two tiny proxies on loopback, HTTP and SOCKS5, that ask for a name and a password."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

USER, PASSWORD = "user", "p@ss/word"
LOGIN = "user:p%40ss%2Fword"

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Passed:
    """A running proxy: its `host:port`, and the `host:port`s it was asked for."""

    def __init__(self) -> None:
        self.address = ""
        self.targets: list[str] = []
        self.tasks: set[asyncio.Task[None]] = set()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _join(near: Pair, far: Pair) -> None:
    await asyncio.gather(_pump(near[0], far[1]), _pump(far[0], near[1]))


async def _http(passed: Passed, near: Pair) -> None:
    """CONNECT makes a tunnel; any other request is forwarded unchanged, like its connection."""
    reader, writer = near
    head = await reader.readuntil(b"\r\n\r\n")
    method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode())
    if b"proxy-authorization: basic " + token.lower() not in head.lower():
        writer.write(b"HTTP/1.1 407 X\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        return
    host = target if method == "CONNECT" else target.split("/")[2]
    passed.targets.append(host)
    name, _, port = host.partition(":")
    far = await asyncio.open_connection("127.0.0.1" if name == "upstream.invalid" else name, port)
    if method == "CONNECT":
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    else:
        path = "/" + target.split("/", 3)[3]
        far[1].write(head.replace(target.encode(), path.encode(), 1))
    await _join(near, far)


async def _socks(passed: Passed, near: Pair) -> None:
    reader, writer = near
    _, methods = await reader.readexactly(2)
    assert 2 in await reader.readexactly(methods)
    writer.write(b"\x05\x02")
    _, size = await reader.readexactly(2)
    user = await reader.readexactly(size)
    password = await reader.readexactly((await reader.readexactly(1))[0])
    good = (user.decode(), password.decode()) == (USER, PASSWORD)
    writer.write(b"\x01\x00" if good else b"\x01\x01")
    if not good:
        writer.close()
        return
    *_, kind = await reader.readexactly(4)
    if kind == 3:
        name = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
    else:
        name = ".".join(map(str, await reader.readexactly(4)))
    (port,) = struct.unpack(">H", await reader.readexactly(2))
    passed.targets.append(f"{name}:{port}")
    far = await asyncio.open_connection("127.0.0.1" if name == "upstream.invalid" else name, port)
    writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
    await _join(near, far)


@asynccontextmanager
async def proxy(scheme: str) -> AsyncIterator[Passed]:
    """A proxy of one kind. `upstream.invalid` is a name that it alone can look up."""
    passed = Passed()
    serve: Callable[[Passed, Pair], Awaitable[None]] = _http if scheme == "http" else _socks

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        passed.tasks.add(task)
        try:
            await serve(passed, (reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    passed.address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield passed
    finally:
        listener.close()
        if passed.tasks:
            _, waiting = await asyncio.wait(passed.tasks, timeout=1.0)
            for task in waiting:
                task.cancel()
