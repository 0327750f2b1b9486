"""Ids of jobs, which are also those of their answers. Pure.

An id ends with the time at which its job was accepted, so that every rendering of the answer says
the same `created`, in whichever front end a client resumes it.
"""

from __future__ import annotations

import secrets
import time

_TIME_DIGITS = 8


def new_job_id(prefix: str) -> str:
    """Return a new id, which cannot be guessed."""
    return f"{prefix}{secrets.token_hex(12)}{int(time.time()):0{_TIME_DIGITS}x}"


def accepted_at(id: str) -> int:
    """Return the time at which a job was accepted, in seconds since 1970."""
    return int(id[-_TIME_DIGITS:], 16)
