"""The expressions of the dashboard and the rules in deploy/, and what they name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from ruamel.yaml import YAML

import settings

PROMETHEUS = settings.HERE / "deploy" / "prometheus"
DASHBOARD = settings.HERE / "deploy" / "grafana" / "pandora-line.json"

OWN = {"job", "instance", "le"}
"""Labels that Prometheus adds itself, and that of buckets."""


def load_yaml(text: str) -> Any:
    """Read a YAML file."""
    return YAML(typ="safe", pure=True).load(text)


def rules() -> list[dict[str, Any]]:
    """All rules, recording ones and alerts."""
    groups = load_yaml((PROMETHEUS / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """The alerts alone."""
    return [rule for rule in rules() if "alert" in rule]


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard that show something."""
    found = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def of_panels() -> Iterator[str]:
    """The expressions of the dashboard, as Prometheus gets them."""
    for panel in panels():
        for target in panel["targets"]:
            yield re.sub(r"\$__\w+", "5m", target["expr"]).replace("$job", "pandora-line")


def expressions() -> list[str]:
    """All expressions of dashboard and rules."""
    return [*of_panels(), *(rule["expr"] for rule in rules())]


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """The metrics of the gateway that an expression names, each with its labels in braces."""
    found = re.findall(r"\b(gateway_\w+)(?:\{([^}]*)\})?", expression)
    return [(name, set(re.findall(r"(\w+)\s*(?:=|!)", labels))) for name, labels in found]


def grouped(expression: str) -> set[str]:
    """The labels by which an expression groups."""
    found = re.findall(r"\bby \(([^)]*)\)", expression)
    return {label.strip() for labels in found for label in labels.split(",")}


def promtool() -> str:
    """Path of promtool; without it the test is skipped."""
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is missing: it is in Debian's package `prometheus`")
    return path
