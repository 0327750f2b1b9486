"""The error answers of OpenAI-compatible servers, by name, in the form of the server that sends it.

docs/simulator-openai.md has a table of them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

ErrorName = Literal[
    "invalid",
    "context",
    "too_many_tokens",
    "unauthorized",
    "unauthorized_text",
    "forbidden",
    "no_money",
    "quota",
    "credit",
    "not_pulled",
    "no_path",
    "method",
    "slow",
    "too_large",
    "media_type",
    "unprocessable",
    "early",
    "rate",
    "rate_reset",
    "relay",
    "server",
    "image",
    "trace",
    "plain",
    "unsupported",
    "bad_gateway",
    "loading",
    "model_loading",
    "no_slot",
    "vllm_busy",
    "ollama_busy",
    "flat",
    "kobold",
    "gateway_timeout",
    "cloudflare",
    "overloaded",
]


class ErrorAnswer(msgspec.Struct, frozen=True):
    """One HTTP error; `content` is the object of its JSON, or its text."""

    status: int
    content: object
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def content_type(self) -> str:
        """The media type of the body."""
        if not isinstance(self.content, str):
            return "application/json"
        return "text/html" if self.content.startswith("<") else "text/plain; charset=utf-8"

    @property
    def body(self) -> bytes:
        """The body as it is sent."""
        if isinstance(self.content, str):
            return self.content.encode()
        return msgspec.json.encode(self.content)


class RefusedError(Exception):
    """The request is refused with this error answer."""

    def __init__(self, answer: ErrorAnswer) -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer


def llama(status: int, message: str, kind: str, **more: object) -> ErrorAnswer:
    """Make an error in the form of llama.cpp, whose `code` is the status."""
    return ErrorAnswer(
        status, {"error": {"code": status, "message": message, "type": kind, **more}}
    )


def openai(
    status: int, message: str, kind: str, code: str | None = None, **headers: str
) -> ErrorAnswer:
    """Make an error in OpenAI's own form."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return ErrorAnswer(status, {"error": error}, named)


def invalid(message: str) -> ErrorAnswer:
    """Make the answer to a request that is wrong."""
    return llama(400, message, "invalid_request_error")


def _page(status: int, title: str) -> ErrorAnswer:
    return ErrorAnswer(status, f"<html><head><title>{status} {title}</title></head></html>")


def _busy(message: str, **error: object) -> ErrorAnswer:
    return ErrorAnswer(503, {"error": {"message": message, **error}})


_LIMIT = "Rate limit reached for requests"
_CONTEXT = "request (3031 tokens) exceeds the available context size (2048 tokens)"
_OWN_CONTEXT = (
    "This model's maximum context length is 2048 tokens. However, your messages resulted in 3031"
    " tokens. Please reduce the length of the messages."
)

ERRORS: dict[ErrorName, ErrorAnswer] = {
    "invalid": invalid("Field 'max_tokens': Value must be between -1 and 2147483647"),
    "context": llama(400, _CONTEXT, "exceed_context_size_error", n_prompt_tokens=3031, n_ctx=2048),
    "too_many_tokens": openai(
        400, _OWN_CONTEXT, "invalid_request_error", "context_length_exceeded"
    ),
    "unauthorized": llama(401, "Invalid API Key", "authentication_error"),
    "unauthorized_text": ErrorAnswer(401, {"error": "Unauthorized"}),
    "forbidden": openai(403, "Country, region, or territory not supported", "request_forbidden"),
    "no_money": ErrorAnswer(402, {"error": {"code": 402, "message": "Insufficient credits"}}),
    "quota": openai(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    ),
    "credit": openai(429, "Credit balance is too low", "billing_error", "credit_balance_exhausted"),
    "not_pulled": openai(404, 'model "x" not found, try pulling it first', "not_found_error"),
    "no_path": ErrorAnswer(404, {"detail": "Not Found"}),
    "method": ErrorAnswer(405, {"detail": "Method Not Allowed"}),
    "slow": openai(408, "Request timed out", "timeout"),
    "too_large": ErrorAnswer(413, "Request Entity Too Large"),
    "media_type": ErrorAnswer(415, {"error": "Unsupported media type"}),
    "unprocessable": ErrorAnswer(
        422,
        {"detail": [{"loc": ["body", "n"], "msg": "Input should be 1", "type": "literal_error"}]},
    ),
    "early": openai(425, "Too early", "server_error"),
    "rate": openai(429, _LIMIT, "requests", "rate_limit_exceeded", retry_after="2"),
    "rate_reset": openai(
        429,
        _LIMIT,
        "requests",
        "rate_limit_exceeded",
        x_ratelimit_limit_requests="60",
        x_ratelimit_remaining_requests="0",
        x_ratelimit_reset_requests="1s",
        x_ratelimit_remaining_tokens="149984",
        x_ratelimit_reset_tokens="6m0s",
    ),
    "relay": ErrorAnswer(429, {"error": "Too many concurrent requests. Limit: 1"}),
    "server": llama(500, "The model failed on this request", "server_error"),
    "image": llama(
        500,
        "image input is not supported - hint: if this is unexpected, you may need to provide the"
        " mmproj",
        "server_error",
    ),
    "trace": ErrorAnswer(500, {"error": {"message": "Chat completion aborted", "trace": None}}),
    "plain": ErrorAnswer(500, "Internal Server Error"),
    "unsupported": llama(501, "This server does not support it", "not_supported_error"),
    "bad_gateway": _page(502, "Bad Gateway"),
    "loading": llama(503, "Loading model", "unavailable_error"),
    "model_loading": ErrorAnswer(
        503,
        {"error": {"message": "The model is loading", "type": "model_loading", "code": None}},
        (("Retry-After", "1"),),
    ),
    "no_slot": llama(503, "no slot available", "unavailable_error"),
    "vllm_busy": _busy(
        "The engine is currently busy. Please retry later.", type="Service Unavailable", code=503
    ),
    "ollama_busy": _busy(
        "server busy, please try again.  maximum pending requests exceeded",
        type="api_error",
        code=None,
    ),
    "flat": ErrorAnswer(
        503,
        {
            "object": "error",
            "message": "The request queue is full.",
            "type": "SERVICE_UNAVAILABLE",
            "param": None,
            "code": 503,
        },
    ),
    "kobold": ErrorAnswer(
        503,
        {
            "detail": {
                "msg": "Server is busy; please try again later.",
                "type": "service_unavailable",
            }
        },
    ),
    "gateway_timeout": _page(504, "Gateway Timeout"),
    "cloudflare": _page(524, "A timeout occurred"),
    "overloaded": ErrorAnswer(
        529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    ),
}
