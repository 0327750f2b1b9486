"""The models a client can name, and which of the upstream's families each one is."""

from __future__ import annotations

import settings
from app.dialect import Model, ModelList
from app.errors import ModelNotFound
from wire.jobs import Family

_CREATED = 1702598400  # 2023-12-15: models have a date, and clients read it; it means nothing here


class Models:
    """The operator's names."""

    def __init__(self, names: settings.Models) -> None:
        self._families: dict[str, Family] = {
            **dict.fromkeys(names.gpt_4_s, "gpt_4_s"),
            **dict.fromkeys(names.gpt_4_mobile, "gpt_4_mobile"),
            **dict.fromkeys(names.gpt_3_5, "gpt_3_5"),
        }

    def family(self, name: str) -> Family:
        """The family behind a name.

        Raises:
            ModelNotFound: there is none.
        """
        if (family := self._families.get(name)) is None:
            raise ModelNotFound(f"The model `{name[:100]}` does not exist here.", param="model")
        return family

    def all(self) -> ModelList:
        """Every model, in the order of the settings."""
        return ModelList(data=[_model(name) for name in self._families])

    def one(self, name: str) -> Model:
        """One model.

        Raises:
            ModelNotFound: there is none of this name.
        """
        self.family(name)
        return _model(name)


def _model(name: str) -> Model:
    return Model(id=name, created=_CREATED, owned_by="pandora")
