"""MongoDB of the timeline: what the projector writes. Only the projector writes here, so a rebuild gives the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from services.common.mongo import (
    ASCENDING,
    DESCENDING,
    Collection,
    Document,
    IndexModel,
    InsertOne,
    Mongo,
    UpdateMany,
    UpdateOne,
    bulk,
    reaching,
)
from services.timeline.facets import Change, Row
from services.timeline.lanes import Lanes, position
from services.timeline.order import BOTTOM, NOWHERE, TOP
from services.timeline.owned import Owned, upsert

DEAD_DAYS = 30
Update = tuple[Mapping[str, Any], Mapping[str, Any]]
# What a reader of an entry's document needs to know where it belongs.
PLACE = {"b.i": 1, "b.kd": 1, "cv.id": 1, "k": 1}


def index(*keys: tuple[str, int], **options: Any) -> IndexModel:
    return IndexModel(list(keys), **options)


def _upward(*names: str) -> list[tuple[str, int]]:
    return [(name, ASCENDING) for name in names]


# page, conversation and rare kinds: the three ways in which entries are listed.
ENTRIES = (
    index(*_upward("tn", "b.i"), ("k", DESCENDING), name="page"),
    index(
        *_upward("tn", "cv.id"),
        ("k", DESCENDING),
        name="conv",
        partialFilterExpression={"cv.id": {"$exists": True}},
    ),
    index(*_upward("tn", "b.i", "b.kd"), ("k", DESCENDING), name="kind", partialFilterExpression={"b.rare": True}),
)
CONVERSATIONS = (
    index(*_upward("tn", "h.state"), ("act", DESCENDING), name="state"),
    index(*_upward("tn", "h.state", "h.agent", "h.queue"), ("act", DESCENDING), name="queue"),
    index(*_upward("tn", "h.customer"), ("act", DESCENDING), name="customer"),
    index(*_upward("tn", "h.pub"), ("act", DESCENDING), name="public", partialFilterExpression={"h.pub": True}),
    index(*_upward("tn", "h.due", "_id"), name="due", partialFilterExpression={"h.due": {"$exists": True}}),
)
IDENTITIES = (index(*_upward("tn", "m.c"), name="customer"), index(*_upward("tn", "was"), name="was"))
DEAD = (index(*_upward("tn", "dec.decision"), ("at", DESCENDING), ("_id", DESCENDING), name="state"),)


def journal_indexes(days: float) -> tuple[IndexModel, ...]:
    return (
        index(*_upward("p"), name="position"),
        index(*_upward("tn", "s", "p"), name="subject"),
        index(*_upward("x"), name="age", expireAfterSeconds=int(days * 86400)),
    )


@dataclass(slots=True)
class Journaled:
    """An event as the live feed needs it: where it stands, who listens to what, and which entries it shows."""

    id: bytes
    tenant: str
    position: int
    subjects: tuple[str, ...]
    entries: tuple[bytes, ...]
    kind: str
    data: Mapping[str, Any]


class Collections:
    """The collections of one generation. The journal is shared: its positions are the log's."""

    def __init__(self, mongo: Mongo, generation: str) -> None:
        database = mongo.database("timeline")
        self.generation = generation
        self.entries: Collection = database[f"entries_{generation}"]
        self.identities: Collection = database[f"identities_{generation}"]
        self.conversations: Collection = database[f"conversations_{generation}"]
        self.receipts: Collection = database[f"receipts_{generation}"]
        self.dead: Collection = database[f"dead_{generation}"]
        self.channels: Collection = database[f"channels_{generation}"]
        self.accounts: Collection = database[f"accounts_{generation}"]
        self.journal: Collection = database["journal"]
        self.marks: Collection = database["marks"]
        self.lanes: Collection = database["lanes"]


class TimelineStore:
    """Writes of the projector. Every method may be called twice with the same, by two processes at once."""

    def __init__(self, mongo: Mongo, generation: str, journal_days: float = 3) -> None:
        self.collections = c = Collections(mongo, generation)
        self.lanes = Lanes(c.lanes, c.journal, c.marks, generation)
        self._days = journal_days
        self._entries: Owned[bytes] = Owned(c.entries)
        self._conversations: Owned[str] = Owned(c.conversations)
        self._identities: Owned[str] = Owned(c.identities)

    async def start(self) -> None:
        """Indexes; and the first generation of a database is the live one."""
        c = self.collections
        wanted = (
            (c.entries, ENTRIES),
            (c.conversations, CONVERSATIONS),
            (c.identities, IDENTITIES),
            (c.dead, (*DEAD, index(*_upward("at"), name="age", expireAfterSeconds=DEAD_DAYS * 86400))),
            (c.journal, journal_indexes(self._days)),
        )
        async with reaching():
            await self._keep_for(c.journal)
            for collection, indexes in wanted:
                await collection.create_indexes(list(indexes))
            await c.marks.update_one({"_id": "live"}, {"$setOnInsert": {"gen": c.generation}}, upsert=True)
        await self.lanes.epoch()

    async def _keep_for(self, journal: Collection) -> None:
        """How long the journal is kept may have been set anew; an index that exists is not changed by creating it."""
        seconds = int(self._days * 86400)
        known = (await journal.index_information()).get("age")
        if known and known.get("expireAfterSeconds") != seconds:
            change = {"name": "age", "expireAfterSeconds": seconds}
            await journal.database.command("collMod", journal.name, index=change)

    async def stop(self) -> None:
        pass

    async def write(self, tenant: str, changes: Iterable[Change]) -> set[bytes]:
        """Entries that come into being are inserted, which is twice as fast; what exists already is upserted. Answers which
        were inserted: nothing but this change is known of them."""
        return await self._entries.write(tenant, {change.entry: change for change in changes})

    async def documents(self, tenant: str, entries: Iterable[bytes], fields: Mapping[str, int] | None = None) -> list[Document]:
        return await self._entries.find(tenant, set(entries), fields)

    async def journal(self, items: Sequence[Journaled]) -> None:
        """One document per event, at its first position: an event that is there already was pushed from there."""
        now = datetime.now(UTC)
        documents = [
            {
                "_id": item.id,
                "tn": item.tenant,
                "p": item.position,
                "s": list(item.subjects),
                "e": list(item.entries),
                "kd": item.kind,
                "d": dict(item.data),
                "x": now,
            }
            for item in items
        ]
        await bulk(self.collections.journal, [InsertOne(one) for one in documents])

    async def raise_marks(self, ends: Mapping[int, int]) -> None:
        """Everything below these offsets is written. Must come last, and before the commit."""
        generation = self.collections.generation
        await upsert(
            self.collections.marks,
            [UpdateOne({"_id": f"{generation}/{lane}"}, {"$max": {"o": end}}, upsert=True) for lane, end in ends.items()],
        )

    # -- receipts up to a time ------------------------------------------------------------------------------------------

    async def mark_receipt(self, tenant: str, channel: str, account: str, party: str, state: str, ms: int) -> list[bytes]:
        """Keep the mark, which readers lay over the entries below it; answer the newest entries that it is news for."""
        c = self.collections
        name = receipt_id(tenant, channel, account, party)
        await upsert(c.receipts, [UpdateOne({"_id": name}, {"$max": {state: ms}}, upsert=True)])
        query = {"tn": tenant, "b.i": party, "b.dr": "out", "b.ch": channel, "b.ac": account, "b.ms": {"$lte": ms}}
        query |= {"k": {"$gt": NOWHERE}, f"st.{state}": {"$exists": False}}
        async with reaching():
            found = await c.entries.find(query, {"_id": 1}).sort("k", DESCENDING).limit(20).to_list(None)
        return [bytes(one["_id"]) for one in reversed(found)]

    # -- identities -----------------------------------------------------------------------------------------------------

    async def identities(self, tenant: str, rows: Mapping[str, Row]) -> None:
        await self._identities.write(tenant, rows)

    async def erased(self, tenant: str, identifiers: Iterable[str]) -> dict[str, int]:
        """Which of these were erased, and up to which version of theirs."""
        query = {"_id": {"$in": list(set(identifiers))}, "tn": tenant, "er": {"$exists": True}}
        async with reaching():
            found = await self.collections.identities.find(query, {"er": 1}).to_list(None)
        return {one["_id"]: int(one["er"]) for one in found}

    async def erase(self, tenant: str, identifier: str, number: int, entries: Iterable[bytes] | None = None) -> None:
        """Take words, names, reactions and files from everything that this identifier said or heard up to `number`. An entry
        that comes later is erased by its writer, who asks `erased` after writing."""
        query: dict[str, Any] = {"tn": tenant, "b.i": identifier}
        query["$or"] = [{"b.iv": {"$exists": False}}, {"b.iv": {"$lte": number}}]
        if entries is not None:
            query["_id"] = {"$in": list(entries)}
        update = {
            "$max": {"c": {"v": TOP}, "del": {"v": TOP, "by": "erasure"}},
            "$min": {"k": NOWHERE, "c0": {"v": BOTTOM}},
            "$unset": {"b.by": "", "x": "", "rx": "", "md": "", "au": ""},
        }
        async with reaching():
            await self.collections.entries.bulk_write([UpdateMany(query, update)], ordered=False)

    # -- conversations --------------------------------------------------------------------------------------------------

    async def conversations(self, tenant: str, rows: Mapping[str, Row]) -> None:
        await self._conversations.write(tenant, rows)

    async def listeners(self, tenant: str, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """By conversation: the subjects of the queues and agents that had to do with it."""
        found = await self._conversations.find(tenant, set(names), {"qs": 1, "as": 1})
        return {one["_id"]: (*(f"q:{q}" for q in one.get("qs", ())), *(f"a:{a}" for a in one.get("as", ()))) for one in found}

    # -- the rest of the picture ------------------------------------------------------------------------------------------

    async def dead(self, updates: Sequence[Update]) -> None:
        await upsert(self.collections.dead, [UpdateOne(query, update, upsert=True) for query, update in updates])

    async def channels(self, updates: Sequence[Update]) -> None:
        await upsert(self.collections.channels, [UpdateOne(query, update, upsert=True) for query, update in updates])

    async def accounts(self, updates: Sequence[Update]) -> None:
        await upsert(self.collections.accounts, [UpdateOne(query, update, upsert=True) for query, update in updates])

    async def open_dead(self) -> int:
        since = datetime.now(UTC) - timedelta(days=DEAD_DAYS)
        async with reaching():
            return await self.collections.dead.count_documents({"dec": {"$exists": False}, "at": {"$gt": since}}, limit=100_000)


def receipt_id(tenant: str, channel: str, account: str, party: str) -> str:
    return f"{tenant}/{channel}/{account}/{party}"


__all__ = ["Collections", "Journaled", "TimelineStore", "position", "receipt_id"]
