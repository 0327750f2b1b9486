"""Jobs: accepted requests, as front ends pass them to workers."""

from __future__ import annotations

import hashlib
from typing import Literal
from urllib.parse import quote

import msgspec

from wire import VERSION

Sort = Literal["chat", "images", "embeddings"]
"""A kind of job. At each upstream some slots are reserved for each."""
Role = Literal["system", "user", "assistant"]
Family = Literal["gpt_4_s", "gpt_4_mobile", "gpt_3_5", "gpt_4_gizmo"]
"""A kind of model; `gpt_4_gizmo` is a GPT, which the job names."""


Identity = tuple[str, str, str]


class Attachment(msgspec.Struct, frozen=True, array_like=True):
    """A file in a message: a picture, a document or any other.

    `type` is its media type, "" if unknown; `size` is in bytes, `sha256` in hex. A picture has a
    width and a height in pixels, other files have zeros. The bytes are `content`, or, if
    they are large, in a blob of the store (`store.blobs`) with the key `blob_key`.
    """

    name: str
    type: str
    size: int
    sha256: str
    width: int = 0
    height: int = 0
    content: bytes = b""
    blob_key: str = ""

    @property
    def identity(self) -> Identity:
        """Bytes, type and name: files with the same identity are uploaded once."""
        return self.sha256, self.type, self.name


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One turn of the conversation so far: a text, or texts and files in the order they came."""

    role: Role
    content: str | list[str | Attachment]

    @property
    def parts(self) -> list[str | Attachment]:
        """Its texts and files, in order."""
        return [self.content] if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        """All its texts."""
        return "\n".join(part for part in self.parts if isinstance(part, str))


class Offloaded(msgspec.Struct, frozen=True, array_like=True):
    """Messages too long to travel with their job, which are in a blob instead.

    `size` is their size in bytes, `file_bytes` the size of the blobs of their files.
    """

    size: int
    sha256: str
    blob_key: str
    file_bytes: int
    content: bytes = b""


class JsonAnswer(msgspec.Struct, frozen=True, array_like=True):
    """A check of an answer: JSON that is valid against a schema in JSON, b"" for any object.

    An answer that contains the text `unless`, if that is not empty, is not checked.
    """

    schema: bytes = b""
    unless: str = ""


class ChatJob(msgspec.Struct, frozen=True, array_like=True, tag="chat"):
    """A chat request, ready for any upstream.

    Carries the bearer and the prompt in the clear, so it crosses Redis only sealed. The bearer is
    "" if the job runs on an account of the operator's: its worker puts in the token of that.
    `version` comes first, so that a worker of another version can detect it. `copies` asks for
    images to be copied into our media store even if clients get the upstream's own URLs.
    """

    version: int
    id: str
    family: Family
    bearer: str
    messages: list[Message]
    copies: bool = False
    gpt: str = ""
    offloaded: Offloaded | None = None
    """The blob that holds the messages, if `messages` is empty. See `store.blobs.Blobs.restore`."""
    json: JsonAnswer | None = None
    """The check of the answer, if it has to be JSON."""
    key: str = ""
    """The fingerprint of the client's key; "" in jobs of an older release."""
    trace: str = ""
    """The `traceparent` of the request, "" if it is not traced."""

    @property
    def attachments(self) -> list[Attachment]:
        """The files of all messages, in order; a file that was sent twice is listed twice."""
        return [
            part
            for message in self.messages
            for part in message.parts
            if isinstance(part, Attachment)
        ]

    @property
    def characters(self) -> int:
        """Characters of the texts of all messages."""
        return sum(
            len(part)
            for message in self.messages
            for part in message.parts
            if isinstance(part, str)
        )

    @property
    def blob_keys(self) -> list[str]:
        """The keys of the job's blobs."""
        keys = [file.blob_key for file in self.attachments if file.blob_key]
        return [*keys, self.offloaded.blob_key] if self.offloaded else keys

    @property
    def blob_bytes(self) -> int:
        """Size of the job's blobs. The line counts it with the job, though it is not in Redis."""
        files = sum(file.size for file in self.attachments if file.blob_key)
        return files + (self.offloaded.size + self.offloaded.file_bytes if self.offloaded else 0)


ApiPath = Literal[
    "chat/completions",
    "completions",
    "responses",
    "messages",
    "messages/count_tokens",
    "embeddings",
]
"""A path below `/v1/` of an OpenAI-compatible server."""


class RelayedJob(msgspec.Struct, frozen=True, array_like=True, tag="relayed"):
    """A request to an OpenAI-compatible server, as its client wrote it.

    Carries the prompt in the clear, so it crosses Redis only sealed. `body` is the JSON of the
    client, b"" if it is in a blob (`offloaded`). `model` is the name that the client used. `key`
    is the fingerprint of the client's key; the key itself never goes upstream. `choices` is the
    number of choices in the answer. `bearer` is "" in Redis: its worker puts in the token of the
    account, if the operator has several.
    """

    version: int
    id: str
    path: ApiPath
    model: str
    key: str
    body: bytes
    offloaded: Offloaded | None = None
    choices: int = 1
    tier: str = ""
    """The `service_tier` that goes upstream in place of the client's, if its key bounds that."""
    bearer: str = ""
    trace: str = ""
    """The `traceparent` of the request, "" if it is not traced."""

    @property
    def blob_keys(self) -> list[str]:
        """The keys of the job's blobs."""
        return [self.offloaded.blob_key] if self.offloaded else []

    @property
    def blob_bytes(self) -> int:
        """Size of the job's blobs. The line counts it with the job, though it is not in Redis."""
        return self.offloaded.size if self.offloaded else 0


Job = ChatJob | RelayedJob

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Job] = msgspec.msgpack.Decoder(Job)
_messages_decoder = msgspec.msgpack.Decoder(list[Message])


def encode_job(job: Job) -> bytes:
    """Encode a job as msgpack. The result still has to be sealed."""
    return _encoder.encode(job)


def decode_job(body: bytes) -> Job:
    """Decode the result of `encode_job`.

    Raises:
        msgspec.MsgspecError: not a job of this version.
    """
    job = _decoder.decode(body)
    if job.version not in (
        1,
        2,
        3,
        VERSION,
    ):  # the same fields, of a job that waited for an upgrade
        raise msgspec.ValidationError(f"job of version {job.version}, this worker speaks {VERSION}")
    return job


def encode_messages(messages: list[Message]) -> bytes:
    """Encode messages alone. The result still has to be sealed."""
    return _encoder.encode(messages)


def decode_messages(body: bytes) -> list[Message]:
    """Decode the result of `encode_messages`.

    Raises:
        msgspec.MsgspecError: not messages of this version.
    """
    return _messages_decoder.decode(body)


def lane_name(sort: Sort, model: str = "") -> str:
    """Return the name of a lane: jobs that the same upstreams may run.

    It is the sort of the jobs alone where an upstream has one lane for all its models.
    """
    return f"{sort}:{quote(model, safe='')}" if model else sort


def lane_of_any(sort: Sort) -> str:
    """Return the name of the lane for every model that no upstream lists.

    A model named `*` has another: `lane_name` encodes it.
    """
    return f"{sort}:*"


def lane_of_family(sort: Sort, family: Family) -> str:
    """Return the name of the lane of a family's jobs that run on accounts of the operator's.

    A model named `@gpt_3_5` has another: `lane_name` encodes it.
    """
    return f"{sort}:@{family}"


def shared_family(lane: str) -> str:
    """Return the family, in the line, of the jobs of a lane whose accounts all keys share."""
    return lane.partition(":")[2].removeprefix("@") or "any"


def fingerprint(bearer: str) -> str:
    """Return the name of a bearer in `queue.weights` and in logs: 16 hex digits of its SHA-256."""
    # The log names also bearers that are refused, such as bytes that are no text.
    return hashlib.sha256(bearer.encode(errors="surrogateescape")).hexdigest()[:16]


def is_pool(bearer: str) -> bool:
    """Return True if a bearer is a pool: one key for several accounts of the upstream."""
    return bearer.startswith("pk-")
