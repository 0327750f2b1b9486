"""Instructions for a person who has started the gateway."""

from __future__ import annotations

import json
import shlex

from msgspec.structs import replace

import settings
from local.sample import KEY, request
from local.upstreams import LLAMA, SIMULATOR
from settings.client_access import client_access

_OWN_SERVER = """\
To use your own server, such as llama.cpp, Ollama or vLLM, start it with:

  GATEWAY__UPSTREAM__KIND=openai GATEWAY__UPSTREAM__BASE_URL=http://127.0.0.1:8080 make run
"""

_TEXTS = {
    SIMULATOR: f"""\
Answers come from a simulator, no real model is asked. {_OWN_SERVER}
To use your Pandora-Next, set upstream.base_url and upstream.api_prefix in settings.local.toml, or:

  GATEWAY__UPSTREAM__BASE_URL=https://pandora.example.com \\
    GATEWAY__UPSTREAM__API_PREFIX=its-proxy_api_prefix make run
""",
    LLAMA: f"""\
Answers come from a real llama.cpp server, but its model is random: they are noise, unless the
request has a grammar. {_OWN_SERVER}""",
}


def instructions(
    api_url: str, model: str, config: settings.Settings, started: str, redis_url: str = ""
) -> str:
    """Explain how to use the gateway that serves `api_url`.

    `started` is the name of the model server that was started for it, or empty; `redis_url` that of
    the Redis that was started for it, or empty.
    """
    body = json.dumps(request(model, "Hello!"), ensure_ascii=False)
    key = KEY if can_be_tried(config, started) else "$KEY"
    about = (_about_key(config, started, redis_url), _TEXTS.get(started, ""))
    paragraphs = "\n".join(filter(None, about))
    return f"""
The gateway serves {api_url}. Try it:

  curl -N {api_url}/chat/completions \\
    -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
    -d {shlex.quote(body)}

{paragraphs}"""


def for_operators(config: settings.Settings, password: str, redis_url: str) -> str:
    """Name the page of operators, and the command that shows the line in a terminal.

    `password` was made for this run; it is empty if the settings have one. `redis_url` is that of
    the Redis that was started, or empty.
    """
    server, admin = config.server, config.admin
    own = replace(server, host=admin.host or server.host, port=admin.port or server.port)
    page = f"{own.local_url}{server.api_prefix}/admin"
    known = f"the password {password}" if password else "your admin.password"
    environ = f"GATEWAY__REDIS__URL={redis_url} " if redis_url else ""
    return f"""\
Who waits, and why: {page} with {known},
or in a terminal:

  {environ}.venv/bin/python -m app top
"""


def can_be_tried(config: settings.Settings, started: str) -> bool:
    """Return True if any key will do: the gateway does not judge it, and no upstream does, or only
    a simulator."""
    shared = all(each.kind == "openai" for each in config.upstreams.values())
    return client_access(config).any_key and (bool(started) or shared)


def a_model(config: settings.Settings) -> str:
    """Return a model that the settings name for clients; empty if the servers are asked."""
    upstreams = config.upstreams.values()
    names = [name for upstream in upstreams for name in upstream.models]
    if any(upstream.kind == "pandora" for upstream in upstreams):
        names += config.models.names()
    return next(iter(names), "")


def _about_key(config: settings.Settings, started: str, redis_url: str) -> str:
    if can_be_tried(config, started):
        return (
            "" if started else "Any key works, since the server is not asked with the client's.\n"
        )
    access = client_access(config)
    if not access.has_gateway_keys:
        return "$KEY is a token that your Pandora-Next server accepts.\n"
    listed = config.auth.keys or config.auth.keys_file
    other = "a key whose SHA-256 is in auth.keys or auth.keys_file, or " if listed else ""
    environ = f"GATEWAY__REDIS__URL={redis_url} " if redis_url else ""
    return f"""\
$KEY is {other}a gateway key. To issue one:

  {environ}.venv/bin/python -m app keys new my-bot
"""
