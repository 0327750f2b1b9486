"""Survey of a server: its models, and the number of requests that it answers at once.

Free slots are never polled: our own leases count them, and such questions would go through the
queue of the server's own work.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TypeVar

import msgspec
import yarl
from msgspec.structs import replace

import settings
from wire.about import Trouble
from workers.openai.connection import Connection

_TIMEOUT = 10.0
_RESOLVE_TIMEOUT = 5.0

_MAX_LIST = 8 * 1024 * 1024  # bytes; hosted APIs list hundreds of models at length
_MAX_MODELS = 5000  # names, aliases included
_MAX_NAME = 256
_MAX_PAGE = 1024 * 1024  # bytes of a page of settings
_MAX_SLOTS = 10_000

LOCAL_SLOTS, REMOTE_SLOTS = 1, 4
"""Requests at once for a server that does not say: on this network, and elsewhere."""


class Survey(msgspec.Struct, frozen=True):
    """Facts about a server. `models` maps the names that clients may use to those of the server.

    `any_model`: it lists none, and takes whatever name it may be. `slots`: requests at once;
    `slots_known` is False if that is only assumed, since it did not say. `left_out`: names of a
    list that is too long. `is_llama_cpp`: it says so in the list.
    """

    models: dict[str, str]
    any_model: bool
    slots: int
    trouble: Trouble = ""
    slots_known: bool = True
    left_out: int = 0
    is_llama_cpp: bool = False
    silence: str = ""
    """The reason for which it did not list its models, for the log alone."""

    @property
    def is_known(self) -> bool:
        """False if the server could not be asked for its models yet."""
        return bool(self.models) or self.any_model


class _Model(msgspec.Struct):
    id: str
    aliases: list[str] | None = None


class _Models(msgspec.Struct):
    data: list[msgspec.Raw]


class _Owned(msgspec.Struct):
    owned_by: str = ""


class _Props(msgspec.Struct):
    """llama.cpp's `/props`. A router swaps its models, and each answers one request at a time."""

    total_slots: int = 0
    role: str = ""


class _ServerInfo(msgspec.Struct):
    """SGLang's `/server_info`."""

    max_running_requests: int | None = None


class _Parameters(msgspec.Struct):
    max_batch_size: int | None = None


class _TabbyModel(msgspec.Struct):
    """TabbyAPI's `/v1/model`."""

    parameters: _Parameters | None = None


async def survey_server(
    connection: Connection, config: settings.Upstream, former: Survey | None = None
) -> Survey:
    """Ask a server, unless the operator has set its models and slots.

    A server that does not answer now has the models and slots of the `former` survey.
    """
    listed = await connection.get(connection.addresses.api("models"), _MAX_LIST, _TIMEOUT)
    trouble: Trouble = "refused_us" if listed.status in (401, 403) else ""
    if listed.status != 200 and former is not None and former.is_known:
        return replace(former, trouble=trouble)
    models, left_out = config.models, 0
    is_llama_cpp = await asyncio.to_thread(lists_llama_cpp, listed.body)
    if listed.status == 200 and not models:
        models, left_out = await asyncio.to_thread(read_models, listed.body)
    silence = listed.trouble or ("" if listed.status == 200 else f"status {listed.status}")
    any_model = not models and _is_an_answer(listed.status)
    slots = config.max_concurrency or (await _ask_slots(connection) if listed.status else 0)
    if not slots and former is not None and former.slots_known:
        slots = former.slots
    if slots:
        return Survey(models, any_model, slots, trouble, True, left_out, is_llama_cpp, silence)
    near = not listed.status or await is_local(yarl.URL(config.base_url).host or "")
    slots = LOCAL_SLOTS if near else REMOTE_SLOTS
    return Survey(models, any_model, slots, trouble, False, left_out, is_llama_cpp, silence)


def _is_an_answer(status: int) -> bool:
    """Return False for the status of a server that starts, is busy, or does not know us."""
    return 200 <= status <= 501 and status not in (401, 403, 408, 425, 429, 500)


async def _ask_slots(connection: Connection) -> int:
    """Return the number of slots that a server states, 0 if it does not."""
    addresses = connection.addresses
    for url, read in (
        (addresses.root("props"), read_props),
        (addresses.root("server_info"), read_server_info),
        (addresses.api("model"), read_tabby_model),
    ):
        found = await connection.get(url, _MAX_PAGE, _TIMEOUT)
        if found.status == 200 and (slots := read(found.body)) > 0:
            return min(slots, _MAX_SLOTS)
    return 0


def read_models(body: bytes) -> tuple[dict[str, str], int]:
    """Return the names of a list of models, with llama.cpp's aliases; none if it is not a list.

    The second is the number of names that were left out, of a list that is too long.
    """
    listed = _read(body, _Models)
    names: dict[str, str] = {}
    left_out = 0
    for raw in listed.data if listed else []:
        model = _read(raw, _Model)
        if model is None or not _is_name(model.id):
            continue
        for name in filter(_is_name, [model.id, *(model.aliases or [])]):
            if name not in names and len(names) == _MAX_MODELS:
                left_out += 1
            elif name == model.id:
                names[name] = model.id
            else:
                names.setdefault(name, model.id)
    return names, left_out


def lists_llama_cpp(body: bytes) -> bool:
    """Return True for a list of models that llama.cpp's server sent."""
    listed = _read(body, _Models)
    model = _read(listed.data[0], _Owned) if listed and listed.data else None
    return model is not None and model.owned_by == "llamacpp"


def read_props(body: bytes) -> int:
    """Return llama.cpp's slots, 0 if the body is something else."""
    props = _read(body, _Props) or _Props()
    return 1 if props.role == "router" else props.total_slots


def read_server_info(body: bytes) -> int:
    """Return SGLang's slots, 0 if the body is something else."""
    return (_read(body, _ServerInfo) or _ServerInfo()).max_running_requests or 0


def read_tabby_model(body: bytes) -> int:
    """Return TabbyAPI's slots, 0 if the body is something else."""
    model = _read(body, _TabbyModel)
    return (model.parameters.max_batch_size or 0) if model and model.parameters else 0


async def is_local(host: str) -> bool:
    """Return True if a host is on this machine or in a private network."""
    try:
        return _is_private(host)
    except ValueError:
        pass  # a name
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_TIMEOUT):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:  # among them a time-out
        return True  # a name of a network that only the proxy knows, or none: the careful choice
    return all(_is_private(str(address[0])) for *_, address in found)


def _is_private(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    return ip.is_private or ip.is_loopback or ip.is_link_local


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _MAX_NAME and name.isprintable()


T = TypeVar("T")


def _read(body: bytes | msgspec.Raw, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
