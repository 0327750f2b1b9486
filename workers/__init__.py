"""The upstream side: claims jobs from the line, holds the conversations, publishes the events.

`worker` claims jobs and runs an `attempt` at each, on `arq`; `leases` renews the right to run them,
`chat` holds one conversation, `settlement` finishes or requeues the job, and behind the seam
`upstream` is the server that answers (`pandora/`, `openai/`).
"""

from __future__ import annotations


def __getattr__(name: str) -> object:
    # arq's own command would start arq's own worker, without leases.
    if name == "WorkerSettings":
        raise SystemExit("Workers are started with `python -m workers`, not with arq's command.")
    raise AttributeError(name)
