"""deploy/ as far as it can be checked without a container engine; tests/e2e runs its commands."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import settings
from app.http.sockets import BACKLOG
from settings import loader
from settings.client_access import client_access

DEPLOY = settings.HERE / "deploy"


@pytest.mark.parametrize("name", ["compose.yaml", "llama.yaml", "nextchat.yaml"])
def test_the_compose_files_match_their_specification(name: str) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, str(DEPLOY / name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint has no package for this system")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_containers_see_nothing_of_the_checkout_but_their_settings() -> None:
    for name in ("compose.yaml", "nextchat.yaml"):
        services = YAML(typ="safe", pure=True).load(DEPLOY / name)["services"].values()
        mounts = [mount for service in services for mount in service.get("volumes", ())]
        assert {mount for mount in mounts if mount.startswith((".", "/"))} <= {
            "./settings:/settings:ro"
        }


def test_the_names_in_the_environment_files_are_settings() -> None:
    environ = examples("env.example")
    assert len(environ) > 4
    assert loader.load(environ).upstream.api_prefix == "/prefix"
    named = set()
    for path in [*DEPLOY.glob("*.service"), DEPLOY / "Dockerfile", *DEPLOY.glob("*.yaml")]:
        named |= set(re.findall(r"GATEWAY__\w+", path.read_text()))
    known = {f"GATEWAY__{name.replace('.', '__').upper()}" for name in loader.FIELDS}
    assert named - {"GATEWAY__SECTION__KEY"} <= known


def examples(name: str) -> dict[str, str]:
    """All variables of an environment file, also those that are commented out."""
    text = (DEPLOY / name).read_text()
    return dict(re.findall(r"^#?(GATEWAY_\w+)=(.*)$", text, re.MULTILINE))


def test_the_environment_file_for_openai_servers_has_all_that_a_front_end_needs() -> None:
    config = loader.load(examples("env.openai.example"))
    assert list(config.upstreams) == ["main", "gpu_b"]
    assert {upstream.kind for upstream in config.upstreams.values()} == {"openai"}
    assert config.upstream.has_credential
    assert not client_access(config).any_key


def test_systemd_finds_nothing_in_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("this system has no systemd-analyze")
    units = [tmp_path / path.name for path in DEPLOY.glob("gateway-*.*")]
    for unit in units:
        text = (DEPLOY / unit.name).read_text()
        # With the lines that are commented out, too; and it checks that the program exists.
        text = re.sub(r"(?m)^#(?=[A-Z]\w+=)", "", text)
        unit.write_text(text.replace("/opt/pandora-line/.venv/bin/python", sys.executable))
    done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_socket_unit_listens_where_the_settings_say() -> None:
    unit = (DEPLOY / "gateway-app.socket").read_text()
    server = settings.Server()
    assert re.findall(r"^ListenStream=(.*)$", unit, re.MULTILINE) == [
        f"{server.host}:{server.port}"
    ]
    assert re.findall(r"^Backlog=(.*)$", unit, re.MULTILINE) == [str(BACKLOG)]


def test_the_stop_timeout_of_a_role_exceeds_its_drain_timeout() -> None:
    front = settings.Server().drain_timeout
    worker = settings.Workers().drain_timeout + settings.Redis().outage_grace
    compose = re.findall(r"stop_grace_period: (\d+)s", (DEPLOY / "compose.yaml").read_text())
    units = [
        re.findall(r"TimeoutStopSec=(\d+)", (DEPLOY / name).read_text())[0]
        for name in ("gateway-app.service", "gateway-worker@.service")
    ]
    for front_given, worker_given in (compose, units):
        assert int(front_given) > front + 10  # app/supervisor.py kills after that
        assert int(worker_given) > worker
