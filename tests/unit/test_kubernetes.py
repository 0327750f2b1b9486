"""deploy/kubernetes as far as it can be checked without a cluster."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import settings
from settings import loader
from wire.line.board import Board

DEPLOY = settings.HERE / "deploy"
FOLDER = DEPLOY / "kubernetes"
MANIFESTS = sorted(
    path for path in FOLDER.rglob("*.yaml") if path.name not in ("kustomization.yaml", "names.yaml")
)
Manifest = dict[str, Any]


@cache
def read(path: Path) -> list[Manifest]:
    return list(YAML(typ="safe", pure=True).load_all(path))


def of_kind(kind: str) -> Iterator[Manifest]:
    for path in MANIFESTS:
        yield from (each for each in read(path) if each["kind"] == kind)


def deployment(name: str) -> Manifest:
    (found,) = (each for each in of_kind("Deployment") if each["metadata"]["name"] == name)
    return found


def pod_specs() -> list[Manifest]:
    owners = [*of_kind("Deployment"), *of_kind("StatefulSet")]
    return [owner["spec"]["template"]["spec"] for owner in owners]


def variables(name: str) -> dict[str, str]:
    """Variables of a file, also those that are commented out."""
    text = (FOLDER / name).read_text()
    return dict(re.findall(r"(?m)^#?(\w+)=(.*)$", text))


def config() -> settings.Settings:
    """The settings of the pods."""
    environ = variables("secret.env.example") | variables("gateway.env")
    return loader.load({name: value for name, value in environ.items() if value})


def seconds_before_stop(role: Manifest) -> int:
    (container,) = role["spec"]["template"]["spec"]["containers"]
    if "lifecycle" not in container:
        return 0
    program, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    return int(pause)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_each_manifest_has_the_fields_of_its_kind(path: Path) -> None:
    codecs = pytest.importorskip("lightkube.codecs", reason="lightkube is not installed")
    for manifest in read(path):
        if manifest["apiVersion"].startswith("keda.sh/"):
            continue
        found = codecs.from_dict(manifest)
        assert_kept(manifest, found.to_dict(), manifest["kind"])


def assert_kept(given: object, kept: object, place: str) -> None:
    """Fail if reading a manifest has dropped a field, since no such field is known."""
    match given, kept:
        case dict(), dict():
            for name, value in given.items():
                assert name in kept, f"{place} has no field {name}"
                assert_kept(value, kept[name], f"{place}.{name}")
        case list(), list():
            for one, other in zip(given, kept, strict=True):
                assert_kept(one, other, place)
        case _:
            assert given == kept, place


def test_every_manifest_is_part_of_a_kustomization() -> None:
    named = set()
    for path in FOLDER.rglob("kustomization.yaml"):
        # Those that are commented out, too.
        text = path.read_text().replace("# - ", "- ")
        resources = YAML(typ="safe", pure=True).load(text)["resources"]
        named |= {(path.parent / name).resolve() for name in resources}
    assert {path for path in named if path.is_file()} == set(MANIFESTS)
    assert all((path / "kustomization.yaml").exists() for path in named if path.is_dir())


def test_the_settings_and_secrets_are_settings_of_the_gateway() -> None:
    read = config()
    assert read.server.drain_timeout == read.workers.drain_timeout == read.upstream.max_duration


def test_a_pod_that_stops_has_the_time_for_its_last_answers() -> None:
    server, workers, redis = config().server, config().workers, config().redis
    front_end, worker = deployment("front-end"), deployment("worker")
    needed = {
        # app/supervisor.py kills front ends 10 s after their drain timeout.
        "front-end": seconds_before_stop(front_end) + server.drain_timeout + 15,
        "worker": workers.drain_timeout + redis.outage_grace + 10,
    }
    assert seconds_before_stop(front_end) >= 5
    for name, role in (("front-end", front_end), ("worker", worker)):
        given = role["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert needed[name] <= given < needed[name] + 30


def test_no_pod_has_a_privilege_or_variables_of_services() -> None:
    assert len(pod_specs()) == 3
    for spec in pod_specs():
        assert spec["enableServiceLinks"] is False
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_pods_run_the_commands_of_the_image_as_its_user_at_its_ports() -> None:
    image = (DEPLOY / "Dockerfile").read_text()
    (user,) = re.findall(r"(?m)^USER (\S+)$", image)
    (command,) = re.findall(r"(?m)^CMD (\[.*\])$", image)
    roles = [deployment(name)["spec"]["template"]["spec"] for name in ("front-end", "worker")]
    for spec in roles:
        context = spec["securityContext"]
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
    front_end, worker = (spec["containers"][0] for spec in roles)
    assert front_end["args"] == json.loads(command)
    assert worker["args"] == ["python", "-m", "workers"]
    ports = {port["name"]: port["containerPort"] for port in front_end["ports"]}
    assert ports == {"http": config().server.port, "operators": config().admin.port}


def test_probes_ask_for_the_life_of_a_front_end_and_its_readiness() -> None:
    (container,) = deployment("front-end")["spec"]["template"]["spec"]["containers"]
    asked = {
        probe: container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    # A front end that waits for Redis must not be restarted: it holds streams.
    assert set(asked.values()) == {"/healthz", "/readyz"}
    assert [probe for probe, path in asked.items() if path == "/readyz"] == ["readinessProbe"]


def test_selectors_of_all_kinds_select_pods() -> None:
    labels = [
        owner["spec"]["template"]["metadata"]["labels"]
        for owner in (*of_kind("Deployment"), *of_kind("StatefulSet"))
    ]
    selectors = [each["spec"]["selector"] for each in of_kind("Service")]
    selectors += [
        each["spec"]["selector"]["matchLabels"] for each in of_kind("PodDisruptionBudget")
    ]
    for selector in selectors:
        assert any(selector.items() <= given.items() for given in labels)


def test_the_number_of_workers_follows_figures_that_the_gateway_has() -> None:
    known = set(re.findall(r"gateway_\w+", (settings.HERE / "docs/operating.md").read_text()))
    triggers = [trigger for each in of_kind("ScaledObject") for trigger in each["spec"]["triggers"]]
    for trigger in triggers:
        metadata = trigger["metadata"]
        target = metadata.get("threshold") or metadata["targetValue"]
        assert int(target) == settings.Workers().max_jobs
        asked = set(re.findall(r"gateway_\w+", metadata.get("query", "")))
        assert asked <= known
        if trigger["type"] == "metrics-api":
            assert metadata["valueLocation"] in Board.__struct_fields__
    assert {trigger["type"] for trigger in triggers} == {"prometheus", "metrics-api"}


def test_workers_never_become_none() -> None:
    for each in of_kind("ScaledObject"):
        assert each["spec"]["minReplicaCount"] >= 1


def test_redis_keeps_every_key_and_writes_it_to_disk() -> None:
    (redis,) = of_kind("StatefulSet")
    arguments = " ".join(redis["spec"]["template"]["spec"]["containers"][0]["args"])
    for expected in ("--appendonly yes", "--maxmemory-policy noeviction", "--requirepass"):
        assert expected in arguments


def test_prometheus_reads_the_query_for_the_number_of_workers(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("this system has no promtool")
    triggers = [each for scaled in of_kind("ScaledObject") for each in scaled["spec"]["triggers"]]
    (query,) = (each["metadata"]["query"] for each in triggers if each["type"] == "prometheus")
    rule = {"record": "workers:jobs", "expr": query}
    path = tmp_path / "rules.json"  # which is YAML as well
    path.write_text(json.dumps({"groups": [{"name": "a", "rules": [rule]}]}))
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
