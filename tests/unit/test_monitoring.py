"""deploy/prometheus and deploy/grafana, as far as they can be checked without a gateway."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import settings
from tests.support.monitoring import (
    DASHBOARD,
    PROMETHEUS,
    alerts,
    expressions,
    load_yaml,
    of_panels,
    panels,
    promtool,
    rules,
)

PAGES = ("docs/alerts.md", "docs/alerts.zh-CN.md")


def check(*arguments: str | Path) -> None:
    done = subprocess.run([promtool(), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_no_fault_in_the_configuration_and_the_rules() -> None:
    check("check", "config", PROMETHEUS / "prometheus.yml")
    check("check", "rules", "--lint-fatal", PROMETHEUS / "rules.yaml")


def test_each_trouble_raises_its_alert_and_a_busy_gateway_none() -> None:
    check("test", "rules", PROMETHEUS / "rules_test.yaml")
    tested = (PROMETHEUS / "rules_test.yaml").read_text()
    for rule in alerts():
        assert f'alertname="{rule["alert"]}"' in tested


def test_promtool_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    recorded = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(of_panels())]
    assert len(recorded) > 40
    with (tmp_path / "rules.yaml").open("w") as file:
        YAML().dump({"groups": [{"name": "dashboard", "rules": recorded}]}, file)
    check("check", "rules", tmp_path / "rules.yaml")


def test_every_expression_takes_one_of_the_equal_numbers_of_several_front_ends() -> None:
    for each in expressions():
        expr = " ".join(each.split()).replace("( ", "(")
        bare = re.sub(
            r"max by \([^)]*\) \((?:rate|increase)?\(?|max\((?:rate|increase)?\(?", "@", expr
        )
        for match in re.finditer(r"(.)\bgateway_", f" {bare}"):
            assert match[1] == "@" or "absent(" in expr, expr


def test_recorded_figures_that_alerts_use_are_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {name for expr in expressions() for name in re.findall(r"\bgateway:[\w:]+", expr)}
    assert used == recorded


def test_every_alert_says_how_bad_it_is_and_what_to_do_and_has_a_section_in_both_languages() -> (
    None
):
    for page in PAGES:
        text = (settings.HERE / page).read_text(encoding="utf-8")
        assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == [r["alert"] for r in alerts()]
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"].endswith(".")
        assert len(rule["annotations"]["description"].split()) > 10
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{rule['alert'].lower()}"


def test_a_fresh_grafana_finds_the_dashboard_and_its_data_source() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for panel in panels():
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    provisioning = DASHBOARD.parent / "provisioning"
    (source,) = load_yaml((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    (provider,) = load_yaml((provisioning / "dashboards/pandora-line.yaml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"] == "/etc/grafana/pandora-line"


@pytest.mark.parametrize("kind", ["timeseries", "stat", "heatmap", "table"])
def test_every_panel_says_what_it_shows_and_none_lies_on_another(kind: str) -> None:
    found = [panel for panel in panels() if panel["type"] == kind]
    assert found
    for panel in found:
        assert panel["title"]
        assert panel["description"].endswith(".")
    cells: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in cells, panel["title"]
                cells.add((x, y))
