"""Events a second through identity for known identifiers, and through a bare loop that does the same read and passes on.

    python -m tests.benchmarks.identity_throughput [events] [identifiers]

Both read the same topic of an embedded broker and find the same documents in the embedded mongod, in batches of 500.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy.local.embedded import EmbeddedBroker, EmbeddedMongod
from services.common import topics as t
from services.common.cloudevents import Event, Record
from services.common.events import MessageReceived, Part
from services.common.identifiers import Evidence, Identifier, Sender, identifier_key
from services.common.kafka import Consumer, DeadLetters, Publisher, create_topics
from services.common.mongo import Mongo, reaching
from services.common.settings import CommonSettings
from services.common.vault import DEMO_KEY, Vault
from services.identity.announce import Announcer
from services.identity.consumer import Passing
from services.identity.linker import Linker
from services.identity.profiles import MongoValues, Profiles
from services.identity.rules import Rules
from services.identity.stores import DATABASE, MongoGraph

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def said(number: int, people: int) -> Event[MessageReceived]:
    chat, tel = (_who(scheme, f"{scheme}{number % people}") for scheme in ("whatsapp", "tel"))
    sender = Sender(chat, "Ana", (Evidence(tel, "verified", "whatsapp"),))
    at = NOW + timedelta(milliseconds=number)
    text = "¿Dónde está mi pedido? Llevo una semana esperando y nadie me contesta. " * 4
    data = MessageReceived(provider_id=f"m{number}", party=chat, received_at=at, sender=sender, parts=(Part("text", text),))
    return Event(f"e{number}", "acme", chat.key, at, data, "whatsapp", "main")


def _who(scheme: str, value: str) -> Identifier:
    plain = Identifier(scheme, value)
    return replace(plain, key=identifier_key(b"k" * 32, plain))


class Counted:
    def __init__(self, handle: object, count: int) -> None:
        self.handle, self.left, self.done = handle, count, asyncio.Event()

    async def __call__(self, batch: Sequence[Record]) -> None:
        await self.handle(batch)  # type: ignore[operator]
        self.left -= len(batch)
        if self.left <= 0:
            self.done.set()


async def rate(settings: CommonSettings, group: str, handle: object, count: int) -> float:
    counted = Counted(handle, count)
    consumer = Consumer(settings, group, [t.EVENTS], counted)
    await consumer.start()
    while not consumer.ready:
        await asyncio.sleep(0.05)
    began, cpu = time.perf_counter(), time.process_time()
    loop = asyncio.create_task(consumer.run())
    await counted.done.wait()
    took, used = time.perf_counter() - began, time.process_time() - cpu
    await consumer.stop()
    await loop
    print(f"{group:10} {count / took:8.0f} events/s   {used / count * 1e6:6.0f} us of CPU an event")
    return count / took


async def measure(settings: CommonSettings, count: int, people: int) -> None:
    await create_topics(settings)
    mongo, publisher = Mongo(settings), Publisher(settings)
    await mongo.start()
    graph, rules = MongoGraph(mongo), Rules()
    await graph.start()
    linker = Linker(graph, rules, "bench", lambda: time.time_ns() // 1000)
    profiles = Profiles(MongoValues(mongo), Vault(DEMO_KEY))
    announcer = Announcer(graph, linker, publisher, profiles, lambda: time.time_ns() // 1000)
    passing = Passing(linker, announcer, profiles, publisher, DeadLetters(publisher, "identity"), rules)
    nodes = mongo.database(DATABASE)["nodes"]

    async def bare(batch: Sequence[Record]) -> None:
        async with reaching():
            await nodes.find({"_id": {"$in": [(record.key or b"").decode() for record in batch]}}).to_list(None)
        await publisher.publish(
            [replace(r, topic=t.CUSTOMER_EVENTS.name, headers=[*r.headers, ("ce_customerid", b"x" * 36)]) for r in batch]
        )

    for start in range(0, count, 2000):
        await publisher.emit(t.EVENTS, [said(n, people) for n in range(start, min(start + 2000, count))])
    await rate(settings, "new", passing.handle, count)
    for turn in range(3):
        known = await rate(settings, f"known{turn}", passing.handle, count)
        floor = await rate(settings, f"bare{turn}", bare, count)
        print(f"           known identifiers: {known / floor:.2f} of the bare loop")
    await publisher.stop()
    await mongo.stop()


def main() -> None:
    count, people = (int(given) for given in [*sys.argv[1:], "10000", "500"][:2])
    with tempfile.TemporaryDirectory() as place:
        broker, mongod = EmbeddedBroker(Path(place)), EmbeddedMongod(Path(place))
        broker.start()
        mongod.start()
        try:
            settings = CommonSettings(env="test", kafka=broker.servers, mongo=mongod.uri, mongo_prefix="bench_")
            asyncio.run(measure(settings, count, people))
        finally:
            broker.stop()
            mongod.stop()


if __name__ == "__main__":
    main()
