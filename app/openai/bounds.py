"""Bounds of a request's body, far beyond what honest clients send. Pure.

Decoding takes time and memory for every value, however short: a body of millions of empty messages
would stop the event loop for seconds and take gigabytes. So values are counted before any is
decoded. The other bounds are on single fields; the types in `app/openai/requests.py` have them.
"""

from __future__ import annotations

from codecs import getincrementaldecoder

from app.openai.errors import BadRequest, BodyTooLarge

MOST_BYTES = 4 * 1024 * 1024
"""Bytes of a body without its long files: far more text than any model of the upstream reads.
Decoding them takes 10 to 20 ms, also in a worker, whose event loop does it."""

MOST_VALUES = 65_536
"""Values of a body. 2,048 messages and 128 tools with long schemas have about 40,000; decoding this
many takes at most 40 ms."""

MOST_MESSAGES = 2048
"""OpenAI's own limit."""

MOST_PARTS = 2048
"""Content parts of one message. Few clients send more than twenty."""

MOST_TOOLS = 128
"""OpenAI's own limit."""

MOST_MODALITIES = 16
"""There are two."""

MOST_STOPS = 4
"""OpenAI's own limit."""

MOST_STOP_SEQUENCES = 16
"""Of a message. Anthropic has no small limit."""

LONGEST_STOP = 1000
"""Characters. Text of this length is held back, in case it is the beginning of a stop sequence."""

LONGEST_NAME = 512
"""Characters of a model, user, tier and the like. OpenAI accepts at most 64 of most of them."""

LONGEST_SCHEMAS = 262_144
"""Bytes of all tools, or of the schema of a JSON answer. OpenAI's models take fewer."""

DEEPEST_SCHEMA = 64
"""Levels of JSON. Schemas of OpenAI's structured outputs have at most half of them."""

_SPACE = b" \t\r\n"
_SLICE = 65_536


def check_size(size: int) -> None:
    """Check the size of a body in bytes, without its long files.

    Raises:
        BodyTooLarge: it is larger than `MOST_BYTES`.
    """
    if size > MOST_BYTES:
        raise BodyTooLarge(
            "The request body is too large, apart from the base64 of its files. The limit is"
            f" {MOST_BYTES} bytes."
        )


def check_values(body: bytes | bytearray) -> None:
    """Check the number of values in a body, at the speed of a search for a few bytes.

    Quotes are escaped within a text. So, without white space, a brace or a comma before a quote is
    outside of texts (or the end of one), and every object, and every text but the first of a list,
    has such a mark of its own; of adjacent empty objects, every other one. Numbers and nested lists
    are not counted, since no field has many.

    Raises:
        BadRequest: there are more than `MOST_VALUES`.
    """
    dense = body.translate(None, _SPACE)
    if sum(dense.count(mark) for mark in (b'{"', b',"', b"{},{")) > MOST_VALUES:
        raise BadRequest(
            f"The request has too many values. Expected at most {MOST_VALUES} objects and strings"
            " in all its messages and tools."
        )


def check_text(body: bytes | bytearray) -> None:
    """Check that a body is UTF-8, in slices: a text takes up to four times as much as its bytes.

    Raises:
        UnicodeDecodeError: it is not.
    """
    decoder = getincrementaldecoder("utf-8")()
    for at in range(0, len(body), _SLICE):
        decoder.decode(body[at : at + _SLICE])
    decoder.decode(b"", final=True)
