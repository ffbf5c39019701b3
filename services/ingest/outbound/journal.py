"""The send journal: what keeps a message from being sent twice, whoever asks. One document per message, `_id` = outbound id,
changed by compare-and-set on `v`; a message whose fate is known stays 30 days without its content."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

from services.common import metrics
from services.common.errors import StoreAway
from services.common.mongo import ASCENDING, DESCENDING, Document, IndexModel, Mongo, UpdateOne, bulk, reaching
from services.ingest.outbound.sends import Sending, document, later, sending

RACES = 50
CERTAIN = ("failed", "refused")
NAMELESS = {"state": "sent", "provider_id": {"$in": [None, ""]}}
Change = Callable[[Sending], Sending]


class LeaseLost(Exception):
    """Somebody else has taken over this message: nothing may be called or written for it any more."""


def holding(token: str, now: datetime, change: Change) -> Change:
    """The same change, for the holder of the lease only. Raises LeaseLost."""

    def checked(s: Sending) -> Sending:
        if s.lease is None or s.lease.token != token or now >= s.lease.until:
            raise LeaseLost(s.id)
        return change(s)

    return checked


class Journal:
    """Every method raises StoreAway."""

    def __init__(self, mongo: Mongo) -> None:
        self._sends = mongo.database("ingest")["sends"]

    async def start(self) -> None:
        def those(**condition: object) -> Document:
            return {"partialFilterExpression": condition}

        indexes = [
            IndexModel([("next_at", ASCENDING)], name="due", **those(next_at={"$type": "date"})),
            IndexModel([("tell_at", ASCENDING)], name="untold", **those(tell_at={"$type": "date"})),
            IndexModel([("leg", ASCENDING), ("place", ASCENDING)], name="order", **those(blocks=True)),
            IndexModel([("pieces.id", ASCENDING)], name="piece"),
            IndexModel([("tenant", ASCENDING), ("party", ASCENDING)], name="party"),
            IndexModel([("tenant", ASCENDING), ("state", ASCENDING), ("accepted_at", DESCENDING)], name="state"),
            IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0),
        ]
        async with reaching():
            await self._sends.create_indexes(indexes)

    async def stop(self) -> None:
        pass

    async def accept(self, messages: Sequence[Sending]) -> None:
        """Each message that is not there yet, in this order: a later one of a leg is never seen before an earlier one."""
        missing = list(messages)
        for _attempt in range(RACES):
            operations = [UpdateOne({"_id": s.id}, {"$setOnInsert": document(s)}, upsert=True) for s in missing]
            done = await bulk(self._sends, operations, ordered=True)
            if not done.duplicates:  # two workers that insert the same one at once: one of them is told so
                return
            missing = missing[done.duplicates[0] :]
        raise StoreAway("the same messages are being inserted by many at once")

    async def get(self, outbound_id: str) -> Sending | None:
        async with reaching():
            found = await self._sends.find_one({"_id": outbound_id})
        return sending(found) if found else None

    async def due(self, now: datetime, limit: int, without: Collection[str] = ()) -> list[Sending]:
        """What somebody shall look at now, the longest waiting first."""
        where: Document = {"next_at": {"$lte": now}, **({"_id": {"$nin": list(without)}} if without else {})}
        async with reaching():
            found = await self._sends.find(where).sort("next_at", ASCENDING).limit(limit).to_list(limit)
        return [sending(one) for one in found]

    async def ahead(self, s: Sending) -> Sending | None:
        """The earliest message of the same leg that this one must wait for."""
        where = {"leg": s.leg, "blocks": True, "place": {"$lt": s.place}}
        async with reaching():
            found = await self._sends.find_one(where, sort=[("place", ASCENDING)])
        return sending(found) if found else None

    async def wake_next(self, s: Sending, now: datetime) -> None:
        """The message that waited for this one is due; the new version undoes a decision to wait that is just being written.
        Losing this costs a few seconds: it looks again by itself."""
        where = {"leg": s.leg, "blocks": True, "place": {"$gt": s.place}}
        async with reaching():
            found = await self._sends.find_one(where, {"hold": 1}, sort=[("place", ASCENDING)])
            if found and found["hold"] in ("order", ""):
                waiting = {"_id": found["_id"], "hold": found["hold"], "lease": None}
                await self._sends.update_one(waiting, {"$set": {"next_at": now}, "$inc": {"v": 1}})

    async def change(self, outbound_id: str, change: Change, *, known: Sending | None = None) -> Sending:
        """The message as it is afterwards. `change` may be called more than once and may raise, LeaseLost among others; what
        it gives back unchanged is not written. `known` is how the message probably is, which saves a read. Raises KeyError
        if there is no such message."""
        for _attempt in range(RACES):
            before = known or await self.get(outbound_id)
            if before is None:
                raise KeyError(outbound_id)
            after = change(before)
            if after == before:
                return before
            if (written := await self.replace(before, after)) is not None:
                return written
            known = None
        raise StoreAway("the message is being changed by many at once")

    async def replace(self, before: Sending, after: Sending) -> Sending | None:
        """The message with its new version; None if it is no longer as `before`."""
        changed = document(after) | {"v": before.v + 1}
        async with reaching():
            done = await self._sends.replace_one({"_id": before.id, "v": before.v}, changed)
        if done.modified_count:
            return sending(changed)
        metrics.CAS_LOST.labels("sends").inc()
        return None

    async def untold(self, now: datetime, limit: int) -> list[Sending]:
        """Messages with events that whoever decided them should have published by now."""
        async with reaching():
            found = await self._sends.find({"tell_at": {"$lte": now}}).sort("tell_at", ASCENDING).limit(limit).to_list(limit)
        return [sending(one) for one in found]

    async def unsettled(self, pieces: Sequence[str]) -> Mapping[str, str]:
        """Which of these piece ids have no certain fate and name yet, and the messages they belong to."""
        open_piece = {"id": {"$in": list(pieces)}, "$or": [{"state": {"$nin": ["sent", *CERTAIN]}}, NAMELESS]}
        async with reaching():
            found = await self._sends.find({"pieces": {"$elemMatch": open_piece}}, {"pieces.id": 1}).to_list(None)
        asked = set(pieces)
        return {piece["id"]: one["_id"] for one in found for piece in one["pieces"] if piece["id"] in asked}

    async def of_parties(self, tenant: str, parties: Sequence[str]) -> list[str]:
        """Messages of the journal to these identifiers, by key."""
        async with reaching():
            found = await self._sends.find({"tenant": tenant, "party": {"$in": list(parties)}}, {"_id": 1}).to_list(None)
        return [one["_id"] for one in found]

    async def waiting(self) -> Mapping[str, int]:
        """How many messages wait, by why."""
        stages: list[Document] = [{"$match": {"blocks": True}}, {"$group": {"_id": "$hold", "count": {"$sum": 1}}}]
        async with reaching():
            found = await self._sends.aggregate(stages).to_list(None)
        return {one["_id"]: one["count"] for one in found if one["_id"]}

    async def release(self, channel: str, account: str, now: datetime) -> None:
        """The account works again: what waited for it is due."""
        where = {"blocks": True, "hold": "account", "channel": channel, "account": account}
        async with reaching():
            await self._sends.update_many(where, {"$set": {"next_at": later(now, 0)}, "$inc": {"v": 1}})

    async def newest(self, tenant: str, state: str, limit: int) -> list[Sending]:
        """The newest messages of a tenant in this state, for operators."""
        async with reaching():
            cursor = self._sends.find({"tenant": tenant, "state": state}).sort("accepted_at", DESCENDING).limit(limit)
            found = await cursor.to_list(limit)
        return [sending(one) for one in found]


def too_old(sent_at: datetime | None, now: datetime, keep_s: float) -> bool:
    """Whether a record is so old that the journal may have forgotten that it was sent."""
    return sent_at is not None and now - sent_at > timedelta(seconds=keep_s) - timedelta(days=1)
