"""The models a client can name, and which of the upstream's families each one is."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable

import settings
from app.openai.errors import ModelNotFound
from app.openai.requests import Model, ModelList
from wire.jobs import Family

_CREATED = 1702598400  # 2023-12-15: models have a date, and clients read it; it means nothing here


class Models:
    """The operator's names, for models and for GPTs."""

    def __init__(
        self, names: settings.Models, custom: Iterable[tuple[str, settings.Gpt]] = ()
    ) -> None:
        self._families: dict[str, Family] = {
            **dict.fromkeys(names.gpt_4_s, "gpt_4_s"),
            **dict.fromkeys(names.gpt_4_mobile, "gpt_4_mobile"),
            **dict.fromkeys(names.gpt_3_5, "gpt_3_5"),
        }
        self._gpts = {name: gpt.id for name, gpt in custom}
        self._families |= dict.fromkeys(self._gpts, "gpt_4_gizmo")

    @property
    def gpts(self) -> Collection[str]:
        """The upstream's ids of all GPTs."""
        return self._gpts.values()

    def family(self, name: str) -> Family:
        """The family behind a name.

        Raises:
            ModelNotFound: there is none.
        """
        if (family := self._families.get(name)) is None:
            raise ModelNotFound(f"The model `{name[:100]}` does not exist here.", param="model")
        return family

    def gpt(self, name: str) -> str:
        """The upstream's id of the GPT behind a name, "" if it is none."""
        return self._gpts.get(name, "")

    def all(self, missed: Container[str] = ()) -> ModelList:
        """Every model, in the order of the settings, but the GPTs that are `missed`."""
        return ModelList(
            data=[_model(name) for name in self._families if self.gpt(name) not in missed]
        )

    def one(self, name: str, missed: Container[str] = ()) -> Model:
        """One model.

        Raises:
            ModelNotFound: there is none of this name, or it is a GPT that is `missed`.
        """
        self.family(name)
        if self.gpt(name) in missed:
            raise ModelNotFound(f"The model `{name[:100]}` cannot be reached now.", param="model")
        return _model(name)


def _model(name: str) -> Model:
    return Model(id=name, created=_CREATED, owned_by="pandora")
