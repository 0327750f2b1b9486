"""Traces that are off, and jobs of roles that know nothing of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import settings
from runtime import tracing
from wire import VERSION
from wire.jobs import ChatJob, Message, RelayedJob, decode_job, encode_job

ROOT = Path(tracing.__file__).parents[1]
CHAT = ChatJob(VERSION, "job", "gpt_4_s", "bearer", [Message("user", "hi")], trace="00-1-2-01")
RELAYED = RelayedJob(VERSION, "job", "embeddings", "m", "key", b"{}", trace="00-1-2-01")


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "True"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_standard_variables_turn_traces_on(environ: dict[str, str], wanted: bool) -> None:
    assert tracing.is_wanted(environ) is wanted


def test_nothing_of_opentelemetry_is_imported_while_traces_are_off() -> None:
    code = (
        "import sys, settings, app.front_end, workers.__main__; from runtime import tracing;"
        "tracing.start(settings.Trace(), 'worker'); tracing.stop();"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, check=True, timeout=120)


def test_a_role_without_the_packages_says_which_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "runtime.otel", None)
    tracing.start(settings.Trace(), "worker")
    assert "requirements-otel.lock" in caplog.text
    assert tracing.root("request") is tracing.NOTHING


def test_spans_that_are_not_recorded_cost_nothing_and_propagate_nothing() -> None:
    with tracing.within("upstream", "client") as span:
        assert span is tracing.NOTHING
        assert tracing.headers() == {}
    assert span.trace == ""


@pytest.mark.parametrize("job", [CHAT, RELAYED])
def test_the_trace_of_a_job_is_missing_in_older_ones_and_ignored_by_older_roles(
    job: ChatJob | RelayedJob,
) -> None:
    assert decode_job(encode_job(job)) == job
    fields = msgspec.msgpack.decode(encode_job(job))
    older = msgspec.structs.replace(job, trace="")
    assert decode_job(msgspec.msgpack.encode(fields[:-1])) == older
    newer = msgspec.msgpack.encode([*fields, "of a release to come"])
    assert decode_job(newer) == job
