"""A real llama.cpp server with a tiny random model, for `make run UPSTREAM=llama` and the tests.

Its packages have an environment of their own, `.llama`, which `make .llama/.installed` makes
(requirements-llama.lock). So nothing here imports anything else of the gateway:

    .llama/bin/python -m local.llama --port 0 --slots 2 --api-key secret

prints `llama ready on http://127.0.0.1:PORT` (without /v1) when it answers requests, and serves
until SIGTERM, SIGINT or SIGKILL. It serves chats, completions, Responses, Messages and embeddings.
See `--help` for more, and `tiny_model.py` for what makes the model say something particular.
"""

from __future__ import annotations

import re
from pathlib import Path

PYTHON = Path(__file__).parents[2] / ".llama" / "bin" / "python"
"""The interpreter that has the packages, if they are installed."""

READY = re.compile(r"llama ready on (\S+)")
"""The line that the server prints with its address."""
