"""The router behind Faust and our guard, beside a plain aiokafka loop with the same deciders and store.

Both handle messages of customers whose conversations are open, with the router's own handler, without a desk. Bare leaves out
Faust, the guard around its processors, what is finished before a rebalance, the error policy and the metrics of delivery.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from services.common import topics as t
from services.common.kafka import DeadLetters, Publisher, create_topics
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
from services.router.streams import Streams
from services.router.wishes import Wishes
from tests.benchmarks.measuring import Figure, Parts, PlainLoop, Stopwatch, alternate, publish
from tests.routing import said

PADDING = "a message of usual length, as people write it. " * 14


def handler(mongo: Mongo, store: MongoConversationStore, publisher: Publisher) -> CustomerEvents:
    """The router's own, without a desk."""
    vault = Vault(DEMO_KEY)
    parties, people = Parties(vault), People(mongo, vault)
    directory = Directory(lambda _tenant, _queue: QueueTimes(3600, None))
    wishes = Wishes(lambda c, leg: parties.open(c.tenant, leg.party, leg.who), 10)
    clocks = [timers.SLA, timers.inactivity(timedelta(hours=72), wishes.closed)]
    conversations = Conversations(store, KafkaOutbox(publisher), NoDesk(), timers.armed(clocks), directory.opening)
    handoffs = Handoffs(conversations, directory, wishes, Links(offer_keys(RouterSettings(env="test")), "http://x/go/"))
    return CustomerEvents(conversations, directory, people, parties, handoffs, publisher, DeadLetters(publisher, "bench"))


async def stage(parts: Parts, count: int, customers: int) -> dict[str, Any]:
    async def run(name: str, number: int) -> Figure:
        settings = parts.settings(f"router{name}{number}")
        await create_topics(settings)
        publisher, mongo = Publisher(settings), Mongo(settings)
        await publisher.start()
        store = MongoConversationStore(mongo)
        await store.start()
        try:
            return await _again(settings, name, handler(mongo, store, publisher), publisher, count, customers)
        finally:
            await publisher.stop()
            await mongo.stop()

    return await alternate("router", lambda n: run("ours", n), lambda n: run("bare", n))


async def _again(
    settings: CommonSettings, name: str, events: CustomerEvents, publisher: Publisher, count: int, customers: int
) -> Figure:
    """First everybody writes once, which opens their conversations; the figure is of what they write then."""
    await publish(publisher, [said(f"c{n}", 0, PADDING) for n in range(customers)])
    await _delivered(settings, name, events, publisher, customers)
    await publish(publisher, [said(f"c{n % customers}", 1 + n // customers, PADDING) for n in range(count)])
    return await _delivered(settings, name, events, publisher, count)


async def _delivered(settings: CommonSettings, name: str, events: CustomerEvents, publisher: Publisher, count: int) -> Figure:
    watch = Stopwatch(events, count)
    if name == "bare":
        return await watch.of(PlainLoop(settings, settings.topic("bench"), t.CUSTOMER_EVENTS, watch))
    dead = DeadLetters(publisher, "bench")
    return await watch.of(Streams(settings, "bench", {t.CUSTOMER_EVENTS: watch}, dead))
