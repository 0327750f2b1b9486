"""Memory that a large file takes on its way through; the figures are printed (`-s`)."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import random
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis
from openai import OpenAI

from tests.support.gateway import Gateway, held, serving, until, uploaded

SIZE = 80_000_000
LIMIT = 150 * 1024 * 1024
"""Bytes above idle that a worker may take."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def memory(pid: int, what: str) -> int:
    """`VmRSS` (now) or `VmHWM` (the most there has been) of a process, in bytes."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.fixture(scope="module")
def big() -> bytes:
    return random.Random(80).randbytes(SIZE)


@pytest.fixture
def site(big: bytes) -> Iterator[str]:
    class Big(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(SIZE))
            self.end_headers()
            self.wfile.write(big)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Big)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/big"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(
        tmp_path_factory.mktemp("gateway"), files__allow_networks='["127.0.0.0/8"]'
    ) as gateway:
        yield gateway.start()


def ask(gateway: Gateway, bearer: str, url: str, said: str) -> str:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=bearer, max_retries=0) as client:
        content = [{"type": "text", "text": said}, {"type": "image_url", "image_url": {"url": url}}]
        answer = client.chat.completions.create(
            model="gpt-4",
            messages=[{"role": "user", "content": content}],  # type: ignore[list-item,misc]
        )
    return answer.choices[0].message.content or ""


@pytest.fixture(scope="module")
def idle(gateway: Gateway) -> dict[int, int]:
    """Memory of worker and front end once everything is loaded that is loaded at first use."""
    ask(gateway, "first", "data:text/csv,a", "[[sim words=3]]")
    (worker,), (front,) = gateway.workers, serving(gateway.fronts[0])
    return {pid: memory(pid, "VmRSS") for pid in (worker.pid, front.pid)}


@pytest.mark.parametrize("by", ["data-url", "http-url"])
def test_a_file_of_80_mb_is_uploaded_and_downloaded_in_little_memory(
    gateway: Gateway, idle: dict[int, int], big: bytes, site: str, by: str
) -> None:
    data = base64.b64encode(big).decode() if by == "data-url" else ""
    url = f"data:application/octet-stream;base64,{data}" if data else site
    text = ask(gateway, by, url, f"[[sim tool=python link=/mnt/data/a.csv size={SIZE}]]")
    worker, front = (memory(pid, "VmHWM") - before for pid, before in idle.items())
    file, _made_upstream = [file for file in uploaded(gateway) if file["owner"] == by]
    assert file["sha256"] == hashlib.sha256(big).hexdigest()
    (link,) = re.findall(r"\((http://[^)]*/files/[^)]*)\)", text)
    with httpx.stream("GET", link) as answer:
        assert sum(len(piece) for piece in answer.iter_bytes()) == SIZE
    assert not held(gateway)
    mega = {"worker": worker / 1e6, "front end": front / 1e6}
    print(f"\n80 MB by {by}, and 80 MB back: MB above idle at most {mega}")
    assert worker < LIMIT


LARGE = 36_000_000
"""Bytes of a body."""

KEPT = 100 * 1024 * 1024
"""Bytes above idle that a front end may keep: the allocator's, more than those of requests."""


def lines(start: str, value: str, end: str) -> bytes:
    return (start + ",".join([value] * (LARGE // (len(value) + 1))) + end).encode()


ASKED = '{"model":"gpt-4","messages":[{"role":"user","content":'


def hostile() -> Iterator[bytes]:
    yield f'{ASKED}"a"}}],"user":"{"u" * LARGE}"}}'.encode()
    yield f'{ASKED}"a"}}],"service_tier":"{"u" * LARGE}"}}'.encode()
    yield lines(f'{ASKED}"a"}}],"modalities":[', '"ab"', "]}")
    yield lines(f'{ASKED}"a"}}],"tools":[', "{}", "]}")
    yield lines(f"{ASKED}[", '{"type":"text","text":"a"}', "]}]}")
    yield lines('{"model":"gpt-4","messages":[', '{"role":"user","content":[]}', "]}")


def test_requests_that_wait_are_counted_and_take_little_memory(
    gateway: Gateway, idle: dict[int, int]
) -> None:
    """Four that waited with 36 MB in `modalities` kept 2 GB, of which 556 bytes were counted."""
    (front,), key = serving(gateway.fronts[0]), {"authorization": "Bearer waiting"}
    url = f"{gateway.url}/v1/chat/completions"

    def send(body: bytes) -> int:
        return httpx.post(url, content=body, headers=key, timeout=200).status_code

    data = base64.b64encode(random.Random(36).randbytes(LARGE * 3 // 4)).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:a/b;base64,{data}"}}
    file = f"{ASKED}{json.dumps([part])}}}]}}".encode()
    words = f'{ASKED}"{"word " * 800_000}\U0001f600"}}]}}'.encode()
    with ThreadPoolExecutor(8) as pool, redis.Redis.from_url(gateway.redis.url) as line:
        held = pool.submit(send, f'{ASKED}"[[sim words=3 gate=1]]"}}]}}'.encode())
        until(lambda: gateway.stats()["active"] == 1, 30, "nothing runs")
        asked = [pool.submit(send, body) for body in (file, file, words, words)]
        assert {send(body) for body in hostile()} <= {400, 413}
        counted = 2 * LARGE * 3 // 4 + 2 * 4_000_000
        until(lambda: int(line.get("gateway:bytes") or 0) >= counted, 60, "they do not wait")
        kept = memory(front.pid, "VmRSS") - idle[front.pid]
        gateway.open_gate()
        assert {answer.result() for answer in (held, *asked)} == {200}
    print(f"\n{counted / 1e6} MB wait: {kept / 1e6} MB above idle")
    assert kept < KEPT


BODY = 8 * 1024 * 1024
CLIENTS = 12
BESIDES = 48 * 1024 * 1024
"""Bytes that do not grow with the bodies: buffers of sockets, of the store, of malloc."""


@pytest.mark.parametrize("of", ["a file", "words"])
def test_many_large_bodies_take_the_memory_of_a_few_and_do_not_delay_a_small_one(
    directory: Path, of: str
) -> None:
    """The bodies being received may be as large as two of the largest, and a body is held about
    twice. Enqueued requests are no longer held here."""
    most_bytes, patient = str(BODY), "200"
    with Gateway(
        directory, server__max_body_bytes=most_bytes, server__body_timeout=patient
    ) as gateway:
        gateway.start()
        (front,) = (process.pid for process in serving(gateway.fronts[0]))

        def ask(body: bytes, bearer: str) -> int:
            headers = {"authorization": f"Bearer {bearer}"}
            url = f"{gateway.url}/v1/chat/completions"
            return httpx.post(url, content=body, headers=headers, timeout=100).status_code

        def body(*parts: dict[str, object]) -> bytes:
            said = [{"type": "text", "text": "[[sim words=3]]"}, *parts]
            asked = {"model": "gpt-4", "messages": [{"role": "user", "content": said}]}
            return json.dumps(asked).encode()

        data = base64.b64encode(random.Random(8).randbytes(BODY * 7 // 10)).decode()
        url = {"url": f"data:application/octet-stream;base64,{data}"}
        parts: dict[str, dict[str, object]] = {
            "a file": {"type": "image_url", "image_url": url},
            "words": {"type": "text", "text": "some words " * (BODY * 4 // 100)},
        }
        small, large = body(), body(parts[of])
        assert ask(small, "one") == 200  # all that is loaded at first use
        idle = memory(front, "VmRSS")
        with ThreadPoolExecutor(CLIENTS) as pool:
            asked = [pool.submit(ask, large, "another") for _ in range(CLIENTS)]
            until(lambda: memory(front, "VmRSS") > idle + BODY, 30, "nothing arrives")
            assert ask(small, "one") == 200
            assert {answer.result() for answer in asked} == {200}
        most = memory(front, "VmHWM") - idle
    print(f"\n{CLIENTS} bodies of {len(large) / 1e6} MB: {most / 1e6} MB above idle at most")
    assert most < 4 * BODY + BESIDES
