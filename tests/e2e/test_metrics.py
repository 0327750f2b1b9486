"""`GET /metrics`: one gateway, whichever of its front ends is asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial

import httpx
import pytest
import redis
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway import Gateway, serving, until

KEY = "sk-a-bearer-of-a-bot"
PROMPT = "a prompt that nobody else shall read"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two front ends on ports of their own; the second has two processes."""
    with Gateway(tmp_path_factory.mktemp("gateway")) as gateway:
        gateway.start_front()
        gateway.start_front(processes=2)
        gateway.start_worker()
        gateway.wait_ready()
        with redis.Redis.from_url(gateway.redis.url) as client:
            until(lambda: len(client.keys("gateway:front:*")) == 3, 60, "not all have come up")
            recorded = partial(client.hexists, "gateway:history", "before")
            until(lambda: bool(recorded()), 60, "no process records the history")
        yield gateway


def scrape(url: str) -> str:
    answer = httpx.get(f"{url}/metrics", timeout=30)
    assert answer.status_code == 200
    return answer.text


def gauges(text: str) -> Counter[str]:
    """Sum of each gauge over all its labels."""
    shown: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        if family.type == "gauge":
            for sample in family.samples:
                shown[sample.name] += sample.value  # type: ignore[assignment]  # counts of any kind
    return shown


def of_the_line(text: str) -> str:
    """All metrics but those of processes, which are renewed all the time."""
    return "".join(line for line in text.splitlines(True) if "gateway_process_" not in line)


def processes(text: str) -> Counter[str]:
    """Number of the processes of each role that are shown with a memory of a few megabytes."""
    shown: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            if name == "gateway_process_resident_memory_bytes" and value > 5e6:
                shown[labels["role"]] += 1
    return shown


def work(text: str) -> tuple[float, float]:
    """Requests that front ends are answering, and jobs that workers run, as the processes say."""
    shown = gauges(text)
    return shown["gateway_process_open_requests"], shown["gateway_process_running_jobs"]


def test_all_front_ends_show_the_same_numbers_and_no_secret(gateway: Gateway) -> None:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        stream = client.chat.completions.create(
            model="gpt-4-s",
            messages=[{"role": "user", "content": f"[[sim words=200 interval=0.05]] {PROMPT}"}],
            stream=True,
        )
        next(chunk for chunk in stream if chunk.choices[0].delta.content)  # no keep-alive
        under_way = gauges(scrape(gateway.urls[1]))
        assert under_way["gateway_running"] == under_way["gateway_leases"] == 1
        assert under_way["gateway_waiting"] == 0
        shown = scrape(gateway.urls[1])
        until(lambda: work(scrape(gateway.url)) == (1, 1), 60, "no process shows the answer")
        stream.close()
    until(lambda: gauges(scrape(gateway.url))["gateway_running"] == 0, 30, "its slot is not free")
    at_rest = {of_the_line(scrape(url)) for url in gateway.urls}
    for silent in serving(gateway.fronts[1]):
        silent.suspend()
        at_rest |= {of_the_line(scrape(gateway.urls[1]))}
        silent.resume()
    assert len(at_rest) == 1
    now = gauges(at_rest.pop())
    assert now["gateway_redis_up"] == now["gateway_workers"] == 1
    for url in gateway.urls:
        assert processes(scrape(url)) == {"front_end": 3, "worker": 1}
    for text in (shown, *map(scrape, gateway.urls)):
        assert KEY not in text
        assert PROMPT not in text
        assert not re.search(r"[0-9a-f]{16}", text), "an id, or an account"


def test_while_redis_is_unreachable_the_metrics_of_every_front_end_say_so(gateway: Gateway) -> None:
    gateway.redis.kill()
    for url in gateway.urls:
        away = gauges(scrape(url))
        assert away["gateway_redis_up"] == 0
        assert "gateway_waiting" not in away
    gateway.redis.start()

    def back() -> bool:
        return all(gauges(scrape(url))["gateway_redis_up"] == 1 for url in gateway.urls)

    until(back, 60, "Redis is back, and a front end has not noticed")
