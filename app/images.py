"""`POST /v1/images/generations`: turns of chat, as many as needed, for their images."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from itertools import count

from sanic import HTTPResponse, Request

from app.http.body import bearer, body
from app.http.budget import Budget, Charge
from app.http.json_answer import json, send_whole
from app.http.links import Links
from app.line import Line
from app.models import Models
from app.openai.errors import (
    ApiError,
    BadRequest,
    ImageGenerateFail,
    InternalError,
    JobFailed,
    ModelNotFound,
)
from app.openai.requests import DrawnImage, ImagesAnswer, ImagesRequest, decode_images
from app.openai.text import Text
from app.scheduling import Terms, terms_of
from settings import Bot, Settings
from store.media import Media, MediaError
from wire import VERSION
from wire.events import Break, Done, Failed, Image
from wire.jobs import ChatJob, Family, Message

_NO_IMAGE = "The upstream drew no image and did not say why."
_NOT_HAD = "The upstream drew an image that could not be fetched: {}."
_MUTE = Bot(enabled=True)  # shows the model's own words alone
_SHOWN = 2000  # characters of the upstream's reason


class Drawn:
    """What one turn has come to: its images, all its text, and what the model said itself."""

    def __init__(self) -> None:
        self.images: list[Image] = []
        self.reply = ""
        self.headers: dict[str, str] = {}
        self._words = ""
        self._missed = ""

    async def collect(
        self, line: Line, job: ChatJob, terms: Terms, links: Links, charge: Charge
    ) -> None:
        """Take the turn, to its end. Once it is in line, nothing counts for `charge` any more.

        Raises:
            JobFailed: it has no whole answer; ApiError: see `Line.submit` and `Ticket.events`.
        """
        reply, words = Text(Bot()), Text(_MUTE)
        async with line.submit(job, terms, "images") as ticket:
            charge.give_back()
            self.headers = ticket.headers
            while True:
                for event in links.into(await ticket.events()):
                    match event:
                        case Image(url=None, error=error):
                            self._missed = error or "unknown"
                        case Image():
                            self.images.append(event)
                        case Failed():
                            raise JobFailed(event)
                        case _:
                            pass
                    # Images are beside the text; they end a fence as they do in chat.
                    said = Break() if isinstance(event, Image) else event
                    self.reply += reply.add(said)
                    self._words += words.add(said)
                    if isinstance(event, Done):
                        return

    @property
    def reason(self) -> str:
        """Why there is no image."""
        missed = _NOT_HAD.format(self._missed) if self._missed else ""
        return missed or self._words.strip()[:_SHOWN] or _NO_IMAGE


class Images:
    """The feature: from a request to its images."""

    def __init__(
        self, config: Settings, line: Line, models: Models, media: Media, budget: Budget
    ) -> None:
        self._config = config
        self._line = line
        self._models = models
        self._media = media
        self._budget = budget

    async def __call__(self, request: Request) -> HTTPResponse | None:
        """Answer one request. It takes as many turns as it takes to have `n` images.

        Should a turn break off after its images, or a later one bring none, the answer has those
        that there are.

        Raises:
            ApiError: there is no image.
        """
        server = self._config.server
        token = bearer(request)
        with self._budget.charge() as charge:
            given = await body(request, server.max_body_bytes, server.body_timeout, charge)
            asked = decode_images(given)
            if asked.n is not None and not 1 <= asked.n <= self._config.images.max_n:
                raise BadRequest(f"n must be from 1 to {self._config.images.max_n}.", param="n")
            named = self._line.idempotency(request, given)
            del given
            terms = terms_of(request, asked.user, None, named)
            drawing = self._draw(asked, token, terms, Links(request, server), charge)
            return await send_whole(request, drawing, self._config.stream)

    async def _draw(
        self, asked: ImagesRequest, token: str, terms: Terms, links: Links, charge: Charge
    ) -> HTTPResponse:
        family = self._family(asked.model)
        images: list[Image] = []
        replies: list[str] = []
        headers: dict[str, str] = {}
        for turn in count():
            drawn = Drawn()
            try:
                job = self._job(asked, family, token)
                await drawn.collect(self._line, job, terms.turn(turn), links, charge)
                if not drawn.images:
                    raise ImageGenerateFail(drawn.reason)
            except ApiError:
                if not images and not drawn.images:
                    raise
                break
            finally:
                images += drawn.images
                replies.append(drawn.reply)
                headers = headers or drawn.headers
            if len(images) >= (asked.n or 1):
                break
        # Who names no number gets all that were drawn, as the predecessor did.
        data = [await self._shown(image, asked) for image in images[: asked.n]]
        answer = ImagesAnswer(int(time.time()), data, "\n".join(replies))
        return json(answer, headers=headers)

    def _family(self, model: str | None) -> Family:
        if model is not None:
            return self._models.family(model)
        if not self._config.models.gpt_4_s:
            raise ModelNotFound("Name a model that can draw.", param="model")
        return "gpt_4_s"

    def _job(self, asked: ImagesRequest, family: Family, token: str) -> ChatJob:
        return ChatJob(
            version=VERSION,
            id=f"img-{secrets.token_hex(16)}",
            family=family,
            bearer=token,
            messages=[Message("user", f"{self._config.images.prompt_prefix}{asked.wish}")],
            gpt=self._models.gpt(asked.model) if asked.model else "",
            copies=asked.response_format == "b64_json",
        )

    async def _shown(self, image: Image, asked: ImagesRequest) -> DrawnImage:
        if asked.response_format != "b64_json":
            return DrawnImage(url=image.url, revised_prompt=image.prompt)
        try:
            content = b"".join([piece async for piece in self._media.read("images", image.name)])
        except MediaError:
            raise InternalError("The image is not in this front end's media store.") from None
        coded = await asyncio.to_thread(base64.b64encode, content)
        return DrawnImage(b64_json=coded.decode(), revised_prompt=image.prompt)
