"""The commands of the units of systemd, under their environment and restrictions.

systemd does not run here; the kernel's own means are in its place (tests/support/confinement.py).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from openai import OpenAI

import settings
from local.redis import free_port
from runtime.children import spawn, stop
from tests.support.confinement import no_new_code, no_privileges, read_only
from tests.support.gateway import Gateway, make_old, status, until

DEPLOY = settings.HERE / "deploy"
ROOT = "/opt/pandora-line"
UNITS = ("gateway-app.service", "gateway-worker@.service")


def directives(unit: str, name: str) -> list[str]:
    return re.findall(rf"(?m)^{name}=(.*)$", (DEPLOY / unit).read_text())


class Machine:
    """A fresh machine on which the units were installed, with `/var` in a folder of its own."""

    def __init__(self, var: Path, etc: str, stack: ExitStack) -> None:
        self.var = var
        self.stack = stack
        self.etc = etc
        for unit in UNITS:
            for folder, parent in (("StateDirectory", "lib"), ("LogsDirectory", "log")):
                (made,) = directives(unit, folder)
                (var / parent / made).mkdir(parents=True, exist_ok=True)

    def start(self, unit: str) -> subprocess.Popen[bytes]:
        """Start a unit's command, as systemd would."""
        (command,) = directives(unit, "ExecStart")
        (folder,) = directives(unit, "WorkingDirectory")
        assert (folder, command.split()[0]) == (ROOT, f"{ROOT}/.venv/bin/python")
        confined = [*read_only(self.var), *no_privileges(), *no_new_code()]
        role = [sys.executable, *command.split()[1:]]
        enter = ["/bin/sh", "-c", 'umask 0027; cd "$0" && exec "$@"', str(settings.HERE)]
        with self.log(unit).open("wb") as output:
            child = spawn([*confined, *enter, *role], environ=self.environ(unit), output=output)
        self.stack.callback(stop, child, 10)
        return child

    def environ(self, unit: str) -> dict[str, str]:
        """The variables of a unit's processes: few of systemd's own, and those of its files."""
        shipped, own = directives(unit, "EnvironmentFile")
        assert own == "/etc/pandora-line.env"
        text = (settings.HERE / Path(shipped).relative_to(ROOT)).read_text()
        found = {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "USER": "gateway",
            "HOME": "/var/lib/gateway",
        }
        for line in (text + self.etc).splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.partition("=")
                found[name] = shlex.split(value)[0].replace("/var/", f"{self.var}/")
        return found

    def log(self, unit: str) -> Path:
        return self.var / f"{unit}.out"


def test_the_units_answer_with_a_state_directory_of_their_own_alone(directory: Path) -> None:
    port, var = free_port(), directory / "var"
    with Gateway(directory) as gateway, ExitStack() as stack:
        etc = f"""
GATEWAY__REDIS__URL={gateway.redis.url}
GATEWAY__UPSTREAM__BASE_URL={gateway.simulator}
GATEWAY__SERVER__PORT={port}
GATEWAY__LOG__TO_FILE=true
"""
        machine = Machine(var, etc, stack)
        front, worker = (machine.start(unit) for unit in UNITS)
        root = f"http://127.0.0.1:{port}"
        until(lambda: status(f"{root}/readyz") == 200, 60, "the gateway is not ready")
        make_old(gateway.redis.url)
        with OpenAI(base_url=f"{root}/v1", api_key="a-key", max_retries=0) as client:
            answer = client.chat.completions.create(
                model="gpt-4-s", messages=[{"role": "user", "content": "[[sim echo=1]] hello"}]
            )
        assert answer.choices[0].message.content == "hello"
        front.terminate()
        worker.terminate()
        assert (front.wait(60), worker.wait(60)) == (0, 0)
    secret = var / "lib/pandora-line/secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert "request_served" in (var / "log/pandora-line/access.log").read_text()
