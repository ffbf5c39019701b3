"""Agents and queues in MongoDB. A token and the load it makes are changed in one update of one document."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from typing import Any

from services.common.mongo import ASCENDING, Document, IndexModel, Mongo, reaching
from services.router.agents import Profile
from services.router.desk import Agent, Queue, Token
from services.router.hours import Hours

AFTER = True  # find_one_and_update gives the document as it is after the update (pymongo's ReturnDocument.AFTER)
LIMIT = 10_000


class MongoAgentStore:
    def __init__(self, mongo: Mongo) -> None:
        database = mongo.database("router")
        self._agents, self._queues = database["agents"], database["queues"]

    async def start(self) -> None:
        async with reaching():
            await self._agents.create_indexes(
                [
                    IndexModel([("tenant", ASCENDING), ("queues", ASCENDING)], name="members"),
                    IndexModel([("tk.r", ASCENDING)], sparse=True, name="tokens"),
                ]
            )
            await self._queues.create_indexes([IndexModel([("tenant", ASCENDING)], name="of_tenant")])

    async def stop(self) -> None:
        return None

    # -- agents

    async def agent(self, tenant: str, agent: str) -> Agent | None:
        async with reaching():
            found = await self._agents.find_one({"_id": f"{tenant}/{agent}"})
        return _agent(found) if found else None

    async def agents(self, tenant: str) -> list[Agent]:
        return await self._find({"tenant": tenant})

    async def members(self, tenant: str, queues: Collection[str]) -> list[Agent]:
        return await self._find({"tenant": tenant, "queues": {"$in": list(queues)}})

    async def burdened(self) -> list[Agent]:
        return await self._find({"tk.r": {"$exists": True}})

    async def _find(self, query: Document) -> list[Agent]:
        async with reaching():
            found = await self._agents.find(query).sort("_id", ASCENDING).to_list(LIMIT)
        return [_agent(one) for one in found]

    async def put(self, tenant: str, profile: Profile) -> Agent:
        fields = {
            "name": profile.name,
            "initials": profile.initials,
            "languages": list(profile.languages),
            "skills": list(profile.skills),
            "queues": list(profile.queues),
            "cap": profile.capacity,
        }
        fresh = {"tenant": tenant, "agent": profile.id, "on": False, "load": 0, "tk": [], "free": None}
        async with reaching():
            found = await self._agents.find_one_and_update(
                {"_id": f"{tenant}/{profile.id}"}, {"$set": fields, "$setOnInsert": fresh}, upsert=True, return_document=AFTER
            )
        assert found
        return _agent(found)

    async def present(self, tenant: str, agent: str, *, on: bool, now: datetime) -> Agent | None:
        """Who comes is free from now on; who is here already keeps their place."""
        free = {"$cond": [{"$and": [on, {"$not": ["$on"]}]}, now, "$free"]}
        async with reaching():
            found = await self._agents.find_one_and_update(
                {"_id": f"{tenant}/{agent}"}, [{"$set": {"free": free, "on": on}}], return_document=AFTER
            )
        return _agent(found) if found else None

    # -- tokens

    async def reserve(self, tenant: str, agent: str, token: Token, now: datetime) -> bool:
        key: Document = {"_id": f"{tenant}/{agent}"}
        room: Document = {} if token.forced else {"on": True, "$expr": {"$lte": [{"$add": ["$load", token.weight]}, "$cap"]}}
        entry = {"r": token.reservation, "w": token.weight, "at": token.at, "f": token.forced}
        async with reaching():
            done = await self._agents.update_one(
                {**key, **room, "tk.r": {"$ne": token.reservation}},
                {"$push": {"tk": entry}, "$inc": {"load": token.weight}, "$set": {"free": now}},
            )
            if done.matched_count:
                return True
            return await self._agents.find_one({**key, "tk.r": token.reservation}, {"_id": 1}) is not None

    async def remove(self, tenant: str, agent: str, reservation: str, now: datetime) -> Agent | None:
        gone = {"$filter": {"input": "$tk", "as": "t", "cond": {"$eq": ["$$t.r", reservation]}}}
        kept = {"$filter": {"input": "$tk", "as": "t", "cond": {"$ne": ["$$t.r", reservation]}}}
        load = {"$subtract": ["$load", {"$sum": {"$map": {"input": gone, "as": "g", "in": "$$g.w"}}}]}
        async with reaching():
            found = await self._agents.find_one_and_update(
                {"_id": f"{tenant}/{agent}", "tk.r": reservation},
                [{"$set": {"load": load, "tk": kept, "free": now}}],
                return_document=AFTER,
            )
        return _agent(found) if found else None

    # -- queues

    async def queue(self, tenant: str, name: str) -> Queue | None:
        async with reaching():
            found = await self._queues.find_one({"_id": f"{tenant}/{name}"})
        return _queue(found["q"]) if found else None

    async def queues(self, tenant: str) -> list[Queue]:
        async with reaching():
            found = await self._queues.find({"tenant": tenant}).sort("_id", ASCENDING).to_list(LIMIT)
        return [_queue(one["q"]) for one in found]

    async def put_queue(self, tenant: str, queue: Queue) -> None:
        document = {"_id": f"{tenant}/{queue.name}", "tenant": tenant, "q": _queue_document(queue)}
        async with reaching():
            await self._queues.replace_one({"_id": document["_id"]}, document, upsert=True)


def _agent(d: Document) -> Agent:
    return Agent(
        id=d["agent"],
        tenant=d["tenant"],
        name=d["name"],
        initials=d["initials"],
        languages=tuple(d["languages"]),
        skills=tuple(d["skills"]),
        queues=tuple(d["queues"]),
        capacity=d["cap"],
        on=d["on"],
        load=d["load"],
        tokens=tuple(Token(t["r"], t["w"], t["at"], t["f"]) for t in d["tk"]),
        free_since=d["free"],
    )


def _queue_document(queue: Queue) -> Document:
    return {**asdict(queue), "hours": queue.hours.kept()}


def _queue(d: dict[str, Any]) -> Queue:
    return Queue(**{**d, "hours": Hours.of(d["hours"]), "skills": tuple(d["skills"])})
