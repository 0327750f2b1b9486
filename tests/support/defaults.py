"""Defaults of all settings, as settings.toml writes them."""

from __future__ import annotations

import msgspec

import settings
from settings.credentials import Secret


def defaults() -> dict[str, dict[str, object]]:
    """Return the default of every setting, by section and key."""
    records = settings.Settings()
    return {
        section.name: {
            key: _as_in_toml(value)
            for key, value in msgspec.structs.asdict(getattr(records, section.name)).items()
        }
        for section in msgspec.structs.fields(settings.Schema)
    }


def _as_in_toml(value: object) -> object:
    match value:
        case None:
            return ""
        case Secret():
            return value.reveal()
        case tuple():
            return [str(item) for item in value]
        case _:
            return value
