"""`python -m workers`: one worker process, until SIGTERM, after which running answers may finish.

A second SIGTERM stops it at once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import signal
import sys

import uvloop

import settings
from runtime import logs, tracing
from runtime.command_line import parse_no_arguments
from runtime.permissions import restrict_new_files
from runtime.tasks import find_error
from settings.environment import log_misspelt
from settings.loader import load
from store.blobs import Blobs, open_blobs
from store.media import Media, open_media
from wire.line.scripts import WrongVersionError, upgrade
from wire.redis.client import connect
from wire.seal import Seal, load_secret
from workers.opening import open_upstreams
from workers.worker import Worker

logger = logging.getLogger("workers")


async def serve(config: settings.Settings, seal: Seal, media: Media, blobs: Blobs) -> None:
    """Run a worker with the real Redis and the real upstreams."""
    servers = {name: upstream.base_url for name, upstream in config.require_upstreams().items()}
    fields = {"redis": config.redis.role_url, "upstreams": servers}
    logger.info("starting", extra={"event": "worker_starting", **fields})
    redis = connect(config.redis.role_url)
    try:
        async with open_upstreams(config, redis, seal, media, blobs) as upstreams:
            await _run(Worker(secrets.token_hex(8), redis, seal, upstreams, config, blobs))
    except asyncio.CancelledError:
        logger.warning(
            "stopped at once: the jobs are requeued or fail when their leases expire",
            extra={"event": "worker_stopped_at_once"},
        )
    finally:
        await redis.aclose()


async def _run(worker: Worker) -> None:
    """Run a worker until the first signal drains it, or the second one stops it at once."""
    main = asyncio.create_task(worker.main())
    stopping = False

    def stop() -> None:
        nonlocal stopping
        main.cancel() if stopping else worker.drain()
        stopping = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, _refuse_reload)
    await main


def _refuse_reload() -> None:
    logger.warning(
        "a worker is not reloaded by SIGHUP: restart it with SIGTERM, it finishes its answers",
        extra={"event": "not_reloaded"},
    )


def main() -> None:
    """Read the settings and serve."""
    parse_no_arguments("workers", __doc__)
    try:
        config = load()
        config.require_upstreams()
        restrict_new_files()
        logs.configure(config.log, config.directory)
        seal = Seal(load_secret(config.directory, os.environ))
        media = open_media(config.media, config.directory)
        blobs = open_blobs(config, seal)
        asyncio.run(upgrade(config.redis.role_url, seal.fingerprint))
    except (settings.SettingsError, WrongVersionError) as error:
        sys.exit(str(error))
    gc.freeze()  # imports never become garbage: walking through them again would stop the loop
    log_misspelt(os.environ)
    tracing.start(config.trace, "worker")
    try:
        uvloop.run(serve(config, seal, media, blobs))
    except Exception as error:
        for reason in (WrongVersionError, settings.SettingsError):
            if found := find_error(error, reason):
                sys.exit(str(found))
        raise
    finally:
        tracing.stop()


if __name__ == "__main__":
    main()
