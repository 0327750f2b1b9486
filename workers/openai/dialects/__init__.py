"""Meaning of an answer's messages for the line, per path of the API. Pure.

Messages are relayed as they were written: new fields of a server need no change here.
"""

from __future__ import annotations

from wire.jobs import ApiPath
from workers.openai.dialects.chat import Chat
from workers.openai.dialects.completions import Completions
from workers.openai.dialects.dialect import Dialect
from workers.openai.dialects.messages import Messages
from workers.openai.dialects.responses import Responses


def dialect_of(path: ApiPath, choices: int = 1) -> Dialect:
    """Return the dialect for one streamed answer. `choices`: the number that was asked for."""
    match path:
        case "chat/completions":
            return Chat(choices)
        case "completions":
            return Completions(choices)
        case "responses":
            return Responses()
        case "messages":
            return Messages()
        case _:
            raise ValueError(f"answers of {path} are not streamed")
