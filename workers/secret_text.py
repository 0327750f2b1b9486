"""Texts of an upstream that may show a secret, such as a token that it repeats. Pure."""

from __future__ import annotations

from wire.events import Failed

NOT_SHOWN = "The upstream reported an error whose message cannot be shown."

_PART = 8  # characters of a secret that tell something of it


def shows(text: str, secret: str) -> bool:
    """Return True if a text contains a secret, or ends within one, since its server has cut it."""
    return secret in text or any(
        text.endswith(secret[:length]) for length in range(_PART, len(secret))
    )


def without_secret(failed: Failed, secret: str) -> Failed:
    """Replace the words of a failure if one of them shows a secret."""
    texts = (failed.message, failed.code, failed.kind, failed.param)
    if secret and any(shows(text, secret) for text in texts if text):
        return Failed(failed.fault, NOT_SHOWN, retry_after=failed.retry_after, status=failed.status)
    return failed
