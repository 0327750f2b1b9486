"""`python -m local` as a person uses it: a real process, its output, its signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import httpx
import openai
import psutil
import pytest

from local import llama
from local.redis import EmbeddedRedis, free_port
from local.upstreams import LLAMA_ANSWER
from runtime import children

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0

READY = "Ctrl-C stops it."  # the last line before it keeps serving


class Run:
    """One `make run`. Its output is read to the end, so that it never waits for us."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        self.port = int(environ.get("GATEWAY__SERVER__PORT") or free_port())
        self.printed = ""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local", *arguments],
            cwd=ROOT,
            env={
                **clean,
                "GATEWAY_SECRET": "the secret of this test",
                "GATEWAY__LOG__TO_FILE": "false",
                "GATEWAY__SERVER__HOST": "127.0.0.1",
                "GATEWAY__SERVER__PORT": str(self.port),
                **environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._lines: Queue[str] = Queue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self._lines.put(line.decode())
        self._lines.put("")

    def wait_for(self, text: str) -> str:
        """All that was printed, up to and with the line that has `text` in it."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.printed:
            try:
                line = self._lines.get(timeout=deadline - time.monotonic())
            except (Empty, ValueError):
                pytest.fail(f"{text!r} did not come within {PATIENCE} s:\n{self.printed}")
            assert line, f"it ended without {text!r}:\n{self.printed}"
            self.printed += line
        return self.printed

    def wait_for_end(self) -> int:
        """Its exit status."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while line := self._lines.get_nowait():
            self.printed += line
        return status

    def children(self) -> dict[str, psutil.Process]:
        """Its child processes, by name."""
        found = {}
        for process in psutil.Process(self.process.pid).children(recursive=True):
            command = " ".join(process.cmdline())
            name = re.search(
                r"-m (app(?:\.front_end)?|workers|simulator|local\.llama)\b"
                r"|(redis-server|valkey-server)",
                command,
            )
            assert name, command
            found[name[1] or "redis"] = process
        return found

    def ask(self, prompt: str, while_streaming: Callable[[], None] = lambda: None) -> str:
        """The answer to a prompt, through the official client; something happens in the middle."""
        texts = []
        url = f"http://127.0.0.1:{self.port}/v1"
        with openai.OpenAI(base_url=url, api_key="a-key", max_retries=0) as client:
            for chunk in client.chat.completions.create(
                model="gpt-4-s", messages=[{"role": "user", "content": prompt}], stream=True
            ):
                if text := chunk.choices[0].delta.content:
                    texts.append(text)
                    if len(texts) == 1:
                        while_streaming()
        return "".join(texts)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)


def is_alive(process: psutil.Process) -> bool:
    try:
        # A zombie is dead, but not yet waited for by its new parent.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_gone(processes: Mapping[str, psutil.Process]) -> None:
    assert len(processes) == 5
    deadline = time.monotonic() + 30
    while alive := [name for name, process in processes.items() if is_alive(process)]:
        assert time.monotonic() < deadline, f"left behind: {alive}"
        time.sleep(0.01)  # no signal comes from a process that is not our child


def run_curl(printed: str) -> None:
    """Run the command that was printed, and expect a whole answer."""
    curl = re.search(r"^  curl (?:.*\\\n)+.*$", printed, re.MULTILINE)
    assert curl
    done = subprocess.run(["sh", "-c", curl[0]], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("data: [DONE]\n\n")


NAMES = ("interrupted", "hurried", "impatient", "terminated", "killed", "bereft")
FOR_EVER = str(10 * PATIENCE)
ENVIRONS = {
    "impatient": {
        "GATEWAY__SERVER__DRAIN_TIMEOUT": FOR_EVER,
        "GATEWAY__WORKERS__DRAIN_TIMEOUT": FOR_EVER,
    }
}


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[str, Run]]:
    """One gateway for every way to end it, once it is needed."""
    runs: dict[str, Run] = {}
    yield runs
    for run in runs.values():
        run.close()


def ready(runs: dict[str, Run], name: str) -> Run:
    """The gateway of this name; the next one starts meanwhile."""
    for each in NAMES[NAMES.index(name) :][:2]:
        if each not in runs:
            runs[each] = Run(**ENVIRONS.get(each, {}))
    runs[name].wait_for(READY)
    return runs[name]


@pytest.fixture
def gateway(runs: dict[str, Run]) -> Run:
    """One to talk to, which the first of those tests ends."""
    return ready(runs, "interrupted")


@pytest.fixture
def own(runs: dict[str, Run], request: pytest.FixtureRequest) -> Run:
    """The gateway that the test names with `ends`."""
    return ready(runs, request.param)


def ends(name: str) -> pytest.MarkDecorator:
    """Mark a test that ends the gateway of this name."""
    return pytest.mark.parametrize("own", [name], indirect=True, ids=[""])


def test_make_run_answers_a_sample_question_and_prints_what_to_do_next(gateway: Run) -> None:
    printed = gateway.printed
    assert "This is the simulator speaking" in printed
    assert f"The gateway serves http://127.0.0.1:{gateway.port}/v1" in printed
    assert "Answers come from a simulator" in printed
    assert "GATEWAY__UPSTREAM__BASE_URL=" in printed
    assert "INFO" not in printed
    assert "settling" not in printed, "its Redis is new, so that question need not wait"
    assert set(gateway.children()) == {"app", "app.front_end", "workers", "simulator", "redis"}


def test_the_printed_curl_command_works(gateway: Run) -> None:
    run_curl(gateway.printed)


def test_the_official_client_gets_an_answer(gateway: Run) -> None:
    assert gateway.ask("[[sim echo=1]] 你好, 世界") == "你好, 世界"


def test_a_port_in_use_is_reported_in_a_sentence(gateway: Run) -> None:
    second = Run(GATEWAY__SERVER__PORT=str(gateway.port))
    assert second.wait_for_end() == 1
    assert second.printed.strip().startswith(f"Port {gateway.port} is in use")
    assert "Traceback" not in second.printed


def test_an_unknown_setting_is_reported_in_a_sentence() -> None:
    run = Run(GATEWAY__QUEUE__MAX_WAITS="3")
    assert run.wait_for_end() == 1
    assert run.printed.startswith("environment: GATEWAY__QUEUE__MAX_WAITS: no such setting")


def test_with_a_configured_redis_and_upstream_make_run_starts_neither_and_asks_nothing() -> None:
    with EmbeddedRedis() as server:
        run = Run(
            GATEWAY__REDIS__URL=server.url,
            GATEWAY__UPSTREAM__BASE_URL="http://127.0.0.1:9",
            GATEWAY__UPSTREAM__API_PREFIX="prefix",
            GATEWAY__QUEUE__LEASE="60",
            GATEWAY__QUEUE__HEARTBEAT="20",
        )
        try:
            printed = run.wait_for(READY)
            assert "note: settling" in printed, "somebody may have emptied that Redis"
            assert "Bearer $KEY" in printed
            assert "you:" not in printed
            assert "simulator" not in printed
            assert set(run.children()) == {"app", "app.front_end", "workers"}
            run.process.send_signal(signal.SIGINT)
            assert run.wait_for_end() == 0
            assert server.process.poll() is None
        finally:
            run.close()


@pytest.mark.skipif(not llama.PYTHON.exists(), reason="`make test` installs it into .llama")
def test_make_run_starts_a_real_llama_server_if_asked() -> None:
    run = Run("--upstream", "llama")
    try:
        printed = run.wait_for(READY)
        assert f"tiny-llama: {LLAMA_ANSWER}" in printed
        assert "a real llama.cpp server" in printed
        assert set(run.children()) == {"app", "app.front_end", "workers", "local.llama", "redis"}
        run_curl(printed)
        running = run.children()
        run.process.send_signal(signal.SIGINT)
        assert run.wait_for_end() == 0
        assert_gone(running)
    finally:
        run.close()


def test_in_front_of_a_server_with_openais_api_its_first_model_is_asked() -> None:
    port = free_port()
    command = [sys.executable, "-m", "simulator", "--kind", "openai", "--models", "one,two"]
    server = children.spawn([*command, "--port", str(port)])
    run = Run(
        GATEWAY__UPSTREAM__KIND="openai",
        GATEWAY__UPSTREAM__BASE_URL=f"http://127.0.0.1:{port}/v1/",
    )
    try:
        printed = run.wait_for(READY)
        assert re.search(r"^one: \S", printed, re.MULTILINE)
        assert "Any key works" in printed
        assert set(run.children()) == {"app", "app.front_end", "workers", "redis"}
        run_curl(printed)
    finally:
        run.close()
        children.stop(server, 5.0)


def test_a_credential_is_open_to_gateway_keys_alone_which_the_printed_command_issues() -> None:
    run = Run(
        GATEWAY__SERVER__HOST="0.0.0.0",
        GATEWAY__UPSTREAM__KIND="openai",
        GATEWAY__UPSTREAM__BASE_URL="http://127.0.0.1:9",
        GATEWAY__UPSTREAM__CREDENTIAL="sk-hush",
    )
    try:
        printed = run.wait_for(READY)
        command = re.search(r"^  (GATEWAY__REDIS__URL=\S+ \S+ -m app keys new \S+)$", printed, re.M)
        assert command
        assert "note: no gateway key has been issued in this Redis" in printed
        words = ["env", *command[1].split()]
        issued = subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
        models = f"http://127.0.0.1:{run.port}/v1/models"
        for key, status in (("sk-1", 401), ("gw-1", 401), (issued.stdout.decode().strip(), 200)):
            answer = httpx.get(models, headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == status
    finally:
        run.close()


@ends("interrupted")
def test_ctrl_c_stops_everything_with_status_0(own: Run) -> None:
    children = own.children()
    own.process.send_signal(signal.SIGINT)
    assert own.wait_for_end() == 0
    assert_gone(children)


@ends("hurried")
def test_ctrl_c_ends_a_long_answer_with_an_error(own: Run) -> None:
    """It was cut after five seconds, so that its client could not know if it was whole."""
    with pytest.raises(openai.APIError, match="stopped before the answer finished"):
        own.ask(
            "[[sim words=2 gate=1]]",
            while_streaming=lambda: own.process.send_signal(signal.SIGINT),
        )
    assert own.wait_for_end() == 0


@ends("impatient")
def test_a_second_ctrl_c_does_not_wait_for_answers(own: Run) -> None:
    children = own.children()

    def stop() -> None:
        own.process.send_signal(signal.SIGINT)
        own.wait_for("Ctrl-C again stops at once")
        own.process.send_signal(signal.SIGINT)

    with pytest.raises((openai.APIError, httpx.TransportError)):
        own.ask("[[sim words=2 gate=1]]", while_streaming=stop)
    assert own.wait_for_end() == 0
    assert_gone(children)


@ends("terminated")
def test_sigterm_lets_an_answer_finish_first(own: Run) -> None:
    children = own.children()
    answer = own.ask(
        "[[sim words=40 interval=0.02]]",
        while_streaming=lambda: own.process.send_signal(signal.SIGTERM),
    )
    assert answer.split() == [f"w{n}" for n in range(40)]
    assert own.wait_for_end() == 0
    assert_gone(children)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere children can outlive a SIGKILL")
@ends("killed")
def test_a_sigkill_leaves_no_process_behind(own: Run) -> None:
    children = own.children()
    own.process.kill()
    assert own.wait_for_end() == -signal.SIGKILL
    assert_gone(children)


@ends("bereft")
def test_when_a_role_dies_make_run_names_it_and_stops_the_others(own: Run) -> None:
    children = own.children()
    children["workers"].kill()
    assert own.wait_for_end() == 1
    assert "the worker was killed by SIGKILL, so everything is stopped" in own.printed
    assert_gone(children)
