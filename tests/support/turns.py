"""Turns of the upstream, message by message, and the whole way from their bytes to a client's text.

Each maker gives one record; shapes after upstream-protocol.md, 3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from app.openai.answers import Usage
from app.openai.chunks import ChatAnswer
from app.openai.reading import AnswerReader
from settings import Bot
from wire.events import Asked, Event, Failed, File, Image, decode_frame, encode_frame
from wire.line.claims import Claim
from wire.stream.publication import Publication
from workers.http.sse import EventParser
from workers.pandora.translate.message import Output
from workers.pandora.translate.placeholders import (
    FilePlaceholder,
    ImagePlaceholder,
    PermissionRequest,
)
from workers.pandora.translate.records import read_record
from workers.pandora.translate.turn import Translator

RUNNING = "in_progress"
FINISHED = "finished_successfully"

Record = dict[str, object]
Line = Record | str


def message(
    id: str,
    content: Record,
    *,
    role: str = "assistant",
    name: str | None = None,
    recipient: str = "all",
    status: str = FINISHED,
    end_turn: bool | None = None,
    metadata: Record | None = None,
) -> Record:
    return {
        "message": {
            "id": id,
            "author": {"role": role, "name": name, "metadata": {}},
            "content": content,
            "status": status,
            "end_turn": end_turn,
            "weight": 1.0,
            "metadata": {"model_slug": "gpt-4", **(metadata or {})},
            "recipient": recipient,
        },
        "conversation_id": "c",
        "error": None,
    }


def text(text: str, id: str = "text", status: str = FINISHED, **metadata: object) -> Record:
    content: Record = {"content_type": "text", "parts": [text]}
    ends = True if status == FINISHED else None
    return message(id, content, status=status, end_turn=ends, metadata=metadata)


def code(text: str, id: str = "code", recipient: str = "python", status: str = FINISHED) -> Record:
    content: Record = {"content_type": "code", "language": "unknown", "text": text}
    return message(id, content, recipient=recipient, status=status)


def output(text: str, *images: str, id: str = "out", status: str = FINISHED) -> Record:
    shown = [{"message_type": "image", "image_url": f"file-service://{i}"} for i in images]
    result = {"status": "success", "messages": [{"message_type": "stream"}, *shown]}
    content: Record = {"content_type": "execution_output", "text": text}
    return message(
        id,
        content,
        role="tool",
        name="python",
        status=status,
        metadata={"aggregate_result": result},
    )


def system_error(text: str, id: str = "err", name: str = "python") -> Record:
    content: Record = {"content_type": "system_error", "name": "tool_error", "text": text}
    return message(id, content, role="tool", name=name)


def tool(name: str, text: str, id: str = "tool", **metadata: object) -> Record:
    content: Record = {"content_type": "text", "parts": [text]}
    return message(id, content, role="tool", name=name, metadata=metadata)


def browsed(id: str = "browsed") -> Record:
    content: Record = {"content_type": "tether_quote", "url": "https://ex.org", "text": "page"}
    return message(id, content, role="tool", name="browser")


def drawn(*images: str, id: str = "drawn", prompt: str = "a cat") -> Record:
    parts = [
        {
            "content_type": "image_asset_pointer",
            "asset_pointer": f"file-service://{image}",
            "metadata": {"dalle": {"prompt": prompt}},
        }
        for image in images
    ]
    content: Record = {"content_type": "multimodal_text", "parts": parts}
    return message(id, content, role="tool", name="dalle.text2im")


def cited(number: int | None, url: str | None, start: int = 0, result: int | None = None) -> Record:
    extra = {"cited_message_idx": number, "search_result_idx": result}
    source = {"type": "webpage", "url": url, "extra": extra if number is not None else None}
    return {"start_ix": start, "end_ix": start + 10, "metadata": source}


def steps(record: Record, *texts: str) -> list[Record]:
    """The running records of a message that grows by these texts, and the finished one."""
    running = []
    whole = ""
    for piece in texts:
        whole += piece
        step = json.loads(json.dumps(record))
        content = step["message"]["content"]
        if "parts" in content:
            content["parts"] = [whole]
        else:
            content["text"] = whole
        step["message"]["status"] = RUNNING
        step["message"]["end_turn"] = None
        running.append(step)
    return [*running, record]


DONE = "[DONE]"


def wire(lines: Sequence[Line]) -> bytes:
    """The bytes of a stream."""
    blocks = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return "".join(f"data: {block}\n\n" for block in blocks).encode()


def translate(*reads: bytes) -> list[Output]:
    """Translate a stream that arrives in these reads and then ends."""
    parser, translator = EventParser(), Translator("requested")
    said: list[Output] = []
    for read in reads:
        for event in parser.feed(read):
            said += translator.feed(read_record(event))
    return said + translator.end_of_stream()


def download(wanted: Output) -> Event:
    """Resolve a placeholder as the client would; names with "gone" cannot be downloaded."""
    match wanted:
        case ImagePlaceholder(tool, pointer, prompt):
            name = pointer.rpartition("/")[2]
            url = None if "gone" in name else f"https://img/{name}"
            return Image(tool, url, prompt=prompt)
        case FilePlaceholder(_, path):
            return File(None if "gone" in path else f"https://files{path}")
        case PermissionRequest(domain=domain, operation=operation):
            return Asked(domain, operation)
        case _:
            return wanted


def shown(said: Sequence[Output], bot: Bot | None = None, flushes: Sequence[int] = ()) -> str:
    """The text that a client gets; the same streamed and whole, or this fails.

    Streamed event by event, and in batches that the worker has sent at these places.
    """
    events = [download(one) for one in said]
    assert not isinstance(events[-1], Failed), events[-1]

    def answer() -> ChatAnswer:
        return ChatAnswer("id", "m", 0, AnswerReader(bot or Bot()))

    whole, streamed, batched = answer(), answer(), answer()
    for batch in delivered(events, []):
        whole.add(batch)
    completion = json.loads(whole.whole(Usage(0, 0, 0)))
    content = completion["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    assert joined([streamed.add([event]) for event in events]) == content
    assert joined([batched.add(batch) for batch in delivered(events, flushes)]) == content
    return content


def delivered(events: Sequence[Event], flushes: Sequence[int]) -> Iterator[list[Event]]:
    """The batches of a worker that publishes its events at these places."""
    outgoing = Publication(
        Claim("main", "account", "chat", "job", 1, "key", "gpt_4_s", ["front"], b"")
    )
    for number, event in enumerate(events):
        outgoing.add([event])
        if number in flushes or number == len(events) - 1:
            for batch in decode_frame(encode_frame([outgoing.take()])):
                yield batch.events


def joined(chunks: Sequence[bytes]) -> str:
    """The deltas of a stream, joined."""
    blocks = [text for text in b"".join(chunks).decode().split("\n\n") if text]
    messages = [text.partition("\nid: ")[0] for text in blocks]
    choices = [json.loads(text.removeprefix("data: "))["choices"][0] for text in messages]
    assert [choice["finish_reason"] is not None for choice in choices].count(True) == 1
    return "".join(choice["delta"].get("content", "") for choice in choices)


def answer(*lines: Line, bot: Bot | None = None) -> str:
    """The text that a client gets of a turn that ends with `[DONE]`."""
    return shown(translate(wire([*lines, DONE])), bot)
