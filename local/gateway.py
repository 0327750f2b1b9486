"""The processes of one gateway on this machine, from the start to the end."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import NoReturn

import aiohttp

import settings
from local import sample
from local.redis import EmbeddedRedis, EmbeddedRedisError
from local.role import TAIL, Role, indented
from local.terminal import LocalError, say
from runtime.tasks import first_of
from settings.redis_url import redis_url
from wire.line.scripts import note_new

START_TIMEOUT = 60.0
"""Seconds until everything has to be ready."""

HURRY = 5.0
"""Seconds that running answers get after Ctrl-C."""

LEEWAY = 5.0
"""Seconds that roles may take to end beyond the drain timeouts of the settings."""

FRONT_END, WORKER, SIMULATOR, REDIS = "front end", "worker", "simulator", "Redis"

_SIMULATOR_READY = re.compile(r"simulator ready on (\S+)")


class LocalGateway:
    """A front end, a worker, and the Redis and the upstream that the settings do not name.

    Roles learn by environment variables what was started, just as an operator would configure them.
    """

    def __init__(self, config: settings.Settings) -> None:
        self._config = config
        self._environ = dict(os.environ)
        self._redis: EmbeddedRedis | None = None
        self._roles: dict[str, Role] = {}
        self._url = config.server.local_url
        self._chat_url = f"{self._url}{config.server.api_prefix}/v1/chat/completions"

    async def serve(self) -> NoReturn:
        """Start everything, show that it works, and watch over it.

        Raises:
            LocalError: something did not start, or died.
        """
        _check_port(self._config.server.host, self._config.server.port)
        await first_of(self._watch(), self._serve())
        raise AssertionError("both run until something fails")

    async def _serve(self) -> None:
        begun = time.monotonic()
        await self._start_all(begun + START_TIMEOUT)
        names = [*([REDIS] if self._redis else []), *self._roles]
        say(f"starting {', '.join(names[:-1])} and {names[-1]}")
        await self._wait_until_ready(begun + START_TIMEOUT)
        say(f"ready after {time.monotonic() - begun:.1f} s")
        model = next(iter(self._config.models.names()), None)
        simulated = SIMULATOR in self._roles
        if simulated and model:
            await sample.ask(self._chat_url, model)
        say(sample.instructions(self._chat_url, model or "MODEL", simulated=simulated))
        await asyncio.Event().wait()

    async def _start_all(self, deadline: float) -> None:
        """Compose the gateway: each part gets the addresses of those before it."""
        if not self._config.redis.url:
            await self._start_redis()
        if not self._config.upstream.base_url:
            await self._start_simulator(deadline)
        await self._start(WORKER, "workers")
        await self._start(FRONT_END, "app")

    async def _start_redis(self) -> None:
        try:
            self._redis = EmbeddedRedis().__enter__()  # closed by `stop` or `kill`
        except EmbeddedRedisError as error:
            raise LocalError(str(error)) from None
        if self._redis.is_new:
            await note_new(redis_url(self._redis.url))
        self._environ["GATEWAY__REDIS__URL"] = self._redis.url

    async def _start_simulator(self, deadline: float) -> None:
        # Its caps are those that the settings assume of the upstream.
        limits = self._config.upstream
        simulator = await self._start(
            SIMULATOR,
            *("simulator", "--port", "0"),
            *("--max-active", str(max(64, limits.max_concurrency))),
            *("--per-account", str(limits.per_account_concurrency)),
            *("--per-pool", str(limits.per_pool_concurrency)),
        )
        ready = None
        while ready is None:
            if time.monotonic() > deadline:
                raise LocalError("the simulator did not start" + await simulator.last_words())
            await asyncio.sleep(0.02)
            ready = next(filter(None, map(_SIMULATOR_READY.fullmatch, simulator.tail)), None)
        self._environ["GATEWAY__UPSTREAM__BASE_URL"] = ready[1]
        self._environ["GATEWAY__UPSTREAM__API_PREFIX"] = ""

    async def _start(self, name: str, module: str, *arguments: str) -> Role:
        command = (sys.executable, "-m", module, *arguments)
        verbose = self._config.log.level == "DEBUG"
        role = await Role.start(name, *command, environ=self._environ, verbose=verbose)
        self._roles[name] = role
        return role

    async def _wait_until_ready(self, deadline: float) -> None:
        reasons = ["the front end does not answer"]
        timeout = aiohttp.ClientTimeout(total=2.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while time.monotonic() < deadline:
                with suppress(aiohttp.ClientError, TimeoutError, ValueError):
                    async with session.get(f"{self._url}/readyz") as response:
                        body = await response.json()
                        reasons = body["reasons"]
                        if response.status == 200:
                            for reason in reasons:
                                say(f"note: {reason}")
                            return
                await asyncio.sleep(0.05)
        message = f"not ready after {START_TIMEOUT:.0f} s: {'; '.join(reasons)}"
        for role in self._roles.values():
            if words := await role.last_words():
                message += f"\nLast output of the {role.name}:{words}"
        raise LocalError(message)

    async def _watch(self) -> NoReturn:
        """Raise LocalError when a process ends."""
        while True:
            if self._redis and (status := self._redis.process.poll()) is not None:
                log = (self._redis.directory / "redis.log").read_text(errors="replace")
                raise LocalError(_ended(REDIS, status, indented(log.splitlines()[-TAIL:])))
            for role in list(self._roles.values()):
                if role.status is not None:
                    words = await role.last_words()
                    raise LocalError(_ended(f"the {role.name}", role.status, words))
            await asyncio.sleep(0.1)

    async def stop(self, hurry: bool) -> None:
        """End everything in order. Answers that do not finish in time end with an error."""
        drains = self._config.server.drain_timeout, self._config.workers.drain_timeout
        until = time.monotonic() + (HURRY if hurry else max(drains) + LEEWAY)
        for name in (FRONT_END, WORKER, SIMULATOR):
            if role := self._roles.get(name):
                await role.stop(max(until - time.monotonic(), 1.0))
        if self._redis:
            await asyncio.to_thread(self._redis.close)

    async def kill(self) -> None:
        """End all remaining processes at once."""
        for role in self._roles.values():
            await role.kill()
        if self._redis:
            self._redis.kill()
            self._redis.close()


def _check_port(host: str, port: int) -> None:
    """Raise LocalError if the front end cannot listen; its own message is later and less plain."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise LocalError(
                f"Port {port} is in use, perhaps by another `make run`. Stop what uses it, or take"
                " another port: server.port in settings.local.toml, or GATEWAY__SERVER__PORT=..."
                " make run"
            ) from None
        raise LocalError(
            f"Cannot listen on {host} port {port} (server.host and server.port):"
            f" {(error.strerror or '').partition(' (')[0]}"
        ) from None


def _ended(name: str, status: int, last_words: str) -> str:
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended ({status})"
    output = f" Its last output:{last_words}" if last_words else ""
    return f"{name} {how}, so everything is stopped.{output}"
