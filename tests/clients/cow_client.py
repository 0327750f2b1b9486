"""chatgpt-on-wechat, from its checkout: its agent, with a call of one of its tools.

`python cow_client.py <base URL> <folder of the checkout>`, with its requirements installed. The
checkout gets a `config.json`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

api, checkout = sys.argv[1:]
home = tempfile.mkdtemp()
os.environ["HOME"] = home
os.chdir(checkout)
sys.path.insert(0, checkout)
own = {
    "channel_type": "terminal",
    "model": "gpt-4.1",
    "open_ai_api_key": "cow",
    "open_ai_api_base": api,
    "agent": True,
    "agent_workspace": f"{home}/workspace",
}
Path("config.json").write_text(json.dumps(own))

from bridge.bridge import Bridge  # noqa: E402
from bridge.context import Context, ContextType  # noqa: E402
from config import load_config  # noqa: E402

load_config()


def ask(question: str) -> str:
    """Return the agent's reply in the one session."""
    context = Context(ContextType.TEXT, question)
    context["session_id"] = "cow"
    return str(Bridge().fetch_agent_reply(question, context=context).content)


assert ask("[[sim words=3]]") == "w0 w1 w2"
assert "AGENT.md" in ask('[[sim call=ls args={"path":"."}]] List your workspace.')
assert ask("[[sim words=4]]") == "w0 w1 w2 w3"
