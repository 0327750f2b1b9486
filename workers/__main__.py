"""`python -m workers`: one worker process, until SIGTERM (drains) or a second one (at once)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
from contextlib import AsyncExitStack

import uvloop

import settings
from runtime import logs
from runtime.tasks import background
from settings.loader import load
from store.blobs import Blobs, open_blobs
from store.media import Media, MediaError, open_media
from wire.gpts import GptInfos
from wire.redis.client import connect
from wire.seal import Seal, WeakSecretError, load_secret
from workers.pandora.arkose import ArkoseServers
from workers.pandora.client import Pandora, backend
from workers.pandora.conversations import History
from workers.pandora.deletions import Deletions
from workers.pandora.files.uploaded import UploadedFiles
from workers.pandora.files.uploads import Uploads
from workers.pandora.gpts import Gpts
from workers.pandora.session import open_session
from workers.worker import Worker

logger = logging.getLogger("workers")


async def serve(config: settings.Settings, seal: Seal, media: Media, blobs: Blobs) -> None:
    """Run a worker with the real Redis and the real upstream."""
    logger.info(
        "Redis is %s, the upstream is %s",
        config.redis.role_url,
        config.upstream.require_base_url(),
    )
    redis = connect(config.redis.role_url)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session(config.upstream.proxy))
        conversation = config.conversation
        root = backend(config.upstream.require_base_url(), config.upstream.api_prefix)
        infos = GptInfos(redis, seal, config.gpts.refresh)
        gpts = Gpts(session, root, infos, config.gpts.key_for_info.reveal())
        deletions = None
        if conversation.delete_after_response and conversation.delete_mode == "patch":
            deletions = Deletions(redis, seal, History(session, root).delete, config.queue)
        upstream = Pandora(
            session,
            base_url=config.upstream.require_base_url(),
            api_prefix=config.upstream.api_prefix,
            connect_timeout=config.upstream.connect_timeout,
            transport=config.upstream.transport,
            media=media,
            rules=config.media,
            arkose=ArkoseServers(session, config.arkose.urls) if config.arkose.custom else None,
            deletions=deletions,
            keep_history=not conversation.delete_after_response or deletions is not None,
            gpts=gpts,
            uploads=Uploads(
                session, root, blobs, UploadedFiles(redis, seal, config.files.cache_ttl), config
            ),
            confirm_actions=config.gpts.confirm_actions,
        )
        stack.push_async_callback(upstream.aclose)
        worker = Worker(secrets.token_hex(8), redis, seal, upstream, config, blobs)
        main = asyncio.create_task(worker.main())
        stopping = False

        def stop() -> None:
            nonlocal stopping
            main.cancel() if stopping else worker.drain()
            stopping = True

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        try:
            async with (
                deletions.running() if deletions else contextlib.nullcontext(),
                background(gpts.keep_asking([gpt.id for _, gpt in config.custom])),
            ):
                await main
        except asyncio.CancelledError:
            logger.warning("stopped at once: what was held is left to its leases")
        finally:
            await redis.aclose()


def main() -> None:
    """Read the settings and serve."""
    try:
        config = load()
        config.upstream.require_base_url()
        logs.configure(config.log, config.directory)
        seal = Seal(load_secret(config.directory, os.environ))
        media = open_media(config.media, config.directory)
        blobs = open_blobs(config, seal)
    except (settings.SettingsError, WeakSecretError, MediaError) as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(
            f"the secret in {error.filename} cannot be read or made: {error.strerror};"
            " name another file in GATEWAY_SECRET_FILE, or give the secret as GATEWAY_SECRET"
        )
    uvloop.run(serve(config, seal, media, blobs))


if __name__ == "__main__":
    main()
