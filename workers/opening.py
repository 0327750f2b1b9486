"""Opening of the upstreams that a worker serves, from the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import get_args

from msgspec.structs import replace

from settings import Settings, Upstream
from settings.client_access import auth_mode
from store.blobs import Blobs
from store.media import Media
from wire.about import About, encode_about
from wire.jobs import (
    ChatJob,
    Family,
    RelayedJob,
    Sort,
    lane_name,
    lane_of_any,
    lane_of_family,
)
from wire.line.offers import Offer
from wire.redis.client import Redis
from wire.seal import Seal
from workers import upstream
from workers.accounts import PoolAccounts, open_pool
from workers.json_answers import JsonAnswers
from workers.openai.server import OpenAiServer, open_openai
from workers.openai.survey import Survey
from workers.pandora.factory import open_pandora
from workers.served import AnyServed, ServedUpstream, Surveyed

PANDORA_SORTS: tuple[Sort, ...] = ("chat", "images")
"""Sorts of jobs that Pandora-Next runs."""


@asynccontextmanager
async def open_upstreams(
    config: Settings, redis: Redis, seal: Seal, media: Media, blobs: Blobs
) -> AsyncIterator[list[AnyServed]]:
    """Open every upstream that this worker serves, for as long as the context lasts."""
    async with AsyncExitStack() as stack:
        served: list[AnyServed] = []
        passes_through = auth_mode(config) != "keys"
        for name, section in config.require_upstreams().items():
            accounts = open_pool(name, section, seal)
            if section.kind == "pandora":
                own = replace(config, upstream=section)
                pandora = await stack.enter_async_context(
                    open_pandora(own, redis, seal, media, blobs)
                )
                served.append(serve_pandora(name, own, pandora, accounts, passes_through))
            else:
                server = await stack.enter_async_context(open_openai(name, section, accounts))
                served.append(serve_openai(name, section, server, accounts))
        yield served


def serve_pandora(
    name: str,
    config: Settings,
    pandora: upstream.Upstream[ChatJob],
    accounts: PoolAccounts | None = None,
    passes_through: bool = True,
) -> ServedUpstream[ChatJob]:
    """An upstream that is a Pandora-Next server, with `config.upstream` as its settings.

    It has lanes for keys' own accounts if their tokens are passed through.
    """
    models = [*config.models.names(), *(model for model, _ in config.custom)]
    offer = Offer(
        upstream=name,
        max_concurrency=config.upstream.max_concurrency,
        accounts={},
        lanes=[*(_own_lanes() if passes_through else ()), *(_pool_lanes() if accounts else ())],
        about=encode_about(About("pandora", models)),
        circuit_failures=config.upstream.circuit_failures,
    )

    async def survey() -> Surveyed:
        return Surveyed(offer)

    return ServedUpstream(name, config.upstream, ChatJob, JsonAnswers(pandora), survey, accounts)


def _own_lanes() -> list[str]:
    """Lanes of the jobs that run on keys' own accounts at Pandora-Next."""
    return [lane_name(sort) for sort in PANDORA_SORTS]


def _pool_lanes() -> list[str]:
    """Lanes of the jobs that run on the operator's accounts there."""
    return [lane_of_family(sort, family) for sort in PANDORA_SORTS for family in get_args(Family)]


def serve_openai(
    name: str, config: Upstream, server: OpenAiServer, accounts: PoolAccounts | None = None
) -> ServedUpstream[RelayedJob]:
    """An upstream that is an OpenAI-compatible server, with these settings."""

    async def survey() -> Surveyed:
        found = await server.survey()
        # A server that lists neither models nor slots may still be starting.
        is_complete = bool(found.models) or (found.any_model and found.slots_known)
        # Until it can be asked, what it offered before holds: its jobs may still have to run.
        offer = _offer(name, config, found, accounts) if found.is_known or found.trouble else None
        return Surveyed(offer, is_complete and not found.trouble)

    return ServedUpstream(name, config, RelayedJob, server, survey, accounts)


def _offer(name: str, config: Upstream, found: Survey, accounts: PoolAccounts | None) -> Offer:
    about = About(
        "openai",
        list(found.models),
        found.any_model,
        found.trouble,
        config.max_n,
        config.has_credential,
    )
    return Offer(
        upstream=name,
        # Slots that are only assumed are those of each account.
        max_concurrency=0 if accounts and not found.slots_known else found.slots,
        accounts={name: found.slots},
        lanes=[*_lanes("chat", found), *_lanes("embeddings", found)],
        about=encode_about(about),
        circuit_failures=config.circuit_failures,
    )


def _lanes(sort: Sort, found: Survey) -> list[str]:
    lanes = [lane_name(sort, model) for model in found.models]
    return [*lanes, lane_of_any(sort)] if found.any_model else lanes
