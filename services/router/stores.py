"""The router's memory, in words of the protocol. Every method is one atomic step, or says that it is several.

A False from a compare-and-set means: not known to have been written. Whoever gets it reads again and decides again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.router.state import Conversation


@dataclass(frozen=True, slots=True)
class Hint:
    """Where a leg was last known to be. `opened` and `customer` are those of the conversation if it must be made."""

    conversation: str
    opened: datetime
    customer: str | None


@dataclass(frozen=True, slots=True)
class Known:
    """The customer of an identifier, as the newest map record we had says. None: erased."""

    customer: str | None
    version: int


class ConversationStore(Protocol):
    async def read(self, ids: Collection[str]) -> dict[str, Conversation]:
        """Those that exist, in one step."""
        ...

    async def insert_if_absent(self, conversation: Conversation) -> bool:
        """False if there is one with this id."""
        ...

    async def cas(self, before: Conversation, after: Conversation) -> bool:
        """Write what differs if the version is still that of `before`. New outbox items are added and old ones not touched; if
        none is new and `after` has none, the outbox is emptied: whoever asks for that has published all of `before`."""
        ...

    async def cas_many(self, pairs: Sequence[tuple[Conversation, Conversation]]) -> list[bool]:
        """Many independent compare-and-sets, each a step of its own."""
        ...

    async def pull_out(self, conversation: str, up_to: int) -> None:
        """Remove outbox items with n <= `up_to`. Neither tests nor raises the version: it commutes with everything."""
        ...

    async def open_of(self, customer: str, group: str) -> list[Conversation]:
        """The customer's open conversations in the group, oldest (opened, id) first."""
        ...

    async def open_holding(self, identifier: str) -> list[Conversation]:
        """Open conversations with a leg of this identifier, moved ones included."""
        ...

    async def of_identifier(self, identifier: str) -> list[Conversation]:
        """All conversations, in any state, with a leg of this identifier."""
        ...

    async def with_token(self, token: str) -> list[Conversation]:
        """Those that carry the offer with this token hash: a joined loser keeps its frozen copy."""
        ...

    async def with_code(self, tenant: str, code: str) -> list[Conversation]:
        """Those that carry the offer with this code hash."""
        ...

    async def with_offer(self, offer: str) -> list[Conversation]:
        """Those that carry the offer with this public id."""
        ...

    async def with_send(self, outbound_id: str) -> list[Conversation]:
        """Those that carry the send which can still be refused."""
        ...

    async def due(self, now: datetime, limit: int) -> list[Conversation]:
        """Those with `due` <= now, earliest first."""
        ...

    async def waiting(self, tenant: str, queue: str, limit: int) -> list[Conversation]:
        """Open ones without an assignment, by (priority, since, id): the queue's head first."""
        ...

    async def queues_waiting(self) -> list[tuple[str, str]]:
        """(tenant, queue) of every queue in which a conversation waits."""
        ...

    # legs and identifiers

    async def hints(self, legs: Collection[str]) -> dict[str, Hint]:
        """Those that exist, in one step."""
        ...

    async def insert_hint(self, leg: str, hint: Hint) -> bool:
        """False if the leg has one."""
        ...

    async def shorten(self, leg: str, conversation: str) -> None:
        """The hint names a later conversation of the leg's chain from now on."""
        ...

    async def known(self, identifiers: Collection[str]) -> Mapping[str, Known]:
        """Those that were told of, in one step."""
        ...

    async def learn(self, identifier: str, known: Known) -> None:
        """Written only if its version is larger than what is there."""
        ...

    async def identifiers_of(self, customer: str) -> list[str]:
        """The identifiers that the map gives a customer, as far as they fit into one answer."""
        ...
