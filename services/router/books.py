"""What tenants and queues say about themselves, in memory: read at the start and then every few seconds."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from services.common.auth import Keyring
from services.common.errors import Away
from services.common.logs import log
from services.common.tenants import PublicRules, Tenants
from services.router.agent_store import MongoAgentStore
from services.router.directory import QueueTimes

RulesOf = Callable[[str], PublicRules]


class _Book(ABC):
    """A part of the process: it does not start before it was read, and keeps what it knew while the store is away."""

    def __init__(self, refresh_s: float) -> None:
        self._refresh = refresh_s

    @abstractmethod
    async def start(self) -> None:
        """Read it. Raises Away."""

    async def stop(self) -> None:
        return None

    async def follow(self) -> None:
        while True:
            await asyncio.sleep(self._refresh)
            try:
                await self.start()
            except Away as error:
                log().warning("away", part=error.part, reason=str(error))


class RuleBook(_Book):
    """What must not be said in public, by tenant."""

    def __init__(self, tenants: Tenants, refresh_s: float = 2) -> None:
        super().__init__(refresh_s)
        self._tenants = tenants
        self._rules: Mapping[str, PublicRules] = {}

    def of(self, tenant: str) -> PublicRules:
        return self._rules.get(tenant, PublicRules())

    async def start(self) -> None:
        self._rules = await self._tenants.all_rules()


class QueueBook(_Book):
    """What queues promise. A queue that says nothing promises what is usual."""

    def __init__(self, agents: MongoAgentStore, keyring: Keyring, refresh_s: float = 10) -> None:
        super().__init__(refresh_s)
        self._agents, self._keyring = agents, keyring
        self._times: dict[tuple[str, str], QueueTimes] = {}
        self._usual = QueueTimes()

    def of(self, tenant: str, queue: str) -> QueueTimes:
        return self._times.get((tenant, queue), self._usual)

    def usual(self, times: QueueTimes) -> QueueBook:
        self._usual = times
        return self

    async def start(self) -> None:
        for tenant in await self._keyring.tenants():
            for queue in await self._agents.queues(tenant):
                answer = self._usual.answer_s if queue.answer_s is None else queue.answer_s
                self._times[tenant, queue.name] = QueueTimes(answer, queue.resolve_s, queue.hours)
