"""How every role writes its log: one line a record, to standard error."""

from __future__ import annotations

import logging


def configure(level: str) -> None:
    """Set up logging for this process. No key, prompt or answer may ever be logged."""
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True
    )
    # arq tells of every job's start and end with its arguments; our own lines say what matters.
    logging.getLogger("arq").setLevel(max(logging.WARNING, logging.getLevelName(level)))
