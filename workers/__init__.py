"""The upstream side: takes jobs from the line, holds the conversations, publishes the events.

`worker` claims jobs and gives each its ending, `leases` keeps the right to hold them, `chat` holds
one conversation, and behind `upstream` stands whatever answers (`pandora/`).
"""

from __future__ import annotations


def __getattr__(name: str) -> object:
    # arq's own command would build arq's own worker, which knows nothing of leases.
    if name == "WorkerSettings":
        raise SystemExit("Workers are started with `python -m workers`, not with arq's command.")
    raise AttributeError(name)
