"""What we say to web-chat visitors: one numbered list per thread, kept until the widget has had time to come back.

A chat answer counts as sent once it is inserted here. Whatever process holds the visitor's socket reads on from the last
number it has sent, so it does not matter which one appended. Numbers are gapless and a number is seen only after all
below it: `n` is inserted under a unique key, by somebody who has read `n - 1`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from services.common import metrics
from services.common.errors import StoreAway
from services.common.mongo import ASCENDING, DESCENDING, Document, DuplicateKeyError, Mongo, reaching
from services.common.mongo import Collection as Documents

Frame = Mapping[str, Any]

KEEP_S = 30 * 24 * 3600
# The last number outlives the messages, else a widget that comes back after a month would wait for number 58 for ever.
KEEP_LAST_S = 400 * 24 * 3600
RACES = 200


@dataclass(frozen=True, slots=True)
class Thread:
    """One visitor's conversation on one account, as the channel names it."""

    tenant: str
    account: str
    thread: str

    @property
    def name(self) -> str:
        return f"{self.tenant}\0{self.account}\0{self.thread}"


@dataclass(frozen=True, slots=True)
class Said:
    """Message `n` of a thread. `frame` is what the channel built for the widget."""

    n: int
    piece: str
    frame: Frame
    at: datetime


@dataclass(frozen=True, slots=True)
class Marks:
    """The newest number of a thread, and up to where its messages have been received and read."""

    last: int = 0
    delivered: int = 0
    read: int = 0


class ChatOut:
    """The list and its numbers. Every method raises StoreAway."""

    def __init__(self, mongo: Mongo) -> None:
        database = mongo.database("ingest")
        self._out: Documents = database["chat_out"]
        self._last: Documents = database["chat_last"]

    async def prepare(self) -> None:
        """Create the indexes; harmless if they are there."""
        async with reaching():
            await self._out.create_index([("thread", ASCENDING), ("n", ASCENDING)], unique=True, name="number")
            await self._out.create_index([("party", ASCENDING)], sparse=True, name="party")
            await self._out.create_index("at", expireAfterSeconds=KEEP_S, name="expiry")
            await self._last.create_index([("party", ASCENDING)], sparse=True, name="party")
            await self._last.create_index("at", expireAfterSeconds=KEEP_LAST_S, name="expiry")

    async def append(
        self, tenant: str, account: str, thread: str, piece: str, frame: Frame, *, party: str = "", at: datetime | None = None
    ) -> int:
        """The number that this piece has in its thread; the same for every attempt. `party` is the visitor's identifier
        key, by which an erasure finds what is to go."""
        where = Thread(tenant, account, thread)
        moment = at or datetime.now(UTC)
        document: Document = {
            "_id": f"{tenant}\0{piece}",
            "thread": where.name,
            "frame": dict(frame),
            "at": moment,
            **_party(tenant, party),
        }
        for attempt in range(RACES):
            n = await self._number(document) or await self._insert(document, await self._next(where))
            if n is not None:
                await self._raise_last(where, n, moment, party)
                return n
            metrics.CAS_LOST.labels("chat_out").inc()
            await asyncio.sleep(min(0.001 * attempt, 0.05))
        raise StoreAway(f"no number was free after {RACES} tries")

    async def _number(self, document: Document) -> int | None:
        async with reaching():
            found = await self._out.find_one({"_id": document["_id"]}, {"n": 1})
        return int(found["n"]) if found else None

    async def _next(self, where: Thread) -> int:
        """One more than the newest message, or than the newest there ever was where all have expired."""
        async with reaching():
            found = await self._out.find_one({"thread": where.name}, {"n": 1}, sort=[("n", DESCENDING)])
        if found:
            return int(found["n"]) + 1
        return (await self.last([where])).get(where, 0) + 1

    async def _insert(self, document: Document, n: int) -> int | None:
        """None where another message has taken the number, or another attempt has inserted this very piece."""
        async with reaching():
            try:
                await self._out.insert_one({**document, "n": n})
            except DuplicateKeyError:
                return None
        return n

    async def _raise_last(self, where: Thread, n: int, at: datetime, party: str) -> None:
        """After the message, so that nobody looks for a message that is not there. An attempt that died in between is
        repeated by its worker."""
        change = {"$max": {"last": n, "at": at}, **({"$set": _party(where.tenant, party)} if party else {})}
        async with reaching():
            await self._last.update_one({"_id": where.name}, change, upsert=True)

    async def after(self, tenant: str, account: str, thread: str, n: int, limit: int = 100) -> list[Said]:
        """At most `limit` messages above `n`, in order."""
        where = Thread(tenant, account, thread)
        async with reaching():
            cursor = self._out.find({"thread": where.name, "n": {"$gt": n}}).sort("n", ASCENDING).limit(limit)
            found = await cursor.to_list(limit)
        return [Said(d["n"], d["_id"].partition("\0")[2], d["frame"], d["at"]) for d in found]

    async def last(self, threads: Collection[Thread]) -> dict[Thread, int]:
        """The newest number of each of these threads that has one: one read, for the poll of a whole process."""
        by_name = {thread.name: thread for thread in threads}
        async with reaching():
            found = await self._last.find({"_id": {"$in": list(by_name)}, "last": {"$gt": 0}}, {"last": 1}).to_list(
                len(by_name) or 1
            )
        return {by_name[d["_id"]]: int(d["last"]) for d in found}

    async def claim(self, where: Thread, at: datetime) -> bool:
        """Whether nobody has come under this visitor's name before."""
        async with reaching():
            try:
                await self._last.insert_one({"_id": where.name, "at": at})
            except DuplicateKeyError:
                return False
        return True

    async def returned(self, where: Thread, at: datetime) -> Marks:
        """Where the thread stands. That somebody came back keeps the name theirs."""
        async with reaching():
            found = await self._last.find_one_and_update(
                {"_id": where.name}, {"$max": {"at": at}}, upsert=True, return_document=True
            )
        return Marks(*(int(found.get(name, 0)) for name in ("last", "delivered", "read")))

    async def belongs(self, where: Thread, party: str) -> None:
        """Whose thread it is, so that an erasure finds it."""
        async with reaching():
            await self._last.update_one({"_id": where.name}, {"$set": _party(where.tenant, party)})

    async def mark(self, where: Thread, state: Literal["delivered", "read"], n: int) -> None:
        """The widget has everything up to `n`, or its visitor has read it."""
        async with reaching():
            await self._last.update_one({"_id": where.name}, {"$max": {state: n}})

    async def erase(self, tenant: str, parties: Collection[str]) -> int:
        """Delete what was said to these identifiers, by key. Returns how many messages went."""
        theirs = {"party": {"$in": [_party(tenant, party)["party"] for party in parties]}}
        async with reaching():
            done = await self._out.delete_many(theirs)
            await self._last.delete_many(theirs)
        return int(done.deleted_count)


def _party(tenant: str, party: str) -> dict[str, str]:
    return {"party": f"{tenant}\0{party}"} if party else {}
