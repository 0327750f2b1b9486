"""The examples of proxies in deploy/, run by the proxies themselves in front of a gateway."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from openai import OpenAI

import settings
from local.redis import free_port
from runtime.children import spawn, stop
from tests.support.gateway import Gateway, until

DEPLOY = settings.HERE / "deploy"
PROXIES = "/usr/sbin:" + os.environ.get("PATH", os.defpath)
INSIDE, OUTSIDE = "127.0.0.1", "127.0.0.2"
"""Addresses of clients on this machine; the examples let the first one see pages of operators."""


def nginx(directory: Path, port: int, front: str) -> list[str]:
    """Write the configuration with addresses of this machine; return the command that serves it."""
    example = (DEPLOY / "nginx.conf").read_text()
    example = re.sub(r"(?s)server \{\s+listen 80;.*?\n\}\n", "", example)
    example = example.replace("127.0.0.1:50011", front)
    example = example.replace("listen [::]:443 ssl http2;", "")
    example = example.replace("listen 443", f"listen {port}")
    example = re.sub(r"/etc/ssl/\w+/\S+(pem|key);", rf"{directory}/certificate.\1;", example)
    write_certificate(directory)
    user = "user root;" if os.getuid() == 0 else ""
    temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    paths = "".join(f"{name}_temp_path {directory}/{name};" for name in temporary)
    main = f"{user} daemon off; pid {directory}/pid; error_log stderr; events {{}}"
    path = directory / "nginx.conf"
    path.write_text(f"{main} http {{ access_log off; {paths}\n{example}\n}}")
    program = shutil.which("nginx", path=PROXIES)
    assert program
    command = [program, "-p", str(directory), "-e", "stderr", "-c", str(path)]
    subprocess.run([*command, "-t"], check=True)
    return command


def caddy(directory: Path, port: int, front: str) -> list[str]:
    """Write the configuration with addresses of this machine; return the command that serves it."""
    example = (DEPLOY / "Caddyfile").read_text()
    example = example.replace("127.0.0.1:50011", front)
    example = example.replace(
        "gateway.example.com {", f"https://localhost:{port} {{\n tls internal"
    )
    own = f"{{\n admin off\n auto_https disable_redirects\n storage file_system {directory}\n"
    path = directory / "Caddyfile"
    path.write_text(own + " skip_install_trust\n}\n" + example)
    program = shutil.which("caddy", path=PROXIES)
    assert program
    command = [program, "run", "--adapter", "caddyfile", "--config", str(path)]
    subprocess.run([program, "validate", *command[2:]], check=True)
    return command


def write_certificate(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = key.private_bytes(encoding, form, serialization.NoEncryption())
    (directory / "certificate.pem").write_bytes(certificate.public_bytes(encoding))
    (directory / "certificate.key").write_bytes(private)


@contextmanager
def client(url: str, address: str = INSIDE) -> Iterator[httpx2.Client]:
    transport = httpx2.HTTPTransport(verify=False, local_address=address)
    with httpx2.Client(base_url=url, transport=transport, timeout=30) as http:
        yield http


def answers(url: str) -> bool:
    try:
        with client(url) as http:
            return http.get("/healthz").status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.parametrize("proxy", [nginx, caddy])
def test_tokens_pass_a_proxy_as_they_come_and_only_operators_see_their_pages(
    proxy: Callable[[Path, int, str], list[str]], gateway: Gateway, tmp_path: Path
) -> None:
    if shutil.which(proxy.__name__, path=PROXIES) is None:
        pytest.skip(f"this system has no {proxy.__name__}")
    port = free_port()
    command = proxy(tmp_path, port, gateway.url.removeprefix("http://"))
    url = f"https://localhost:{port}"
    with ExitStack() as stack:
        stack.callback(stop, spawn(command, environ={**os.environ, "HOME": str(tmp_path)}), 10)
        until(lambda: answers(url), 60, "the proxy does not serve")
        http = stack.enter_context(client(url))
        openai = OpenAI(base_url=f"{url}/v1", api_key="a-key", max_retries=0, http_client=http)
        stream = openai.chat.completions.create(
            model="gpt-4-s",
            messages=[{"role": "user", "content": "[[sim words=9 gate=2]]"}],
            stream=True,
        )
        pieces = (piece.choices[0].delta.content for piece in stream if piece.choices)
        first = next(piece for piece in pieces if piece)
        # Only now the rest of the answer is made.
        gateway.open_gate()
        text = first + "".join(filter(None, pieces))
        assert len(text.split()) == 9
        stranger = stack.enter_context(client(url, OUTSIDE))
        for path in ("/metrics", "/metrics/", "/admin", "/admin/api/board", "/666/admin"):
            assert stranger.get(path).status_code == 403
            assert http.get(path).status_code != 403
        assert stranger.get("/v1/models").status_code == 200
