"""The router's store in memory: every call is one atomic step. `pause` is awaited before each, so that a scheduler can put
the steps of several actors in any order. The contract suite holds it to what MongoDB does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime

from services.router.documents import added_out
from services.router.state import Conversation
from services.router.stores import Hint, Known


async def no_pause() -> None:
    return None


class MemoryStore:
    def __init__(self, pause: Callable[[], Awaitable[None]] = no_pause) -> None:
        self.pause = pause
        self.conversations: dict[str, Conversation] = {}
        self.legs: dict[str, Hint] = {}
        self.idents: dict[str, Known] = {}
        self.lost = 0
        self.reads = self.writes = 0

    async def _read(self) -> None:
        self.reads += 1
        await self.pause()

    async def _write(self) -> None:
        self.writes += 1
        await self.pause()

    async def read(self, ids: Collection[str]) -> dict[str, Conversation]:
        await self._read()
        return {one: self.conversations[one] for one in ids if one in self.conversations}

    async def insert_if_absent(self, conversation: Conversation) -> bool:
        await self._write()
        if conversation.id in self.conversations:
            return False
        self.conversations[conversation.id] = conversation
        return True

    async def cas(self, before: Conversation, after: Conversation) -> bool:
        await self._write()
        return self.compare_and_set(before, after)

    def compare_and_set(self, before: Conversation, after: Conversation) -> bool:
        current = self.conversations.get(before.id)
        if current is None or current.v != before.v:
            self.lost += 1
            return False
        added = added_out(before, after)
        kept = () if before.out and not after.out else current.out
        self.conversations[before.id] = replace(after, out=(*current.out, *added) if added else kept)
        return True

    async def cas_many(self, pairs: Sequence[tuple[Conversation, Conversation]]) -> list[bool]:
        return [await self.cas(before, after) for before, after in pairs]

    async def pull_out(self, conversation: str, up_to: int) -> None:
        await self._write()
        if current := self.conversations.get(conversation):
            left = tuple(item for item in current.out if item.n > up_to)
            self.conversations[conversation] = replace(current, out=left)

    def _those(self, test: Callable[[Conversation], bool]) -> list[Conversation]:
        return sorted(filter(test, self.conversations.values()), key=lambda c: (c.opened, c.id))

    async def open_of(self, customer: str, group: str) -> list[Conversation]:
        await self._read()
        return self._those(lambda c: c.state == "open" and c.customer == customer and c.group == group)

    async def open_holding(self, identifier: str) -> list[Conversation]:
        await self._read()
        return self._those(lambda c: c.state == "open" and any(leg.party == identifier for leg in c.legs))

    async def of_identifier(self, identifier: str) -> list[Conversation]:
        await self._read()
        return self._those(lambda c: any(leg.party == identifier for leg in c.legs))

    async def with_token(self, token: str) -> list[Conversation]:
        await self._read()
        return self._those(lambda c: any(offer.token == token for offer in c.offers))

    async def with_code(self, tenant: str, code: str) -> list[Conversation]:
        await self._read()
        return self._those(lambda c: c.tenant == tenant and any(offer.code == code for offer in c.offers))

    async def with_offer(self, offer: str) -> list[Conversation]:
        await self._read()
        return self._those(lambda c: any(one.id == offer for one in c.offers))

    async def with_send(self, outbound_id: str) -> list[Conversation]:
        await self._read()
        return self._those(lambda c: any(send.id == outbound_id for send in c.sends))

    async def due(self, now: datetime, limit: int) -> list[Conversation]:
        await self._read()
        found = [c for c in self.conversations.values() if c.due and c.due <= now]
        return sorted(found, key=lambda c: (c.due, c.id))[:limit]

    async def waiting(self, tenant: str, queue: str, limit: int) -> list[Conversation]:
        await self._read()
        found = self._those(lambda c: c.state == "open" and c.assignment is None and c.tenant == tenant and c.queue == queue)
        return sorted(found, key=lambda c: (c.priority, c.since or c.opened, c.id))[:limit]

    async def queues_waiting(self) -> list[tuple[str, str]]:
        await self._read()
        found = self._those(lambda c: c.state == "open" and c.assignment is None)
        return sorted({(c.tenant, c.queue) for c in found})

    async def hints(self, legs: Collection[str]) -> dict[str, Hint]:
        await self._read()
        return {leg: self.legs[leg] for leg in legs if leg in self.legs}

    async def insert_hint(self, leg: str, hint: Hint) -> bool:
        await self._write()
        if leg in self.legs:
            return False
        self.legs[leg] = hint
        return True

    async def shorten(self, leg: str, conversation: str) -> None:
        await self._write()
        self.legs[leg] = replace(self.legs[leg], conversation=conversation)

    async def known(self, identifiers: Collection[str]) -> dict[str, Known]:
        await self._read()
        return {one: self.idents[one] for one in identifiers if one in self.idents}

    async def learn(self, identifier: str, known: Known) -> None:
        await self._write()
        self.accept(identifier, known)

    def accept(self, identifier: str, known: Known) -> None:
        current = self.idents.get(identifier)
        if current is None or current.version < known.version:
            self.idents[identifier] = known

    async def identifiers_of(self, customer: str) -> list[str]:
        await self._read()
        return sorted(key for key, known in self.idents.items() if known.customer == customer)
