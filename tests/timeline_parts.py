"""Parts of the timeline without a broker: records as they would be read, and a projector that handles them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from services.common import topics
from services.common.cloudevents import Event, Record, encode
from services.common.events import ConversationEvent, Data, IdentityMapped, MessageAppended
from services.common.kafka import DeadLetters, Publisher
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.timeline.consumer import Projector
from services.timeline.live import Feed
from services.timeline.reader import Reader
from services.timeline.stores import TimelineStore
from tests.histories import event


def topic_of(data: Data) -> str:
    match data:
        case IdentityMapped():
            return topics.IDENTITY_MAP.name
        case ConversationEvent() | MessageAppended():
            return topics.CONVERSATION_EVENTS.name
    return topics.CUSTOMER_EVENTS.name


class Log:
    """Records with offsets, as partitions of topics hold them. `stamp` tells two logs apart, as producers' clocks do."""

    def __init__(self, stamp: int = 1_000) -> None:
        self._ends: dict[tuple[str, int], int] = {}
        self._stamp = stamp

    def add(self, events: Iterable[Event[Data] | Data], partition: int = 0) -> list[Record]:
        return [self.record(one, partition) for one in events]

    def record(self, one: Event[Data] | Data, partition: int = 0) -> Record:
        whole = one if isinstance(one, Event) else event(one)
        topic = topic_of(whole.data)
        offset = self._ends.get((topic, partition), 0)
        self._ends[topic, partition] = offset + 1
        made = encode(topic, whole)
        stamp = self._stamp + offset
        return Record(topic, made.key, made.value, made.headers, partition=partition, offset=offset, timestamp_ms=stamp)


async def started(mongo: Mongo, generation: str = "a") -> TimelineStore:
    store = TimelineStore(mongo, generation)
    await store.start()
    return store


def projector(store: TimelineStore, settings: CommonSettings) -> Projector:
    """Its dead letters would need a broker; these tests have none."""
    return Projector(store, DeadLetters(Publisher(settings), "test"))


async def projected(mongo: Mongo, settings: CommonSettings, *data: Event[Data] | Data, log: Log | None = None) -> Reader:
    """A reader of what these events make, handled as one batch."""
    store = await started(mongo)
    await projector(store, settings).handle((log or Log()).add(data))
    return Reader(mongo)


async def feed_of(mongo: Mongo, **more: Any) -> Feed:
    feed = Feed(mongo, Reader(mongo), **more)
    await feed.start()
    return feed


def canonical(documents: Sequence[dict[str, Any]]) -> dict[str, str]:
    """A hash of each document that does not depend on the order of its fields."""

    def normal(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(name): normal(value[name]) for name in sorted(value)}
        if isinstance(value, list):
            return [normal(one) for one in value]
        return value.hex() if isinstance(value, bytes) else value

    return {
        str(normal(one["_id"])): hashlib.sha256(json.dumps(normal(one), sort_keys=True).encode()).hexdigest()
        for one in documents
    }
