"""`python -m simulator`: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from contextlib import AbstractAsyncContextManager
from typing import get_args

import uvloop

from simulator import server
from simulator.accounts import Limits
from simulator.openai import server as openai_server
from simulator.openai.likeness import Like
from simulator.openai.state import Config


def main() -> None:
    """Read the command line and serve."""
    args = _parser().parse_args()
    try:
        uvloop.run(_serve(args))
    except OSError as error:
        sys.exit(f"simulator: cannot listen on {args.host}:{args.port}: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="simulator",
        description="A stand-in for an upstream, with scripted answers and faults.",
    )
    parser.add_argument("--kind", choices=("pandora", "openai"), default="pandora")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8181, help="0 takes a free port")
    pandora = parser.add_argument_group("kind pandora")
    pandora.add_argument(
        "--side-port", type=int, default=0, help="storage and sockets; 0 takes a free port"
    )
    pandora.add_argument("--prefix", default="", help="the api prefix")
    pandora.add_argument("--max-active", type=int, default=64, help="conversations at once in all")
    pandora.add_argument("--per-account", type=int, default=1, help="conversations at once")
    pandora.add_argument("--per-pool", type=int, default=3, help="the same for a pk- bearer")
    openai = parser.add_argument_group("kind openai")
    openai.add_argument("--slots", type=int, default=2, help="answers at once")
    openai.add_argument("--may-wait", type=int, help="requests that may wait for a slot")
    openai.add_argument("--like", choices=get_args(Like), default="llama", help="whose form it has")
    openai.add_argument("--models", default="tiny", help="names, separated by commas")
    openai.add_argument("--without", default="", help="paths below /v1/ that it does not have")
    openai.add_argument("--api-key", default="", help="the key that it requires")
    return parser


def _serving(args: argparse.Namespace) -> AbstractAsyncContextManager[str]:
    where = {"host": args.host, "port": args.port}
    if args.kind == "openai":
        config = Config(
            slots=args.slots,
            api_key=args.api_key,
            models=tuple(args.models.split(",")),
            like=args.like,
            may_wait=args.may_wait,
            without=tuple(filter(None, args.without.split(","))),
        )
        return openai_server.serve(config, **where)
    limits = Limits(args.max_active, args.per_account, args.per_pool)
    return server.serve(limits, **where, side_port=args.side_port, prefix=args.prefix)


async def _serve(args: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with _serving(args) as url:
        print(f"simulator ready on {url}", flush=True)
        await stopping.wait()


if __name__ == "__main__":
    main()
