"""Opening of the upstreams that a worker serves, from the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from msgspec.structs import replace

from settings import Settings, Upstream
from store.blobs import Blobs
from store.media import Media
from wire.about import About, encode_about
from wire.jobs import ChatJob, RelayedJob, Sort, lane_name, lane_of_any
from wire.line.offers import Offer
from wire.redis.client import Redis
from wire.seal import Seal
from workers import upstream
from workers.json_answers import JsonAnswers
from workers.openai.server import OpenAiServer, open_openai
from workers.openai.survey import Survey
from workers.pandora.factory import open_pandora
from workers.served import AnyServed, ServedUpstream, Surveyed

PANDORA_RESTS = 5.0, 60.0
OPENAI_RESTS = 1.0, 30.0
"""Seconds for which a busy account gets no job: the first time, at most."""


@asynccontextmanager
async def open_upstreams(
    config: Settings, redis: Redis, seal: Seal, media: Media, blobs: Blobs
) -> AsyncIterator[list[AnyServed]]:
    """Open every upstream that this worker serves, for as long as the context lasts."""
    async with AsyncExitStack() as stack:
        served: list[AnyServed] = []
        for name, section in config.require_upstreams().items():
            if section.kind == "pandora":
                own = replace(config, upstream=section)
                pandora = await stack.enter_async_context(
                    open_pandora(own, redis, seal, media, blobs)
                )
                served.append(serve_pandora(name, own, pandora))
            else:
                server = await stack.enter_async_context(open_openai(name, section))
                served.append(serve_openai(name, section, server))
        yield served


def serve_pandora(
    name: str, config: Settings, pandora: upstream.Upstream[ChatJob]
) -> ServedUpstream[ChatJob]:
    """An upstream that is a Pandora-Next server, with `config.upstream` as its settings."""
    models = [*config.models.names(), *(model for model, _ in config.custom)]
    offer = Offer(
        upstream=name,
        own_accounts=True,
        max_concurrency=config.upstream.max_concurrency,
        accounts={},
        lanes=[lane_name("chat"), lane_name("images")],
        about=encode_about(About("pandora", models)),
        circuit_failures=config.upstream.circuit_failures,
    )

    async def survey() -> Surveyed:
        return Surveyed(offer)

    return ServedUpstream(
        name, config.upstream, ChatJob, JsonAnswers(pandora), survey, PANDORA_RESTS
    )


def serve_openai(name: str, config: Upstream, server: OpenAiServer) -> ServedUpstream[RelayedJob]:
    """An upstream that is an OpenAI-compatible server, with these settings."""

    async def survey() -> Surveyed:
        found = await server.survey()
        # A server that lists neither models nor slots may still be starting.
        is_complete = bool(found.models) or (found.any_model and found.slots_known)
        # Until it can be asked, what it offered before holds: its jobs may still have to run.
        offer = _offer(name, config, found) if found.is_known or found.trouble else None
        return Surveyed(offer, is_complete and not found.trouble)

    return ServedUpstream(name, config, RelayedJob, server, survey, OPENAI_RESTS)


def _offer(name: str, config: Upstream, found: Survey) -> Offer:
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
        own_accounts=False,
        max_concurrency=found.slots,
        accounts={name: found.slots},
        lanes=[*_lanes("chat", found), *_lanes("embeddings", found)],
        about=encode_about(about),
        circuit_failures=config.circuit_failures,
    )


def _lanes(sort: Sort, found: Survey) -> list[str]:
    lanes = [lane_name(sort, model) for model in found.models]
    return [*lanes, lane_of_any(sort)] if found.any_model else lanes
