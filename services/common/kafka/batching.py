"""Records of many callers, gathered into one batch a partition, each with one acknowledgement.

aiokafka's own `send` makes a future, copies of the topic's partitions and a hash in plain Python for every record, which was
more than half of what publishing cost. Here a caller waits once for all its records. What comes while a partition's batch is
on its way goes into the next one, so batches grow with the load and a partition that is in trouble holds up no other.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError, ProducerClosed
from aiokafka.partitioner import murmur2

from services.common.cloudevents import Record

WAITING = 4  # batches of a partition, each of half a megabyte or one larger record, before callers wait
LARGEST = 40 * 1024 * 1024  # bytes of a record; the largest topic's limit, each topic has its own


@dataclass(frozen=True, slots=True)
class Place:
    """Where an acknowledged record stands."""

    partition: int
    offset: int


@lru_cache(maxsize=65536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as every client of Kafka finds it."""
    found: int = (murmur2(key) & 0x7FFFFFFF) % partitions
    return found


class _Call:
    """What one caller waits for: the places of its records, or why one of them has none."""

    __slots__ = ("_error", "_left", "_places", "future")

    def __init__(self, count: int, future: asyncio.Future[list[Place]]) -> None:
        self._places: list[Any] = [None] * count
        self._left, self.future = count, future
        self._error: BaseException | None = None

    def settle(self, number: int, place: Place | None, error: BaseException | None) -> None:
        self._places[number] = place
        self._error = self._error or error
        self._left -= 1
        if not self._left and not self.future.done():
            if self._error:
                self.future.set_exception(copy.copy(self._error))  # each caller adds its own traceback
            else:
                self.future.set_result(self._places)


@dataclass(slots=True)
class _Batch:
    """`waiting` is in the order of the records: whose they are, and their number there."""

    builder: Any
    waiting: list[tuple[_Call, int]] = field(default_factory=list)


@dataclass(slots=True)
class _Lane:
    """A partition: the batches that wait, of which the last is open, whether one is on its way, and what callers wait for
    while too much waits already."""

    partition: TopicPartition
    batches: deque[_Batch] = field(default_factory=deque)
    busy: bool = False
    room: asyncio.Future[None] | None = None


class Batches:
    """What waits to be sent by one producer, and ends with it."""

    def __init__(self, producer: AIOKafkaProducer, linger_s: float) -> None:
        self._producer, self._linger = producer, linger_s
        self._loop = asyncio.get_running_loop()
        self._counts: dict[str, int] = {}
        producer.client.cluster.add_listener(self._grown)
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._due: list[_Lane] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._calls: dict[asyncio.Future[list[Place]], float] = {}
        self._sweep: asyncio.TimerHandle | None = None

    async def send(self, records: Sequence[tuple[str, Record]], deadline: float) -> list[Place]:
        """Records with the names of their topics. Returns once all are acknowledged; raises what aiokafka raises, and
        TimeoutError when the loop's time has passed the deadline."""
        for topic, _ in records:
            if topic not in self._counts:
                await self._count(topic, deadline)
        if any(len(record.value or b"") > LARGEST for _, record in records):
            raise MessageSizeTooLargeError(f"a record may have {LARGEST} bytes")
        call = _Call(len(records), self._loop.create_future())
        for number, (topic, record) in enumerate(records):
            lane = self._lane(topic, record)
            while len(lane.batches) > WAITING:
                await self._room(lane, deadline)
            self._add(lane, record, call, number)
        self._soon()
        return await self._answer(call.future, deadline)

    async def _answer(self, future: asyncio.Future[list[Place]], deadline: float) -> list[Place]:
        self._calls[future] = deadline
        if self._sweep is None:
            self._sweep = self._loop.call_at(deadline, self._expire)
        try:
            return await future
        finally:
            del self._calls[future]

    def _expire(self) -> None:
        """One timer for all calls: one each would cost as much as a record."""
        now = self._loop.time()
        left = [at for future, at in self._calls.items() if not _expired(future, at, now)]
        self._sweep = self._loop.call_at(min(left), self._expire) if left else None

    async def finish(self) -> None:
        """Until nobody waits any more."""
        if self._calls:
            await asyncio.wait(self._calls)

    async def _count(self, topic: str, deadline: float) -> None:
        async with asyncio.timeout_at(deadline):
            self._counts[topic] = len(await self._producer.partitions_for(topic))

    def _grown(self, cluster: Any) -> None:
        """What the broker has told anew: a topic may have more partitions now."""
        for topic, count in self._counts.items():
            self._counts[topic] = max(count, len(cluster.partitions_for_topic(topic) or ()))

    async def _room(self, lane: _Lane, deadline: float) -> None:
        """While the broker is away, callers wait with their records: kept here, those of calls long given up would pile up."""
        self._soon()
        lane.room = lane.room or self._loop.create_future()
        async with asyncio.timeout_at(deadline):
            await asyncio.shield(lane.room)

    def _soon(self) -> None:
        if self._due and self._timer is None:
            self._timer = self._loop.call_later(self._linger, self._flush)

    def _lane(self, topic: str, record: Record) -> _Lane:
        number = record.partition
        if number is None:
            count = self._counts[topic]
            number = partition_of(record.key, count) if record.key else random.randrange(count)  # noqa: S311  # no secret
        lane = self._lanes.get((topic, number))
        if lane is None:
            lane = self._lanes[topic, number] = _Lane(TopicPartition(topic, number))
        return lane

    def _add(self, lane: _Lane, record: Record, call: _Call, number: int) -> None:
        if not lane.batches:
            lane.batches.append(_Batch(self._producer.create_batch()))
            if not lane.busy:
                self._due.append(lane)
        if not _appended(lane.batches[-1], record):
            lane.batches.append(_Batch(self._producer.create_batch()))
            _appended(lane.batches[-1], record)  # the first record of a batch is always taken
        lane.batches[-1].waiting.append((call, number))

    def _flush(self) -> None:
        self._timer = None
        task = asyncio.create_task(self._send_due())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send_due(self) -> None:
        due, self._due = self._due, []
        for lane in due:
            batch, lane.busy = lane.batches.popleft(), True
            batch.builder.close()
            topic, partition = lane.partition
            try:
                sent = await self._producer.send_batch(batch.builder, topic, partition=partition)
            except Exception as error:
                self._settle(lane, batch, None, error)
            else:
                sent.add_done_callback(lambda future, lane=lane, batch=batch: self._answered(lane, batch, future))

    def _answered(self, lane: _Lane, batch: _Batch, sent: asyncio.Future[Any]) -> None:
        error = ProducerClosed() if sent.cancelled() else sent.exception()
        self._settle(lane, batch, None if error else sent.result().offset, error)

    def _settle(self, lane: _Lane, batch: _Batch, offset: int | None, error: BaseException | None) -> None:
        partition = lane.partition.partition
        for place, (call, number) in enumerate(batch.waiting):
            call.settle(number, None if offset is None else Place(partition, offset + place), error)
        lane.busy = False
        if lane.room:
            lane.room.set_result(None)
            lane.room = None
        if lane.batches:  # they have had company
            self._due.append(lane)
            if self._timer is None:
                self._timer = self._loop.call_later(0, self._flush)


def _expired(future: asyncio.Future[list[Place]], deadline: float, now: float) -> bool:
    if deadline <= now and not future.done():
        future.set_exception(TimeoutError())
    return deadline <= now


def _appended(batch: _Batch, record: Record) -> bool:
    """False for a batch that is full."""
    found = batch.builder.append(
        timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=list(record.headers)
    )
    return found is not None
