"""Gateways answer as their OpenAPI descriptions say, and a browser shows these."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support.gateway import ROOT, Gateway

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "missing_required_header",
)


def check(gateway: Gateway, directory: Path, *options: str) -> None:
    """Send the examples of the description, and every field's valid and invalid values.

    The same requests each time: none is random.
    """
    gateway.reset(words=3, delay=0.0, interval=0.0)
    ran = subprocess.run(
        [
            *(SCHEMATHESIS, "run", f"{gateway.url}/openapi.json", "--no-color"),
            *("--header", "Authorization: Bearer bearer-of-schemathesis"),
            *("--checks", ",".join(CHECKS), "--phases", "examples,coverage"),
            *("--generation-deterministic", "--request-timeout", "60", *options),
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.support.conformance_hooks",
        },
        cwd=directory,
        capture_output=True,
        text=True,
    )
    gateway.reset()
    assert ran.returncode == 0, ran.stdout[:20_000] + ran.stderr[-5_000:]
    assert " 0 generated" not in ran.stdout


def test_a_gateway_in_front_of_pandora_conforms_to_its_description(
    gateway: Gateway, tmp_path: Path
) -> None:
    # The bodies of `count_tokens` are those of `messages`.
    check(gateway, tmp_path, "--exclude-path", "/v1/messages/count_tokens")


def test_a_gateway_in_front_of_an_openai_server_conforms_to_its_description(
    relaying_gateway: Gateway, tmp_path: Path
) -> None:
    check(relaying_gateway, tmp_path)


CHROMIUM = shutil.which("chromium") or ""


@pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on PATH")
def test_a_browser_shows_the_page_in_its_style_on_a_phone(gateway: Gateway, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    ran = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"),
            *("--blink-settings=preferredColorScheme=0", "--window-size=500,900"),
            *(f"--screenshot={picture}", f"{gateway.url}/docs"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "CONSOLE" not in ran.stderr, "the browser refused a part of it"
    with Image.open(picture) as shown:
        assert shown.convert("RGB").tobytes()[:3] == b"\x0d\x11\x17", "not the dark style"
        assert len(shown.getcolors(100_000) or []) > 10, "nothing is written"
