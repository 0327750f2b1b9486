"""deploy/ as far as it can be checked without a container engine; tests/e2e runs its commands."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
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
        own = [mount for mount in mounts if mount.startswith((".", "/"))]
        assert set(own) <= {
            "./settings:/settings:ro",
            "./prometheus:/etc/prometheus:ro",
            "./grafana:/etc/grafana/pandora-line:ro",
        }
        assert all((DEPLOY / mount.partition(":")[0]).is_dir() for mount in own)


def test_the_containers_of_the_gateway_have_no_privileges_and_a_read_only_root() -> None:
    services = YAML(typ="safe", pure=True).load(DEPLOY / "compose.yaml")["services"]
    for name in ("app", "worker", "simulator", "redis"):
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]


def copied() -> set[str]:
    """Names of the packages that the image has a copy of."""
    text = (DEPLOY / "Dockerfile").read_text()
    return {name.partition("/")[0] for name in re.findall(r"(?m)^COPY (\w+/)", text)}


def test_the_image_has_every_package_that_its_roles_import() -> None:
    """Late imports count, too, which a start does not show."""
    ours = {path.parent.name for path in settings.HERE.glob("*/__init__.py")}
    imported = {"app", "workers"}
    for package in copied():
        for path in (settings.HERE / package).rglob("*.py"):
            if package == "deploy" and path.name not in ("__init__.py", "health.py"):
                continue
            imported |= {name.partition(".")[0] for name in imports(path)}
    assert imported & ours <= copied()


def imports(path: Path) -> Iterator[str]:
    """Absolute names of the modules that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_the_build_gets_every_file_that_the_image_copies() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copies = re.findall(r"(?m)^COPY (?!--)(.*) \S+$", text)
    assert f"ARG LOCK={copies[0].split()[0]}" in text
    sources = {source.rstrip("/") for line in copies for source in line.split()}
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in sent if line.startswith("!")} == sources
    assert all((settings.HERE / source).exists() for source in sources)


def test_the_names_in_the_environment_files_are_settings() -> None:
    environ = examples(".env.example")
    assert len(environ) > 4
    assert loader.load(environ).upstream.api_prefix == "/prefix"
    named = set()
    files = (".env*", "*.env", "*.service", "Dockerfile", "*.yaml")
    for path in (path for pattern in files for path in DEPLOY.glob(pattern)):
        named |= set(re.findall(r"GATEWAY__\w+", path.read_text()))
    named = {name for name in named if not name.startswith("GATEWAY__UPSTREAMS__")}
    known = {f"GATEWAY__{name.replace('.', '__').upper()}" for name in loader.FIELDS}
    assert named - {"GATEWAY__SECTION__KEY"} <= known


def examples(name: str) -> dict[str, str]:
    """All variables of an environment file, also those that are commented out."""
    text = (DEPLOY / name).read_text()
    return dict(re.findall(r"^#?(GATEWAY_\w+)=(.*)$", text, re.MULTILINE))


def test_the_environment_file_for_openai_servers_has_all_that_a_front_end_needs() -> None:
    config = loader.load(examples(".env.openai.example"))
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


@pytest.mark.parametrize("name", ["gateway-app.service", "gateway-worker@.service"])
def test_systemd_rates_the_exposure_of_a_unit_below_4(name: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("this system has no systemd-analyze")
    unit = tmp_path / name.replace("@", "@1")
    unit.write_text((DEPLOY / name).read_text())
    limits = ["--offline=true", "--threshold=40", "--no-pager"]
    done = subprocess.run([analyze, "security", *limits, unit], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_the_units_run_as_the_user_that_is_made_for_them() -> None:
    (user,) = re.findall(r"(?m)^u (\S+)", (DEPLOY / "sysusers.conf").read_text())
    for path in DEPLOY.glob("*.service"):
        assert re.findall(r"(?m)^User=(.*)$", path.read_text()) == [user]


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
    compose = re.findall(r"stop_grace_period: \S+:-(\d+)s", (DEPLOY / "compose.yaml").read_text())
    units = [
        re.findall(r"TimeoutStopSec=(\d+)", (DEPLOY / name).read_text())[0]
        for name in ("gateway-app.service", "gateway-worker@.service")
    ]
    for front_given, worker_given in (compose, units):
        assert int(front_given) > front + 10  # app/supervisor.py kills after that
        assert int(worker_given) > worker
