"""Composition of a front end: all its parts, real by default, and the tasks that run with it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import get_args

from app.admin.access import check_token
from app.admin.routes import admin_routes
from app.allowances import Allowances
from app.anthropic.rendering import MESSAGES
from app.auth import Auth, passes_keys_through
from app.chat import Chats
from app.delivery import Delivery
from app.files.attachments import Attachments
from app.health import Health
from app.heartbeat import Heartbeat
from app.http.budget import MemoryBudget
from app.http.framework import METRICS
from app.images import ImageGenerations
from app.items import Items
from app.key_lookup import KeyLookup
from app.line import Line
from app.media import MediaDownloads
from app.metrics import MetricsExporter
from app.models import ModelCatalog, ModelEntries
from app.no_keys import NoKeys
from app.openai.chunks import CHATS
from app.openai.completions import COMPLETIONS
from app.openai.dialect import Dialect
from app.openai.responses.rendering import RESPONSES
from app.openapi.description import describe
from app.openapi.documents import Documents
from app.openapi.operations import operations
from app.queue import QueueEntries
from app.refusals import Refusals
from app.relay import Relay
from app.routing import ModelRoute, OwnHandler, Router
from app.server import Feature, FrontEndServer, Route
from app.tally import Tally
from app.throttle import Throttle
from app.token_counts import TokenCounts
from app.upstreams import SharedUpstreams
from runtime.tasks import background
from settings import Settings
from settings.client_access import client_access
from store.blobs import Blobs, open_blobs
from store.media import Media, open_media
from store.sweeping import keep_sweeping
from wire.gpts import GptInfos
from wire.items import StoredItems
from wire.jobs import ApiPath
from wire.key_figures import KeyReadings
from wire.keyring import Keyring
from wire.line.front_end import FrontEndLine
from wire.line.history import History
from wire.line.operator import OperatorLine
from wire.line.scripts import Scripts
from wire.line.upkeep import UpkeepLine
from wire.redis.client import Redis, connect
from wire.seal import Seal
from wire.stream.channel import RedisChannel
from wire.stream.inbox import Inbox
from wire.upkeep.history import keep_recording
from wire.upkeep.processes import showing
from wire.upkeep.reaper import keep_reaping
from wire.upkeep.reconciler import keep_reconciling
from wire.upkeep.revocation import keep_ending_revoked
from wire.upkeep.version import keep_version

SWEEP_INTERVAL = 600.0
"""Seconds between two searches for expired media and blobs."""

DIALECTS: dict[ApiPath, Dialect] = {
    "chat/completions": CHATS,
    "responses": RESPONSES,
    "completions": COMPLETIONS,
    "messages": MESSAGES,
}
"""The dialects of a chat, by their paths."""

_READ = ("GET", "HEAD")


def build_server(
    config: Settings,
    seal: Seal,
    *,
    host: str = "",
    redis: Redis | None = None,
    media: Media | None = None,
    blobs: Blobs | None = None,
    budget: MemoryBudget | None = None,
) -> FrontEndServer:
    """Build the server of one front end, which listens on `host`, by default `server.host`.

    Raises:
        SettingsError: the media store in the settings cannot be used, `auth.mode` does not suit the
            upstreams, or `admin.token` is a secret that others have.
    """
    redis = redis or connect(config.redis.role_url)
    media = media or open_media(config.media, config.directory)
    blobs = blobs or open_blobs(config, seal)
    # Give up at half the body timeout, so that the client still has time to receive the 429.
    budget = budget or MemoryBudget(config.server.max_body_bytes, config.server.body_timeout / 2)

    id = secrets.token_hex(8)
    scripts = Scripts(redis, seal.fingerprint)
    shared_line = FrontEndLine(scripts, config.queue)
    upkeep = UpkeepLine(scripts, config.queue)
    channel = RedisChannel(redis)
    inbox = Inbox(
        channel,
        shared_line,
        seal,
        id,
        outage_grace=config.redis.outage_grace,
        max_backlog=config.stream.max_backlog,
    )
    grace = config.redis.outage_grace
    heartbeat = Heartbeat(
        shared_line.presences, id, config.queue.heartbeat, grace, inbox.give_up_all
    )
    upstreams = SharedUpstreams(config, shared_line.upstreams)
    line = Line(config, seal, shared_line, inbox, id, upstreams.too_late)
    attachments = Attachments(config.files, blobs, media, budget)
    items = Items(StoredItems(redis, seal, config.responses))
    models = ModelCatalog(config.models, config.custom)
    keyring = Keyring(redis, seal)
    access = client_access(config, host)
    check_token(config, access)
    auth = Auth(config, access, KeyLookup(keyring.get))
    no_keys = NoKeys(access, keyring.count)
    health = Health(upkeep, seal.fingerprint, heartbeat, inbox.subscribed, upstreams, no_keys)
    tally = Tally(shared_line.count, config.queue.heartbeat)
    allowances = Allowances(shared_line, seal, tally)
    refusals = Refusals(config.server, Throttle(), tally)
    router = Router(config, upstreams, auth, allowances, Relay(config, seal, attachments))
    delivery = Delivery(line)
    handlers: dict[ApiPath, OwnHandler] = {}
    features: dict[str, Feature] = {}
    if passes_keys_through(config):
        for path, dialect in DIALECTS.items():
            handlers[path] = Chats(dialect, config, seal, models, attachments, items)
        handlers["messages/count_tokens"] = TokenCounts(MESSAGES, config.compat)
        images = ImageGenerations(config, seal, line, models, media, budget)
        features["images/generations"] = auth.of_own(allowances.before(images, "images"))
    for path in get_args(ApiPath) if upstreams.are_configured else handlers:
        own = handlers.get(path)
        features[path] = ModelRoute(path, own, router, delivery, attachments)
    key_readings = KeyReadings(redis, seal, upkeep)
    metrics = MetricsExporter(upkeep, redis, key_readings.read, config, upstreams.states)
    gpts = GptInfos(redis, seal, config.gpts.refresh)
    entries = ModelEntries(models if handlers else ModelCatalog.empty(), gpts, upstreams, auth)
    v1 = f"{config.server.api_prefix}/v1"
    routes = [
        *_feature_routes(v1, features, refusals),
        *_lookup_routes(v1, entries, QueueEntries(shared_line, seal, auth), refusals),
        *_operator_routes(health, metrics),
        *_media_routes(media, config.stream.send_timeout),
    ]
    described = operations(
        handlers, relayed=upstreams.are_configured, shows_models=auth.passes_through
    )
    # It describes itself, too: it is made once all routes are known.
    describing = partial(
        describe, routes, described, config.server.public_url, needs_key=auth.needs_key
    )
    routes += _document_routes(config.server.api_prefix, Documents(describing))

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        upkeep_tasks = background(
            keep_reaping(upkeep, channel, seal, config.queue.heartbeat),
            keep_reconciling(upkeep, config.queue.heartbeat),
            keep_version(upkeep, config.queue.heartbeat),
            no_keys.keep_logging(),
            keep_ending_revoked(upkeep, seal, keyring, ends_running=config.auth.on_revoke == "end"),
            keep_recording(History(scripts), upkeep.snapshot),
            keep_sweeping(media.sweep, "images and files", SWEEP_INTERVAL),
            keep_sweeping(blobs.sweep, "blobs of jobs", SWEEP_INTERVAL),
        )
        follows = upstreams.running()
        shown = showing(upkeep.processes, id, "front_end", server.add_work, config.queue.heartbeat)
        async with (
            attachments.running(),
            heartbeat.running(),
            shown,
            tally.running(),
            upkeep_tasks,
            line.running(),
            follows,
        ):
            yield

    operators = OperatorLine(scripts, config.queue)
    admin = admin_routes(config, seal, redis, operators, keyring, tally)
    server = FrontEndServer(config, routes, health, running, line.fail_all, admin)
    return server


def _feature_routes(v1: str, features: Mapping[str, Feature], refusals: Refusals) -> list[Route]:
    return [
        Route(
            path.replace("/", "_"),
            ("POST",),
            f"{v1}/{path}",
            refusals.of(feature),
            is_feature=True,
        )
        for path, feature in features.items()
    ]


def _lookup_routes(
    v1: str, models: ModelEntries, queue: QueueEntries, refusals: Refusals
) -> list[Route]:
    of = refusals.of
    return [
        Route("models", _READ, f"{v1}/models", of(models.list)),
        Route("model", _READ, f"{v1}/models/<name:path>", of(models.show)),
        Route("queue_show", ("GET",), f"{v1}/queue/<id>", of(queue.show)),
        Route("queue_cancel", ("DELETE",), f"{v1}/queue/<id>", of(queue.cancel)),
    ]


def _operator_routes(health: Health, metrics: MetricsExporter) -> list[Route]:
    return [
        Route("healthz", _READ, "/healthz", health.alive),
        Route("readyz", _READ, "/readyz", health.ready),
        Route("metrics", _READ, METRICS, metrics),
    ]


def _document_routes(prefix: str, documents: Documents) -> list[Route]:
    return [
        Route("openapi", _READ, f"{prefix}/openapi.json", documents.description),
        Route("docs", _READ, f"{prefix}/docs", documents.page),
    ]


def _media_routes(media: Media, timeout: float) -> list[Route]:
    return [
        Route(kind, _READ, f"/{kind}/<name:str>", MediaDownloads(media, kind, timeout))
        for kind in ("images", "files")
    ]
