"""Agents and queues in memory: every call is one atomic step, before which `pause` is awaited. The contract suite holds it to
what MongoDB does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from datetime import datetime

from services.router.agents import Profile
from services.router.desk import Agent, Queue, Token
from tests.router_memory import no_pause


class MemoryAgents:
    def __init__(self, pause: Callable[[], Awaitable[None]] = no_pause) -> None:
        self.pause = pause
        self.documents: dict[tuple[str, str], Agent] = {}
        self.configs: dict[tuple[str, str], Queue] = {}

    async def agent(self, tenant: str, agent: str) -> Agent | None:
        await self.pause()
        return self.documents.get((tenant, agent))

    async def agents(self, tenant: str) -> list[Agent]:
        await self.pause()
        return [one for _, one in sorted(self.documents.items()) if one.tenant == tenant]

    async def members(self, tenant: str, queues: Collection[str]) -> list[Agent]:
        return [one for one in await self.agents(tenant) if set(queues) & set(one.queues)]

    async def burdened(self) -> list[Agent]:
        await self.pause()
        return [one for _, one in sorted(self.documents.items()) if one.tokens]

    async def put(self, tenant: str, profile: Profile) -> Agent:
        await self.pause()
        old = self.documents.get((tenant, profile.id), Agent(profile.id, tenant))
        p = profile
        new = replace(
            old, name=p.name, initials=p.initials, languages=p.languages, skills=p.skills, queues=p.queues, capacity=p.capacity
        )
        self.documents[tenant, profile.id] = new
        return new

    async def present(self, tenant: str, agent: str, *, on: bool, now: datetime) -> Agent | None:
        await self.pause()
        old = self.documents.get((tenant, agent))
        if old is None:
            return None
        new = replace(old, on=on, free_since=now if on and not old.on else old.free_since)
        self.documents[tenant, agent] = new
        return new

    async def reserve(self, tenant: str, agent: str, token: Token, now: datetime) -> bool:
        await self.pause()
        return self.book(tenant, agent, token, now)

    def book(self, tenant: str, agent: str, token: Token, now: datetime) -> bool:
        old = self.documents.get((tenant, agent))
        if old is None:
            return False
        if any(one.reservation == token.reservation for one in old.tokens):
            return True
        if not token.forced and not (old.on and old.load + token.weight <= old.capacity):
            return False
        self.documents[tenant, agent] = replace(old, tokens=(*old.tokens, token), load=old.load + token.weight, free_since=now)
        return True

    async def remove(self, tenant: str, agent: str, reservation: str, now: datetime) -> Agent | None:
        await self.pause()
        old = self.documents.get((tenant, agent))
        gone = [one for one in old.tokens if one.reservation == reservation] if old else []
        if old is None or not gone:
            return None
        kept = tuple(one for one in old.tokens if one.reservation != reservation)
        new = replace(old, tokens=kept, load=old.load - sum(one.weight for one in gone), free_since=now)
        self.documents[tenant, agent] = new
        return new

    async def queue(self, tenant: str, name: str) -> Queue | None:
        await self.pause()
        return self.configs.get((tenant, name))

    async def queues(self, tenant: str) -> list[Queue]:
        await self.pause()
        return [queue for (owner, _), queue in sorted(self.configs.items(), key=lambda item: item[0]) if owner == tenant]

    async def put_queue(self, tenant: str, queue: Queue) -> None:
        await self.pause()
        self.configs[tenant, queue.name] = queue
