"""Token usage of an answer, as it is shown to clients."""

from __future__ import annotations

from app.openai.answers import Usage
from wire.tokens.text import count_soon


async def usage(prompt_tokens: int, answer: str) -> Usage:
    """Add the tokens of an answer to those of its prompt."""
    tokens = await count_soon(answer, len(answer))
    return Usage(prompt_tokens, tokens, prompt_tokens + tokens)
