"""How every role writes its log: one line a record, to standard error."""

from __future__ import annotations

import logging
import traceback


def where(error: BaseException) -> str:
    """An error's type and the way it came, for the log.

    Without its message, which can quote what a client sent: a KeyError names the key.
    """
    steps = traceback.extract_tb(error.__traceback__)
    way = "".join(f"\n    {step.filename}:{step.lineno} in {step.name}" for step in steps)
    return f"{type(error).__name__}{way}"


def configure(level: str) -> None:
    """Set up logging for this process. No key, prompt or answer may ever be logged."""
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True
    )
    # Sanic calls its process a worker, which means something else here.
    logging.getLogger("sanic.server").setLevel(logging.WARNING)
    # arq tells of every job's start and end with its arguments; our own lines say what matters.
    logging.getLogger("arq").setLevel(max(logging.WARNING, logging.getLevelName(level)))
