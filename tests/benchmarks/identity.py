"""Identity on events of identifiers that it knows, beside a plain aiokafka loop with the same deciders and store.

Bare reads the same topic, decodes, plans and looks at the same graph in MongoDB, stamps the customer and sends every record on
with aiokafka's own `send`, all awaited before the commit. It leaves out profiles, the outbox that announces changes, dead
letters, the error policy, what is finished before a rebalance, and every metric.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaProducer

from services.common import topics as t
from services.common.cloudevents import Event, Record, decode, encode
from services.common.events import MessageReceived, Part
from services.common.identifiers import Evidence, Identifier, Sender, identifier_key
from services.common.kafka import Consumer, DeadLetters, Publisher, connection, create_topics
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.vault import DEMO_KEY, Vault
from services.identity.announce import Announcer
from services.identity.consumer import Passing, Read, _stamped
from services.identity.evidence import carried
from services.identity.linker import Linker
from services.identity.profiles import MongoValues, Profiles
from services.identity.rules import Rules
from services.identity.stores import MongoGraph
from tests.benchmarks.measuring import Figure, Parts, PlainLoop, Stopwatch, alternate, publish

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEXT = "¿Dónde está mi pedido? Llevo una semana esperando y nadie me contesta. " * 4


def said(number: int, people: int) -> Event[MessageReceived]:
    """From somebody with two identifiers, one a verified phone number."""
    chat, tel = (_who(scheme, f"{scheme}{number % people}") for scheme in ("whatsapp", "tel"))
    sender = Sender(chat, "Ana", (Evidence(tel, "verified", "whatsapp"),))
    at = NOW + timedelta(milliseconds=number)
    data = MessageReceived(provider_id=f"m{number}", party=chat, received_at=at, sender=sender, parts=(Part("text", TEXT),))
    return Event(f"e{number}", "acme", chat.key, at, data, "whatsapp", "main")


def _who(scheme: str, value: str) -> Identifier:
    plain = Identifier(scheme, value)
    return replace(plain, key=identifier_key(b"k" * 32, plain))


class Bare:
    """The handler of the plain loop."""

    def __init__(self, settings: CommonSettings, linker: Linker, rules: Rules, producer: AIOKafkaProducer) -> None:
        self._topic, self._linker, self._rules, self._producer = settings.topic(t.CUSTOMER_EVENTS.name), linker, rules, producer

    async def handle(self, batch: Sequence[Record]) -> None:
        read = [Read(record, carried(decode(record), self._rules)) for record in batch]
        view = await self._linker.learn([one.carried for one in read if one.carried])
        await asyncio.gather(*[await self._send(_stamped(one, view)) for one in read])

    async def _send(self, record: Record) -> asyncio.Future[Any]:
        sent: asyncio.Future[Any] = await self._producer.send(
            self._topic, record.value, record.key, record.partition, record.timestamp_ms, list(record.headers)
        )
        return sent


async def stage(parts: Parts, count: int, people: int) -> dict[str, Any]:
    settings = parts.settings("identity")
    await create_topics(settings)
    mongo, publisher, rules = Mongo(settings), Publisher(settings), Rules()
    await mongo.start()
    graph = MongoGraph(mongo)
    await graph.start()
    linker = Linker(graph, rules, "bench", _now)
    profiles = Profiles(MongoValues(mongo), Vault(DEMO_KEY))
    announcer = Announcer(graph, linker, publisher, profiles, _now)
    passing = Passing(linker, announcer, profiles, publisher, DeadLetters(publisher, "identity"), rules)
    producer = AIOKafkaProducer(**connection(settings), enable_idempotence=True, acks="all", linger_ms=2, max_batch_size=2**19)
    await producer.start()
    bare = Bare(settings, linker, rules, producer)
    await publish(publisher, [encode(t.EVENTS.name, said(number, people)) for number in range(count)])

    async def ours(number: int) -> Figure:
        watch = Stopwatch(passing.handle, count)
        return await watch.of(Consumer(settings, f"ours{number}", [t.EVENTS], watch))

    async def plain(number: int) -> Figure:
        watch = Stopwatch(bare.handle, count)
        return await watch.of(PlainLoop(settings, f"bare{number}", t.EVENTS, watch))

    try:
        await ours(-1)  # the identifiers become known
        return await alternate("identity", ours, plain)
    finally:
        await producer.stop()
        await publisher.stop()
        await mongo.stop()


def _now() -> int:
    return time.time_ns() // 1000
