"""Several identity workers on one real mongod, dying in the middle: the customers are those of the evidence all the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence

import pytest

from services.common.errors import StoreAway
from services.common.mongo import Mongo
from services.identity.announce import OLD_US, Announcer
from services.identity.evidence import Carried
from services.identity.linker import Linker
from services.identity.nodes import Node, Swap, Taken
from services.identity.stores import MongoGraph
from tests.unit.identity_world import RULES, Nothing, evidence, oracle
from tests.unit.identity_world import Log as SteppingLog


class Log(SteppingLog):
    """Gives way between records, so that workers overtake each other here too."""

    async def publish(self, records: Sequence[object]) -> None:
        for record in records:
            await asyncio.sleep(0)
            self.put(record)  # type: ignore[arg-type]


class Dying(MongoGraph):
    """A store whose client dies now and then, before a call or after it."""

    def __init__(self, mongo: Mongo, rng: random.Random) -> None:
        super().__init__(mongo)
        self.rng, self.died = rng, 0

    async def insert(self, nodes: Sequence[Node]) -> bool:
        self._die()
        done = await super().insert(nodes)
        self._die()
        return done

    async def swap(self, swaps: Sequence[Swap]) -> bool:
        self._die()
        done = await super().swap(swaps)
        self._die()
        return done

    async def take(self, taken: Sequence[Taken]) -> bool:
        self._die()
        return await super().take(taken)

    async def read(self, keys: Collection[str]) -> dict[str, Node]:
        await asyncio.sleep(0)
        return await super().read(keys)

    def _die(self) -> None:
        if self.rng.random() < 0.04:
            self.died += 1
            raise StoreAway("died")


class Workers:
    def __init__(self, mongo: Mongo, seed: int) -> None:
        self.graph, self.log = Dying(mongo, random.Random(seed)), Log()
        self.born = self.leap = 0

    def now(self) -> int:
        return 10**15 + self.leap

    def process(self) -> tuple[Linker, Announcer]:
        self.born += 1
        linker = Linker(self.graph, RULES, f"w{self.born}", self.now)
        return linker, Announcer(self.graph, linker, self.log, Nothing(), self.now)

    async def work(self, batches: Sequence[Sequence[Carried]]) -> None:
        """As a supervisor would: who dies is born again, under another name, and gets the same batch again."""
        linker, announcer = self.process()
        for batch in batches:
            while True:
                try:
                    await announcer.announce(await linker.learn(batch))
                    break
                except StoreAway:
                    linker, announcer = self.process()

    async def sweep(self) -> None:
        """Until nothing waits; what a sweep that died has left behind is old, too, some time later."""
        died = True
        while died:
            self.leap += 2 * OLD_US
            died = False
            try:
                while await self.process()[1].sweep():
                    pass
            except StoreAway:
                died = True


@pytest.mark.parametrize("seed", range(4))
async def test_workers_that_die_at_any_step_leave_the_customers_of_the_evidence(mongo: Mongo, seed: int) -> None:
    rng = random.Random(seed)
    workers = Workers(mongo, seed)
    await workers.graph.start()
    events = evidence(rng, count=60, keys=24)
    logs: list[list[Sequence[Carried]]] = [[] for _ in range(5)]
    for event in rng.sample(events, len(events)) + rng.choices(events, k=12):
        rng.choice(logs).append([event])
    await asyncio.gather(*(workers.work(log) for log in logs))
    await workers.sweep()
    nodes = await workers.graph.read([key for event in events for key in event.members])
    roots = [node for node in nodes.values() if node.redirect is None]
    truth = {key: (one.customer, one.version) for root in roots for key, one in root.component.assigned.items()}
    last = {data.identifier: (data.customer_id, data.version) for data in workers.log.mapped}

    assert {key: customer for key, (customer, _) in truth.items()} == oracle(events)
    assert last == truth
    assert not any(node.outbox for node in nodes.values())
    assert workers.graph.died > 0
