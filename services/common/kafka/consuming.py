"""The one consumer loop with its error policy.

At least once, effects idempotent: a batch is handled, then its offsets are committed. A poison record goes to hilo.dead and
the partition goes on; a part that is away stops the loop without committing until it is back; anything else is a bug and
ends the process, which its supervisor starts again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from services.common import metrics, topics
from services.common.cloudevents import Record, type_of
from services.common.errors import Away, BrokerAway
from services.common.kafka.clients import PatientConsumer, connection, stopped
from services.common.logs import log
from services.common.settings import CommonSettings

MEASURED_S = 1
UNHURRIED_S = 0.15  # the pace of whoever acts on few of a topic's events, and is not waited for
Handle = Callable[[Sequence[Record]], Awaitable[None]]


class Consumer:
    """Takes batches from the topics of a group and hands them to `handle`, whose return means that every effect is
    durable. `handle` may raise Away, and then gets the same batch again; any other exception ends the process.

    Of events of other types than `types`, where these are given, nothing but the type is looked at."""

    def __init__(
        self,
        settings: CommonSettings,
        group: str,
        names: Sequence[topics.Topic],
        handle: Handle,
        *,
        types: Collection[str] = (),
        pace_s: float | None = None,
        commit_interval_s: float = 1,
        backoff_s: tuple[float, float] = (0.2, 5),
    ) -> None:
        self._settings, self.group, self._handle = settings, group, handle
        self._topics = {settings.topic(topic.name): topic.name for topic in names}
        self._types = frozenset(name.encode() for name in types)
        self._pace = settings.kafka_pace_s if pace_s is None else pace_s
        self._commit_interval, self._backoff = commit_interval_s, backoff_s
        self._consumer: AIOKafkaConsumer | None = None
        self._busy = asyncio.Lock()
        self._done: dict[TopicPartition, int] = {}  # to be committed
        self._handled: dict[TopicPartition, int] = {}
        self._committed_at = self._measured_at = 0.0
        self._stopping = asyncio.Event()
        self.away: str | None = None

    @property
    def ready(self) -> bool:
        return self._consumer is not None and bool(self._consumer.assignment()) and self.away is None

    async def start(self) -> None:
        timeout = int(self._settings.kafka_session_timeout_s * 1000)
        self._consumer = PatientConsumer(
            pace_s=self._pace,
            **connection(self._settings),
            group_id=self._settings.topic(self.group),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=timeout,
            rebalance_timeout_ms=max(timeout, 15_000),
            heartbeat_interval_ms=timeout // 4,
            max_poll_interval_ms=300_000,
            fetch_max_wait_ms=500,
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )
        self._consumer.subscribe(list(self._topics), listener=_Revoking(self))
        try:
            await self._consumer.start()
        except BaseException as error:
            await stopped(self._consumer)
            if isinstance(error, KafkaError):
                raise BrokerAway(type(error).__name__) from error
            raise

    async def run(self) -> None:
        """Until `stop`. Raises what `handle` raises, but for Away."""
        assert self._consumer
        while not self._stopping.is_set():
            try:
                polled = await self._consumer.getmany(timeout_ms=200, max_records=self._settings.kafka_batch)
            except KafkaError as error:
                log().warning("poll_failed", group=self.group, reason=type(error).__name__)
                await asyncio.sleep(self._backoff[0])
                continue
            if polled:
                await self._one(polled)
            if self._done and time.monotonic() - self._committed_at > self._commit_interval:
                async with self._busy:
                    await self.commit()
            self._measure()

    async def _one(self, polled: dict[TopicPartition, list[Any]]) -> None:
        """Handle a batch until it is done, or until the partitions went to somebody else."""
        batch = [self._record(message) for messages in polled.values() for message in messages if self._wants(message)]
        ends = {partition: messages[-1].offset + 1 for partition, messages in polled.items()}
        for partition, messages in polled.items():
            self._handled.setdefault(partition, messages[0].offset)
        wait = self._backoff[0]
        while not self._stopping.is_set():
            async with self._busy:
                if not self._owns(ends):
                    return
                try:
                    if batch:
                        with metrics.child(metrics.BATCH_SECONDS, self.group).time():
                            await self._handle(batch)
                except Away as error:
                    self._set_away(error.part)
                    log().warning("away", group=self.group, part=error.part, reason=str(error), backoff_s=wait)
                else:
                    self._set_away(None)
                    self._done |= ends
                    self._handled |= ends
                    for partition, messages in polled.items():
                        metrics.child(metrics.CONSUMED, self.group, self._topics[partition.topic]).inc(len(messages))
                    return
            self._measure()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)
            wait = min(wait * 2, self._backoff[1])

    def _owns(self, ends: dict[TopicPartition, int]) -> bool:
        assert self._consumer
        return ends.keys() <= set(self._consumer.assignment())

    def _wants(self, message: Any) -> bool:
        return not self._types or type_of(message.headers) in self._types

    def _record(self, message: Any) -> Record:
        return Record(
            self._topics[message.topic],
            message.key,
            message.value,
            message.headers,
            message.partition,
            message.offset,
            message.timestamp,
        )

    def _set_away(self, part: str | None) -> None:
        if part != self.away:
            for name in filter(None, (part, self.away)):
                metrics.AWAY.labels(name).set(name == part)
            self.away = part

    async def commit(self) -> None:
        """Commit what is handled. A commit that is refused belongs to a new owner, who handles it again: harmless."""
        assert self._consumer
        owned = set(self._consumer.assignment())
        offsets = {partition: offset for partition, offset in self._done.items() if partition in owned}
        self._done.clear()
        self._committed_at = time.monotonic()
        if offsets:
            try:
                async with asyncio.timeout(10):
                    await self._consumer.commit(offsets)
            except (CommitFailedError, IllegalStateError):
                log().info("commit_refused", group=self.group)
            except (KafkaError, TimeoutError) as error:
                self._done |= {p: o for p, o in offsets.items() if p not in self._done}
                log().warning("commit_failed", group=self.group, reason=type(error).__name__)

    def _measure(self) -> None:
        """How far behind, once a second: it costs as much as handling some records."""
        assert self._consumer
        if time.monotonic() - self._measured_at < MEASURED_S:
            return
        self._measured_at = time.monotonic()
        for partition in self._consumer.assignment():
            highwater = self._consumer.highwater(partition)
            last = self._consumer.last_stable_offset(partition)
            if highwater is None:
                continue
            end = max(highwater, last or 0)
            at = self._handled.get(partition)
            behind = end - at if at is not None else 0
            labels = (self.group, self._topics[partition.topic], str(partition.partition))
            metrics.child(metrics.LAG_RECORDS, *labels).set(max(0, behind))
            stamp = self._consumer.last_poll_timestamp(partition)
            late = max(0.0, time.time() - stamp / 1000) if behind > 0 and stamp else 0
            metrics.child(metrics.LAG_SECONDS, *labels).set(late)

    async def stop(self) -> None:
        """Finish the batch in hand, commit it, leave the group."""
        self._stopping.set()
        if self._consumer:
            async with self._busy:
                await self.commit()
            await stopped(self._consumer)


class _Revoking(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    """Before partitions go elsewhere, finish what is in hand and commit it."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        async with self._consumer._busy:
            await self._consumer.commit()
        self._consumer._handled.clear()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        log().info("partitions_assigned", group=self._consumer.group, count=len(list(assigned)))
