"""Bodies of `GET /v1/models` and `GET /v1/models/{name}`, as Anthropic's types. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from app.openai.answers import Model


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True, tag="model"):
    """One model."""

    id: str
    display_name: str
    created_at: datetime


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    """All models: there is never a second page."""

    data: list[ModelInfo]
    has_more: bool = False
    first_id: str | None
    last_id: str | None


def model_info(model: Model) -> ModelInfo:
    """Return a model in this form."""
    created = datetime.fromtimestamp(model.created, UTC)
    return ModelInfo(id=model.id, display_name=model.id, created_at=created)


def model_page(models: Sequence[Model]) -> ModelPage:
    """Return a list of models in this form."""
    first, last = (models[0].id, models[-1].id) if models else (None, None)
    return ModelPage(data=[model_info(model) for model in models], first_id=first, last_id=last)
