"""The commands of the terminal with real roles: what they print, and their status."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.gateway import ROOT, Gateway, until

HELD = "[[sim words=3 gate=1]]"
"""A question whose answer ends once the simulator's gate opens."""


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A gateway with one slot, which asks for no key."""
    with Gateway(
        tmp_path_factory.mktemp("gateway"),
        simulator=("--kind", "openai", "--models", "tiny", "--api-key", "the-credential"),
        auth__open="true",
        upstream__kind="openai",
        upstream__credential="the-credential",
        upstream__max_concurrency="1",
        stream__grace="0.2",
        stream__keepalive_interval="0.3",
    ) as gateway:
        yield Terminal(gateway.start())


class Terminal:
    """Commands of `python -m app` as an operator of a gateway runs them."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._environ = gateway.environ | {"OPENAI_BASE_URL": f"{gateway.url}/v1"}
        self._environ.pop("OPENAI_API_KEY", None)

    def start(
        self,
        *arguments: str,
        tty: int | None = None,
        **environ: str,
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            env=self._environ | environ,
            cwd=ROOT,
            stdin=tty or subprocess.DEVNULL,
            stdout=tty or subprocess.PIPE,
            stderr=tty or subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """The status of a command, and its output and errors."""
        command = self.start(*arguments)
        output, errors = command.communicate(timeout=60)
        return command.returncode, output, errors

    def hold_the_slot(self) -> subprocess.Popen[str]:
        """Ask a question whose answer ends once the gate opens."""
        self.gateway.at_rest()
        asked = self.start("chat", HELD)
        until(lambda: self.gateway.stats()["active"] == 1, 30, "it is not answered")
        return asked


def ended(command: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = command.communicate(timeout=60)
    return command.returncode, output


def test_a_question_waits_visibly_and_its_answer_is_on_standard_output(terminal: Terminal) -> None:
    first = terminal.hold_the_slot()
    second = terminal.start("chat", "--model", "tiny", "[[sim echo=1]] hello")
    assert second.stderr
    assert second.stderr.readline().startswith("Waiting: next in line, ")
    status, output, _ = terminal.run("status")
    assert status == 0, output
    assert output.startswith("serving: 1 of 1 slots in use, 1 waiting, about ")
    assert output.endswith(" for a newcomer, workers 1, front ends 1\n")
    terminal.gateway.open_gate()
    assert ended(first)[0] == 0
    status, output = ended(second)
    assert status == 0
    assert output == "hello\n"


def test_ctrl_c_frees_the_slot(terminal: Terminal) -> None:
    asked = terminal.hold_the_slot()
    asked.send_signal(signal.SIGINT)
    _, errors = asked.communicate(timeout=60)
    assert (asked.returncode, errors) == (130, "Cancelled.\n")
    terminal.gateway.wait_idle()


def test_a_job_can_be_seen_and_cancelled_on_a_screen(terminal: Terminal) -> None:
    asked = terminal.hold_the_slot()
    with Screen(terminal) as screen:
        screen.wait_for("running")
        screen.press("c")
        screen.wait_for("Cancel the running job")
        screen.press("y")
        _, errors = asked.communicate(timeout=60)
        assert asked.returncode == 1
        assert errors.endswith("cancelled_by_operator)\n")
        assert screen.quit() == 0


class Screen:
    """`python -m app top` in a terminal of 80 by 24."""

    def __init__(self, terminal: Terminal) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        self.command = terminal.start("top", tty=theirs, TERM="xterm-256color")
        os.close(theirs)

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self.command.kill()
        self.command.communicate()
        os.close(self._ours)

    def press(self, key: str) -> None:
        os.write(self._ours, key.encode())

    def quit(self) -> int:
        """Press the key that ends it, and read until its end; return its status."""
        self.press("q")
        with suppress(OSError):  # as a terminal ends on Linux
            while os.read(self._ours, 65_536):
                pass
        return self.command.wait(60)

    def wait_for(self, text: str) -> None:
        """Read what is drawn until it has this text."""
        drawn, deadline = b"", time.monotonic() + 30
        while text.encode() not in drawn:
            assert time.monotonic() < deadline, drawn.decode(errors="replace")
            if select.select([self._ours], [], [], 1)[0]:
                drawn += os.read(self._ours, 65_536)


def test_errors_are_plain(terminal: Terminal) -> None:
    status, output, errors = terminal.run("chat", "--model", "nonsense", "hi")
    assert (status, output) == (1, "")
    assert errors.endswith("(HTTP 404, model_not_found)\n")
    status, output, errors = terminal.run("chat", "--url", "http://127.0.0.1:9/v1", "hi")
    assert (status, output) == (1, "")
    assert errors == "http://127.0.0.1:9/v1 cannot be reached: Connection refused.\n"
    assert terminal.run("chat", "")[::2] == (1, "The question is empty.\n")
