"""Operations of the API: the requests and answers of each route, by its name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, get_args

import msgspec
from msgspec.structs import replace

from app.anthropic.answers import AnswerEvent, AnswerMessage, TokenCount
from app.anthropic.models import ModelInfo, ModelPage
from app.anthropic.requests import MessagesRequest
from app.health import HealthReport
from app.openai.answers import Chunk, Completion, ImagesAnswer, Model, ModelList
from app.openai.completions import CompletionRequest, TextCompletion
from app.openai.errors import (
    ImageGenerateFail,
    ItemNotFound,
    JobFailed,
    ModelNotFound,
    NotFound,
    NoWorker,
)
from app.openai.requests import ChatRequest, ImagesRequest
from app.openai.responses.answers import Response, Sent
from app.openai.responses.requests import ResponsesRequest
from app.openapi.errors import IN_LINE, OF_A_BODY, OF_A_KEY, Kinds
from app.openapi.headers import (
    ANTHROPIC_VERSION,
    EMULATED,
    ETAG,
    IF_NONE_MATCH,
    LAST_EVENT_ID,
    OPENAI_LIMITS,
    SCHEDULING,
    Header,
    request_limits,
)
from app.openapi.headers import IN_LINE as IN_LINE_HEADERS
from app.openapi.schemas import Schema
from app.queue import Cancellation, QueueEntry
from app.relayed.requests import BODIES
from wire.jobs import ApiPath

Tag = Literal["Answers", "Models", "Line", "Files", "Operation", "Documents"]

JSON, SSE, HTML, ANY = "application/json", "text/event-stream", "text/html", "*/*"


class Reply(msgspec.Struct, frozen=True):
    """An answer to a request that has not failed: the types of its body by their media types.

    A text has no type. `events` are the types of the messages of a stream.
    """

    description: str
    content: Mapping[str, tuple[object, ...]] = {}
    headers: tuple[Header, ...] = ()
    status: int = 200
    events: tuple[object, ...] = ()


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path."""

    tag: Tag
    summary: str
    description: str = ""
    parameters: tuple[Header, ...] = ()
    body: tuple[type, ...] = ()
    """The types that the body may have; none if there is no body."""
    example: Schema = {}
    replies: tuple[Reply, ...]
    errors: Kinds = ()
    relays: bool = False
    """True if the errors of a model server are shown as they are."""
    key: Literal["needed", "optional", "none"] = "needed"


class ServerChoice(msgspec.Struct, frozen=True):
    """One choice of a model server's answer. Its other fields are as the server wrote them."""

    index: int
    finish_reason: str | None


class ServerCompletion(msgspec.Struct, frozen=True):
    """Answer of a model server. Its other fields are as the server wrote them."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ServerChoice]


class ServerMessage(msgspec.Struct, frozen=True):
    """Message of a model server. Its other fields are as the server wrote them."""

    content: list[dict[str, object]]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One dialect: its own types, those of answers of model servers, and an example.

    `body` and `answer` are None if only model servers have it. It waits in line unless its `errors`
    are those of a body alone.
    """

    summary: str
    description: str = ""
    body: type | None = None
    answer: type | None = None
    events: tuple[object, ...] = ()
    served: object = dict[str, object]
    example: Schema
    errors: Kinds = IN_LINE


_SAID = [{"role": "user", "content": "Hello!"}]
_PASSED_ON = (
    "Fields that are not described are passed on to the model server, whose answer is as it wrote"
    " it."
)
_STREAMED = "With `stream`, the answer is a stream of server-sent events."

_CALLS: dict[ApiPath, Call] = {
    "chat/completions": Call(
        summary="Answer a chat",
        description=f"OpenAI's chat completions. {_STREAMED}",
        body=ChatRequest,
        answer=Completion,
        events=(Chunk,),
        served=ServerCompletion,
        example={"model": "gpt-4", "messages": _SAID},
    ),
    "responses": Call(
        summary="Create a response",
        description=f"The same chat in OpenAI's newer dialect. {_STREAMED}",
        body=ResponsesRequest,
        answer=Response,
        events=get_args(Sent),
        example={"model": "gpt-4", "input": "Hello!"},
        errors=(*IN_LINE, ItemNotFound),
    ),
    "completions": Call(
        summary="Complete a text",
        description=f"OpenAI's oldest dialect. {_STREAMED}",
        body=CompletionRequest,
        answer=TextCompletion,
        events=(TextCompletion,),
        served=ServerCompletion,
        example={"model": "gpt-4", "prompt": "Hello!"},
    ),
    "messages": Call(
        summary="Create a message",
        description=f"The same chat in Anthropic's dialect. {_STREAMED}",
        body=MessagesRequest,
        answer=AnswerMessage,
        events=get_args(AnswerEvent),
        served=ServerMessage,
        example={"model": "gpt-4", "max_tokens": 100, "messages": _SAID},
    ),
    "messages/count_tokens": Call(
        summary="Count the tokens of a message",
        description="The number that `usage.input_tokens` of an answer would have.",
        body=MessagesRequest,
        answer=TokenCount,
        served=TokenCount,
        errors=OF_A_BODY,
        example={"model": "gpt-4", "messages": _SAID},
    ),
    "embeddings": Call(
        summary="Create embeddings",
        example={"model": "gpt-4", "input": "Hello!"},
    ),
}

_IMAGES = Operation(
    tag="Answers",
    summary="Generate images",
    parameters=SCHEDULING,
    body=(ImagesRequest,),
    example={"model": "gpt-4", "prompt": "A lighthouse at night"},
    replies=(Reply("The images.", {JSON: (ImagesAnswer,)}, (*IN_LINE_HEADERS, *OPENAI_LIMITS)),),
    errors=(*IN_LINE, ImageGenerateFail),
)

_MODEL = Header("name", "Name of a model.", {"type": "string", "minLength": 1}, "path")
_ID = Header(
    "id", "Id of a request, or its `Idempotency-Key`.", {"type": "string", "minLength": 1}, "path"
)
_FILE = Header(
    "name", "Name of a file, from an answer.", {"type": "string", "minLength": 1}, "path"
)

_DOCUMENT_REPLY = (ETAG,)
_UNCHANGED = Reply("The document is still the one that you know.", {}, (ETAG,), 304)


def _download(summary: str) -> Operation:
    return Operation(
        tag="Files",
        summary=summary,
        description="Anybody who has the link may download it.",
        parameters=(_FILE,),
        replies=(Reply("The file.", {ANY: ()}),),
        errors=(NotFound,),
        key="none",
    )


_OTHERS: dict[str, Operation] = {
    "models": Operation(
        tag="Models",
        summary="List the models",
        parameters=(ANTHROPIC_VERSION,),
        replies=(Reply("The models.", {JSON: (ModelList, ModelPage)}),),
        errors=OF_A_KEY,
    ),
    "model": Operation(
        tag="Models",
        summary="Describe a model",
        parameters=(_MODEL, ANTHROPIC_VERSION),
        replies=(Reply("The model.", {JSON: (Model, ModelInfo, ModelList, ModelPage)}),),
        errors=(*OF_A_KEY, ModelNotFound),
    ),
    "queue_show": Operation(
        tag="Line",
        summary="Show the status of a request",
        parameters=(_ID,),
        replies=(Reply("Its status.", {JSON: (QueueEntry,)}),),
        errors=(*OF_A_KEY, NotFound),
    ),
    "queue_cancel": Operation(
        tag="Line",
        summary="Cancel a request, or delete its answer",
        parameters=(_ID,),
        replies=(Reply("It ends.", {JSON: (Cancellation,)}),),
        errors=(*OF_A_KEY, NotFound),
    ),
    "images": _download("Download an image"),
    "files": _download("Download a file"),
    "healthz": Operation(
        tag="Operation",
        summary="Check that this front end runs",
        replies=(Reply("It runs.", {JSON: (HealthReport,)}),),
        key="none",
    ),
    "readyz": Operation(
        tag="Operation",
        summary="Check that new requests can be served",
        replies=(
            Reply("They can. `reasons` are lesser warnings.", {JSON: (HealthReport,)}),
            Reply("They cannot, for these `reasons`.", {JSON: (HealthReport,)}, status=503),
        ),
        key="none",
    ),
    "metrics": Operation(
        tag="Operation",
        summary="Export metrics for Prometheus",
        description="With `metrics.token` in the settings, it is needed as the bearer.",
        replies=(Reply("The metrics.", {"text/plain": (), "application/openmetrics-text": ()}),),
        errors=OF_A_KEY,
        key="none",
    ),
    "openapi": Operation(
        tag="Documents",
        summary="Describe this API",
        parameters=(IF_NONE_MATCH,),
        replies=(
            Reply("This description.", {JSON: (dict[str, object],)}, _DOCUMENT_REPLY),
            _UNCHANGED,
        ),
        key="none",
    ),
    "docs": Operation(
        tag="Documents",
        summary="Show this API to a reader",
        parameters=(IF_NONE_MATCH,),
        replies=(Reply("A page.", {HTML: ()}, _DOCUMENT_REPLY), _UNCHANGED),
        key="none",
    ),
}


def operations(
    own: Collection[ApiPath], *, relayed: bool, shows_models: bool = False
) -> dict[str, Operation]:
    """Return the operations by the names of their routes.

    `own` are the paths that are served without a model server, which are there if `relayed`.
    `shows_models`: models are shown without a key, too.
    """
    calls = {
        path.replace("/", "_"): _model_operation(path, call, own=path in own, relayed=relayed)
        for path, call in _CALLS.items()
        if relayed or path in own
    }
    images = {"images_generations": _IMAGES} if own else {}
    shown = {name: replace(_OTHERS[name], key="optional") for name in ("models", "model")}
    return calls | images | _OTHERS | (shown if shows_models else {})


def _model_operation(path: ApiPath, call: Call, *, own: bool, relayed: bool) -> Operation:
    own = own and call.body is not None
    bodies = [call.body] if own and call.body else []
    answers = [call.answer] if own else []
    is_streamed = bool(call.events)
    waits = call.errors is not OF_A_BODY
    relays = relayed and waits
    limits = request_limits(f"/v1/{path}")
    content: dict[str, tuple[object, ...]] = {
        JSON: tuple(dict.fromkeys((*answers, *([call.served] if relayed else [])))),
    }
    return Operation(
        tag="Answers",
        summary=call.summary,
        description=f"{call.description} {_PASSED_ON}".strip() if relays else call.description,
        parameters=(*SCHEDULING, *([LAST_EVENT_ID] * is_streamed)) if waits else (),
        body=(*bodies, *([BODIES[path]] if relayed else [])),
        example=call.example,
        replies=(
            Reply(
                "The answer.",
                content | ({SSE: ()} if is_streamed else {}),
                (*IN_LINE_HEADERS, *limits, *(EMULATED if own else ())) if waits else (),
                events=call.events if own else (),
            ),
        ),
        # It may be for a server that cannot be used now.
        errors=(*call.errors, NoWorker, JobFailed) if relayed and not waits else call.errors,
        relays=relays,
    )
