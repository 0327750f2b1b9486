"""Durations as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Describe a duration: `41 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    hours = whole // 3600
    return (
        f"{hours} h {whole % 3600 // 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
    )


def short_duration(seconds: float) -> str:
    """Describe a duration in at most five characters: `41s`, `3m20s`, `2h05m`, `3d`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 36_000:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 3600}h" if whole < 172_800 else f"{whole // 86_400}d"
