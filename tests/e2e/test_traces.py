"""Traces and a log in JSON of real processes, from a request to the stop of both roles."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import httpx
import pytest

from tests.support.collector import collecting
from tests.support.gateway import Gateway
from tests.support.requests import BODY

BEARER = "sk-a-bearer-of-a-bot"
HEADERS = {"authorization": f"Bearer {BEARER}"}


def serve_one(directory: Path) -> None:
    """Answer one request; end when both roles have stopped by themselves."""
    with Gateway(directory, log__format="json") as gateway:
        gateway.start()
        url = f"{gateway.url}/v1/chat/completions"
        assert httpx.post(url, json=BODY, headers=HEADERS, timeout=60).status_code == 200
        for role in (*gateway.fronts, *gateway.workers):
            role.send_signal(signal.SIGTERM)
            assert role.wait(60) == 0


async def test_the_last_spans_of_both_roles_are_sent_at_their_stop_and_each_line_is_json(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        await asyncio.to_thread(serve_one, tmp_path)
        spans = {span.name: span for span in collector.spans}
    assert spans.keys() == {"request", "wait", "attempt", "upstream"}
    assert len({span.trace_id for span in spans.values()}) == 1
    roles = {resource["gateway.role"]: resource["service.name"] for resource in collector.resources}
    assert roles == {"front_end": "mine", "worker": "mine"}
    written = (tmp_path / "log" / "access.log").read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    [served] = [line for line in lines if line.get("path") == "/v1/chat/completions"]
    assert served["trace"] == spans["request"].trace_id.hex()
    assert BEARER not in written + str(collector.spans)
