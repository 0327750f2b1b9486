"""Output items of responses: stored before a client receives their end, and found when a later
request refers to them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from app.openai.bounds import MOST_BYTES, check_size
from app.openai.errors import LineUnavailable, UnsupportedParameter
from app.openai.requests import ChatMessage
from wire.items import StoredItems
from wire.redis.outage import REDIS_ERRORS
from wire.redis.trouble import address_of, trouble

logger = logging.getLogger(__name__)

_NOT_STORED = (
    "Items of type `item_reference` are not supported, since this gateway stores no responses. Send"
    " the item itself: most clients do with `store` false."
)
_decoder = msgspec.msgpack.Decoder(ChatMessage)


class FoundItems(msgspec.Struct, frozen=True):
    """The items that a request refers to, as messages by their ids. `size` is in bytes."""

    messages: Mapping[str, ChatMessage] = {}
    size: int = 0


class Items:
    """Output items, each as the message of a chat."""

    def __init__(self, stored: StoredItems) -> None:
        self._stored = stored

    @property
    def are_stored(self) -> bool:
        """True if the operator wants items to be stored."""
        return self._stored.lifetime > 0

    async def store(self, owner: str, items: Mapping[str, ChatMessage]) -> None:
        """Store items by their ids. Raises nothing: the answer itself does not need them."""
        if not items or not self.are_stored:
            return
        try:
            await self._stored.put(owner, {k: msgspec.msgpack.encode(v) for k, v in items.items()})
        except REDIS_ERRORS as error:
            logger.warning(
                "items of a response could not be stored: %s",
                trouble(error),
                extra={"event": "items_not_stored", "items": len(items)} | address_of(error),
            )

    async def find(self, owner: str, references: Mapping[str, str]) -> FoundItems:
        """Return the items with these ids, each with the path of its reference, that there are.

        Raises:
            UnsupportedParameter: no items are stored.
            BodyTooLarge: together they are too large for one request.
            LineUnavailable: Redis is unreachable.
        """
        if not references:
            return FoundItems()
        if not self.are_stored:
            raise UnsupportedParameter(_NOT_STORED, param=next(iter(references.values())))
        try:
            found = await self._stored.get(owner, references, MOST_BYTES)
        except REDIS_ERRORS:
            raise LineUnavailable from None
        size = sum(map(len, found.values()))
        check_size(size)
        return FoundItems({id: _decoder.decode(item) for id, item in found.items()}, size)
