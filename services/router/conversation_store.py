"""Conversations in MongoDB: one document each, changed by compare-and-set. Single calls that come together travel together:
one find, one unordered bulk.

A bulk says how many of its operations matched, not which. Each compare-and-set therefore leaves a mark; where one was lost,
the marks say whose. A mark that somebody overwrote meanwhile counts as lost: who decides again finds the work done.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.common.mongo import ASCENDING, Document, IndexModel, InsertOne, Mongo, UpdateOne, bulk, reaching
from services.router.documents import added_out, changes, from_document, out_document, to_document
from services.router.state import Conversation
from services.router.stores import Hint, Known
from services.router.together import Together

INDEXES = (
    IndexModel([("due", ASCENDING)], partialFilterExpression={"due": {"$type": "date"}}, name="due"),
    IndexModel([("cust", ASCENDING), ("group", ASCENDING)], partialFilterExpression={"st": "open"}, name="open_of_customer"),
    IndexModel([("legs.i", ASCENDING)], name="identifiers"),
    IndexModel(
        [("tenant", ASCENDING), ("queue", ASCENDING), ("priority", ASCENDING), ("since", ASCENDING), ("_id", ASCENDING)],
        partialFilterExpression={"st": "open", "asg": None},
        name="waiting",
    ),
    IndexModel([("offers.h", ASCENDING)], sparse=True, name="offer_tokens"),
    IndexModel([("offers.c", ASCENDING)], sparse=True, name="offer_codes"),
    IndexModel([("offers.id", ASCENDING)], sparse=True, name="offers"),
    IndexModel([("sends.id", ASCENDING)], sparse=True, name="sends"),
)
REMEMBERED = 100_000
LIMIT = 200  # more open conversations of one customer, or of one identifier, are met in the next round


class MongoConversationStore:
    def __init__(self, mongo: Mongo) -> None:
        database = mongo.database("router")
        self._convs, self._legs, self._idents = database["convs"], database["legs"], database["idents"]
        self._marker, self._marked = os.urandom(8), 0
        self._reading = Together(self._read_each)
        self._setting = Together(self._cas_each)
        self._inserting = Together(self._insert_each)
        self._hinting = Together(self._insert_hints)
        self._learning = Together(self._learn_each)
        self._knowing = Together(self._know_each)
        self._pulling = Together(self._pull_each)
        self._meeting = Together(self._open_of_each)
        self._holding = Together(self._holding_each)
        self._newest: OrderedDict[str, int] = OrderedDict()  # versions only grow: what is as old need not be learned again

    async def start(self) -> None:
        async with reaching():
            await self._convs.create_indexes(list(INDEXES))
            await self._idents.create_indexes([IndexModel([("cust", ASCENDING)], name="customers")])

    async def stop(self) -> None:
        return None

    # -- conversations

    async def read(self, ids: Collection[str]) -> dict[str, Conversation]:
        if len(ids) == 1:
            (one,) = ids
            found = await self._reading(one)
            return {one: found} if found else {}
        return {c.id: c for c in await self._find({"_id": {"$in": list(ids)}})}

    async def _read_each(self, ids: Sequence[str]) -> Sequence[Conversation | None]:
        found = {c.id: c for c in await self._find({"_id": {"$in": list(set(ids))}})}
        return [found.get(one) for one in ids]

    async def _find(self, query: Document, sort: Sequence[tuple[str, int]] = (), limit: int = 0) -> list[Conversation]:
        async with reaching():
            cursor = self._convs.find(query)
            if sort:
                cursor = cursor.sort(list(sort))
            if limit:
                cursor = cursor.limit(limit)
            return [from_document(document) for document in await cursor.to_list(None)]

    async def insert_if_absent(self, conversation: Conversation) -> bool:
        return await self._inserting(conversation)

    async def _insert_each(self, conversations: Sequence[Conversation]) -> Sequence[bool]:
        done = await bulk(self._convs, [InsertOne(to_document(c)) for c in conversations])
        return [place not in done.duplicates for place in range(len(conversations))]

    async def cas(self, before: Conversation, after: Conversation) -> bool:
        return await self._setting((before, after))

    async def cas_many(self, pairs: Sequence[tuple[Conversation, Conversation]]) -> list[bool]:
        return list(await self._cas_each(pairs))

    async def _cas_each(self, pairs: Sequence[tuple[Conversation, Conversation]]) -> Sequence[bool]:
        marks = [self._mark() for _ in pairs]
        operations = [_update(before, after, mark) for (before, after), mark in zip(pairs, marks, strict=True)]
        done = await bulk(self._convs, operations)
        if done.matched == len(pairs):
            return [True] * len(pairs)
        if not done.matched:
            return [False] * len(pairs)
        async with reaching():
            ids = list({before.id for before, _ in pairs})
            found = await self._convs.find({"_id": {"$in": ids}}, {"w": 1}).to_list(None)
        written = {document.get("w") for document in found}
        return [mark in written for mark in marks]

    def _mark(self) -> bytes:
        self._marked += 1
        return self._marker + self._marked.to_bytes(6, "big")

    async def pull_out(self, conversation: str, up_to: int) -> None:
        await self._pulling((conversation, up_to))

    async def _pull_each(self, pulls: Sequence[tuple[str, int]]) -> Sequence[None]:
        await bulk(self._convs, [UpdateOne({"_id": c}, {"$pull": {"out": {"n": {"$lte": n}}}}) for c, n in pulls])
        return [None] * len(pulls)

    async def open_of(self, customer: str, group: str) -> list[Conversation]:
        return await self._meeting((customer, group))

    async def _open_of_each(self, asked: Sequence[tuple[str, str]]) -> Sequence[list[Conversation]]:
        customers, groups = {customer for customer, _ in asked}, {group for _, group in asked}
        query = {"st": "open", "cust": {"$in": list(customers)}, "group": {"$in": list(groups)}}
        found = sorted(await self._find(query), key=lambda c: (c.opened, c.id))
        by_key: dict[tuple[str | None, str], list[Conversation]] = {}
        for c in found:
            by_key.setdefault((c.customer, c.group), []).append(c)
        return [by_key.get(key, []) for key in asked]

    async def open_holding(self, identifier: str) -> list[Conversation]:
        return await self._holding(identifier)

    async def _holding_each(self, identifiers: Sequence[str]) -> Sequence[list[Conversation]]:
        found = await self._find({"legs.i": {"$in": list(set(identifiers))}, "st": "open"}, limit=LIMIT * len(identifiers))
        by: dict[str, list[Conversation]] = {}
        for c in found:
            for party in {leg.party for leg in c.legs}:
                by.setdefault(party, []).append(c)
        return [by.get(one, []) for one in identifiers]

    async def of_identifier(self, identifier: str) -> list[Conversation]:
        return await self._find({"legs.i": identifier})

    async def with_token(self, token: str) -> list[Conversation]:
        return await self._find({"offers.h": token})

    async def with_code(self, tenant: str, code: str) -> list[Conversation]:
        return await self._find({"offers.c": code, "tenant": tenant})

    async def with_offer(self, offer: str) -> list[Conversation]:
        return await self._find({"offers.id": offer})

    async def with_send(self, outbound_id: str) -> list[Conversation]:
        return await self._find({"sends.id": outbound_id})

    async def due(self, now: datetime, limit: int) -> list[Conversation]:
        return await self._find({"due": {"$lte": now, "$type": "date"}}, [("due", ASCENDING)], limit)

    async def waiting(self, tenant: str, queue: str, limit: int) -> list[Conversation]:
        query = {"st": "open", "asg": None, "tenant": tenant, "queue": queue}
        return await self._find(query, [("priority", ASCENDING), ("since", ASCENDING), ("_id", ASCENDING)], limit)

    async def queues_waiting(self) -> list[tuple[str, str]]:
        group = {"_id": {"tenant": "$tenant", "queue": "$queue"}}
        async with reaching():
            found = await self._convs.aggregate([{"$match": {"st": "open", "asg": None}}, {"$group": group}]).to_list(None)
        return sorted((document["_id"]["tenant"], document["_id"]["queue"]) for document in found)

    # -- legs and identifiers

    async def hints(self, legs: Collection[str]) -> dict[str, Hint]:
        async with reaching():
            found = await self._legs.find({"_id": {"$in": list(legs)}}).to_list(None)
        return {document["_id"]: Hint(document["conv"], document["at"], document["cust"]) for document in found}

    async def insert_hint(self, leg: str, hint: Hint) -> bool:
        return await self._hinting((leg, hint))

    async def _insert_hints(self, hints: Sequence[tuple[str, Hint]]) -> Sequence[bool]:
        documents = [{"_id": leg, "conv": h.conversation, "at": h.opened, "cust": h.customer} for leg, h in hints]
        done = await bulk(self._legs, [InsertOne(document) for document in documents])
        return [place not in done.duplicates for place in range(len(hints))]

    async def shorten(self, leg: str, conversation: str) -> None:
        await bulk(self._legs, [UpdateOne({"_id": leg}, {"$set": {"conv": conversation}})])

    async def known(self, identifiers: Collection[str]) -> dict[str, Known]:
        if len(identifiers) == 1:
            found = [await self._knowing(*identifiers)]
        else:
            found = await asyncio.gather(*map(self._knowing, identifiers))
        return {one: known for one, known in zip(identifiers, found, strict=True) if known}

    async def _know_each(self, identifiers: Sequence[str]) -> Sequence[Known | None]:
        async with reaching():
            found = await self._idents.find({"_id": {"$in": list(set(identifiers))}}).to_list(None)
        known = {document["_id"]: Known(document["cust"], document["ver"]) for document in found}
        self._remember(known)
        return [known.get(one) for one in identifiers]

    async def learn(self, identifier: str, known: Known) -> None:
        await self._learning((identifier, known))

    async def _learn_each(self, learned: Sequence[tuple[str, Known]]) -> Sequence[None]:
        """An upsert whose condition fails because we know better finds the `_id` taken: that is its answer."""
        fresh = [one for one in learned if self._newest.get(one[0], -1) < one[1].version]
        newest = dict(sorted(fresh, key=lambda one: one[1].version))
        await bulk(self._idents, [_learn(identifier, known) for identifier, known in newest.items()])
        self._remember(newest)
        return [None] * len(learned)

    def _remember(self, known: Mapping[str, Known]) -> None:
        for identifier, one in known.items():
            self._newest[identifier] = max(one.version, self._newest.pop(identifier, -1))
        while len(self._newest) > REMEMBERED:
            self._newest.popitem(last=False)

    async def identifiers_of(self, customer: str) -> list[str]:
        async with reaching():
            found = await self._idents.find({"cust": customer}, {"_id": 1}).limit(LIMIT).to_list(None)
        return [document["_id"] for document in found]


def _update(before: Conversation, after: Conversation, mark: bytes) -> Any:
    update: Document = {"$set": {**changes(before, after), "v": after.v, "w": mark}}
    if added := added_out(before, after):
        update["$push"] = {"out": {"$each": [out_document(item) for item in added]}}
    elif before.out and not after.out:
        update["$set"]["out"] = []
    return UpdateOne({"_id": before.id, "v": before.v}, update)


def _learn(identifier: str, known: Known) -> Any:
    values = {"cust": known.customer, "ver": known.version}
    return UpdateOne({"_id": identifier, "ver": {"$lt": known.version}}, {"$set": values}, upsert=True)
