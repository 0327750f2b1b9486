"""Apps and libraries from PyPI and npm, unchanged, against the gateway of this checkout.

Run by `make clients`, which installs their newest versions. Each gets an empty home and nothing but
the gateway's address. The log of the gateway and what a failed client printed are left in a
temporary folder, whose name is printed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from servers import API, ROOT, gateway, openai_server

CLIENTS = ROOT / ".clients"
COMMANDS = CLIENTS / "npm" / "node_modules" / ".bin"
SCRIPTS = ROOT / "tests" / "clients"
KEY = "apps"
NOTE = "The number of the note is 4711."


def run(
    folder: Path, *command: str | Path, stdin: str = "", environ: Mapping[str, str] | None = None
) -> str:
    """Run a client in a folder, with an empty home; return its output."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    ran = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"HOME": str(home), "PWD": str(folder)} | (environ or {}),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def expect(text: str, output: str) -> None:
    """Check that an output contains a text."""
    assert text in output, output


def aider(folder: Path) -> None:
    """A message to aider."""
    address = ["--openai-api-base", API, "--openai-api-key", KEY, "--model", "openai/gpt-4"]
    alone = ["--no-git", "--yes-always", "--no-check-update", "--analytics-disable"]
    message = ["--message", "[[sim words=4]]"]
    command = CLIENTS / "aider" / "bin" / "aider"
    expect("w0 w1 w2 w3", run(folder, command, *address, *alone, *message))


def astrbot(folder: Path) -> None:
    """The provider of AstrBot."""
    run(folder, CLIENTS / "astrbot" / "bin" / "python", SCRIPTS / "astrbot_client.py", API)


def claude(folder: Path) -> None:
    """A question to Claude Code, which reads a file for it."""
    (folder / "note.txt").write_text(NOTE)
    arguments = json.dumps({"file_path": str(folder / "note.txt")}, separators=(",", ":"))
    ask = f"[[sim call=Read args={arguments}]] Read the note."
    environ = {
        "ANTHROPIC_BASE_URL": API.removesuffix("/v1"),
        "ANTHROPIC_AUTH_TOKEN": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    command = [COMMANDS / "claude", "-p", ask, "--model", "gpt-4", "--allowedTools", "Read"]
    expect(NOTE, run(folder, *command, environ=environ))


def codex(folder: Path) -> None:
    """A question to Codex, which runs a command for it; another one under its default model."""
    provider = {"name": "gateway", "base_url": API, "env_key": "CODEX_KEY", "wire_api": "responses"}
    lines = [f"{key} = {json.dumps(value)}" for key, value in provider.items()]
    config = ['model_provider = "gateway"', "[model_providers.gateway]", *lines]
    (folder / "config.toml").write_text("\n".join(config))
    (folder / "note.txt").write_text(NOTE)
    ask = '[[sim call=exec_command args={"cmd":"cat<note.txt"}]] Read the note.'
    command = [COMMANDS / "codex", "exec", "--skip-git-repo-check"]
    environ = {"CODEX_HOME": str(folder), "CODEX_KEY": KEY}
    expect(NOTE, run(folder, *command, "--model", "gpt-4", ask, environ=environ))
    # Its tools are then custom ones, in a namespace within the input.
    ask = '[[sim call=functions.exec args={"input":"text(4700+11)"}]] Add them.'
    expect("4711", run(folder, *command, ask, environ=environ))


def cow(folder: Path) -> None:
    """chatgpt-on-wechat, with its agent."""
    checkout = Path(os.environ["COW"])
    python = checkout / ".venv" / "bin" / "python"
    run(folder, python, SCRIPTS / "cow_client.py", API, checkout)


def fetch_event_source(folder: Path) -> None:
    """fetch-event-source as pages use it."""
    node(folder, "fetch_event_source.mjs")


def openai_node(folder: Path) -> None:
    """openai-node."""
    node(folder, "openai_node.mjs")


def opencode(folder: Path) -> None:
    """A question to opencode, which reads a file for it."""
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "gateway",
        "options": {"baseURL": API, "apiKey": KEY},
        "models": {"gpt-4": {"name": "gpt-4"}},
    }
    config = {"provider": {"gateway": provider}, "model": "gateway/gpt-4"}
    (folder / "opencode.json").write_text(json.dumps(config))
    (folder / "note.txt").write_text(NOTE)
    arguments = json.dumps({"filePath": str(folder / "note.txt")}, separators=(",", ":"))
    ask = f"[[sim call=read args={arguments}]] Read the note."
    # Its own list of models is on a server that is not needed.
    environ = {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}
    expect(NOTE, run(folder, COMMANDS / "opencode", "run", stdin=ask, environ=environ))


def vercel(folder: Path) -> None:
    """The AI SDK of Vercel."""
    node(folder, "vercel.mjs")


def node(folder: Path, script: str) -> None:
    """Run a script with the packages from npm; Node.js looks for them where the script is."""
    (folder / script).write_text((SCRIPTS / script).read_text())
    (folder / "node_modules").symlink_to(CLIENTS / "npm" / "node_modules")
    run(folder, "node", script, API)


CASES: tuple[Callable[[Path], None], ...] = (
    aider,
    astrbot,
    claude,
    codex,
    cow,
    fetch_event_source,
    openai_node,
    opencode,
    vercel,
)
RELAYED = (claude, fetch_event_source, openai_node, opencode, vercel)
"""Those that are run against both kinds of upstreams."""


def attempt(case: Callable[[Path], None], folder: Path) -> list[str]:
    """Run a client in a new folder; return its name if it failed, and keep what it printed."""
    folder.mkdir()
    try:
        case(folder)
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        folder.with_suffix(".log").write_text(str(error))
        print(f"{folder.name}: FAILED", flush=True)
        return [folder.name]
    print(f"{folder.name}: right", flush=True)
    return []


def main() -> None:
    """Run all clients, or those that are named."""
    named = sys.argv[1:] or [case.__name__ for case in CASES]
    root = Path(tempfile.mkdtemp(prefix="clients-"))
    failed: list[str] = []
    waiting = {"GATEWAY__STREAM__GRACE": "0.2", "GATEWAY__STREAM__KEEPALIVE_INTERVAL": "0.3"}
    with gateway(root / "gateway.log", **waiting):
        for case in CASES:
            if case.__name__ not in named:
                continue
            if case.__name__ == "cow" and "COW" not in os.environ:
                print("cow: skipped, since COW names no checkout (see tests/clients/README.md)")
                continue
            failed += attempt(case, root / case.__name__)
    with openai_server(root / "server.log") as server, gateway(root / "relay.log", **server):
        for case in RELAYED:
            if case.__name__ in named:
                failed += attempt(case, root / f"{case.__name__}_relayed")
    if failed:
        sys.exit(f"failed: see {root}")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
