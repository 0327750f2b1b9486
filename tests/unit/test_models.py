"""The family of models that serves a name."""

from __future__ import annotations

import pytest

import settings
from app.models import ModelCatalog
from app.openai.errors import ModelNotFound
from wire.jobs import Family


def catalog(**names: object) -> ModelCatalog:
    return ModelCatalog(settings.Models(**names), [("my-gpt", settings.Gpt("g-1"))])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "family", "with_files"),
    [
        ("gpt-4", "gpt_4_s", "gpt_4_s"),
        ("gpt-3.5-turbo", "gpt_3_5", "gpt_3_5"),
        ("my-gpt", "gpt_4_gizmo", "gpt_4_gizmo"),
        ("gpt-4o", "gpt_4_s", "gpt_4_s"),
        ("dall-e-3", "gpt_4_s", "gpt_4_s"),
        ("gpt-4o-mini", "gpt_3_5", "gpt_4_s"),
        ("GPT-5-Nano-2025", "gpt_3_5", "gpt_4_s"),
        ("gpt-3.5-turbo-16k", "gpt_3_5", "gpt_4_s"),
        ("gpt-35-turbo", "gpt_3_5", "gpt_4_s"),
        ("gemini-pro", "gpt_4_s", "gpt_4_s"),
        ("claude-haiku-4-5", "gpt_3_5", "gpt_4_s"),
        ("", "gpt_4_s", "gpt_4_s"),
    ],
)
def test_any_name_has_a_family(name: str, family: Family, with_files: Family) -> None:
    assert catalog().family(name) == family
    assert catalog().family(name, large=True) == with_files


def test_a_family_that_the_operator_removed_is_no_fallback() -> None:
    assert catalog(gpt_4_s=()).family("gpt-4o") == "gpt_4_mobile"
    assert catalog(gpt_4_s=(), gpt_4_mobile=()).family("gpt-4o") == "gpt_3_5"
    assert catalog(gpt_3_5=()).family("gpt-4o-mini") == "gpt_4_s"
    without = catalog(gpt_4_s=(), gpt_4_mobile=())
    with pytest.raises(ModelNotFound):
        without.family("gpt-4o", large=True)


def test_without_the_fallback_a_name_that_is_not_listed_is_not_served() -> None:
    with pytest.raises(ModelNotFound):
        catalog(fallback=False).family("gpt-4o")
    assert catalog(fallback=False).family("gpt-4") == "gpt_4_s"


def test_a_name_that_is_not_listed_is_not_shown_as_a_model() -> None:
    with pytest.raises(ModelNotFound):
        catalog().one("gpt-4o")
