"""Reasons for which the store fails, in words for an operator, for the log alone.

The text of an error is not shown: the name of an object in it is all that one needs to fetch it.
obstore has no fields for what it knows, so the reason is picked out of the text.
"""

from __future__ import annotations

import errno
import os
import re

from obstore.store import ObjectStore

_SYSTEM = re.compile(r"\(os error (\d{1,5})\)|\bOs \{\s*code: (\d{1,5})")
_ANSWER = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>|\"(?:code|reason)\": ?\"(\w{1,64})\"")
_SERVER = re.compile(r"Error performing [A-Z]+ https?://(?:[^/@\s]*@)?([^/\s]+)")
_WORDS = {
    "dns error": "DNS: the host name cannot be resolved",
    "InvalidCertificate": "TLS: its certificate is not trusted",
    "certificate": "TLS: its certificate is not trusted",
    "kind: Timeout": "no answer in time",
    "TimedOut": "no answer in time",
    "error sending request": "it cannot be reached",  # of a writer, which does not know more
}


def trouble(error: BaseException) -> str:
    """Describe why the store fails, given an error of obstore or of the system."""
    text = str(error)
    server = _SERVER.search(text)
    where = f" ({server[1]})" if server else ""
    if answer := _ANSWER.search(text):
        code = _CODE.search(text)
        return f"the server answered {answer[1]}{f' {code[1] or code[2]}' if code else ''}{where}"
    if number := _system_number(error, text):
        return f"{os.strerror(number)} [{errno.errorcode.get(number, number)}]{where}"
    for word, reason in _WORDS.items():
        if word in text:
            return f"{reason}{where}"
    return f"{type(error).__name__}{where}"


def location(store: ObjectStore) -> str:
    """Return the folder or the bucket of a store."""
    return str(getattr(store, "prefix", None) or store)


def _system_number(error: BaseException, text: str) -> int:
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = _SYSTEM.search(text)
    return int(found[1] or found[2]) if found else 0
