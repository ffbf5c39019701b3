"""The publisher, whose return means acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from services.common import metrics, topics
from services.common.cloudevents import Event, Record, encode
from services.common.errors import BrokerAway, Poison
from services.common.events import Data
from services.common.kafka.batching import LARGEST, Batches, Place
from services.common.kafka.clients import bounded, connection, stopped
from services.common.settings import CommonSettings


class Publisher:
    """Sends records and returns once the broker has acknowledged them all. Idempotent producer, `acks=all`."""

    def __init__(self, settings: CommonSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._batches: Batches | None = None
        self._starting = asyncio.Lock()
        self._names: dict[str, str] = {topic.name: settings.topic(topic.name) for topic in topics.TOPICS}
        self.away = False

    async def start(self) -> None:
        await self._ready()

    async def stop(self) -> None:
        producer, batches, self._producer, self._batches = self._producer, self._batches, None, None
        if producer and batches:
            await bounded(batches.finish())
            await stopped(producer)

    async def publish(self, records: Sequence[Record]) -> list[Place]:
        """Topic names are written without prefix. Raises BrokerAway when not all were acknowledged in time: then some may
        still arrive. Raises Poison for a record that the broker will never take."""
        if not records:
            return []
        deadline = asyncio.get_running_loop().time() + self._settings.kafka_publish_timeout_s
        batches = self._batches
        try:
            if batches is None:
                async with asyncio.timeout_at(deadline):
                    batches = await self._ready()
            placed = await batches.send([(self._name(record.topic), record) for record in records], deadline)
        except (TimeoutError, KafkaTimeoutError, KafkaConnectionError) as error:
            self._lost()
            raise BrokerAway(type(error).__name__) from error
        except MessageSizeTooLargeError as error:
            raise Poison("larger than the broker takes") from error
        except KafkaError as error:  # a fatal state of the idempotent producer ends with this producer, not with ours
            await self._replace(batches)
            raise BrokerAway(type(error).__name__) from error
        self._found()
        return placed

    async def emit(self, topic: topics.Topic, events: Iterable[Event[Data]]) -> list[Place]:
        return await self.publish([encode(topic.name, event) for event in events])

    def _name(self, topic: str) -> str:
        return self._names.get(topic) or self._settings.topic(topic)

    async def _ready(self) -> Batches:
        if self._batches is None:
            async with self._starting:
                if self._batches is None:
                    self._producer = await self._started()
                    self._batches = Batches(self._producer, self._settings.kafka_linger_ms / 1000)
        return self._batches

    async def _started(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **connection(self._settings),
            enable_idempotence=True,
            acks="all",
            max_batch_size=512 * 1024,
            max_request_size=LARGEST,
        )
        try:
            await producer.start()
        except BaseException as error:  # also when its caller has waited long enough
            await stopped(producer)
            if isinstance(error, KafkaError):
                raise BrokerAway(type(error).__name__) from error
            raise
        return producer

    async def _replace(self, failed: Batches | None) -> None:
        """Once, however many calls failed with it."""
        self._lost()
        if failed is self._batches:
            producer, self._producer, self._batches = self._producer, None, None
            if producer:
                await stopped(producer)

    def _lost(self) -> None:
        self.away = True
        metrics.AWAY.labels("broker").set(1)

    def _found(self) -> None:
        if self.away:
            self.away = False
            metrics.AWAY.labels("broker").set(0)
