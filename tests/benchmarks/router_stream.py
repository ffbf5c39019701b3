"""Events per second of the router: Faust behind our guard against a plain aiokafka loop, with the same deciders and store.

    python -m tests.benchmarks.router_stream [events] [customers] [rounds]

Embedded broker and mongod; the topic is filled first, so it is catch-up speed. `delivery` handles a batch by doing nothing.
Variants run in turn; the figures are medians. `first` opens every conversation, `again` writes to those that are open.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from deploy.local.embedded import EmbeddedBroker, EmbeddedMongod
from services.common import topics as t
from services.common.cloudevents import Record
from services.common.kafka import Consumer, DeadLetters, Publisher, create_topics
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.vault import DEMO_KEY, Vault
from services.router import timers
from services.router.app import KafkaOutbox, offer_keys
from services.router.consumer import CustomerEvents
from services.router.conversation_store import MongoConversationStore
from services.router.directory import Directory, QueueTimes
from services.router.handoffs import Handoffs
from services.router.inviting import Links
from services.router.people import Parties, People
from services.router.protocol import Conversations, NoDesk
from services.router.settings import RouterSettings
from services.router.streams import Handle, Streams
from services.router.wishes import Wishes
from tests.routing import said

PADDING = "a message of usual length, as people write it. " * 14


def handler(settings: CommonSettings, mongo: Mongo, store: MongoConversationStore, publisher: Publisher) -> CustomerEvents:
    """The router's own, without a desk."""
    vault = Vault(DEMO_KEY)
    parties, people = Parties(vault), People(mongo, vault)
    directory = Directory(lambda _tenant, _queue: QueueTimes(3600, None))
    wishes = Wishes(lambda c, leg: parties.open(c.tenant, leg.party, leg.who), 10)
    clocks = [timers.SLA, timers.inactivity(timedelta(hours=72), wishes.closed)]
    conversations = Conversations(store, KafkaOutbox(publisher), NoDesk(), timers.armed(clocks), directory.opening)
    handoffs = Handoffs(conversations, directory, wishes, Links(offer_keys(RouterSettings(env="test")), "http://x/go/"))
    return CustomerEvents(conversations, directory, people, parties, handoffs, publisher, DeadLetters(publisher, "bench"))


class Counted:
    def __init__(self, handle: Handle | None, total: int) -> None:
        self._handle, self._total = handle, total
        self.count, self.began = 0, 0.0
        self.cpu = 0.0
        self.done = asyncio.Event()

    async def __call__(self, batch: Sequence[Record]) -> None:
        if not self.count:
            self.began, self.cpu = time.perf_counter(), time.process_time()
        if self._handle:
            await self._handle(batch)
        self.count += len(batch)
        if self.count >= self._total:
            self.done.set()

    def result(self) -> tuple[float, float]:
        """(events a second, microseconds of our processor time an event)"""
        return self.count / (time.perf_counter() - self.began), (time.process_time() - self.cpu) / self.count * 1e6


async def run(kind: str, settings: CommonSettings, handle: Handle | None, total: int) -> tuple[float, float]:
    counted, group = Counted(handle, total), f"bench-{uuid.uuid4().hex[:8]}"
    publisher = Publisher(settings)
    part: Any
    if kind == "aiokafka":
        part = Consumer(settings, group, [t.CUSTOMER_EVENTS], counted)
    else:
        dead = DeadLetters(publisher, "bench")
        part = Streams(settings, group, {t.CUSTOMER_EVENTS: counted}, dead, fast=kind == "faust")
    await part.start()
    running = asyncio.create_task(part.run())
    await asyncio.wait((asyncio.create_task(counted.done.wait()), running), return_when=asyncio.FIRST_COMPLETED)
    result = counted.result()
    await part.stop()
    await asyncio.gather(running, return_exceptions=True)
    return result


async def main(events: int, customers: int, rounds: int) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    folder = Path(tempfile.mkdtemp())
    broker, mongod = EmbeddedBroker(folder / "broker"), EmbeddedMongod(folder / "mongod")
    broker.start()
    await asyncio.to_thread(mongod.start)
    try:
        figures: dict[str, list[tuple[float, float]]] = {}
        for number in range(rounds):
            for kind in ("aiokafka", "faust", "faust, stock loop"):
                prefix = f"b{number}{kind[:5]}{len(kind)}"
                settings = CommonSettings(
                    env="test", kafka=broker.servers, mongo=mongod.uri, mongo_prefix=f"{prefix}_", kafka_prefix=f"{prefix}."
                )
                await measure(settings, kind, events, customers, figures)
        for name, found in figures.items():
            rate, cpu = (statistics.median(one[place] for one in found) for place in (0, 1))
            spread = f"[{min(one[0] for one in found):.0f}..{max(one[0] for one in found):.0f}]"
            print(f"{name:32s} {rate:8.0f} events/s {spread:18s} {cpu:6.0f} us/event of the process")
    finally:
        broker.stop()
        mongod.stop()


async def measure(
    settings: CommonSettings, kind: str, events: int, customers: int, figures: dict[str, list[tuple[float, float]]]
) -> None:
    await create_topics(settings)
    publisher, mongo = Publisher(settings), Mongo(settings)
    store = MongoConversationStore(mongo)
    await store.start()
    handle = handler(settings, mongo, store, publisher)
    await publish(publisher, [said(f"c{n}", 0, PADDING) for n in range(customers)])
    figures.setdefault(f"{kind}: first", []).append(await run(kind, settings, handle, customers))
    await publish(publisher, [said(f"c{n % customers}", 1 + n // customers, PADDING) for n in range(events)])
    figures.setdefault(f"{kind}: again", []).append(await run(kind, settings, handle, events + customers))
    figures.setdefault(f"{kind}: delivery", []).append(await run(kind, settings, None, events + customers))
    await publisher.stop()
    await mongo.stop()


async def publish(publisher: Publisher, records: Sequence[Record]) -> None:
    for at in range(0, len(records), 1000):
        await publisher.publish(records[at : at + 1000])


if __name__ == "__main__":
    given = [int(one) for one in sys.argv[1:]]
    asyncio.run(main(*(given + [20_000, 2_000, 3][len(given) :])))
