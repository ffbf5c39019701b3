"""Reading topics without a group: a view that follows a compacted one, all of a topic, one record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.common import topics
from services.common.cloudevents import Record
from services.common.errors import BrokerAway
from services.common.kafka.clients import PatientConsumer, connection, stopped
from services.common.settings import CommonSettings


class View:
    """Follows a compacted topic from its beginning, without a group: `apply` sees every record, in order per partition.
    `start` returns once all that was there has been applied. With `newest_only` it begins with what comes next."""

    def __init__(
        self,
        settings: CommonSettings,
        topic: topics.Topic,
        apply: Callable[[Record], None],
        *,
        newest_only: bool = False,
    ) -> None:
        self._settings, self._topic, self._apply, self._newest_only = settings, topic, apply, newest_only
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._caught_up = asyncio.Event()

    async def start(self) -> None:
        self._consumer = consumer = PatientConsumer(
            **connection(self._settings), auto_offset_reset="earliest", fetch_max_wait_ms=500
        )
        try:
            await consumer.start()
            ends = await self._placed(consumer)
        except BaseException as error:
            await stopped(consumer)
            if isinstance(error, KafkaError):
                raise BrokerAway(str(error) or type(error).__name__) from error
            raise
        self._task = asyncio.create_task(self._follow(consumer, ends))
        waiting = asyncio.create_task(self._caught_up.wait())
        await asyncio.wait((waiting, self._task), timeout=30, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task.done():
            self._task.result()
        if not self._caught_up.is_set():
            await self.stop()  # whoever waits for us starts us again
            raise BrokerAway(f"{self._topic.name} could not be read in time")

    async def _placed(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
        """Put the consumer where it begins; answers where the partitions end at present."""
        partitions = await partitions_of(consumer, self._settings.topic(self._topic.name))
        consumer.assign(partitions)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        if self._newest_only:
            for partition, end in ends.items():
                consumer.seek(partition, end)
        else:
            await consumer.seek_to_beginning(*partitions)
        return ends

    async def run(self) -> None:
        """Until `stop`. Raises what `apply` raised: a view that has stopped following would answer with yesterday's truth."""
        task = self._task
        assert task, "start() first"
        await asyncio.wait((task,))
        if not task.cancelled():
            task.result()

    async def _follow(self, consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> None:
        missing = {partition for partition, end in ends.items() if end > 0}
        while True:
            for partition in list(missing):
                if await consumer.position(partition) >= ends[partition]:
                    missing.discard(partition)
            if not missing:
                self._caught_up.set()
            polled = await consumer.getmany(timeout_ms=200)
            for messages in polled.values():
                for m in messages:
                    self._apply(Record(self._topic.name, m.key, m.value, m.headers, m.partition, m.offset, m.timestamp))

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)  # what it raised, `run` has told
        consumer, self._consumer = self._consumer, None
        if consumer:
            await stopped(consumer)


async def read_all(settings: CommonSettings, topic: topics.Topic) -> AsyncIterator[Record]:
    """Every record of a topic, from its beginning to where it ended when the reading began; in order per partition. Joins
    no group and commits nothing. Raises BrokerAway."""
    consumer = PatientConsumer(**connection(settings), enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        await consumer.start()
        partitions = await partitions_of(consumer, settings.topic(topic.name))
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        missing = set(partitions)
        while missing := {one for one in missing if await consumer.position(one) < ends[one]}:
            for messages in (await consumer.getmany(*missing, timeout_ms=200)).values():
                for m in messages:
                    if m.offset < ends[TopicPartition(m.topic, m.partition)]:
                        yield Record(topic.name, m.key, m.value, m.headers, m.partition, m.offset, m.timestamp)
    except KafkaError as error:
        raise BrokerAway(type(error).__name__) from error
    finally:
        await stopped(consumer)


async def read_at(settings: CommonSettings, topic: topics.Topic, partition: int, offset: int) -> Record | None:
    """The record at one place, None if it is gone or was never there. Raises BrokerAway."""
    consumer = PatientConsumer(
        **connection(settings), enable_auto_commit=False, auto_offset_reset="earliest", max_partition_fetch_bytes=64 * 1024
    )
    place = TopicPartition(settings.topic(topic.name), partition)
    try:
        await consumer.start()
        if place not in await partitions_of(consumer, place.topic):
            return None
        consumer.assign([place])
        if not (await consumer.beginning_offsets([place]))[place] <= offset < (await consumer.end_offsets([place]))[place]:
            return None
        consumer.seek(place, offset)
        while not (polled := await consumer.getmany(place, timeout_ms=1000, max_records=1)):
            continue
        found = polled[place][0]
        if found.offset != offset:
            return None
        return Record(topic.name, found.key, found.value, found.headers, partition, offset, found.timestamp)
    except KafkaError as error:
        raise BrokerAway(type(error).__name__) from error
    finally:
        await stopped(consumer)


async def partitions_of(consumer: AIOKafkaConsumer, topic: str, wait_s: float = 15) -> list[TopicPartition]:
    """The partitions of a topic, once the broker knows it. Raises BrokerAway when it does not."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        # A consumer that has subscribed to nothing keeps no metadata of its own, so it is asked for afresh.
        cluster = await consumer._client.fetch_all_metadata()
        if found := cluster.partitions_for_topic(topic):
            return [TopicPartition(topic, number) for number in sorted(found)]
        await asyncio.sleep(0.1)
    raise BrokerAway(f"topic {topic} does not exist; run `hilo topics create`")
