"""Embeddings: the same text has the same vector. Pure."""

from __future__ import annotations

import base64
import hashlib
import struct

from simulator.openai.asked import EmbeddingsBody

DIMENSIONS = 8


def question(asked: EmbeddingsBody) -> str:
    """Return the first text, which may have a directive."""
    given = asked.input if isinstance(asked.input, list) else [asked.input]
    return given[0] if given and isinstance(given[0], str) else ""


def embeddings(asked: EmbeddingsBody) -> dict[str, object]:
    """Return the answer to `POST /v1/embeddings`."""
    texts = _texts(asked)
    size = asked.dimensions or DIMENSIONS
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _encoded(_vector(text, size), asked.encoding_format),
        }
        for index, text in enumerate(texts)
    ]
    tokens = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": asked.model or "tiny", "usage": usage}


def _texts(asked: EmbeddingsBody) -> list[str]:
    """Return the texts; tokens by their numbers, as words."""
    if isinstance(asked.input, str):
        return [asked.input]
    if all(isinstance(item, int) for item in asked.input):
        return [" ".join(map(str, asked.input))]
    return [
        item
        if isinstance(item, str)
        else " ".join(map(str, item if isinstance(item, list) else ()))
        for item in asked.input
    ]


def _vector(text: str, size: int) -> list[float]:
    digest = hashlib.sha256(text.encode()).digest()
    return [digest[n % len(digest)] / 255 for n in range(size)]


def _encoded(vector: list[float], form: str) -> list[float] | str:
    if form != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
