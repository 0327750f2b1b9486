"""`python -m tests.chaos [--seed N] [--upstream openai] [--jobs 600] [--calm 6]`: one storm.

Exit status 1 if anything was violated. `--keep DIRECTORY` leaves what the roles print.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
import tempfile
from pathlib import Path
from typing import get_args

from tests.chaos.plan import Upstream
from tests.chaos.run import LONG, SHORT, run


def main() -> None:
    """Read the command line, run the storm, and print its report."""
    parser = argparse.ArgumentParser(prog="tests.chaos", description="Kills the gateway's parts.")
    parser.add_argument("--seed", type=int, help="by default a random one")
    parser.add_argument("--jobs", type=int, help="how many requests")
    parser.add_argument("--calm", type=float, help="seconds at least between most strikes")
    parser.add_argument("--upstream", choices=get_args(Upstream), default="pandora")
    parser.add_argument("--short", action="store_true", help="the storm of `make test`")
    parser.add_argument("--keep", type=Path, help="where to leave what the roles print")
    args = parser.parse_args()
    seed = random.randrange(1_000_000) if args.seed is None else args.seed
    weather = SHORT if args.short else LONG
    if args.jobs is not None:
        weather = dataclasses.replace(weather, jobs=args.jobs)
    if args.calm is not None:
        weather = dataclasses.replace(weather, calm=args.calm)
    print(f"seed {seed}: {weather.jobs} requests; again with --seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        directory = args.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        report = run(seed, weather, directory, args.upstream)
    print(report.shown())
    sys.exit(1 if report.violations else 0)


if __name__ == "__main__":
    main()
