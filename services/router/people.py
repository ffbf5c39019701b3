"""What is known of people by identifier: the value itself, further values they gave, orders; and whether they want to be
written to. Values are sealed; the key alone stands in the open. Read when a person writes, never on the way of an event.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b

from services.common.events import JourneyStep, Said
from services.common.identifiers import Identifier
from services.common.mongo import Document, Mongo, UpdateOne, bulk, reaching
from services.common.vault import Unsealable, Vault
from services.router.privacy import Known
from services.router.shapes import Kind

FACTS = 60  # further values that are kept of one identifier
NOTED = 200_000
SEALED = 50_000


@dataclass(frozen=True, slots=True)
class Fact:
    """A value that a person's identifier came with."""

    kind: Kind
    value: str


def kind_of(scheme: str) -> Kind:
    match scheme:
        case "tel":
            return "phone"
        case "email":
            return "email"
    return "identifier"


def facts_of(data: Said | JourneyStep) -> tuple[Fact, ...]:
    """What an event tells of its sender besides the identifier it came on."""
    also = [Fact(kind_of(one.identifier.scheme), one.identifier.value) for one in data.sender.also]
    if isinstance(data, JourneyStep) and data.type.startswith("hilo.order."):
        numbers = (value for name, value in data.data.items() if name in ("order", "order_id", "number", "id", "tracking"))
        also += [Fact("order", value) for value in numbers if len(value) >= 4]
    return tuple(also)


class Parties:
    """Seals the identifier that a leg's messages are addressed to, and opens it for a send. What was sealed lately is the same
    again: then a message has nothing to write about who its sender is."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._sealed = lru_cache(SEALED)(self._seal)

    def seal(self, tenant: str, who: Identifier) -> bytes:
        return self._sealed(f"party/{tenant}/{who.key}", who.scheme, who.scope, who.value)

    def _seal(self, place: str, *words: str) -> bytes:
        return self._vault.seal(place, json.dumps(words).encode())

    def open(self, tenant: str, key: str, sealed: bytes) -> Identifier | None:
        """None for what was erased. Raises Unsealable for what another master key sealed."""
        if not sealed:
            return None
        scheme, scope, value = json.loads(self._vault.open(f"party/{tenant}/{key}", sealed))
        return Identifier(scheme, value, scope, key)


class People:
    """The collection `people`. Notes are written once per process and value: what is known already costs nothing."""

    def __init__(self, mongo: Mongo, vault: Vault) -> None:
        self._people = mongo.database("router")["people"]
        self._vault, self._parties = vault, Parties(vault)
        self._noted: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def note(self, tenant: str, told: Iterable[tuple[Identifier, Sequence[Fact]]]) -> None:
        """Remember identifiers and what came with them; harmless when it is done again."""
        operations = []
        fresh: list[tuple[str, str]] = []
        for who, facts in told:
            if (who.key, "") not in self._noted:
                values = {"tenant": tenant, "who": self._parties.seal(tenant, who), "facts": []}
                operations.append(UpdateOne({"_id": who.key}, {"$setOnInsert": values}, upsert=True))
                fresh.append((who.key, ""))
            for fact in facts:
                name = blake2b(f"{fact.kind}\0{fact.value}".encode(), digest_size=12).hexdigest()
                if (who.key, name) not in self._noted:
                    operations.append(self._add(tenant, who.key, name, fact))
                    fresh.append((who.key, name))
        await bulk(self._people, operations, ordered=True)
        for one in fresh:
            self._noted[one] = None
        while len(self._noted) > NOTED:
            self._noted.popitem(last=False)

    def _add(self, tenant: str, key: str, name: str, fact: Fact) -> UpdateOne:
        sealed = self._vault.seal(f"fact/{tenant}/{key}", json.dumps([fact.kind, fact.value]).encode())
        push = {"facts": {"$each": [{"k": name, "v": sealed}], "$slice": -FACTS}}
        return UpdateOne({"_id": key, "facts.k": {"$ne": name}}, {"$push": push})

    async def known(self, tenant: str, keys: Sequence[str], *, visible: frozenset[str] = frozenset()) -> list[Known]:
        """The values known of these identifiers. `visible` are identifiers that everybody sees in the public thread."""
        async with reaching():
            found = await self._people.find({"_id": {"$in": list(keys)}, "tenant": tenant}).to_list(None)
        return [value for document in found for value in self._values(tenant, document, visible)]

    def _values(self, tenant: str, document: Document, visible: frozenset[str]) -> list[Known]:
        values: list[Known] = []
        if document["_id"] not in visible and (who := self._parties.open(tenant, document["_id"], document["who"])):
            values.append(Known(kind_of(who.scheme), who.value))
        for fact in document["facts"]:
            kind, value = json.loads(self._vault.open(f"fact/{tenant}/{document['_id']}", fact["v"]))
            values.append(Known(kind, value))
        return values

    async def identifier(self, tenant: str, key: str) -> Identifier | None:
        async with reaching():
            found = await self._people.find_one({"_id": key, "tenant": tenant})
        return self._parties.open(tenant, key, found["who"]) if found else None

    # -- consent

    async def consent(self, tenant: str, who: Identifier, place: str, at: datetime, *, given: bool) -> None:
        """The newest word on being written to on an account (`channel/account`) counts, whatever order the words come in."""
        await self.note(tenant, [(who, ())])
        field = f"consent.{place.replace('.', '_')}"
        newer = {"$or": [{f"{field}.at": {"$exists": False}}, {f"{field}.at": {"$lt": at}}]}
        async with reaching():
            await self._people.update_one({"_id": who.key, **newer}, {"$set": {field: {"at": at, "given": given}}})

    async def withdrawn(self, tenant: str, key: str, place: str) -> bool:
        async with reaching():
            found = await self._people.find_one({"_id": key, "tenant": tenant}, {"consent": 1})
        word = (found or {}).get("consent", {}).get(place.replace(".", "_"))
        return bool(word) and not word["given"]

    async def forget(self, key: str) -> None:
        """An erasure: nothing of this identifier is kept, a withdrawn consent included, since it says who it was."""
        async with reaching():
            await self._people.delete_one({"_id": key})
        self._noted.clear()


__all__ = ["Fact", "Parties", "People", "Unsealable", "facts_of", "kind_of"]
