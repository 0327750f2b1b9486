"""Images and files that clients send, by data URL and by http URL, through real processes."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image

from tests.support.gateway import Gateway, held, until, uploaded

PDF = b"%PDF-1.4\n" + b"a line of a document\n" * 30_000  # large enough to be offloaded
ASK = "[[sim words=3 interval=0.005]] What is this?"


def _png() -> bytes:
    out = BytesIO()
    Image.effect_noise((600, 500), 80).save(out, "PNG")
    return out.getvalue()


PNG = _png()
CONTENTS = {
    "/a.png": ("image/png", PNG),
    "/a.pdf": ("application/pdf", PDF),
    "/octet/photo_1": ("application/octet-stream", PNG),
    "/s3/a.png": ("binary/octet-stream", PNG),
    "/none/a": ("", PNG),
    "/text/a.txt": ("text/plain", PNG),
}


class _Files(BaseHTTPRequestHandler):
    """Serves `CONTENTS`, and redirects or refuses everything else."""

    def do_GET(self) -> None:
        kind, content = CONTENTS.get(self.path, ("", b""))
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
        else:
            self.send_response(200 if content else 404)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """A web server with the files, on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module", params=[False, True], ids=["bot-off", "bot-on"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway that may fetch from loopback, in both modes."""
    with Gateway(
        tmp_path_factory.mktemp("files"),
        bot__enabled=str(request.param).lower(),
        files__allow_networks='["127.0.0.1/32"]',
        stream__grace="0.5",
    ) as gateway:
        yield gateway.start()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    gateway.at_rest()
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="a-bot", max_retries=0) as client:
        yield client


def data_url(path: str) -> str:
    kind, content = CONTENTS[path]
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def content(*parts: dict[str, Any]) -> list[Any]:
    return [{"role": "user", "content": [{"type": "text", "text": ASK}, *parts]}]


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def wait_empty(gateway: Gateway) -> None:
    until(lambda: not held(gateway), 30, "a part is still in the store after its job has ended")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("by", ["data-url", "http-url"])
@pytest.mark.parametrize("path", ["/a.png", "/a.pdf"], ids=["png", "pdf"])
def test_a_file_reaches_the_upstream_as_it_was_sent(
    gateway: Gateway, client: OpenAI, site: str, path: str, by: str, stream: bool
) -> None:
    url = data_url(path) if by == "data-url" else site + path
    if stream:
        chunks = client.chat.completions.create(
            model="gpt-4", messages=content(image(url)), stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    else:
        whole = client.chat.completions.create(model="gpt-4", messages=content(image(url)))
        text = whole.choices[0].message.content or ""
        assert whole.usage is not None
        assert whole.usage.prompt_tokens < 50  # of the text, not of the file
    assert text == "w0 w1 w2"
    (file,) = uploaded(gateway)
    kind, given = CONTENTS[path]
    assert file["sha256"] == hashlib.sha256(given).hexdigest()
    assert (file["mime"], file["state"], file["owner"]) == (kind, "ready", "a-bot")
    assert file["use_case"] == ("multimodal" if kind == "image/png" else "my_files")
    assert file["name"] == file["sha256"] + path[-4:]
    assert gateway.stats()["invalid"] == 0
    wait_empty(gateway)


@pytest.mark.parametrize(
    "path", ["/octet/photo_1", "/s3/a.png", "/none/a", "/text/a.txt", "data:", "data:octet"]
)
def test_a_picture_that_is_not_declared_as_one_is_seen(
    gateway: Gateway, client: OpenAI, site: str, path: str
) -> None:
    """Telegram and S3 declare every file as bytes of no known type."""
    encoded = base64.b64encode(PNG).decode()
    urls = {
        "data:": f"data:;base64,{encoded}",
        "data:octet": f"data:application/octet-stream;base64,{encoded}",
    }
    url = urls.get(path, site + path)
    client.chat.completions.create(model="gpt-4", messages=content(image(url)))
    (file,) = uploaded(gateway)
    assert (file["use_case"], file["mime"]) == ("multimodal", "image/png")


def test_a_heic_picture_is_refused_by_name(client: OpenAI) -> None:
    encoded = base64.b64encode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)).decode()
    part = image(f"data:image/jpeg;base64,{encoded}")
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="gpt-4", messages=content(part))
    assert "HEIC" in caught.value.message
    assert caught.value.param == "messages[0].content[1].image_url.url"


def test_an_image_of_ours_is_read_from_the_store_whatever_its_address(
    gateway: Gateway, client: OpenAI
) -> None:
    drawn = client.images.generate(model="gpt-4-s", prompt="[[sim tool=dalle words=3]]")
    assert drawn.data
    assert drawn.data[0].url
    name = drawn.data[0].url.rpartition("/")[2]
    for root in (gateway.url, "http://10.9.8.7:81/behind"):
        client.chat.completions.create(
            model="gpt-4", messages=content(image(f"{root}/images/{name}"))
        )
    assert {file["use_case"] for file in uploaded(gateway)} == {"made", "multimodal"}
    unknown = f"http://10.9.8.7:81/images/{'0' * 32}.png"
    with pytest.raises(openai.BadRequestError, match="not public"):
        client.chat.completions.create(model="gpt-4", messages=content(image(unknown)))


def test_a_document_is_opened_by_the_tool_of_the_model(gateway: Gateway, client: OpenAI) -> None:
    asked: Any = content(image(data_url("/a.pdf")))
    asked[0]["content"][0]["text"] = "[[sim tool=files words=3]]"
    answer = client.chat.completions.create(model="gpt-4", messages=asked)
    text = answer.choices[0].message.content or ""
    (file,) = uploaded(gateway)
    assert text.endswith("w0 w1 w2")
    shown = f'open_url("{file["id"]}")' in text
    assert shown is not text.startswith("w0")  # in bot mode only the words are shown


def test_the_file_part_of_openai_is_uploaded_under_its_name(
    gateway: Gateway, client: OpenAI
) -> None:
    part = {"type": "file", "file": {"filename": "报告.pdf", "file_data": data_url("/a.pdf")}}
    client.chat.completions.create(model="gpt-4", messages=content(part))
    (file,) = uploaded(gateway)
    assert (file["name"], file["use_case"]) == ("报告.pdf", "my_files")


def test_other_types_and_broken_images_are_sent_as_the_predecessor_did(
    gateway: Gateway, client: OpenAI
) -> None:
    for url in ("data:text/csv;base64,YSxiCg==", "data:image/png;base64,bm8gcGljdHVyZQ=="):
        client.chat.completions.create(model="gpt-4", messages=content(image(url)))
    csv, text = uploaded(gateway)
    assert (csv["use_case"], csv["mime"]) == ("ace_upload", "")
    assert (text["use_case"], text["mime"]) == ("my_files", "text/plain")


def test_a_file_is_uploaded_once_while_the_upstream_keeps_it(
    gateway: Gateway, client: OpenAI
) -> None:
    for _ in range(2):
        client.chat.completions.create(model="gpt-4", messages=content(image(data_url("/a.png"))))
    assert gateway.stats()["uploads"] == 1
    gateway.reset()  # and it forgets the file
    client.chat.completions.create(model="gpt-4", messages=content(image(data_url("/a.png"))))
    assert gateway.stats()["uploads"] == 1
    other = client.with_options(api_key="another-bot")
    other.chat.completions.create(model="gpt-4", messages=content(image(data_url("/a.png"))))
    assert gateway.stats()["uploads"] == 2
    assert gateway.stats()["invalid"] == 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,%%%",
        "data:image/png;base64,",
        "data:image/png",
        "ftp://example.com/a.png",
        "file:///etc/passwd",
        "a.png",
        "",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://10.0.0.1/",
        "http://no-such-host.invalid/a.png",
        "{site}/missing",
        "{site}/away",
        "http://localhost.:1/",
    ],
)
def test_a_file_that_cannot_be_fetched_is_a_400_that_names_the_part(
    gateway: Gateway, client: OpenAI, site: str, url: str, stream: bool
) -> None:
    url = url.format(site=site)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="gpt-4", messages=content(image(url)), stream=stream, timeout=20
        )
    assert caught.value.param == "messages[0].content[1].image_url.url"
    assert gateway.stats()["started"] == 0
    assert not held(gateway)
    if len(url) > 5:
        assert url not in caught.value.message
        assert url not in gateway.printed()


def test_audio_and_files_for_gpt_3_5_are_refused_as_unsupported(client: OpenAI) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    for model, part in (("gpt-4", sound), ("gpt-3.5-turbo", image(data_url("/a.png")))):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=model, messages=content(part))
        assert caught.value.code == "unsupported_parameter"
        assert (caught.value.param or "").startswith("messages[0].content[1]")


def test_a_long_text_is_not_stored_in_redis_and_arrives_whole(
    gateway: Gateway, client: OpenAI
) -> None:
    said = " ".join(str(number) for number in range(60_000))
    answer = client.chat.completions.create(
        model="gpt-4",
        messages=[{"role": "user", "content": f"[[sim echo=1 step=100000 interval=0]] {said}"}],
    )
    assert answer.choices[0].message.content == said
    wait_empty(gateway)


def test_a_file_that_the_upstream_refuses_is_a_400_with_its_reason(
    gateway: Gateway, client: OpenAI
) -> None:
    gateway.reset(upload="error")
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="gpt-4", messages=content(image(data_url("/a.pdf"))))
    assert caught.value.code == "file_upload_refused"
    assert "The file was refused." in caught.value.message
    wait_empty(gateway)


def test_a_client_that_disconnects_while_waiting_leaves_nothing_in_the_store(
    gateway: Gateway, client: OpenAI
) -> None:
    busy = client.chat.completions.create(
        model="gpt-4",
        messages=[{"role": "user", "content": "[[sim words=200 interval=0.02]]"}],
        stream=True,
    )
    next(iter(busy))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{gateway.url}/v1/chat/completions",
            json={"model": "gpt-4", "messages": content(image(data_url("/a.pdf")))},
            headers={"authorization": "Bearer a-bot"},
            timeout=1,
        )
    wait_empty(gateway)
    busy.close()


def test_a_job_that_outlives_its_client_still_has_its_file(
    gateway: Gateway, client: OpenAI
) -> None:
    busy = client.chat.completions.create(
        model="gpt-4",
        messages=[{"role": "user", "content": "[[sim words=150 interval=0.02]]"}],
        stream=True,
    )
    next(iter(busy))

    def ask(patience: float) -> httpx.Response:
        return httpx.post(
            f"{gateway.url}/v1/chat/completions",
            json={"model": "gpt-4", "messages": content(image(data_url("/a.pdf")))},
            headers={"authorization": "Bearer a-bot", "idempotency-key": "of-a-file"},
            timeout=patience,
        )

    with pytest.raises(httpx.ReadTimeout):
        ask(1)
    assert held(gateway)
    answer = ask(30)
    assert answer.json()["choices"][0]["message"]["content"] == "w0 w1 w2"
    assert gateway.stats()["uploads"] == 1
    wait_empty(gateway)
    busy.close()


def test_neither_name_nor_content_of_a_file_is_logged_or_in_redis_in_the_clear(
    gateway: Gateway, client: OpenAI
) -> None:
    part = {
        "type": "file",
        "file": {"filename": "secret-name.txt", "file_data": "c2VjcmV0IGNvbnRlbnQ="},
    }
    client.chat.completions.create(model="gpt-4", messages=content(part))
    (file,) = uploaded(gateway)
    assert file["name"] == "secret-name.txt"
    for hidden in ("secret-name", "secret content", "c2VjcmV0", file["id"], file["sha256"]):
        assert hidden not in gateway.printed()
