"""Facts about an upstream, as they cross Redis."""

from __future__ import annotations

import msgspec
import pytest

from wire.about import About, decode_about, encode_about


def test_facts_cross_redis_unchanged() -> None:
    about = About("openai", ["qwen3-8b", "gpt-4"], any_model=True, trouble="refused_us", max_n=2)
    assert decode_about(encode_about(about)) == about


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_about(b'{"kind":"other","models":[]}')
