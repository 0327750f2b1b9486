"""`llm`, the command: a model of its own file of OpenAI-compatible ones."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

URL = sys.argv[1]

with tempfile.TemporaryDirectory() as folder:
    model = {"model_id": "line", "model_name": "gpt-4", "api_base": URL, "api_key_name": "line"}
    lines = [
        f'{"- " if n == 0 else "  "}{key}: "{value}"'
        for n, (key, value) in enumerate(model.items())
    ]
    (Path(folder) / "extra-openai-models.yaml").write_text("\n".join(lines) + "\n")
    (Path(folder) / "keys.json").write_text('{"line": "llm"}')
    environ = {**os.environ, "LLM_USER_PATH": folder}
    command = [Path(sys.executable).with_name("llm"), "-m", "line", "[[sim words=5]]"]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert said.stdout.strip() == "w0 w1 w2 w3 w4", said
