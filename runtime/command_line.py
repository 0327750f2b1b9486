"""Command lines of the roles, which take no arguments: the settings configure them."""

from __future__ import annotations

import argparse
import textwrap

_CONFIGURED = """\
It is configured by settings.toml, settings.local.toml and the environment (GATEWAY__SECTION__KEY).
docs/settings.md explains every setting."""


def new_parser(module: str, description: str) -> argparse.ArgumentParser:
    """Return a parser without arguments, whose help names what configures the role."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=textwrap.dedent(description),
        epilog=_CONFIGURED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def parse_no_arguments(module: str, description: str) -> None:
    """Print help and exit if it is asked for; exit with status 2 at any other argument."""
    new_parser(module, description).parse_args()
