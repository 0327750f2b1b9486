"""Composition of the Pandora upstream from the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from runtime.tasks import background
from settings import Settings
from store.blobs import Blobs
from store.media import Media
from wire.gpts import GptInfos
from wire.redis.client import Redis
from wire.seal import Seal
from workers.http.session import open_session
from workers.pandora.arkose import ArkoseServers
from workers.pandora.backend import Backend
from workers.pandora.client import Pandora
from workers.pandora.conversations import delete_conversation
from workers.pandora.deletions import Deletions
from workers.pandora.files.downloads import Downloads
from workers.pandora.files.uploaded import UploadedFiles
from workers.pandora.files.uploads import Uploads
from workers.pandora.gpts import Gpts
from workers.pandora.questions import Questions
from workers.pandora.referrals import open_referrals
from workers.pandora.transport import Transport


@asynccontextmanager
async def open_pandora(
    config: Settings, redis: Redis, seal: Seal, media: Media, blobs: Blobs
) -> AsyncIterator[Pandora]:
    """The upstream, with everything that it runs in the background, for as long as it is open."""
    upstream, conversation = config.upstream, config.conversation
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session(upstream.proxy))
        base_url = upstream.require_base_url()
        referrals = await stack.enter_async_context(open_referrals(session, config))
        backend = Backend(
            session, base_url, upstream.api_prefix, upstream.connect_timeout, referrals
        )
        infos = GptInfos(redis, seal, config.gpts.refresh)
        gpts = Gpts(backend, infos, config.gpts.key_for_info.reveal())
        known = UploadedFiles(redis, seal, config.files.cache_ttl)
        uploads = Uploads(backend, blobs, known, config)
        deletions = None
        if conversation.delete_after_response and conversation.delete_mode == "patch":
            deletions = Deletions(redis, seal, partial(delete_conversation, backend), config.queue)
        keep_history = not conversation.delete_after_response or deletions is not None
        arkose = ArkoseServers(backend, config.arkose.urls) if config.arkose.custom else None
        pandora = Pandora(
            Questions(uploads, gpts, keep_history=keep_history),
            Transport(backend, upstream.transport, arkose),
            Downloads(backend, media, config.media),
            deletions,
            config.gpts.confirm_actions,
        )
        stack.push_async_callback(pandora.aclose)
        if deletions is not None:
            await stack.enter_async_context(deletions.running())
        ids = [gpt.id for _, gpt in config.custom]
        await stack.enter_async_context(background(gpts.keep_asking(ids)))
        yield pandora
