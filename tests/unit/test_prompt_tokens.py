"""The prefix of a prompt that is kept to count its tokens."""

from __future__ import annotations

import tracemalloc

import pytest

from wire.jobs import Attachment, Message
from wire.tokens.prompt import summarize_prompt

FILE = Attachment("a.pdf", "application/pdf", 1, "0" * 64)


@pytest.mark.parametrize("length", [10, 400_000, 999_990, 1_000_000, 3_000_000])
def test_the_kept_prefix_is_that_of_all_roles_and_texts_joined(length: int) -> None:
    messages = [
        Message("system", "Hi"),
        Message("user", ["a", FILE, "b" * length, "c"]),
        Message("user", [FILE]),
        Message("assistant", "d" * length),
    ]
    text = "\n".join(f"{message.role}\n{message.text}" for message in messages)
    prompt = summarize_prompt(messages)
    assert (prompt.messages, prompt.length) == (4, len(text))
    assert prompt.prefix == text[:1_000_000]


def test_a_long_prompt_is_not_copied_to_count_its_tokens() -> None:
    messages = [Message("user", "x" * 20_000_000), Message("user", "y" * 20_000_000)]
    tracemalloc.start()
    try:
        summarize_prompt(messages)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000
