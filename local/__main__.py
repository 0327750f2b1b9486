"""`make run`: the whole gateway in the foreground, until Ctrl-C.

A front end, a worker, and what they need: a Redis of our own unless `redis.url` names one, and the
simulator unless `upstream.base_url` names a server. The roles are told by environment what was
started, as an operator would tell them. Nothing is restarted: if one of them dies the rest is
stopped, so that whoever watches the terminal learns of it.

Ctrl-C stops the front end first, which lets its answers finish while worker, upstream and Redis
still live; then those. SIGTERM does the same, and gives the answers their full time.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shlex
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import suppress
from typing import NoReturn, TypeVar

import aiohttp

import settings
from local.redis import EmbeddedRedis, EmbeddedRedisError
from runtime import children
from settings.loader import load

T = TypeVar("T")

START_TIMEOUT = 60.0
"""Seconds until everything has to be ready."""

ANSWER_TIMEOUT = 60.0
"""Seconds for the answer to the sample question."""

HURRY = 5.0
"""Seconds that answers under way have left when somebody at the keyboard wants to stop."""

LEEWAY = 5.0
"""Seconds that the roles may take to end beyond the drain timeouts of the settings."""

TAIL = 10
"""How many of its last lines are shown when something is wrong with a role."""

SAMPLE_KEY = "any-key"
SAMPLE_QUESTION = "Hello! Who is speaking?"

FRONT_END, WORKER, SIMULATOR, REDIS = "front end", "worker", "simulator", "Redis"


class LocalError(Exception):
    """The gateway cannot start, or cannot go on; the message is for the person at the terminal."""


def main() -> None:
    """Read the settings and serve. The status is 0 after a signal, 1 after a failure."""
    try:
        config = load()
    except settings.SettingsError as error:
        sys.exit(str(error))
    sys.exit(asyncio.run(run(config)))


async def run(config: settings.Settings) -> int:
    """Serve until a signal comes or something fails, and leave no process behind."""
    told: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # nohup
        asyncio.get_running_loop().add_signal_handler(number, told.put_nowait, number)
    gateway = Local(config)
    hurry = True
    try:
        hurry = await _first(told.get(), gateway.serve()) is signal.SIGINT
        _say("\nstopping; Ctrl-C again stops at once" if hurry else "\nstopping")
        return 0
    except LocalError as error:
        _say(f"\n{error}")
        return 1
    finally:
        await _first(told.get(), gateway.stop(hurry))
        await gateway.kill()


class Role:
    """A child process. What it prints goes to the terminal under its name, if it matters.

    Records below WARNING do not, unless `everything` is asked for. `tail` has the last lines, shown
    or not.
    """

    def __init__(self, name: str, process: Process, everything: bool) -> None:
        self.name = name
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._process = process
        self._everything = everything
        self._relaying = asyncio.create_task(self._relay())

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.returncode

    async def _relay(self) -> None:
        shown = True
        async for line in _lines(self._process):
            self.tail.append(line)
            if _BEGINNING.match(line):
                shown = self._everything or not _MINOR.match(line)
            if shown:
                _say(f"{self.name:>9} | {line}")

    async def last_words(self) -> str:
        """What it printed last, indented; all of it if the process has ended."""
        if self.status is not None:
            await asyncio.wait([self._relaying], timeout=1.0)
        return "".join(f"\n    {line}" for line in self.tail)

    async def stop(self, timeout: float) -> None:
        """End it with SIGTERM, and after `timeout` seconds with SIGKILL."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), timeout)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it with SIGKILL."""
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            self._process.send_signal(number)


_SIMULATOR_READY = re.compile(r"simulator ready on (\S+)")

# The first line of a record (see runtime/logs.py); others go on with it, as tracebacks do.
_BEGINNING = re.compile(r"\d{4}-\d\d-\d\d \S+ [A-Z]+ |simulator ready")
_MINOR = re.compile(r"\S+ \S+ (DEBUG|INFO) |simulator ready")


async def _lines(process: Process) -> AsyncIterator[str]:
    assert process.stdout is not None  # noqa: S101 - it was started with a pipe
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:  # longer than the reader's limit: dropped, so that the role can go on
            continue
        if not line:
            return
        yield line.decode(errors="replace").rstrip()


class Local:
    """The processes of one gateway on this machine."""

    def __init__(self, config: settings.Settings) -> None:
        self._config = config
        self._environ = dict(os.environ)
        self._redis: EmbeddedRedis | None = None
        self._roles: dict[str, Role] = {}
        self._root = _root_url(config.server.host, config.server.port)

    # From nothing to serving

    async def serve(self) -> NoReturn:
        """Start everything, show that it works, and watch over it.

        Raises:
            LocalError: something did not start, or died.
        """
        _check_port(self._config.server.host, self._config.server.port)
        await _first(self._watch(), self._serve())
        raise AssertionError("both go on until something fails")

    async def _serve(self) -> None:
        begun = time.monotonic()
        deadline = begun + START_TIMEOUT
        if not self._config.redis.url:
            self._start_redis()
        if not self._config.upstream.base_url:
            await self._start_simulator(deadline)
        await self._start(WORKER, "-m", "workers")
        await self._start(FRONT_END, "-m", "app")
        started = [*([REDIS] if self._redis else []), *self._roles]
        _say(f"starting {', '.join(started[:-1])} and {started[-1]}")
        await self._wait_until_ready(deadline)
        _say(f"ready after {time.monotonic() - begun:.1f} s")
        model = next(iter(self._config.models.names()), None)
        if SIMULATOR in self._roles and model:
            await self._ask(model)
        _say(self._how_to_use(model or "MODEL"))
        await asyncio.Event().wait()

    def _start_redis(self) -> None:
        try:
            self._redis = EmbeddedRedis().__enter__()  # left by `stop` or `kill`
        except EmbeddedRedisError as error:
            raise LocalError(str(error)) from None
        self._environ["GATEWAY__REDIS__URL"] = self._redis.url

    async def _start_simulator(self, deadline: float) -> None:
        # It takes from an account what the settings say that an account takes.
        limits = self._config.upstream
        simulator = await self._start(
            SIMULATOR,
            *("-m", "simulator", "--port", "0"),
            *("--max-active", str(max(64, limits.max_concurrency))),
            *("--per-account", str(limits.per_account_concurrency)),
            *("--per-pool", str(limits.per_pool_concurrency)),
        )
        url = None
        while url is None:
            if time.monotonic() > deadline:
                raise LocalError("the simulator did not start" + await simulator.last_words())
            await asyncio.sleep(0.02)
            url = next(filter(None, map(_SIMULATOR_READY.fullmatch, simulator.tail)), None)
        self._environ["GATEWAY__UPSTREAM__BASE_URL"] = url[1]
        self._environ["GATEWAY__UPSTREAM__API_PREFIX"] = ""

    async def _start(self, name: str, *arguments: str) -> Role:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            env=self._environ,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
            preexec_fn=children.die_with_parent(),
        )
        role = Role(name, process, everything=self._config.log.level == "DEBUG")
        self._roles[name] = role
        return role

    async def _wait_until_ready(self, deadline: float) -> None:
        missing = ["the front end does not answer"]
        timeout = aiohttp.ClientTimeout(total=2.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while time.monotonic() < deadline:
                with suppress(aiohttp.ClientError, TimeoutError, ValueError):
                    async with session.get(f"{self._root}/readyz") as response:
                        body = await response.json()
                        missing = body["reasons"]
                        if response.status == 200:
                            for reason in missing:
                                _say(f"note: {reason}")
                            return
                await asyncio.sleep(0.05)
        message = f"not ready after {START_TIMEOUT:.0f} s: {'; '.join(missing)}"
        for role in self._roles.values():
            if words := await role.last_words():
                message += f"\nThe {role.name} said last:{words}"
        raise LocalError(message)

    async def _ask(self, model: str) -> None:
        """Ask the sample question as any client would, and print the answer as it comes."""
        _say(f"\nyou: {SAMPLE_QUESTION}\n{model}: ", end="")
        request = json.loads(_chat(model, SAMPLE_QUESTION))
        headers = {"authorization": f"Bearer {SAMPLE_KEY}"}
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT)
        try:
            async with (
                aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
                session.post(self._chat_url, json=request) as response,
            ):
                if response.status != 200:
                    raise LocalError(f"\nthe sample question failed: {await response.text()}")
                async for text in _texts(response):
                    _say(text, end="")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise LocalError(f"\nthe sample question failed: {type(error).__name__}") from None
        _say("")

    @property
    def _chat_url(self) -> str:
        return f"{self._root}{self._config.server.api_prefix}/v1/chat/completions"

    def _how_to_use(self, model: str) -> str:
        on_simulator = SIMULATOR in self._roles
        key = SAMPLE_KEY if on_simulator else "$KEY"
        lines = [
            "",
            f"The gateway serves {self._chat_url.removesuffix('/chat/completions')}. Try it:",
            "",
            f"  curl -N {self._chat_url} \\",
            f'    -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\',
            f"    -d {shlex.quote(_chat(model, 'Hello!'))}",
            "",
        ]
        if on_simulator:
            lines += [
                "Answers come from a simulator, no real model is asked. To use your Pandora-Next,",
                "set upstream.base_url and upstream.api_prefix in settings.toml, or start it so:",
                "",
                "  GATEWAY__UPSTREAM__BASE_URL=https://pandora.example.com \\",
                "    GATEWAY__UPSTREAM__API_PREFIX=its-proxy_api_prefix make run",
                "",
            ]
        else:
            lines += ["$KEY is a token that your Pandora-Next server accepts.", ""]
        return "\n".join([*lines, "Ctrl-C stops it."])

    # Watching, and the end

    async def _watch(self) -> NoReturn:
        while True:
            if self._redis and (status := self._redis.process.poll()) is not None:
                said = (self._redis.directory / "redis.log").read_text(errors="replace")
                tail = "".join(f"\n    {line}" for line in said.splitlines()[-TAIL:])
                raise LocalError(_ended(REDIS, status, tail))
            for role in list(self._roles.values()):
                if role.status is not None:
                    raise LocalError(
                        _ended(f"the {role.name}", role.status, await role.last_words())
                    )
            await asyncio.sleep(0.1)

    async def stop(self, hurry: bool) -> None:
        """End everything in order, and with SIGKILL what does not end in time."""
        drains = self._config.server.drain_timeout, self._config.workers.drain_timeout
        until = time.monotonic() + (HURRY if hurry else max(drains) + LEEWAY)
        for name in (FRONT_END, WORKER, SIMULATOR):
            if role := self._roles.get(name):
                await role.stop(max(until - time.monotonic(), 1.0))
        if self._redis:
            await asyncio.to_thread(self._redis.close)

    async def kill(self) -> None:
        """End at once whatever is left."""
        for role in self._roles.values():
            await role.kill()
        if self._redis:
            self._redis.kill()
            self._redis.close()


def _check_port(host: str, port: int) -> None:
    """Raises LocalError when the front end could not listen: it says so less plainly, and later."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise LocalError(
                f"Port {port} is in use, perhaps by another `make run`. Stop what uses it, or take"
                " another port: server.port in settings.toml, or GATEWAY__SERVER__PORT=... make run"
            ) from None
        raise LocalError(
            f"Cannot listen on {host} port {port} (server.host and server.port in settings.toml):"
            f" {(error.strerror or '').partition(' (')[0]}"
        ) from None


def _root_url(host: str, port: int) -> str:
    """Where this machine reaches a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - replaced
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _chat(model: str, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    return json.dumps({"model": model, "stream": True, "messages": messages}, ensure_ascii=False)


async def _texts(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """The pieces of a streamed answer. Raises LocalError if it does not come to its end."""
    async for line in response.content:
        data = line.removeprefix(b"data: ").strip()
        if data == line.strip():  # a comment, or the empty line between two messages
            continue
        if data == b"[DONE]":
            return
        chunk: Mapping[str, object] = json.loads(data)
        match chunk:
            case {"choices": [{"delta": {"content": str(text)}}]}:
                yield text
            case {"error": {"message": str(message)}}:
                raise LocalError(f"\nthe sample question failed: {message}")
    raise LocalError("\nthe answer to the sample question was cut off")


def _ended(name: str, status: int, last_words: str) -> str:
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended ({status})"
    said = f" It said last:{last_words}" if last_words else ""
    return f"{name} {how}, so everything is stopped.{said}"


async def _first(*awaited: Coroutine[object, object, T]) -> T:
    """What the first of them to end returns or raises; the others are cancelled."""
    tasks = [asyncio.create_task(each) for each in awaited]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _say(text: str, end: str = "\n") -> None:
    with suppress(OSError):  # nobody reads it any more: go on, and stop in order when told to
        print(text, end=end, flush=True)


if __name__ == "__main__":
    main()
