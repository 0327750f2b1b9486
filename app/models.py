"""Models that a client can name, the upstream's family of each one, and `GET /v1/models`."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from urllib.parse import unquote

from sanic import HTTPResponse, Request

import settings
from app.anthropic.models import model_info, model_page
from app.auth import Auth, Caller
from app.http.dialect import is_message
from app.http.json_answer import json
from app.openai.answers import Model, ModelList
from app.openai.errors import ModelNotFound, Unauthorized
from app.upstreams import SharedUpstreams
from wire.gpts import GptInfos
from wire.jobs import Family
from wire.redis.outage import REDIS_ERRORS

_SMALL = re.compile(r"(?<![a-z])(mini|nano|haiku)(?![a-z])|3\.5|35-turbo", re.IGNORECASE)
"""Part of the name of a small model, which GPT-3.5 answers for."""

_CREATED = 1702598400  # 2023-12-15: clients read a model's date, but it has no meaning here


_LARGE: tuple[Family, ...] = ("gpt_4_s", "gpt_4_mobile")


class ModelCatalog:
    """The operator's names for models and GPTs."""

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
        self._large: list[Family] = [family for family in _LARGE if getattr(names, family)]
        self._small: list[Family] = ["gpt_3_5"] if names.gpt_3_5 else []
        self._fallback = names.fallback

    @classmethod
    def empty(cls) -> ModelCatalog:
        """Return a catalog without any model."""
        return cls(settings.Models(gpt_4_s=(), gpt_4_mobile=(), gpt_3_5=(), fallback=False))

    @property
    def gpts(self) -> list[str]:
        """The upstream's ids of all GPTs."""
        return list(self._gpts.values())

    def family(self, name: str, *, large: bool = False) -> Family:
        """Return the family of a model, with `models.fallback` also for names in no list.

        `large`: the request needs a model that takes files or draws.

        Raises:
            ModelNotFound: there is no model for this name.
        """
        if (family := self._families.get(name)) is not None:
            return family
        suitable = self._large
        if not large:
            small_first = _SMALL.search(name) is not None
            suitable = self._small + self._large if small_first else self._large + self._small
        if not self._fallback or not suitable:
            raise _not_found(name)
        return suitable[0]

    def gpt(self, name: str) -> str:
        """Return the upstream's id of a GPT; "" if the model is not a GPT."""
        return self._gpts.get(name, "")

    def all(self, unavailable: Container[str] = ()) -> list[Model]:
        """Return every model, in the order of the settings, except `unavailable` GPTs."""
        return [_model(name) for name in self._families if self.gpt(name) not in unavailable]

    def one(self, name: str, unavailable: Container[str] = ()) -> Model:
        """Return one model.

        Raises:
            ModelNotFound: there is no model of this name, or it is an `unavailable` GPT.
        """
        if name not in self._families:
            raise _not_found(name)
        if self.gpt(name) in unavailable:
            message = f"The model `{name[:100]}` is currently unavailable."
            raise ModelNotFound(message, param="model")
        return _model(name)


def _not_found(name: str) -> ModelNotFound:
    return ModelNotFound(f"The model `{name[:100]}` does not exist.", param="model")


def _model(name: str, owner: str = "pandora") -> Model:
    return Model(id=name, created=_CREATED, owned_by=owner)


class ModelEntries:
    """Handlers of `GET /v1/models` and `GET /v1/models/{name}`: what shared upstreams offer now,
    and `models`."""

    def __init__(
        self, models: ModelCatalog, gpts: GptInfos, upstreams: SharedUpstreams, auth: Auth
    ) -> None:
        self._models = models
        self._gpts = gpts
        self._upstreams = upstreams
        self._auth = auth

    async def list(self, request: Request) -> HTTPResponse:
        """List the models that the client can use.

        Raises:
            Unauthorized: it may use none.
            LineUnavailable: Redis was unreachable since the start.
        """
        caller = await self._caller(request)
        shared = await self._shared(caller)
        own = self._models.all(await self._unavailable(caller)) if self._has_own(caller) else []
        models = [*shared.values(), *(model for model in own if model.id not in shared)]
        if caller is not None:
            models = [model for model in models if caller.may_use(model.id)]
        return json(model_page(models) if is_message(request) else ModelList(data=models))

    async def show(self, request: Request, name: str) -> HTTPResponse:
        """Describe one model.

        Raises:
            ModelNotFound: the client cannot use a model of this name.
            Unauthorized, LineUnavailable: as in `list`.
        """
        name = unquote(name).removesuffix("/")  # of a client that ends its URLs with a slash
        if not name:
            return await self.list(request)
        caller = await self._caller(request)
        if caller is not None:
            caller.check_model(name)
        own = self._models if self._has_own(caller) else ModelCatalog.empty()
        model = (await self._shared(caller)).get(name)
        model = model or own.one(name, await self._unavailable(caller))
        return json(model_info(model) if is_message(request) else model)

    def _has_own(self, caller: Caller | None) -> bool:
        """Return True unless Pandora-Next has no accounts for gateway keys, and this is one."""
        return caller is None or caller.issued is None or self._auth.has_pool

    async def _caller(self, request: Request) -> Caller | None:
        """The client, or None if it may see no more than the models of Pandora-Next."""
        try:
            return await self._auth.caller(request)
        except Unauthorized:
            if not self._models.all() or not self._auth.shows_models(request):
                raise
            return None

    async def _shared(self, caller: Caller | None) -> dict[str, Model]:
        """The models of shared upstreams by their names. Without a key for them: none, if there
        are others."""
        if not self._upstreams.are_configured or caller is None:
            return {}
        try:
            self._auth.check_shared(caller)
        except Unauthorized:
            if not self._models.all():
                raise
            return {}
        known = await self._upstreams.known()
        return {
            name: _model(name, upstream.name)
            for upstream in known
            for name in upstream.about.models
        }

    async def _unavailable(self, caller: Caller | None) -> set[str]:
        """The GPTs that cannot be used with the client's bearer, if it sends one."""
        if not self._models.gpts:
            return set()
        try:
            return await self._gpts.missed(caller.bearer if caller else "", self._models.gpts)
        except REDIS_ERRORS:
            return set()
