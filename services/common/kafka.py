"""Kafka: a publisher whose return means acknowledged, and the one consumer loop with its error policy.

At least once, effects idempotent: a batch is handled, then its offsets are committed. A poison record goes to hilo.dead and
the partition goes on; a part that is away stops the loop without committing until it is back; anything else is a bug and
ends the process, which its supervisor starts again. Facts about aiokafka behind the choices: reliability page, A2.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.helpers import create_ssl_context

from services.common import metrics, topics
from services.common.cloudevents import Event, Record, UnknownType, Unreadable, decode, encode
from services.common.errors import Away, BrokerAway, Poison
from services.common.events import Data, DeadLettered
from services.common.identifiers import dead_id
from services.common.logs import log
from services.common.settings import CommonSettings


def connection(settings: CommonSettings) -> dict[str, Any]:
    """What every client of the broker is made with."""
    common: dict[str, Any] = {
        "bootstrap_servers": settings.kafka.split(","),
        "security_protocol": settings.kafka_security,
        "request_timeout_ms": 15_000,
        "metadata_max_age_ms": 30_000,
    }
    if settings.kafka_security.endswith("SSL"):
        common["ssl_context"] = create_ssl_context(cafile=settings.kafka_cafile)
    if settings.kafka_username and settings.kafka_password:
        common |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": settings.kafka_password.get_secret_value(),
        }
    return common


# -- publishing -------------------------------------------------------------------------------------------------------


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
            await _bounded(producer.stop())

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
            await _bounded(producer.stop())
            raise BrokerAway(type(error).__name__) from error
        return producer

    async def _replace(self) -> None:
        self._lost()
        producer, self._producer = self._producer, None
        if producer:
            await _bounded(producer.stop())

    def _lost(self) -> None:
        self.away = True
        metrics.AWAY.labels("broker").set(1)

    def _found(self) -> None:
        if self.away:
            self.away = False
            metrics.AWAY.labels("broker").set(0)


async def _bounded(stopping: Awaitable[None], seconds: float = 5) -> None:
    """A stop that waits for a broker that is gone must not hold up ours."""
    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(seconds):
            await stopping


# -- dead letters -----------------------------------------------------------------------------------------------------


class DeadLetters:
    """Sets records aside, with their original bytes and where they came from. Returns once that is on the log."""

    def __init__(self, publisher: Publisher, stage: str) -> None:
        self._publisher, self._stage = publisher, stage

    async def put(self, record: Record, reason: str, *, path: str = "", kind: str = "", bug: bool = False) -> str:
        """The id of the dead letter, which is a function of where the record stood."""
        event = self.event(record, reason, path=path, kind=kind, bug=bug)
        await self._publisher.emit(topics.DEAD, [event])
        metrics.DEAD.labels(self._stage).inc()
        log().warning("dead_letter", stage=self._stage, topic=record.topic, reason=reason, dead_id=event.data.dead_id)
        return event.data.dead_id

    def event(
        self, record: Record, reason: str, *, path: str = "", kind: str = "", bug: bool = False, body: bytes | None = None
    ) -> Event[DeadLettered]:
        now = datetime.now(UTC)
        try:
            attributes = record.attributes
        except Unreadable:
            attributes = {}
        identifier = dead_id(record.topic, record.partition or 0, record.offset, path)
        data = DeadLettered(
            dead_id=identifier,
            topic=record.topic,
            partition=record.partition or 0,
            offset=record.offset,
            path=path,
            kind=kind,
            reason=reason[:500],
            stage=self._stage,
            bug=bug,
            at=now,
            key=record.key.decode(errors="replace") if record.key else None,
            headers={name: value.decode(errors="replace") for name, value in record.headers},
            body=base64.b64encode((record.value or b"") if body is None else body).decode(),
        )
        return Event(
            id=identifier,
            tenant=attributes.get("tenant", ""),
            channel=attributes.get("channel", ""),
            account=attributes.get("account", ""),
            key=data.key or identifier,
            time=now,
            data=data,
        )


async def read(records: Sequence[Record], dead: DeadLetters, group: str) -> list[tuple[Record, Event[Data]]]:
    """The events among the records: what is no event goes to hilo.dead, what is newer than we are is counted."""
    found: list[tuple[Record, Event[Data]]] = []
    for record in records:
        if record.value is None:
            continue
        try:
            found.append((record, decode(record)))
        except UnknownType as error:
            metrics.UNKNOWN_TYPES.labels(group, error.name[:80]).inc()
        except Unreadable as error:
            await dead.put(record, str(error))
    return found


# -- consuming --------------------------------------------------------------------------------------------------------

IDLE_S = 0.01
FETCH = 1  # Kafka's number for fetch requests and their answers


def be_patient(consumer: AIOKafkaConsumer) -> None:
    """For a broker that answers at once that there is nothing new, whatever time it was given to wait (the embedded one
    does): asking again at once keeps a core busy with every idle topic. A broker that waits is never waited for here."""
    send = consumer._client.send

    async def patient(node: int, request: Any, **how: Any) -> Any:
        began = time.monotonic()
        response = await send(node, request, **how)
        rest = IDLE_S - (time.monotonic() - began)
        if rest > 0 and getattr(response, "API_KEY", None) == FETCH and _nothing_in(response):
            await asyncio.sleep(rest)
        return response

    consumer._client.send = patient


class PatientConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka is not typed
    """aiokafka's consumer that does not keep a core busy with a broker that never waits."""

    async def start(self) -> None:
        be_patient(self)
        await super().start()


def _nothing_in(response: Any) -> bool:
    """Whether a fetch brought neither records nor an error."""
    return not any(part[-1] or part[1] for _, partitions in response.topics for part in partitions)


Handle = Callable[[Sequence[Record]], Awaitable[None]]


class Consumer:
    """Takes batches from the topics of a group and hands them to `handle`, whose return means that every effect is
    durable. `handle` may raise Away, and then gets the same batch again; any other exception ends the process."""

    def __init__(
        self,
        settings: CommonSettings,
        group: str,
        names: Sequence[topics.Topic],
        handle: Handle,
        *,
        commit_interval_s: float = 0.25,
        backoff_s: tuple[float, float] = (0.2, 5),
    ) -> None:
        self._settings, self.group, self._handle = settings, group, handle
        self._topics = {settings.topic(topic.name): topic.name for topic in names}
        self._commit_interval, self._backoff = commit_interval_s, backoff_s
        self._consumer: AIOKafkaConsumer | None = None
        self._busy = asyncio.Lock()
        self._done: dict[TopicPartition, int] = {}
        self._committed_at = 0.0
        self._stopping = asyncio.Event()
        self.away: str | None = None

    @property
    def ready(self) -> bool:
        return self._consumer is not None and bool(self._consumer.assignment()) and self.away is None

    async def start(self) -> None:
        timeout = int(self._settings.kafka_session_timeout_s * 1000)
        self._consumer = PatientConsumer(
            **connection(self._settings),
            group_id=self._settings.topic(self.group),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=timeout,
            rebalance_timeout_ms=max(timeout, 15_000),
            heartbeat_interval_ms=timeout // 4,
            max_poll_interval_ms=300_000,
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )
        self._consumer.subscribe(list(self._topics), listener=_Revoking(self))
        try:
            await self._consumer.start()
        except KafkaError as error:
            await _bounded(self._consumer.stop())
            raise BrokerAway(type(error).__name__) from error

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
        batch = [self._record(message) for messages in polled.values() for message in messages]
        ends = {partition: messages[-1].offset + 1 for partition, messages in polled.items()}
        wait = self._backoff[0]
        while not self._stopping.is_set():
            async with self._busy:
                if not self._owns(ends):
                    return
                try:
                    with metrics.BATCH_SECONDS.labels(self.group).time():
                        await self._handle(batch)
                except Away as error:
                    self._set_away(error.part)
                    log().warning("away", group=self.group, part=error.part, reason=str(error), backoff_s=wait)
                else:
                    self._set_away(None)
                    self._done |= ends
                    for topic in {record.topic for record in batch}:
                        metrics.CONSUMED.labels(self.group, topic).inc(sum(r.topic == topic for r in batch))
                    return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)
            wait = min(wait * 2, self._backoff[1])

    def _owns(self, ends: dict[TopicPartition, int]) -> bool:
        assert self._consumer
        return ends.keys() <= set(self._consumer.assignment())

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
        assert self._consumer
        for partition in self._consumer.assignment():
            highwater = self._consumer.highwater(partition)
            last = self._consumer.last_stable_offset(partition)
            if highwater is None:
                continue
            end = max(highwater, last or 0)
            at = self._done.get(partition)
            behind = end - at if at is not None else 0
            labels = (self.group, self._topics[partition.topic], str(partition.partition))
            metrics.LAG_RECORDS.labels(*labels).set(max(0, behind))
            stamp = self._consumer.last_poll_timestamp(partition)
            metrics.LAG_SECONDS.labels(*labels).set(max(0.0, time.time() - stamp / 1000) if behind > 0 and stamp else 0)

    async def stop(self) -> None:
        """Finish the batch in hand, commit it, leave the group."""
        self._stopping.set()
        if self._consumer:
            async with self._busy:
                await self.commit()
            await _bounded(self._consumer.stop())


class _Revoking(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    """Before partitions go elsewhere, finish what is in hand and commit it."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        async with self._consumer._busy:
            await self._consumer.commit()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        log().info("partitions_assigned", group=self._consumer.group, count=len(list(assigned)))


# -- reading whole topics ---------------------------------------------------------------------------------------------


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
            **connection(self._settings), auto_offset_reset="earliest", fetch_max_wait_ms=100
        )
        try:
            await consumer.start()
            ends = await self._placed(consumer)
        except (KafkaError, BrokerAway) as error:
            await _bounded(consumer.stop())
            raise BrokerAway(str(error) or type(error).__name__) from error
        self._task = asyncio.create_task(self._follow(consumer, ends))
        waiting = asyncio.create_task(self._caught_up.wait())
        await asyncio.wait((waiting, self._task), timeout=30, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task.done():
            self._task.result()
        if not self._caught_up.is_set():
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
            await _bounded(consumer.stop())


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
        await _bounded(consumer.stop())


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
        await _bounded(consumer.stop())


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


async def create_topics(settings: CommonSettings, wanted: Sequence[topics.Topic] = topics.TOPICS) -> list[str]:
    """Create what is missing; what exists is kept. Returns the names created. Raises BrokerAway."""
    admin = AIOKafkaAdminClient(**connection(settings))
    try:
        await admin.start()
        new = [
            NewTopic(settings.topic(t.name), t.partitions, settings.kafka_replication, topic_configs=t.config) for t in wanted
        ]
        existing = set(await admin.list_topics())
        missing = [topic for topic in new if topic.name not in existing]
        answer = await admin.create_topics(missing) if missing else None
        for name, code, *why in answer.topic_errors if answer else ():
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise BrokerAway(f"{name} cannot be created: {error.__name__} {' '.join(map(str, why))}")
        return [topic.name for topic in missing]
    except KafkaError as error:
        raise BrokerAway(type(error).__name__) from error
    finally:
        await _bounded(admin.close())
