"""The conversations the server knows."""

from __future__ import annotations

_REMEMBERED = 1000


class History:
    """The owners of the last 1000 conversations."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def remember(self, conversation_id: str, bearer: str) -> None:
        """Keep a conversation; the oldest is forgotten when there are too many."""
        self._owners[conversation_id] = bearer
        if len(self._owners) > _REMEMBERED:
            del self._owners[next(iter(self._owners))]

    def knows(self, conversation_id: str, bearer: str) -> bool:
        """Whether this conversation exists and is the bearer's."""
        return self._owners.get(conversation_id) == bearer
