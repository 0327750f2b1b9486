"""Gateway keys, over three front ends: issued, used by official clients, and revoked."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import psutil
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from tests.support import monitoring
from tests.support.gateway import ROOT, Gateway, until

FRONTS = 3
DEADLINE = 1.0
"""Seconds after which a revoked key is refused everywhere."""


class Issuer:
    """Issues and revokes keys of a gateway, as its operator does. Remembers all of them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.issued: list[str] = []

    def new(self, *options: str) -> str:
        self.issued.append(self("new", f"bot-{len(self.issued)}", *options).removesuffix("\n"))
        return self.issued[-1]

    def revoke(self, key: str) -> None:
        self("revoke", f"bot-{self.issued.index(key)}")

    def __call__(self, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "app", "keys", *arguments],
            env=self._gateway.environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(
        tmp_path_factory.mktemp("gateway"),
        simulator=("--kind", "openai", "--models", "tiny", "--api-key", "canary-of-the-upstream"),
        auth__mode="keys",
        upstream__kind="openai",
        upstream__credential="canary-of-the-upstream",
        upstream__max_concurrency="1",
        metrics__token="canary-of-the-metrics",
        log__level="DEBUG",
    ) as gateway:
        yield gateway.start(fronts=FRONTS)


@pytest.fixture(scope="module")
def keys(gateway: Gateway) -> Issuer:
    return Issuer(gateway)


def client(gateway: Gateway, key: str, front: int = 0) -> openai.OpenAI:
    url = f"{gateway.urls[front]}/v1"
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60)


def ask(client: openai.OpenAI, prompt: str, model: str = "tiny") -> str:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}]
    )
    return answer.choices[0].message.content or ""


def stream(client: openai.OpenAI, prompt: str, model: str = "tiny") -> Iterator[str]:
    for chunk in client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], stream=True
    ):
        if text := chunk.choices[0].delta.content:
            yield text


def waiting(gateway: Gateway) -> int:
    with redis.Redis.from_url(gateway.redis.url) as client:
        return int(client.zcard("gateway:waiting:chat"))


def refusals(clients: list[openai.OpenAI], number: int) -> int:
    """Ask each front end that often; count the requests that are refused."""
    refused = 0
    for each in clients * number:
        try:
            each.models.list()
        except openai.AuthenticationError as error:
            refused += error.code == "invalid_api_key"
    return refused


def test_a_revoked_key_is_refused_everywhere_and_its_running_stream_finishes(
    gateway: Gateway, keys: Issuer
) -> None:
    key, other = keys.new(), keys.new()
    clients = [client(gateway, key, front) for front in range(FRONTS)]
    assert refusals(clients, 1) == 0
    running = stream(clients[0], "[[sim words=9 gate=1]]")
    said = next(running)
    with ThreadPoolExecutor() as pool:
        whole = pool.submit(ask, clients[1], "[[sim echo=1]] hi")
        streamed = pool.submit(list, stream(clients[2], "[[sim echo=1]] hi"))
        polite = pool.submit(ask, client(gateway, other), "[[sim echo=1]] polite")
        until(lambda: waiting(gateway) == 3, 30, "they do not wait")
        keys.revoke(key)
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            refusals(clients, 1)  # until then some may be accepted
            time.sleep(0.1)  # not more often, or the refusals are delayed
        assert refusals(clients, 3) == 3 * FRONTS
        for ended in (whole, streamed):
            with pytest.raises(openai.APIError, match="This API key has been revoked") as caught:
                ended.result(60)
            assert caught.value.code == "invalid_api_key"
        gateway.open_gate()
        assert len((said + "".join(running)).split()) == 9
        assert polite.result(60) == "polite"
    for each in clients:
        each.close()  # a front end that stops waits for open connections


def test_the_running_stream_of_a_revoked_key_ends_if_the_operator_wants_that(
    gateway: Gateway, keys: Issuer
) -> None:
    gateway.override(auth__on_revoke="end")
    for front in gateway.fronts:
        front.terminate()
    gateway.start(fronts=0)
    gateway.start(fronts=1).at_rest()
    key = keys.new()
    running = stream(client(gateway, key), "[[sim words=9 gate=1]]")
    next(running)
    keys.revoke(key)
    with pytest.raises(openai.APIError, match="This API key has been revoked"):
        list(running)
    gateway.wait_idle()  # and its conversation has been closed upstream


def test_official_clients_use_gateway_keys_on_accounts_of_pandora(tmp_path: Path) -> None:
    accounts = '["token-of-one one 1", "token-of-two two 1"]'
    with Gateway(tmp_path, auth__mode="keys", upstream__accounts=accounts) as pandora:
        pandora.start()
        keys = Issuer(pandora)
        allowed = keys.new("--models", "gpt-4")
        with client(pandora, allowed) as bot:
            assert [model.id for model in bot.models.list()] == ["gpt-4"]
            assert ask(bot, "[[sim echo=1]] hi", "gpt-4") == "hi"
            assert "".join(stream(bot, "[[sim echo=1]] hi", "gpt-4")) == "hi"
            with pytest.raises(openai.NotFoundError) as caught:
                ask(bot, "hi", "gpt-4-s")
            assert caught.value.code == "model_not_found"
        with client(pandora, "token-of-one") as own, pytest.raises(openai.AuthenticationError):
            ask(own, "hi", "gpt-4")


CANARIES = (
    "gw-canary-of-a-wrong-key",
    "canary-of-the-upstream",
    "canary-of-the-metrics",
    "canary-of-a-prompt",
    "canary-of-an-answer",
    "the secret of the tests",
)


def metrics_of(gateway: Gateway) -> str:
    bearer = {"authorization": "Bearer canary-of-the-metrics"}
    return httpx.get(f"{gateway.url}/metrics", headers=bearer).text


def test_a_real_gateway_shows_every_metric_and_label_of_the_dashboard_and_the_rules(
    gateway: Gateway, keys: Issuer
) -> None:
    assert ask(client(gateway, keys.new()), "[[sim echo=1]] hi") == "hi"
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics_of(gateway)):
        for name, of, *_ in family.samples:
            labels.setdefault(name, set()).update(of)
    for expression in monitoring.expressions():
        named = monitoring.selectors(expression)
        for name, selected in named:
            assert name in labels
            assert selected <= labels[name] | monitoring.OWN, name
        known = set().union(*(labels[name] for name, _ in named))
        assert not named or monitoring.grouped(expression) <= known | monitoring.OWN, expression


def test_promtool_finds_no_fault_in_the_metrics_of_a_real_gateway(gateway: Gateway) -> None:
    done = subprocess.run(
        [monitoring.promtool(), "check", "metrics"],
        input=metrics_of(gateway),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_secret_is_in_a_log_a_metric_an_error_a_process_title_or_redis(
    gateway: Gateway, keys: Issuer
) -> None:
    key = keys.new("--models", "tiny")
    shown = [keys("export"), failure(gateway, CANARIES[0])]
    gateway.reset(text="canary-of-an-answer")
    with client(gateway, key) as bot:
        assert ask(bot, "canary-of-a-prompt") == "canary-of-an-answer"
    shown.append(failure(gateway, key, "[[sim error=bad_request]] canary-of-a-prompt"))
    shown.append(failure(gateway, key, model="other"))
    metrics = httpx.get(
        f"{gateway.url}/metrics", headers={"authorization": "Bearer canary-of-the-metrics"}
    ).text
    titles = [
        process.cmdline()
        for role in (*gateway.fronts, *gateway.workers)
        for process in (psutil.Process(role.pid), *psutil.Process(role.pid).children())
    ]
    with redis.Redis.from_url(gateway.redis.url) as redis_client:
        dump = [redis_client.dump(name) or b"" for name in redis_client.scan_iter()]
    files = [*gateway.redis.directory.rglob("*"), *(gateway.directory / "log").rglob("*")]
    stored = [path.read_bytes() for path in files if path.is_file()]
    seen = "\n".join((repr(titles), metrics, gateway.printed(), *shown)).encode()
    for canary in (*keys.issued, *CANARIES):
        assert canary.encode() not in b"\n".join((seen, *dump, *stored)), canary
    assert "gateway_jobs_total" in metrics
    assert any(b"event=request_served" in content for content in stored)
    assert any(b"gateway:issued:" in content for content in stored)  # the log of Redis


def failure(gateway: Gateway, key: str, prompt: str = "", model: str = "tiny") -> str:
    """Ask a question that fails; return all that the client gets."""
    message = {"role": "user", "content": prompt}
    answer = httpx.post(
        f"{gateway.url}/v1/chat/completions",
        json={"model": model, "messages": [message]},
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
    )
    assert answer.status_code >= 400
    return f"{answer.headers} {answer.text}"
