"""`POST /v1/images/generations`: as many turns of chat as the requested images take."""

from __future__ import annotations

import asyncio
import base64
from functools import partial
from itertools import count

import msgspec
from sanic import HTTPResponse, Request

from app.auth import Caller
from app.http.access_log import Entry, entry_of
from app.http.allowance import allowance_headers
from app.http.body import read_body
from app.http.budget import MemoryBudget, Reservation
from app.http.json_answer import json
from app.http.links import MediaLinks
from app.http.whole_answer import send_with_keepalive
from app.idempotency import read_idempotency
from app.job_ids import accepted_at, new_job_id
from app.line import Line, SealedJob, seal_job
from app.models import ModelCatalog
from app.openai.answers import DrawnImage, ImagesAnswer
from app.openai.errors import (
    ApiError,
    BadRequest,
    ImageGenerateFail,
    InternalError,
    JobFailed,
    ModelNotFound,
)
from app.openai.requests import ImagesRequest, decode_images
from app.openai.text import AnswerText
from app.scheduling import Scheduling, read_scheduling
from runtime.large import work_on
from settings import Bot, Settings
from store.media import Media
from store.objects import StoreError
from wire import VERSION
from wire.events import Break, Done, Failed, Image
from wire.jobs import ChatJob, Family, Message
from wire.seal import Seal

_NO_IMAGE = "The upstream generated no image and gave no reason."
_DOWNLOAD_FAILED = "The upstream generated an image that could not be downloaded: {}."
_TEXT_ONLY = Bot(enabled=True)  # shows only the model's own text
_LONGEST_REASON = 2000  # characters


class PreparedImages(msgspec.Struct, frozen=True):
    """A request that is ready to be enqueued, as one job for each turn."""

    request: ImagesRequest
    family: Family
    gpt: str
    caller: Caller
    scheduling: Scheduling


class ImageTurn:
    """Results of one turn: its images, all its text, and the model's own text."""

    def __init__(self) -> None:
        self.images: list[Image] = []
        self.reply = ""
        self.headers: dict[str, str] = {}
        self._own_text = ""
        self._download_error = ""

    async def run(
        self, line: Line, job: SealedJob, scheduling: Scheduling, links: MediaLinks, entry: Entry
    ) -> None:
        """Submit the turn and collect its results.

        Raises:
            JobFailed: it ended without a complete answer.
            ApiError: see `Line.submit` and `Ticket.events`.
        """
        reply, own_text = AnswerText(Bot()), AnswerText(_TEXT_ONLY)
        with await line.submit(job, scheduling, entry) as ticket:
            self.headers = ticket.headers | allowance_headers(None, ticket.allowance)
            while True:
                for event in links.add_to(await ticket.events()):
                    match event:
                        case Image(url=None, error=error):
                            self._download_error = error or "unknown"
                        case Image():
                            self.images.append(event)
                        case Failed():
                            raise JobFailed(event)
                        case _:
                            pass
                    # Images are not part of the text; they close a fence as they do in chat.
                    shown = Break() if isinstance(event, Image) else event
                    self.reply += reply.add(shown)
                    self._own_text += own_text.add(shown)
                    if isinstance(event, Done):
                        return

    @property
    def reason(self) -> str:
        """Reason for which there is no image."""
        error = self._download_error
        failed = _DOWNLOAD_FAILED.format(error) if error else ""
        return failed or self._own_text.strip()[:_LONGEST_REASON] or _NO_IMAGE


class ImageGenerations:
    """Handler of image requests."""

    def __init__(
        self,
        config: Settings,
        seal: Seal,
        line: Line,
        models: ModelCatalog,
        media: Media,
        budget: MemoryBudget,
    ) -> None:
        self._config = config
        self._seal = seal
        self._line = line
        self._models = models
        self._media = media
        self._budget = budget

    async def __call__(self, request: Request, caller: Caller) -> HTTPResponse | None:
        """Answer one request, with as many turns as `n` images take.

        If a turn fails after it made images, or a later turn makes none, the answer has those
        that there are.

        Raises:
            ApiError: there is no image.
        """
        with self._budget.reservation() as reservation:
            prepared = await self._prepare(request, caller, reservation)
        links = MediaLinks(request, self._config.server)
        drawing = self._draw(prepared, links, entry_of(request))
        return await send_with_keepalive(request, drawing, self._config.stream)

    async def _prepare(
        self, request: Request, caller: Caller, reservation: Reservation
    ) -> PreparedImages:
        body = (await read_body(request, self._config.server, reservation)).take()
        images = await work_on(len(body), partial(decode_images, body))
        entry_of(request).model = images.model or ""
        limit = self._config.images.max_n
        if images.n is not None and not 1 <= images.n <= limit:
            raise BadRequest(f"`n` must be between 1 and {limit}.", param="n")
        idempotency = await read_idempotency(request.headers, request.path, body, self._seal)
        scheduling = read_scheduling(request, caller, images.user, None, idempotency)
        gpt = self._models.gpt(images.model) if images.model else ""
        return PreparedImages(images, self._family(images.model, caller), gpt, caller, scheduling)

    async def _draw(
        self, prepared: PreparedImages, links: MediaLinks, entry: Entry
    ) -> HTTPResponse:
        request = prepared.request
        images: list[Image] = []
        replies: list[str] = []
        headers: dict[str, str] = {}
        for number in count():
            turn = ImageTurn()
            try:
                scheduling = prepared.scheduling.turn(number)
                job = self._job(prepared, entry.span.traceparent)
                await turn.run(self._line, job, scheduling, links, entry)
                if not turn.images:
                    raise ImageGenerateFail(turn.reason)
            except ApiError:
                if not images and not turn.images:
                    raise
                break
            finally:
                images += turn.images
                replies.append(turn.reply)
                headers = headers or turn.headers
            if len(images) >= (request.n or 1):
                break
        # Without `n`, return every image that was drawn (the predecessor's behaviour).
        data = [await self._drawn(image, request) for image in images[: request.n]]
        answer = ImagesAnswer(accepted_at(headers["x-queue-id"]), data, "\n".join(replies))
        return json(answer, headers=headers)

    def _family(self, model: str | None, caller: Caller) -> Family:
        if model is not None:
            caller.check_model(model)
            return self._models.family(model, large=True)
        if not any(map(caller.may_use, self._config.models.gpt_4_s)):
            raise ModelNotFound("`model` must name a model that can draw.", param="model")
        return "gpt_4_s"

    def _job(self, prepared: PreparedImages, trace: str) -> SealedJob:
        prompt = f"{self._config.images.prompt_prefix}{prepared.request.prompt_with_size}"
        job = ChatJob(
            version=VERSION,
            id=new_job_id("img-"),
            family=prepared.family,
            bearer=prepared.caller.bearer,
            messages=[Message("user", prompt)],
            gpt=prepared.gpt,
            copies=prepared.request.wants_base64,
            key=prepared.caller.fingerprint,
            trace=trace,
        )
        model = prepared.request.model or self._config.models.gpt_4_s[0]
        return seal_job(self._seal, job, prepared.caller, model, sort="images")

    async def _drawn(self, image: Image, request: ImagesRequest) -> DrawnImage:
        if not request.wants_base64:
            return DrawnImage(url=image.url, revised_prompt=image.prompt)
        try:
            content = b"".join([piece async for piece in self._media.read("images", image.name)])
        except StoreError:
            raise InternalError("The image is not in this front end's media store.") from None
        encoded = await asyncio.to_thread(base64.b64encode, content)
        return DrawnImage(b64_json=encoded.decode(), revised_prompt=image.prompt)
