"""Tokens that a job used: as its server tells them, or else counted when it finishes.

Until then only references to the texts of its answer are kept, up to a limit, and nothing is
decoded. Files, images and the output of tools have no tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial

from runtime.large import work_on
from wire.events import Complete, Delta, Ending, Event, Piece
from wire.jobs import ChatJob, Job, RelayedJob
from wire.line.usage import NO_TOKENS, Tokens
from wire.tokens.json_text import texts_of
from wire.tokens.prompt import prompt_tokens, summarize_prompt
from wire.tokens.text import PER_TOKEN, count_soon
from wire.tokens.told import told_usage

COUNTED = 100_000
"""Characters that are counted of a request and of an answer; longer ones are extrapolated."""

MAX_KEPT = 1024 * 1024
"""Bytes of the messages of an answer that are kept to be counted."""

RECENT = 4
"""Messages at the end of an answer that may tell its usage. The first one may, too."""

PATIENCE = 2.0
"""Seconds that counting may delay the ending of a job: some texts take long on purpose."""

_ASKING = frozenset(
    {
        *("messages", "prompt", "input", "system", "instructions"),
        *("content", "text", "output", "tool_calls", "function", "name", "arguments"),
    }
)
"""Members of a request that hold its texts, in all dialects."""

_SAYING = frozenset(
    {
        *("choices", "delta", "text", "content", "refusal"),
        *("reasoning", "reasoning_content", "thinking"),
        *("tool_calls", "function_call", "function", "name", "arguments", "partial_json"),
    }
)
"""Members of a message in which the model says something, in all dialects."""


class JobTokens:
    """Counts the tokens of one job, whose events are added as they arrive."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._begun = False
        self._texts: list[str] = []
        self._characters = 0
        self._pieces: list[Piece] = []
        self._kept = 0
        self._bytes = 0
        self._messages = 0
        self._recent: deque[bytes] = deque(maxlen=RECENT)

    def add(self, events: Sequence[Event]) -> None:
        """Add the next events."""
        self._begun = self._begun or bool(events)
        for event in events:
            if type(event) is Piece:
                if self._bytes < MAX_KEPT:
                    self._pieces.append(event)
                    self._kept += len(event.data)
                self._bytes += len(event.data)
                self._messages += 1
                self._recent.append(event.data)
            elif type(event) is Delta and event.kind != "output":
                if self._characters < COUNTED:
                    self._texts.append(event.text)
                self._characters += len(event.text)

    @property
    def so_far(self) -> int:
        """About the tokens of the answer so far: most messages of a server have one."""
        return self._messages + self._characters // PER_TOKEN

    async def count(self, ending: Ending | None = None) -> Tokens:
        """Return the tokens of the request and of the answer so far; none before it begins."""
        if not self._begun:
            return NO_TOKENS
        if isinstance(self._job, ChatJob):
            return Tokens(await _of_chat(self._job), await self._of_texts())
        if self._job.path == "messages/count_tokens":
            return NO_TOKENS
        pieces = [*(piece.data for piece in self._pieces[:1]), *self._recent]
        if isinstance(ending, Complete):
            pieces.append(ending.usage)
        told = told_usage(pieces)
        asked = await _of_relayed(self._job) if told.input is None else told.input
        if isinstance(ending, Complete) and told.output is not None:
            return Tokens(asked, told.output)
        if self._job.path == "embeddings":
            return Tokens(asked)
        # Until an answer is complete, the number may be that of its beginning.
        return Tokens(asked, max(told.output or 0, await self._of_pieces()))

    async def _of_texts(self) -> int:
        return await count_soon("".join(self._texts), self._characters, COUNTED, PATIENCE)

    async def _of_pieces(self) -> int:
        said = await work_on(self._kept, self._said)
        counted = await count_soon(said[:COUNTED], len(said), COUNTED, PATIENCE)
        return round(counted * self._bytes / self._kept) if self._kept else 0

    def _said(self) -> str:
        # The last event of a text in Responses repeats it.
        said = (piece.data for piece in self._pieces if not piece.name.endswith(".done"))
        return "".join(text for data in said for text in texts_of(data, _SAYING))


async def _of_chat(job: ChatJob) -> int:
    if job.offloaded is not None:
        return job.offloaded.size // PER_TOKEN
    prompt = await work_on(job.characters, partial(summarize_prompt, job.messages, COUNTED))
    return await prompt_tokens(prompt, COUNTED, PATIENCE)


async def _of_relayed(job: RelayedJob) -> int:
    if job.offloaded is not None:
        return job.offloaded.size // PER_TOKEN
    asked = await work_on(len(job.body), lambda: "\n".join(texts_of(job.body, _ASKING)))
    return await count_soon(asked[:COUNTED], len(asked), COUNTED, PATIENCE)
