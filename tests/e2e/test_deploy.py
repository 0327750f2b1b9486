"""The commands and files that deploy/ names, run unchanged and without a container engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

import pytest
import redis
from openai import OpenAI
from ruamel.yaml import YAML

import settings
from local.redis import find_server, free_port
from runtime.children import spawn, stop
from tests.support.confinement import read_only
from tests.support.gateway import make_old, status, until

DEPLOY = settings.HERE / "deploy"
COMPOSE = YAML(typ="safe", pure=True).load(DEPLOY / "compose.yaml")
SERVICES = COMPOSE["services"]


def final_stage() -> list[tuple[str, str]]:
    """The instructions of the image, each with its arguments in one line."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    text = text.replace("\\\n", " ")
    stage = re.split(r"^FROM .*\n", text, flags=re.MULTILINE)[-1]
    found = [line.partition(" ") for line in stage.splitlines() if line]
    return [(instruction, arguments.strip()) for instruction, _, arguments in found]


def copy_into(root: Path, mounted: Path) -> None:
    """Perform the COPY instructions of the image, and make its links into a mounted folder."""
    for instruction, arguments in final_stage():
        for name in re.findall(r"/settings/(\S+)", arguments) if instruction == "RUN" else ():
            (root / name).symlink_to(mounted / name)
        if instruction != "COPY" or arguments.startswith("--from"):
            continue
        *sources, to = arguments.split()
        for source in sources:
            path = settings.HERE / source
            if path.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(path, root / to, dirs_exist_ok=True, ignore=ignored)
            else:
                (root / to).mkdir(exist_ok=True)
                shutil.copy(path, root / to)


def image_environment() -> dict[str, str]:
    variables = " ".join(text for instruction, text in final_stage() if instruction == "ENV")
    return dict(part.split("=", 1) for part in shlex.split(variables))


def service_environment(
    name: str, env_file: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """The variables that compose.yaml sets for a service."""
    return {
        variable: interpolate(str(text), env_file)
        for variable, text in SERVICES[name].get("environment", {}).items()
    }


def interpolate(text: str, env_file: Mapping[str, str]) -> str:
    """Replace `${NAME:-default}` as compose does, by variables of .env."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: env_file.get(found[1], found[2]), text)


class Containers:
    """Processes in the places of the containers of compose.yaml, on this machine's own ports."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.image = directory / "gateway"
        self.data = directory / "data"
        self.settings = directory / "settings"
        self._directory = directory
        self._stack = stack
        self.port = free_port()
        for path in (self.image, self.data, self.settings):
            path.mkdir()
        copy_into(self.image, self.settings)
        self.read_only = read_only(self.data)
        self.environ = {
            name: text.replace("/data/", f"{self.data}/")
            for name, text in image_environment().items()
        } | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(self, name: str, *more: str, **environ: str) -> subprocess.Popen[bytes]:
        """Start the command of a service; `more` and `environ` replace its network."""
        command = [*shlex.split(interpolate(SERVICES[name]["command"], {})), *more]
        return self.start(name, command, **service_environment(name) | environ)

    def start(self, name: str, command: list[str], **environ: str) -> subprocess.Popen[bytes]:
        program, *arguments = command
        enter = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(self.image)]
        if program == "redis-server":
            program = str(find_server())
        path = self._directory / f"{name}.log"
        with path.open("wb") as output:
            child = spawn(
                [*self.read_only, *enter, program, *arguments],
                environ={**self.environ, **environ},
                output=output,
            )
        self._stack.callback(stop, child, 10)
        return child

    def printed(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text()


@pytest.fixture
def containers(directory: Path) -> Iterator[Containers]:
    with ExitStack() as stack:
        yield Containers(directory, stack)


def test_the_commands_of_the_compose_file_give_a_gateway_that_answers(
    containers: Containers,
) -> None:
    redis_port = free_port()
    containers.run("redis", "--port", str(redis_port), "--dir", str(containers.data))
    containers.run("simulator", "--host", "127.0.0.1", "--port", "0")
    found = until(
        lambda: re.search(r"ready on (http://\S+)", containers.printed("simulator")), 20, "none"
    )
    url = service_environment("app")["GATEWAY__REDIS__URL"].replace(
        "redis:6379", f"127.0.0.1:{redis_port}"
    )
    network = {
        "GATEWAY__REDIS__URL": url,
        "GATEWAY__UPSTREAM__BASE_URL": found[1],
        "GATEWAY__SERVER__PORT": str(containers.port),
        "GATEWAY__ADMIN__PORT": str(free_port()),
        "GATEWAY__ADMIN__PASSWORD": "a-password",
    }
    with redis.Redis.from_url(url) as client:
        until(lambda: _answers(client), 60, "Redis does not answer")
        assert client.config_get("appendonly") == {"appendonly": "yes"}
    (containers.settings / "settings.local.toml").write_text('[models]\ngpt_4_s = ["our-gpt"]\n')
    front = containers.run("app", **network)
    worker = containers.run("worker", **network)
    root = f"http://127.0.0.1:{containers.port}"
    until(
        lambda: status(f"{root}/readyz") == 200,
        20,
        f"not ready: {containers.printed('app')} {containers.printed('worker')}",
    )
    make_old(url)
    with OpenAI(base_url=f"{root}/v1", api_key="a-key", max_retries=0) as openai:
        answer = openai.chat.completions.create(
            model="gpt-4-s", messages=[{"role": "user", "content": "[[sim echo=1]] hello"}]
        )
        assert "our-gpt" in [model.id for model in openai.models.list()]
    assert answer.choices[0].message.content == "hello"
    # The page of operators has its style and script, at a port of its own.
    admin = f"http://127.0.0.1:{network['GATEWAY__ADMIN__PORT']}"
    page = fetch(f"{admin}/admin/login")
    assets = re.findall(r'"(/admin/assets/\S+)"', page)
    assert assets
    assert all(fetch(f"{admin}{path}") for path in assets)
    assert status(f"{root}/admin/login") == 404
    # Nothing can be written but to the volume, and there the secret that both share.
    if containers.read_only:
        assert containers.start("touch", ["touch", "a-file"]).wait(60) != 0
    assert [path.name for path in containers.data.iterdir() if path.is_file()].count("secret") == 1
    assert not list(containers.image.rglob("*.log"))

    (check,) = (text for instruction, text in final_stage() if instruction == "HEALTHCHECK")
    health = json.loads(check.partition("CMD ")[2])
    assert containers.start("health", health, **network).wait(60) == 0
    front.send_signal(signal.SIGTERM)
    worker.send_signal(signal.SIGTERM)
    assert (front.wait(60), worker.wait(20)) == (0, 0)
    assert containers.start("health", health, **network).wait(60) == 1


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_image_units_and_compose_file_start_the_roles_by_the_same_commands() -> None:
    commands = {SERVICES[name]["command"] for name in ("app", "worker")}
    (default,) = (text for instruction, text in final_stage() if instruction == "CMD")
    assert " ".join(json.loads(default)) == SERVICES["app"]["command"]
    units = {
        re.sub(r"^ExecStart=\S+/", "", line)
        for path in DEPLOY.glob("*.service")
        for line in path.read_text().splitlines()
        if line.startswith("ExecStart=")
    }
    assert units == commands


def test_dot_env_overrides_what_the_compose_file_sets() -> None:
    """compose prefers `environment` to `env_file`, so it must pass on what .env says."""
    own = {"GATEWAY__REDIS__URL": "redis://elsewhere/3", "GATEWAY__SERVER__PORT": "8080"}
    for name in ("app", "worker"):
        assert service_environment(name, own)["GATEWAY__REDIS__URL"] == "redis://elsewhere/3"
    # Of this machine; the port within the container is the same for every reader of these files.
    inside = service_environment("app", own)["GATEWAY__SERVER__PORT"]
    admin, port = SERVICES["app"]["ports"]
    assert interpolate(admin["host_ip"], own) == "127.0.0.1"
    assert (interpolate(port["published"], own), inside) == ("8080", str(port["target"]))
    assert interpolate(port["published"], {}) == str(settings.Server().port)
    command = SERVICES["redis"]["command"]
    assert "--maxmemory 4gb" in interpolate(command, {"REDIS_MAXMEMORY": "4gb"})


def test_the_image_can_migrate_the_predecessors_files(containers: Containers) -> None:
    (containers.data / "config.json").write_text('{"log_level": "ERROR"}')
    command = ["python", "-m", "settings.migrate", f"{containers.data}/config.json"]
    tmpfs = {"TMPDIR": str(containers.data)}  # in the place of /tmp
    done = containers.start("migrate", [*command, "--to", str(containers.data)], **tmpfs)
    assert done.wait(60) == 0, containers.printed("migrate")
    assert 'level = "ERROR"' in (containers.data / "settings.local.toml").read_text()
