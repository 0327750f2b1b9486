"""Counters, their hash in Redis, and their exposition to Prometheus."""

from __future__ import annotations

import math
import re
from typing import get_args

import pytest
from msgspec.structs import replace
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from app.key_metrics import key_metrics
from app.metrics import (
    OPEN_METRICS,
    Families,
    constant_metrics,
    counted_metrics,
    state_metrics,
    upstream_metrics,
)
from app.process_metrics import labels as process_labels
from app.process_metrics import process_metrics
from app.upstreams import UpstreamState
from settings import HERE
from wire.jobs import Sort
from wire.key_figures import KeyFigures, rest, unique_names
from wire.keyring import IssuedKey
from wire.line.metrics import COUNTERS, HISTOGRAMS, tally
from wire.line.processes import ProcessFigures
from wire.line.snapshot import Snapshot, SortSnapshot

SCRIPTS = HERE / "wire" / "line" / "scripts"

STORED = {
    b'gateway_jobs_total{lane="chat"}': b"12",
    b'gateway_endings_total{lane="chat",reason="done"}': b"7",
    b'gateway_endings_total{lane="chat",reason="upstream_error"}': b"2",
    b'gateway_wait_seconds_bucket{lane="chat",le="0.1"}': b"3",
    b'gateway_wait_seconds_bucket{lane="chat",le="5"}': b"2",
    b'gateway_wait_seconds_bucket{lane="chat",le="+Inf"}': b"1",
    b'gateway_wait_seconds_sum{lane="chat"}': b"1208.25",
}
SNAPSHOT = Snapshot(
    {"chat": SortSnapshot(9, 4, 3)},
    {"resting": 2, "parked": 1},
    workers=3,
    shared={"main": {"aside": 2, "ready": 3}},
    paused={"all": 1, "key": 0},
)


FRONT = ProcessFigures(
    id="aaaaaaaabbbbbbbb",
    role="front_end",
    host="h",
    pid=7,
    started=1.5e9,
    version=4,
    fingerprint="f",
    memory=10**8,
    lag=0.25,
    streams=3,
)
WORKER = replace(FRONT, id="ccccccccdddddddd", role="worker", jobs=2, max_jobs=10)
PROCESSES = [FRONT, WORKER]
KEYS = [
    KeyFigures(id="0123456789abcdef", name='my "bot"\\', requests=5, input_tokens=70, waiting=2),
    KeyFigures(id="passthrough", name="passthrough", requests=9, running=1),
]


def shown() -> list[Metric]:
    return [
        *constant_metrics(4, 300.0, redis_up=True),
        *state_metrics(SNAPSHOT),
        *upstream_metrics([UpstreamState("gpu")]),
        *counted_metrics(tally(STORED)),
        *key_metrics(KEYS, named=True),
        *process_metrics(PROCESSES, named=True),
    ]


def value(families: list[Metric], name: str, **labels: str) -> float:
    (found,) = (
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )
    return found


@pytest.mark.parametrize("accepted", ["", OPEN_METRICS])
def test_the_exposition_can_be_parsed_in_both_formats(accepted: str) -> None:
    encode, content_type = choose_encoder(accepted)
    assert ("openmetrics" in content_type) == bool(accepted)
    text = encode(Families(shown())).decode()
    families = list((parse_open_metrics if accepted else parse_text)(text))
    assert value(families, "gateway_redis_up") == 1
    assert value(families, "gateway_slots") == 4
    assert value(families, "gateway_waiting", lane="chat") == 9
    assert value(families, "gateway_running", lane="chat") == 4
    assert value(families, "gateway_leases", lane="chat") == 3
    assert value(families, "gateway_accounts", upstream="", state="parked") == 1
    assert value(families, "gateway_accounts", upstream="main", state="aside") == 2
    assert value(families, "gateway_workers") == 3
    assert value(families, "gateway_jobs_total", lane="chat") == 12
    assert value(families, "gateway_endings_total", lane="chat", reason="done") == 7
    name = "gateway_wait_seconds"
    for bound, number in (("0.1", 3), ("2.0", 3), ("5.0", 5), ("600.0", 5), ("+Inf", 6)):
        assert value(families, f"{name}_bucket", lane="chat", le=bound) == number
    assert value(families, f"{name}_count", lane="chat") == 6
    assert value(families, f"{name}_sum", lane="chat") == 1208.25
    assert value(families, "gateway_key_requests_total", key='my "bot"\\') == 5
    assert value(families, "gateway_key_tokens_total", key='my "bot"\\', direction="input") == 70
    front = {"process": "front_end-h-7", "role": "front_end"}
    assert value(families, "gateway_process_resident_memory_bytes", **front) == 1e8
    assert value(families, "gateway_process_open_requests", **front) == 3


def test_every_metric_has_a_help_text_and_a_type() -> None:
    text = choose_encoder("")[0](Families(shown())).decode()
    helps = re.findall(r"^# HELP (\w+) (\S.*)$", text, re.MULTILINE)
    types = re.findall(r"^# TYPE (\w+) (counter|gauge|histogram)$", text, re.MULTILINE)
    assert [name for name, _ in helps] == [name for name, _ in types]
    kinds = dict(types)
    assert len(kinds) == len(types) == len(shown())
    for name in re.findall(r"^(\w+)[{ ]", text, re.MULTILINE):
        family = name if name in kinds else re.sub("_(bucket|count|sum)$", "", name)
        assert family in kinds
        assert family.startswith("gateway_")
        assert family.endswith("_total") == (kinds[family] == "counter")


def test_without_a_token_neither_names_of_keys_nor_hosts_are_shown() -> None:
    families = [*key_metrics(KEYS, named=False), *process_metrics(PROCESSES, named=False)]
    found = {
        labels.get("key") or labels["process"]
        for family in families
        for _, labels, *_ in family.samples
    }
    assert found == {"01234567", "passthrough", "front_end-aaaaaaaa", "worker-cccccccc"}


def test_processes_with_one_host_and_number_have_names_of_their_own() -> None:
    """In containers with the host's network, each process has the number 1."""
    twin = replace(FRONT, id="eeeeeeeeffffffff")
    assert process_labels([FRONT, twin, WORKER], named=True) == [
        "front_end-h-7-aaaaaaaa",
        "front_end-h-7-eeeeeeee",
        "worker-h-7",
    ]


def test_keys_of_one_name_or_of_that_of_a_group_have_names_of_their_own() -> None:
    records = [
        IssuedKey(id=f"{n:016x}", sha256="0" * 64, name=name, created=n)
        for n, name in enumerate(["bot", "bot", "other"])
    ]
    names = unique_names([*(each.id for each in records), "fedcba9876543210"], records)
    assert list(names.values()) == ["bot", "bot (00000000)", "other (00000000)", "fedcba98"]


def test_jobs_that_are_of_no_counted_key_are_the_rest() -> None:
    assert rest(SNAPSHOT, [(2, 1), (3, 0)]) == (4, 3)
    assert rest(SNAPSHOT, [(20, 9)]) == (0, 0)


def test_counters_without_events_are_shown_as_zero() -> None:
    families = list(counted_metrics(tally({})))
    assert value(families, "gateway_refusals_total", lane="chat", reason="queue_full") == 0
    assert value(families, "gateway_wait_seconds_count", lane="chat") == 0
    for lane in get_args(Sort):
        for reason in dict(COUNTERS[4].labels)["reason"]:
            assert value(families, "gateway_endings_total", lane=lane, reason=reason) == 0


def test_an_undeclared_label_value_is_counted_as_other() -> None:
    stored = {
        b'gateway_endings_total{lane="chat",reason="eyjhbgci"}': b"2",
        b'gateway_endings_total{lane="chat",reason="other"}': b"3",
        b'gateway_wait_seconds_bucket{lane="elsewhere",le="5"}': b"1",
        b'gateway_wait_seconds_sum{lane="elsewhere"}': b"4",
    }
    families = list(counted_metrics(tally(stored)))
    assert value(families, "gateway_endings_total", lane="chat", reason="other") == 5
    assert value(families, "gateway_wait_seconds_count", lane="other") == 1
    assert value(families, "gateway_wait_seconds_sum", lane="other") == 4
    assert "eyjhbgci" not in str(families)


def test_samples_of_another_version_are_omitted_or_put_into_the_next_bucket() -> None:
    stored = {
        b"gateway_of_tomorrow_total{}": b"1",
        b"nonsense": b"x",
        b'gateway_wait_seconds_bucket{lane="chat",le="7"}': b"2",
        b'gateway_wait_seconds_bucket{lane="chat",le="3600"}': b"1",
    }
    waits = tally(stored).histograms["gateway_wait_seconds"]["chat",]
    bounds = [*HISTOGRAMS[0].bounds, math.inf]
    assert {bounds[n]: count for n, count in enumerate(waits.buckets) if count} == {
        10: 2,
        math.inf: 1,
    }


def test_bounds_ascend_and_no_name_is_used_twice() -> None:
    names = [metric.name for metric in (*COUNTERS, *HISTOGRAMS)]
    assert len(set(names)) == len(names)
    for histogram in HISTOGRAMS:
        assert sorted(set(histogram.bounds)) == list(histogram.bounds)


def test_scripts_and_front_ends_count_only_what_is_declared() -> None:
    """With the same labels, and where they name a word, with a declared one."""
    declared = {metric.name: metric.labels for metric in (*COUNTERS, *HISTOGRAMS)}
    called = r"(?:count|observe)\(\s*'(\w+)',\s*(?:\{([^{}]*)\}|labels)"
    seen = set()
    for path in SCRIPTS.rglob("*.lua"):
        for name, labels in re.findall(called, path.read_text()):
            seen.add(name)
            assert name in declared, f"{path.name} counts {name}"
            given = dict(re.findall(r"(\w+) = ([^,]+)", labels))
            assert not given or given.keys() == declared[name].keys(), f"{path.name}: {name}"
            for label, words in declared[name].items():
                for word in re.findall(r"^'(\w+)'$", given.get(label, "").strip()):
                    assert word in words, f"{path.name}: {name}: {label} = {word}"
    for path in (HERE / "app").rglob("*.py"):
        seen.update(re.findall(r"tally\.count\(\s*\"(\w+)\"", path.read_text()))
    assert seen == declared.keys()


@pytest.mark.parametrize("name", ["docs/operating.md", "docs/operating.zh-CN.md"])
def test_the_manual_lists_every_metric_with_its_type_and_labels(name: str) -> None:
    table: dict[str, tuple[str, set[str]]] = {}
    for line in (HERE / name).read_text().splitlines():
        if line.startswith("| `gateway_"):
            names, kind, labels = line.split("|")[1:4]
            for metric in re.findall(r"`(\w+)`", names):
                table[metric] = kind.strip(), set(re.findall(r"`(\w+)`", labels))
    labelled: dict[str, tuple[str, set[str]]] = {}
    for family in shown():
        labels_of = {label for sample in family.samples for label in sample.labels} - {"le"}
        suffix = "_total" if family.type == "counter" else ""
        labelled[family.name + suffix] = family.type, labels_of
    assert table == labelled
