"""Differences between the servers that speak OpenAI's dialect, as far as they are imitated."""

from __future__ import annotations

from typing import Literal

import msgspec

Like = Literal["llama", "vllm", "ollama", "sglang", "tabby", "mlx", "transformers", "openai"]


class Likeness(msgspec.Struct, frozen=True):
    """One server's form of a streamed chat.

    `role` says which chunks carry it, `empty` is the content of a first chunk with the role alone.
    `finish` is a chunk of its own or rides on the last text; without `nulls`, other chunks lack the
    key. `usage` is the chunk that carries it: an `own` one, an own one that repeats the `choice`
    with its finish, or the `finish` chunk, which has it even if it was not asked for. `head`: the
    status and the head are sent before there is a slot. `until_closed`: the body is HTTP/1.0,
    with neither a length nor chunks.
    """

    role: Literal["alone", "with_text", "every", "never"] = "alone"
    empty: str | None = ""
    reasoning: str = "reasoning_content"
    whole_calls: bool = False
    finish: Literal["own", "with_text"] = "own"
    nulls: bool = True
    usage: Literal["own", "choice", "finish"] = "own"
    done: bool = True
    head: bool = False
    crlf: bool = False
    until_closed: bool = False
    comment: str = ":"


LIKENESSES: dict[Like, Likeness] = {
    "llama": Likeness(empty=None),
    "vllm": Likeness(reasoning="reasoning", finish="with_text", head=True, comment=": keep-alive"),
    "ollama": Likeness(role="with_text", reasoning="reasoning", whole_calls=True),
    "sglang": Likeness(),
    "tabby": Likeness(
        role="never", whole_calls=True, usage="choice", crlf=True, comment=": ping - now"
    ),
    "mlx": Likeness(
        role="every", reasoning="reasoning", until_closed=True, comment=": keepalive 20/21"
    ),
    "transformers": Likeness(nulls=False, usage="finish", done=False),
    "openai": Likeness(comment=": OPENROUTER PROCESSING"),
}
