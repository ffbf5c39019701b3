"""Gives waiting conversations to agents: a kick says that a queue may have work, the queue's one owner reads its head again
before every decision. Kicks may be lost; a tick looks again while anything waits. Several owners are safe, but they overtake.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Literal

from services.common import topics
from services.common.cloudevents import Record
from services.common.errors import Away
from services.common.kafka import Publisher
from services.common.logs import log
from services.router import desk
from services.router.agents import AgentStore, Desk
from services.router.desk import Agent, Give, Queue, Write
from services.router.state import Conversation
from services.router.stores import ConversationStore

HEAD = 50  # how far into a queue a decision looks at first; further only while none of them can be given
DEPTH = 5_000
TRIES = 5  # times in a row that somebody else may be faster before the tick goes on


class Assigner:
    """The work on one queue. Every step is safe beside any number of others."""

    def __init__(self, store: ConversationStore, agents: AgentStore, over: Desk) -> None:
        self._store, self._agents, self._desk = store, agents, over

    async def work(self, tenant: str, name: str) -> bool:
        """Give away what can be given now, longest waiting first. Whether anything still waits."""
        queue = await self._agents.queue(tenant, name) or Queue(name)
        depth, lost = HEAD, 0
        while True:
            agents = await self._agents.members(tenant, [one for one in (queue.name, queue.overflow) if one])
            if not desk.anybody_free(queue, agents):
                return bool(await self._store.waiting(tenant, name, 1))
            waiting = await self._store.waiting(tenant, name, depth)
            match await self._first(waiting, queue, agents):
                case True:
                    depth, lost = HEAD, 0
                case False:
                    lost += 1
                    if lost >= TRIES:
                        return True
                case None if len(waiting) == depth < DEPTH:
                    depth *= 4
                case None:
                    return bool(waiting)

    async def _first(self, waiting: Sequence[Conversation], queue: Queue, agents: Sequence[Agent]) -> bool | None:
        """Act on the first for which something can be done: whether it was. None: nothing can be done for any of them."""
        for c in waiting:
            match desk.decided(c, queue, agents, self._desk.conversations.now()):
                case Give() as give:
                    return await self._give(c, give)
                case Write(change):
                    return await self._desk.conversations.change(c, change) is not None
        return None

    async def _give(self, c: Conversation, give: Give) -> bool:
        offered = give.expires_s > 0
        for agent, why in give.to:
            expires = self._desk.conversations.now() + timedelta(seconds=give.expires_s) if offered else None
            state: Literal["offered", "active"] = "offered" if offered else "active"
            after = await self._desk.give(c, agent, why, weight=give.weight, state=state, expires=expires)
            if after is not None:
                return True
            if await self._gone(c):
                return False
        return False

    async def _gone(self, c: Conversation) -> bool:
        """Whether the conversation has changed; if not, the agent had no room, and the next one may."""
        found = (await self._store.read((c.id,))).get(c.id)
        return found is None or found.v != c.v


class Kicks:
    """Tells the owners of queues to look, over the topic of kicks, which is keyed by queue: the first at once, those that come
    within `pace_s` together. What cannot be sent is dropped: the tick finds it."""

    def __init__(self, publisher: Publisher, pace_s: float = 0.05) -> None:
        self._publisher, self._pace_s = publisher, pace_s
        self._pending: set[tuple[str, str]] = set()
        self._some = asyncio.Event()

    def __call__(self, tenant: str, queue: str) -> None:
        self._pending.add((tenant, queue))
        self._some.set()

    async def run(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            pending, self._pending = self._pending, set()
            try:
                await self._publisher.publish([kick(tenant, queue) for tenant, queue in sorted(pending)])
            except Away as error:
                log().warning("kicks_dropped", part=error.part, count=len(pending))
            await asyncio.sleep(self._pace_s)


def kick(tenant: str, queue: str) -> Record:
    return Record(topics.DESK_KICKS.name, f"{tenant}/{queue}".encode(), b"look")


class Owner:
    """Works the queues whose kicks come to this process: once a kick, then at every tick while anything waits there. Queues
    that wait without an owner, because a kick was lost or an owner died, are kicked again by everybody."""

    def __init__(
        self,
        store: ConversationStore,
        assigner: Assigner,
        over: Desk,
        *,
        tick_s: float = 1,
        sweep_s: float = 5,
        keep_s: float = 15,
        collect_s: float = 30,
    ) -> None:
        self._store, self._assigner, self._desk = store, assigner, over
        self._tick_s, self._sweep_s, self._keep_s, self._collect_s = tick_s, sweep_s, keep_s, collect_s
        self._mine: dict[tuple[str, str], float] = {}
        self._busy: dict[tuple[str, str], asyncio.Lock] = {}

    async def handle(self, batch: Sequence[Record]) -> None:
        """Kicks from the topic; the handler of its consumer."""
        wanted = {tuple(record.key.decode().split("/", 1)) for record in batch if record.key and b"/" in record.key}
        for tenant, queue in sorted(wanted):
            self._mine[tenant, queue] = time.monotonic()
            await self._work(tenant, queue)

    async def run(self) -> None:
        """Until cancelled. A part that is away is tried again at the next tick."""
        swept = collected = 0.0
        while True:
            await asyncio.sleep(self._tick_s)
            with suppress(Away):
                await self.tick()
                now = time.monotonic()
                if now - swept >= self._sweep_s:
                    swept, waits = now, await self.sweep()
                    if waits or now - collected >= self._collect_s:
                        collected = now
                        await self._desk.collect()

    async def tick(self) -> None:
        for (tenant, queue), at in list(self._mine.items()):
            if time.monotonic() - at > self._keep_s:
                del self._mine[tenant, queue]
            else:
                await self._work(tenant, queue)

    async def sweep(self) -> bool:
        """Kick every queue in which something waits; whether there is one. Then a token too many may be why."""
        waiting = await self._store.queues_waiting()
        for tenant, queue in waiting:
            self._desk.kick(tenant, queue)
        return bool(waiting)

    async def _work(self, tenant: str, queue: str) -> None:
        """One at a time in this process."""
        async with self._busy.setdefault((tenant, queue), asyncio.Lock()):
            if not await self._assigner.work(tenant, queue):
                self._mine.pop((tenant, queue), None)
