"""Batches: what waits for a partition, who is told what, and that one partition's trouble is nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError, NotLeaderForPartitionError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from services.common.cloudevents import Record
from services.common.kafka.batching import LARGEST, WAITING, Batches, Place, partition_of
from tests.waiting import until


class Cluster:
    partitions = 2

    def add_listener(self, listener: Callable[[Any], None]) -> None:
        self._listener = listener

    def partitions_for_topic(self, topic: str) -> Collection[int]:
        return set(range(self.partitions))

    def grow(self, partitions: int) -> None:
        self.partitions = partitions
        self._listener(self)


class Client:
    def __init__(self) -> None:
        self.cluster = Cluster()


class Broker:
    """A producer whose broker answers when it is told to; its batches are aiokafka's own."""

    def __init__(self, size: int = 4096) -> None:
        self.client, self._size = Client(), size
        self.sent: list[tuple[int, int]] = []
        self.open: dict[int, asyncio.Future[RecordMetadata]] = {}
        self._next: dict[int, int] = {}

    async def partitions_for(self, topic: str) -> Collection[int]:
        return self.client.cluster.partitions_for_topic(topic)

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(self._size, 0)

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[RecordMetadata]:
        assert partition not in self.open, "one batch of a partition at a time"
        self.sent.append((partition, batch.record_count()))
        self.open[partition] = asyncio.get_running_loop().create_future()
        return self.open[partition]

    def acknowledge(self, partition: int) -> None:
        count = next(count for one, count in reversed(self.sent) if one == partition)
        offset = self._next.get(partition, 0)
        self._next[partition] = offset + count
        where = TopicPartition("t", partition)
        self.open.pop(partition).set_result(RecordMetadata("t", partition, where, offset, -1, 0, 0))

    def refuse(self, partition: int, error: Exception) -> None:
        self.open.pop(partition).set_exception(error)


def records(partition: int, count: int, size: int = 10) -> list[tuple[str, Record]]:
    return [("t", Record("t", b"key", b"x" * size, (), partition)) for _ in range(count)]


def later(seconds: float = 60) -> float:
    return asyncio.get_running_loop().time() + seconds


def sending(batches: Batches, some: Sequence[tuple[str, Record]], deadline: float | None = None) -> asyncio.Task[list[Place]]:
    return asyncio.create_task(batches.send(some, later() if deadline is None else deadline))


def batches_of(broker: Broker) -> Batches:
    producer: Any = broker
    return Batches(producer, 0)


@given(st.binary(min_size=1), st.integers(1, 50))
def test_a_key_goes_where_every_client_puts_it(key: bytes, partitions: int) -> None:
    every = list(range(partitions))

    assert partition_of(key, partitions) == DefaultPartitioner()(key, every, every)


async def test_callers_share_a_batch_and_each_learns_its_own_places() -> None:
    broker = Broker()
    batches = batches_of(broker)
    first, second = sending(batches, records(0, 2)), sending(batches, records(0, 1) + records(1, 1))
    await until(lambda: len(broker.open) == 2)
    broker.acknowledge(0)
    broker.acknowledge(1)

    assert await first == [Place(0, 0), Place(0, 1)]
    assert await second == [Place(0, 2), Place(1, 0)]
    assert broker.sent == [(0, 3), (1, 1)]


async def test_what_comes_while_a_batch_is_on_its_way_goes_into_the_next_one() -> None:
    broker = Broker()
    batches = batches_of(broker)
    first = sending(batches, records(0, 1))
    await until(lambda: 0 in broker.open)
    others = [sending(batches, records(0, 1)) for _ in range(3)]
    await asyncio.sleep(0)
    broker.acknowledge(0)
    await first
    await until(lambda: 0 in broker.open)
    broker.acknowledge(0)

    assert [await one for one in others] == [[Place(0, 1)], [Place(0, 2)], [Place(0, 3)]]
    assert broker.sent == [(0, 1), (0, 3)]


async def test_a_partition_in_trouble_fails_those_who_wrote_there_and_nobody_else() -> None:
    broker = Broker()
    batches = batches_of(broker)
    unlucky, lucky = sending(batches, records(0, 1) + records(1, 1)), sending(batches, records(1, 1))
    await until(lambda: len(broker.open) == 2)
    broker.acknowledge(1)

    assert await lucky == [Place(1, 1)]
    assert not unlucky.done()

    broker.refuse(0, NotLeaderForPartitionError())
    with pytest.raises(NotLeaderForPartitionError):
        await unlucky


async def test_a_call_that_takes_too_long_is_told_so_and_a_later_one_is_served() -> None:
    broker = Broker()
    batches = batches_of(broker)
    late = sending(batches, records(0, 1), later(0.01))
    with pytest.raises(TimeoutError):
        await late
    patient = sending(batches, records(0, 1))
    await asyncio.sleep(0)
    broker.acknowledge(0)
    await until(lambda: 0 in broker.open)
    broker.acknowledge(0)

    assert await patient == [Place(0, 1)]


async def test_while_the_broker_is_away_callers_wait_with_their_records() -> None:
    broker = Broker(size=100)
    batches = batches_of(broker)
    calls = [sending(batches, records(0, 1, 90), later(0.05)) for _ in range(30)]
    await asyncio.wait(calls)

    assert {type(call.exception()) for call in calls} == {TimeoutError}
    for _ in range(WAITING + 1):  # what had been sent, and what waited then
        await until(lambda: 0 in broker.open)
        broker.acknowledge(0)
    await asyncio.sleep(0.01)
    assert not broker.open


async def test_a_long_call_is_sent_piece_by_piece_and_its_places_are_in_order() -> None:
    broker = Broker(size=100)
    batches = batches_of(broker)
    call = sending(batches, records(0, 12, 90))
    for _ in range(12):
        await until(lambda: 0 in broker.open)
        broker.acknowledge(0)

    assert await call == [Place(0, number) for number in range(12)]


async def test_a_record_that_no_topic_takes_is_refused_before_it_is_copied() -> None:
    broker = Broker()
    with pytest.raises(MessageSizeTooLargeError):
        await batches_of(broker).send(records(0, 1, LARGEST + 1), later())

    assert not broker.sent


async def test_a_topic_that_has_grown_is_used_as_it_is_now() -> None:
    broker = Broker()
    batches = batches_of(broker)
    keyed = [("t", Record("t", str(n).encode(), b"x")) for n in range(40)]
    for partitions in (2, 4):
        broker.client.cluster.grow(partitions)
        call = sending(batches, keyed)
        await until(lambda: broker.open)
        for partition in list(broker.open):
            broker.acknowledge(partition)

        assert {place.partition for place in await call} == set(range(partitions))
