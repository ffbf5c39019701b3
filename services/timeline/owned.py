"""Documents that belong to one tenant each, written by id. Every write may be repeated, by two processes at once."""

from __future__ import annotations

import asyncio
from collections.abc import Collection as Several
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from services.common.mongo import Collection, Document, InsertOne, UpdateOne, bulk, reaching

Id = TypeVar("Id", bytes, str)
REMEMBERED = 100_000  # documents of a collection, some 15 MB


class Change(Protocol):
    """What is written to a document. `whole` is what its update would make of nothing, if there may be nothing yet: then it
    is inserted first, which costs a third of an upsert that inserts."""

    def update(self) -> Mapping[str, Any]: ...

    def whole(self) -> Mapping[str, Any] | None: ...


class Owned(Generic[Id]):
    """A collection. An id that an event names may be wrong, so whoever meets a document for the first time asks for its tenant
    too, and what belongs to another is not touched. A document that was met is found by its id alone, which the server does
    without planning, in half the time: whose it is never changes."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._met: dict[Id, str] = {}

    async def write(self, tenant: str, changes: Mapping[Id, Change]) -> set[Id]:
        """Which of these were inserted."""
        operations = {name: self._operation(tenant, name, change) for name, change in changes.items()}
        done = await bulk(self._collection, list(operations.values()))
        names = list(operations)
        known = {names[place] for place in done.duplicates}
        await upsert(self._collection, [_asking(tenant, name, changes[name]) for name in known])
        if len(self._met) > REMEMBERED:
            self._met.clear()
        self._met.update(dict.fromkeys(names, tenant))
        return {name for name, one in operations.items() if isinstance(one, InsertOne)} - known

    def _operation(self, tenant: str, name: Id, change: Change) -> InsertOne[Document] | UpdateOne:
        if self._met.get(name) == tenant:
            return UpdateOne({"_id": name}, {**change.update(), "$setOnInsert": {"tn": tenant}}, upsert=True)
        whole = change.whole()
        return _asking(tenant, name, change) if whole is None else InsertOne({"_id": name, "tn": tenant, **whole})

    async def find(self, tenant: str, ids: Several[Id], fields: Mapping[str, int] | None = None) -> list[Document]:
        """The tenant's documents with these ids, in one answer however many they are."""
        if not ids:
            return []
        async with reaching():
            rows = self._collection.find({"_id": {"$in": list(ids)}, "tn": tenant}, fields).batch_size(len(ids) + 1)
            found: list[Document] = await rows.to_list(None)
        return found


def _asking(tenant: str, name: bytes | str, change: Change) -> UpdateOne:
    return UpdateOne({"_id": name, "tn": tenant}, change.update(), upsert=True)


async def upsert(collection: Collection, updates: Sequence[UpdateOne]) -> None:
    """Repeated for those that met another's insert of the same `_id`: a filter with more than `_id` is not retried by the
    server."""
    left = list(updates)
    for _attempt in range(10):
        done = await bulk(collection, left)
        if not done.duplicates:
            return
        left = [left[place] for place in done.duplicates]
        await asyncio.sleep(0)
    raise RuntimeError(f"{len(left)} documents of {collection.name} belong to another tenant")
