"""The processes of one gateway on this machine, from the start to the end."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import NoReturn

import aiohttp

import settings
from local import sample
from local.instructions import a_model, can_be_tried, for_operators, instructions
from local.redis import EmbeddedRedis, EmbeddedRedisError
from local.role import TAIL, Role, indented
from local.terminal import LocalError, say
from local.upstreams import LocalUpstream
from runtime.tasks import first_of
from settings.redis_url import redis_url
from wire.line.scripts import note_new

START_TIMEOUT = 60.0
"""Seconds until everything has to be ready."""

HURRY = 5.0
"""Seconds that running answers get after Ctrl-C."""

LEEWAY = 5.0
"""Seconds that roles may take to end beyond the drain timeouts of the settings."""

FRONT_END, WORKER, REDIS = "front end", "worker", "Redis"


class LocalGateway:
    """A front end, a worker, a Redis if the settings name none, and the given upstream, if any.

    Roles learn by environment variables what was started, just as an operator would configure them.
    """

    def __init__(self, config: settings.Settings, upstream: LocalUpstream | None) -> None:
        self._config = config
        self._upstream = upstream
        self._environ = dict(os.environ)
        self._password = "" if config.admin.is_on else secrets.token_urlsafe(12)
        if self._password:
            self._environ["GATEWAY__ADMIN__PASSWORD"] = self._password
        self._redis: EmbeddedRedis | None = None
        self._roles: dict[str, Role] = {}
        self._url = config.server.local_url
        self._api_url = f"{self._url}{config.server.api_prefix}/v1"

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
        model = await self._show_that_it_works()
        started = self._upstream.name if self._upstream else ""
        redis = self._redis.url if self._redis else ""
        say(instructions(self._api_url, model or "MODEL", self._config, started, redis))
        say(for_operators(self._config, self._password, redis))
        say("Ctrl-C stops it.")
        await asyncio.Event().wait()

    async def _show_that_it_works(self) -> str:
        """Ask a sample question, if any key will do; return a model that clients may use."""
        if not can_be_tried(self._config, self._upstream.name if self._upstream else ""):
            return a_model(self._config)
        model = await sample.first_model(self._api_url)
        if not model:
            say("note: there is no list of models, so no sample question is asked")
            return ""
        fields = self._upstream.question if self._upstream else {}
        try:
            await sample.ask(self._api_url, model, fields)
        except LocalError as error:
            if self._upstream:
                raise
            say(f"{error}\nnote: the gateway serves all the same")
        return model

    async def _start_all(self, deadline: float) -> None:
        """Compose the gateway: each part gets the addresses of those before it."""
        if not self._config.redis.url:
            await self._start_redis()
        if self._upstream:
            await self._start_upstream(self._upstream, deadline)
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

    async def _start_upstream(self, upstream: LocalUpstream, deadline: float) -> None:
        role = await self._start_command(upstream.name, *upstream.command)
        ready = None
        while ready is None:
            if time.monotonic() > deadline:
                raise LocalError(f"the {role.name} did not start" + await role.last_words())
            await asyncio.sleep(0.02)
            ready = next(filter(None, map(upstream.ready.fullmatch, role.tail)), None)
        self._environ |= {**upstream.environ, "GATEWAY__UPSTREAM__BASE_URL": ready[1]}

    async def _start(self, name: str, module: str) -> Role:
        return await self._start_command(name, sys.executable, "-m", module)

    async def _start_command(self, name: str, *command: str) -> Role:
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
        for role in reversed(self._roles.values()):  # the front end first
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
