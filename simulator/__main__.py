"""`python -m simulator`: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import uvloop

from simulator.accounts import Limits
from simulator.server import serve


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="simulator", description="A Pandora-Next stand-in with scripted answers and faults."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8181, help="0 takes a free port")
    parser.add_argument(
        "--side-port", type=int, default=0, help="storage and sockets; 0 takes a free port"
    )
    parser.add_argument("--prefix", default="", help="the api prefix")
    parser.add_argument("--max-active", type=int, default=64, help="conversations at once in all")
    parser.add_argument("--per-account", type=int, default=1, help="conversations at once")
    parser.add_argument("--per-pool", type=int, default=3, help="the same for a pk- bearer")
    args = parser.parse_args()
    limits = Limits(args.max_active, args.per_account, args.per_pool)
    try:
        uvloop.run(_serve(limits, args))
    except OSError as error:
        sys.exit(f"simulator: cannot listen on {args.host}:{args.port}: {error}")


async def _serve(limits: Limits, args: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    serving = serve(
        limits, host=args.host, port=args.port, side_port=args.side_port, prefix=args.prefix
    )
    async with serving as url:
        print(f"simulator ready on {url}", flush=True)
        await stopping.wait()


if __name__ == "__main__":
    main()
