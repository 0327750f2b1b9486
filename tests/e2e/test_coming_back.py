"""Clients reconnect to any front end after their connection broke, and get their answer."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis
from openai import OpenAI

from tests.support.gateway import Gateway, until

CHAT = "/v1/chat/completions"
GRACE, KEPT = 3.0, 5.0


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(
        tmp_path_factory.mktemp("gateway"),
        queue__resume_grace=str(GRACE),
        queue__keep_result=str(KEPT),
        stream__grace="0.3",
        upstream__max_concurrency="8",
        upstream__retries="0",
        upstream__circuit_failures="1000000",
    ) as gateway:
        yield gateway.start(workers=2, fronts=2)


@pytest.fixture
def gateway(started: Gateway) -> Gateway:
    return started.at_rest()


def asked(prompt: str, *, stream: bool = True, **more: object) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": "gpt-4-s", "stream": stream, "messages": messages, **more}


def ask(
    url: str, body: dict[str, Any], key: str, bearer: str, after: str | None = None
) -> httpx.Response:
    headers = {"authorization": f"Bearer {bearer}", "idempotency-key": key}
    if after is not None:
        headers["last-event-id"] = after
    return httpx.post(f"{url}{CHAT}", json=body, headers=headers, timeout=60)


class Fragile:
    """A client on a plain socket, which breaks when the test says."""

    def __init__(self, url: str, body: dict[str, Any], key: str, bearer: str) -> None:
        where = urlsplit(url)
        content = json.dumps(body).encode()
        head = (
            f"POST {CHAT} HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {bearer}\r\n"
            f"Idempotency-Key: {key}\r\nContent-Length: {len(content)}\r\n\r\n"
        ).encode()
        self.received = b""
        self._socket = socket.create_connection((where.hostname, where.port), 20)
        self._socket.sendall(head + content)

    def read(self, size: int) -> None:
        """Read the given number of bytes of the response, unless it ends before."""
        while len(self.received) < size and not self.received.endswith(b"0\r\n\r\n"):
            self.received += self._socket.recv(size - len(self.received))

    def close(self) -> None:
        self._socket.close()

    def body(self) -> str:
        """The received part of the body, up to the last whole character."""
        _, _, rest = self.received.partition(b"\r\n\r\n")
        body = b""
        while b"\r\n" in rest:
            size, _, rest = rest.partition(b"\r\n")
            body += rest[: int(size, 16)]
            rest = rest[int(size, 16) + 2 :]
        return body.decode(errors="ignore")


def text_and_id(body: str) -> tuple[str, str | None, bool]:
    """The text of the complete messages, the id of the last one with an id, and whether `[DONE]`
    came."""
    text, last, done = "", None, False
    for message in body.split("\n\n")[:-1]:
        for line in message.split("\n"):
            if line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                chunk = json.loads(line.removeprefix("data: "))
                assert "error" not in chunk, chunk
                text += "".join(c["delta"].get("content", "") for c in chunk["choices"])
            elif line.startswith("id: "):
                last = line.removeprefix("id: ")
    return text, last, done


def words(count: int) -> str:
    return " ".join(f"w{n}" for n in range(count))


COUNT = 60


def test_streams_broken_at_50_random_points_are_resumed_whole_and_asked_for_once(
    gateway: Gateway,
) -> None:
    rng = random.Random(20240607)
    body = asked(f"[[sim words={COUNT} interval=0.01 delay=0.2]]", stream_options={"x": 1})
    size = len(ask(gateway.url, body, "size", "nobody").content) + 3 * COUNT
    points = [rng.randrange(size) if n % 5 else 0 for n in range(50)]
    plans = [(n, points[n], rng.choice(gateway.urls), rng.choice(gateway.urls)) for n in range(50)]

    def one(plan: tuple[int, int, str, str]) -> None:
        number, point, first, then = plan
        key, bearer = f"key {number}", f"bot-{number}"
        with closing(Fragile(first, body, key, bearer)) as client:
            if point:
                client.read(point)
            else:  # before it is answered, but not before it is accepted
                until(lambda: in_line(gateway, bearer, key), 60, "not accepted")
        before, last, _ = text_and_id(client.body())
        whole = ask(then, body, key, bearer)
        text, end, done = text_and_id(whole.text)
        assert (text, done) == (words(COUNT), True)
        resumed = ask(then, body, key, bearer, last)
        rest, same_end, done = text_and_id(resumed.text)
        assert (before + rest, same_end or last, done) == (words(COUNT), end, True), (point, last)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, plans))
    stats = gateway.stats()
    assert (stats["started"], stats["finished"], stats["aborted"]) == (51, 51, 0)


def in_line(gateway: Gateway, bearer: str, name: str, url: str | None = None) -> Any:
    response = httpx.get(
        f"{url or gateway.url}/v1/queue/{name}", headers={"authorization": f"Bearer {bearer}"}
    )
    return response.json() if response.status_code == 200 else None


def test_a_whole_answer_survives_a_broken_connection_too(gateway: Gateway) -> None:
    rng = random.Random(7)
    body = asked(f"[[sim words={COUNT} interval=0.01 delay=0.2]]", stream=False)

    def one(number: int) -> None:
        key, bearer = f"whole-{number}", f"bot-{number}"
        with closing(Fragile(rng.choice(gateway.urls), body, key, bearer)):
            until(lambda: in_line(gateway, bearer, key), 60, "not accepted")
            time.sleep(rng.random() * 0.9)  # breaks at any time of its answer
        for _ in range(2):
            answer = ask(rng.choice(gateway.urls), body, key, bearer)
            assert answer.json()["choices"][0]["message"]["content"] == words(COUNT)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(16)))
    assert gateway.stats()["started"] == 16


def test_simultaneous_requests_with_one_idempotency_key_get_one_answer(gateway: Gateway) -> None:
    body = asked("[[sim words=30]]")
    with ThreadPoolExecutor(6) as pool:
        urls = gateway.urls * 3
        answers = list(pool.map(lambda url: ask(url, body, "together", "bot"), urls))
    assert {text_and_id(answer.text)[0] for answer in answers} == {words(30)}
    assert len({answer.headers["x-queue-id"] for answer in answers}) == 1
    assert gateway.stats()["started"] == 1


def test_an_idempotency_key_belongs_to_one_request_of_one_bearer(gateway: Gateway) -> None:
    first = ask(gateway.url, asked("[[sim words=3]]"), "key", "one")
    other = ask(gateway.urls[1], asked("[[sim words=4]]"), "key", "one")
    assert other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert other.headers["x-should-retry"] == "false"
    theirs = ask(gateway.url, asked("[[sim words=3]]"), "key", "two")
    assert theirs.headers["x-queue-id"] != first.headers["x-queue-id"]
    assert gateway.stats()["started"] == 2


def test_a_last_event_id_of_another_answer_is_a_409(gateway: Gateway) -> None:
    body = asked("[[sim words=3]]")
    ask(gateway.url, body, "mine", "one")
    lost = ask(gateway.url, body, "mine", "one", "another-3")
    assert (lost.status_code, lost.json()["error"]["code"]) == (409, "answer_lost")
    assert lost.headers["x-should-retry"] == "false"


def test_resuming_an_answer_that_is_gone_does_not_start_another(
    gateway: Gateway,
) -> None:
    body = asked("[[sim words=3]]")
    lost = ask(gateway.url, body, "unheard of", "one", "01234567-3")
    assert (lost.status_code, lost.json()["error"]["code"]) == (409, "answer_lost")
    headers = {"authorization": "Bearer one"}
    assert httpx.get(f"{gateway.url}/v1/queue/unheard%20of", headers=headers).status_code == 404


def test_a_failed_job_frees_its_idempotency_key(gateway: Gateway) -> None:
    body = asked("[[sim error=oops]]", stream=False)
    for _ in range(2):
        assert ask(gateway.url, body, "failing", "one").status_code == 502
    assert gateway.stats()["errors"] == 2, "asked again"
    torn = asked("[[sim words=20 fault=unfinished_eof]]")
    for _ in range(2):
        assert '"error"' in ask(gateway.url, torn, "torn", "one").text
    assert gateway.stats()["started"] == 2, "asked again"


def test_a_cancelled_job_frees_its_idempotency_key(gateway: Gateway) -> None:
    body = asked("[[sim words=2000]]")
    with closing(Fragile(gateway.url, body, "gone", "one")) as client:
        client.read(2000)
        url = f"{gateway.urls[1]}/v1/queue/gone"
        deleted = httpx.delete(url, headers={"authorization": "Bearer one"})
        assert deleted.status_code == 200
        gateway.wait_idle()
        client.read(10_000_000)
        assert '"code":"cancelled"' in client.received.decode()
        assert "[DONE]" not in client.received.decode()
    again = ask(gateway.url, asked("[[sim words=3]]"), "gone", "one")
    assert text_and_id(again.text)[0] == words(3)


def test_a_result_is_kept_for_a_while_and_then_forgotten(gateway: Gateway) -> None:
    body = asked("[[sim words=5]]")
    first = ask(gateway.url, body, "kept", "one")
    id = first.headers["x-queue-id"]
    again = ask(gateway.urls[1], body, "kept", "one")
    assert again.text.split("\n\n")[-2:] == first.text.split("\n\n")[-2:]
    assert text_and_id(again.text) == text_and_id(first.text)
    assert gateway.stats()["started"] == 1
    with redis.Redis.from_url(gateway.redis.url) as line:
        keys = [key for key in line.keys("gateway:idem:*") if id.encode() in (line.get(key) or b"")]
        assert [0 < line.pttl(key) <= KEPT * 1000 for key in keys] == [True]
        until(lambda: not line.exists(*keys), 60, "its key still names it")
    assert ask(gateway.url, body, "kept", "one").headers["x-queue-id"] != id
    assert gateway.stats()["started"] == 2


def test_an_orphaned_job_is_cancelled_after_resume_grace(gateway: Gateway) -> None:
    with redis.Redis.from_url(gateway.redis.url) as line:

        def now() -> float:
            seconds, micros = line.time()
            return float(seconds + micros // 1000 / 1000)  # as the scripts see it, in ms

        with closing(Fragile(gateway.url, asked("[[sim words=4000]]"), "left", "one")) as client:
            client.read(2000)
            id = in_line(gateway, "one", "left")["id"]
            left = now()
        orphaned = lambda: line.zscore("gateway:later", f"orphan {id}")  # noqa: E731
        ends = until(orphaned, 60, "the disconnect was not noticed") / 1000
        assert left + GRACE <= ends <= now() + GRACE
        assert gateway.stats()["active"] == 1 or now() > ends, "its client may still reconnect"
        gateway.wait_idle()
        assert now() >= ends


def test_a_waiting_job_survives_a_broken_connection_too(gateway: Gateway) -> None:
    running = Fragile(gateway.url, asked("[[sim words=150]]"), "runs", "one")
    until(lambda: gateway.stats()["active"] == 1, 30, "not started")
    body = asked("[[sim words=3]]")
    with closing(running):
        with closing(Fragile(gateway.url, body, "waits", "one")):
            until(lambda: in_line(gateway, "one", "waits"), 30, "not accepted")
        assert in_line(gateway, "one", "waits")["state"] == "waiting"
        assert text_and_id(ask(gateway.urls[1], body, "waits", "one").text)[0] == words(3)
        running.read(10_000_000)
    assert text_and_id(running.body())[0] == words(150)
    assert gateway.stats()["started"] == 2


def test_without_resume_grace_a_disconnect_cancels_the_job(directory: Any) -> None:
    with Gateway(directory, queue__resume_grace="0") as gateway:
        gateway.start()
        body = asked("[[sim words=4000]]")
        with closing(Fragile(gateway.url, body, "left", "one")) as client:
            client.read(2000)
        gateway.wait_idle()
        assert text_and_id(ask(gateway.url, asked("[[sim words=3]]"), "left", "one").text)[2]


@pytest.mark.parametrize("stream", [True, False])
def test_a_repeated_request_gets_the_answer_cut_at_the_same_place(
    gateway: Gateway, *, stream: bool
) -> None:
    body = asked("[[sim words=500 interval=0.01]]", stream=stream, stop=[" w20"])
    first = ask(gateway.url, body, f"cut {stream}", "one")
    gateway.wait_idle()
    again = ask(gateway.urls[1], body, f"cut {stream}", "one")
    for answer in (first, again):
        assert answer.status_code == 200
        if stream:
            assert text_and_id(answer.text)[::2] == (words(20), True)
        else:
            (choice,) = answer.json()["choices"]
            assert (choice["message"]["content"], choice["finish_reason"]) == (words(20), "stop")
    assert first.headers["x-queue-id"] == again.headers["x-queue-id"]
    assert gateway.stats()["started"] == 1


def test_images_with_an_idempotency_key_are_drawn_once(gateway: Gateway) -> None:
    prompt = "[[sim tool=dalle images=1]] a cat"
    shown = []
    for url in (*gateway.urls, gateway.url):
        with OpenAI(base_url=f"{url}/v1", api_key="painter", max_retries=0) as client:
            drawn = client.images.generate(
                model="gpt-4-s", prompt=prompt, n=2, extra_headers={"idempotency-key": "cats"}
            )
        assert drawn.data is not None
        shown.append([urlsplit(image.url or "").path for image in drawn.data])
    assert shown[0] == shown[1] == shown[2]
    assert len(set(shown[0])) == 2
    assert gateway.stats()["started"] == 2, "one turn for each image, once"
