"""`python -m benchmarks [names...]`: run all benchmarks, or those named."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from importlib.metadata import version

from benchmarks import (
    abuse,
    board,
    cpu_per_token,
    fairness,
    first_token,
    footprint,
    honesty,
    idle,
    length,
    operators,
    promises,
    random_lines,
    stalls,
    waiting,
)

BENCHMARKS = {
    "first_token": first_token.main,
    "cpu_per_token": cpu_per_token.main,
    "idle": idle.main,
    "waiting": waiting.main,
    "footprint": footprint.main,
    "fairness": fairness.main,
    "honesty": honesty.main,
    "promises": promises.main,
    "length": length.main,
    "board": board.main,
    "random_lines": random_lines.main,
    "stalls": stalls.main,
    "abuse": abuse.main,
    "operators": operators.main,
}
LIBRARIES = ("sanic", "aiohttp", "arq", "redis", "hiredis", "msgspec", "uvloop")


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Benchmarks of the gateway.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; by default all")
    parser.add_argument("--seed", type=int, default=random_lines.SEED, help="of random_lines")
    parser.add_argument("--scenarios", type=int, default=random_lines.SCENARIOS, help="the same")
    parser.add_argument(
        "--clients", type=int, nargs="+", default=waiting.CLIENTS, help="of waiting"
    )
    parser.add_argument("--inputs", nargs="+", default=(), help="of stalls; by default all")
    given = parser.parse_args()
    names = given.names or list(BENCHMARKS)
    benchmarks = BENCHMARKS | {
        "random_lines": lambda: random_lines.main(given.seed, given.scenarios),
        "waiting": lambda: waiting.main(given.clients),
        "stalls": lambda: stalls.main(given.inputs),
    }
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}: there are {', '.join(BENCHMARKS)}")
    # SIGTERM ends the run and every process that was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores")
    print(", ".join(f"{library} {version(library)}" for library in LIBRARIES))
    for name in names:
        print(flush=True)
        benchmarks[name]()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
