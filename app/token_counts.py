"""Number of tokens of requests, counted without putting them in line."""

from __future__ import annotations

from functools import partial

from sanic import HTTPResponse, Request

import settings
from app.anthropic.answers import TokenCount
from app.auth import Caller
from app.files.attachments import Resources
from app.http.body import SMALL, ReceivedBody
from app.http.json_answer import json
from app.openai.dialect import DecodedRequest, Dialect
from app.openai.emulation import emulate
from app.openai.errors import ApiError
from app.openai.messages import given_files, memory, to_messages
from app.openai.requests import ChatRequest
from app.relayed.counting import relayed_prompt
from app.relayed.requests import RelayedCount
from runtime.large import work_on
from wire.jobs import Attachment
from wire.tokens.prompt import Prompt, prompt_tokens, summarize_prompt

_FILE = Attachment("", "", 0, "")
"""In place of every file. Files are not counted, so none is fetched or read."""


async def count_relayed(request: RelayedCount) -> HTTPResponse:
    """Count a request that a shared upstream would answer."""
    size = len(request.messages) + len(request.system) + len(request.tools)
    return json(
        TokenCount(await prompt_tokens(await work_on(size, partial(relayed_prompt, request))))
    )


class TokenCounts:
    """Counts requests of one dialect: the tokens that the `usage` of their answers would have."""

    def __init__(self, dialect: Dialect, compat: settings.Compat) -> None:
        self._dialect = dialect
        self._compat = compat

    async def prepare(
        self, request: Request, caller: Caller, received: ReceivedBody, resources: Resources
    ) -> HTTPResponse:
        """Answer a request.

        Raises:
            ApiError: it is invalid, or too large for now.
        """
        try:
            return json(TokenCount(await self._count(caller, received.take(), resources)))
        except ApiError as failure:
            self._dialect.renamed(failure)
            raise

    async def _count(self, caller: Caller, body: bytearray, resources: Resources) -> int:
        size = len(body)
        decoded = await work_on(size, partial(self._dialect.decode, body))
        chat = await work_on(size, partial(decoded.chat, {}))
        caller.check_model(chat.model)
        if size > SMALL:
            texts = await work_on(size, partial(memory, chat.messages))
            await resources.reservation.grow(texts)
        return await prompt_tokens(await work_on(size, partial(self._prompt, decoded, chat)))

    def _prompt(self, decoded: DecodedRequest, chat: ChatRequest) -> Prompt:
        files = dict.fromkeys((file.param for file in given_files(chat.messages)), _FILE)
        emulation = emulate(chat, self._compat, decoded.ignored)
        return summarize_prompt(emulation.instruct(to_messages(chat.messages, files)))
