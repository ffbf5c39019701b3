"""Conversations as this process last wrote them, so that a message need not read what the one before it has left.

Good only for a decision that ends in a compare-and-set, which finds out whether it is still so: at an equal version a
conversation in the store is as it was written here, but for what was published from its outbox since.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from services.router.state import Conversation

REMEMBERED = 10_000  # each takes some kilobytes; who writes, mostly writes again within minutes


class Newest:
    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._known: OrderedDict[str, Conversation] = OrderedDict()

    def of(self, conversations: Iterable[str]) -> dict[str, Conversation]:
        """Those that are known."""
        return {one: self._known[one] for one in conversations if one in self._known}

    def wrote(self, c: Conversation) -> None:
        """Only open ones are worth keeping: others lead elsewhere."""
        self._known.pop(c.id, None)
        if c.state == "open":
            self._known[c.id] = c
            if len(self._known) > self._most:
                self._known.popitem(last=False)

    def published(self, c: Conversation) -> None:
        """All that `c` has in its outbox is published, and taken out of it."""
        known = self._known.get(c.id)
        if known is not None and known.v == c.v:
            self._known[c.id] = known.but(out=())

    def forget(self, conversation: str) -> None:
        """It is not so any more, or that matters: the next one reads it."""
        self._known.pop(conversation, None)
