"""The publisher, whose return means acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from services.common import metrics, topics
from services.common.cloudevents import Event, Record, encode
from services.common.errors import BrokerAway, Poison
from services.common.events import Data
from services.common.kafka.clients import bounded, connection
from services.common.settings import CommonSettings


@dataclass(frozen=True, slots=True)
class Place:
    """Where an acknowledged record stands."""

    partition: int
    offset: int


class Publisher:
    """Sends records and returns once the broker has acknowledged them all. Idempotent producer, `acks=all`."""

    def __init__(self, settings: CommonSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self.away = False

    async def start(self) -> None:
        await self._ready()

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer:
            await bounded(producer.stop())

    async def publish(self, records: Sequence[Record]) -> list[Place]:
        """Topic names are written without prefix. Raises BrokerAway when not all were acknowledged in time: then some may
        still arrive. Raises Poison for a record that the broker will never take."""
        if not records:
            return []
        try:
            async with asyncio.timeout(self._settings.kafka_publish_timeout_s):
                producer = await self._ready()
                sent = [await self._send(producer, record) for record in records]
                await asyncio.wait(sent)
                placed = [future.result() for future in sent]
        except (TimeoutError, KafkaTimeoutError, KafkaConnectionError) as error:
            self._lost()
            raise BrokerAway(type(error).__name__) from error
        except MessageSizeTooLargeError as error:
            raise Poison("larger than the broker takes") from error
        except KafkaError as error:  # a fatal state of the idempotent producer ends with this producer, not with ours
            await self._replace()
            raise BrokerAway(type(error).__name__) from error
        self._found()
        return [Place(one.partition, one.offset) for one in placed]

    async def emit(self, topic: topics.Topic, events: Iterable[Event[Data]]) -> list[Place]:
        return await self.publish([encode(topic.name, event) for event in events])

    async def _send(self, producer: AIOKafkaProducer, record: Record) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = await producer.send(
            self._settings.topic(record.topic),
            value=record.value,
            key=record.key,
            partition=record.partition,
            timestamp_ms=record.timestamp_ms,
            headers=list(record.headers),
        )
        return future

    async def _ready(self) -> AIOKafkaProducer:
        if self._producer is None:
            async with self._starting:
                if self._producer is None:
                    self._producer = await self._started()
        return self._producer

    async def _started(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **connection(self._settings),
            enable_idempotence=True,
            acks="all",
            linger_ms=self._settings.kafka_linger_ms,
            max_batch_size=512 * 1024,
            max_request_size=40 * 1024 * 1024,  # the largest topic's limit; each topic has its own
        )
        try:
            await producer.start()
        except KafkaError as error:
            await bounded(producer.stop())
            raise BrokerAway(type(error).__name__) from error
        return producer

    async def _replace(self) -> None:
        self._lost()
        producer, self._producer = self._producer, None
        if producer:
            await bounded(producer.stop())

    def _lost(self) -> None:
        self.away = True
        metrics.AWAY.labels("broker").set(1)

    def _found(self) -> None:
        if self.away:
            self.away = False
            metrics.AWAY.labels("broker").set(0)
