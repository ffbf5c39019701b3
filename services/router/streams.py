"""Faust delivers: records of our topics to their handlers, in batches, at least once. The only file that knows Faust.

Faust acknowledges what raised, and commits past a record that is still being worked on (reliability page, A3). So there is
one guard around every stream processor: what is away is waited for while the partition waits, a poison record goes to
hilo.dead, and a bug ends the process before the offset can move. Acknowledged is only what a handler returned from.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import faust
from aiokafka.errors import KafkaError
from faust.events import Event
from faust.sensors.monitor import Monitor
from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.drivers import aiokafka as driver

from services.common import metrics
from services.common.cloudevents import Record
from services.common.errors import Away, BrokerAway, Poison
from services.common.kafka import DeadLetters, be_patient, connection
from services.common.logs import log
from services.common.run import EXIT_BUG
from services.common.settings import CommonSettings
from services.common.topics import Topic

Handle = Callable[[Sequence[Record]], Awaitable[None]]


def end_process(error: BaseException) -> None:
    """At once: an orderly stop would let Faust commit what was not handled."""
    log().critical("stream_processor_failed", exc_type=type(error).__name__, exc_info=error)
    sys.stderr.flush()
    os._exit(EXIT_BUG)


# -- what Faust needs put right ---------------------------------------------------------------------------------------------

_unguarded = FaustConsumer._new_offset


def _new_offset(self: Any, partition: Any) -> int | None:
    """Never past a record that is not acknowledged. Without this, Faust takes the first acknowledged record for the head of
    the partition when the head itself is still being worked on (https://github.com/faust-streaming/faust/pull/707)."""
    tracked = [m.offset for m in list(self._unacked_messages) if m.tp == partition and not m.acked]
    if not tracked:
        return _unguarded(self, partition)
    head = min(tracked)
    held = [offset for offset in self._acked[partition] if offset >= head]
    self._acked[partition] = [offset for offset in self._acked[partition] if offset < head]
    try:
        return _unguarded(self, partition)
    finally:
        self._acked[partition].extend(held)


def install_guard() -> None:
    FaustConsumer._new_offset = _new_offset  # type: ignore[method-assign,assignment]


class _Quiet(Monitor):
    """A monitor whose hooks per event do nothing: they cost more than our work; the figures are in our own metrics."""

    def on_message_in(self, *args: Any, **kwargs: Any) -> None: ...
    def on_stream_event_in(self, *args: Any, **kwargs: Any) -> None: ...
    def on_stream_event_out(self, *args: Any, **kwargs: Any) -> None: ...
    def on_message_out(self, *args: Any, **kwargs: Any) -> None: ...
    def track_tp_end_offset(self, *args: Any, **kwargs: Any) -> None: ...
    def on_topic_buffer_full(self, *args: Any, **kwargs: Any) -> None: ...


class _PatientThread(driver.AIOKafkaConsumerThread):
    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> Any:
        consumer = super()._create_consumer(loop)
        app: Any = self.app
        be_patient(consumer, app.pace_s)
        return consumer


class _PatientConsumer(driver.Consumer):
    """Faust's own, with a thread that leaves an idle broker in peace."""

    def _new_consumer_thread(self) -> Any:
        return _PatientThread(self, loop=self.loop, beacon=self.beacon)


class _FastThread(_PatientThread):
    """Its loop is asked directly for records. Faust's queue of methods makes and cancels three tasks for each of its workers."""

    async def getmany(self, active_partitions: Any, timeout: float) -> Any:
        consumer = self._ensure_consumer()
        most = consumer._max_poll_records
        fetching = self._fetch_records(consumer, active_partitions, timeout=timeout, max_records=most)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(fetching, self.thread_loop))


class _FastConsumer(driver.Consumer):
    """Hands a record on directly where that cannot block. Faust's own loop makes and cancels four tasks for each, and looks up
    a dozen settings."""

    def _new_consumer_thread(self) -> Any:
        return _FastThread(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        stopped, fetcher_stopped = self._stopped.is_set, fetcher._stopped.is_set
        try:
            while not (stopped() or fetcher_stopped()):
                records, active = await self._wait_next_records(timeout=1.0)
                await asyncio.sleep(0)
                if records and not self.should_stop:
                    await self._hand_on(records, active)
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.transport.app.should_stop:
                raise
        except Exception as error:
            log().error("fetching_failed", exc_type=type(error).__name__, exc_info=error)
            raise
        finally:
            fetcher.set_shutdown()

    async def _hand_on(self, records: Any, active: Any) -> None:
        """What was fetched before partitions change hands is dropped: it comes again."""
        app: Any = self.app
        if not self.flow_active:
            await self._seek_back()
            return
        generation, read, processors = app.consumer_generation_id, self._read_offset, app.topics._tp_index
        flows, suspended, suspending = app.flow_control.is_active, self.suspend_flow.is_set, self.suspend_flow.wait
        wanted = [partition for partition in records if partition in active or partition in self._buffered_partitions]
        for turn, (partition, record) in enumerate(((one, record) for one in wanted for record in records[one]), 1):
            if turn % 200 == 0:
                await asyncio.sleep(0)
            if not self.flow_active or app.consumer_generation_id != generation:
                return
            before = read[partition]
            if before is not None and record.offset < before:
                continue
            if before and record.offset - before > 1 and app.topics.acks_enabled_for(record.topic):
                await self._add_gap(partition, before + 1, record.offset)
            if self._commit_every is not None and self._n_acked >= self._commit_every:
                self._n_acked = 0
                await self.commit()
            (processor,) = processors[partition]
            queue, message = processor.queue, self._to_message(partition, record)
            if queue.qsize() < queue.pressure_high_size and flows() and not suspended():
                message.incref()
                queue.force_put_nowait(Event(app, message.key, message.value, None, message))
            else:  # Faust's own way stops fetching from what fills up, and waits where it must
                await self.wait_first(self.callback(message), suspending())
            read[partition] = record.offset

    async def _seek_back(self) -> None:
        """As Faust does: if the group is not ready for that, it seeks once the partitions are assigned."""
        try:
            await self.perform_seek()
        except Exception as error:
            log().warning("seek_failed", exc_type=type(error).__name__)


class _FastTransport(driver.Transport):
    Consumer = _FastConsumer


class _StockTransport(driver.Transport):
    Consumer = _PatientConsumer


class _FastApp(faust.App):
    pace_s: float

    def _new_transport(self) -> Any:
        return _FastTransport(self.conf.broker_consumer, self)


class _StockApp(faust.App):
    pace_s: float

    def _new_transport(self) -> Any:
        return _StockTransport(self.conf.broker_consumer, self)


async def batches(stream: Any, most: int) -> AsyncIterator[list[Any]]:
    """What waits for a processor, at most so much of it: the first by Faust's own iterator, the rest straight from its queue.
    A batch is acknowledged when the next is asked for, and never when the body raised."""
    app, queue = stream.app, stream.channel.queue
    stream.enable_acks = False
    async for first in stream.events():
        batch, generation, unacked = [first], app.consumer_generation_id, app.consumer._unacked_messages
        while len(batch) < most and not queue.empty():
            event = queue.get_nowait()
            message = event.message
            if message.generation_id != generation or not app.flow_control.is_active():
                continue  # fetched before a rebalance: it comes again
            if not message.tracked:
                message.tracked = True
                unacked.add(message)
            batch.append(event)
        yield batch
        for event in batch:
            app.consumer.ack(event.message)


# -- our streams ----------------------------------------------------------------------------------------------------------


class Streams:
    """A part of the process: a stream processor per topic. `handlers` raise Away to get the same batch again."""

    def __init__(
        self,
        settings: CommonSettings,
        group: str,
        handlers: Mapping[Topic, Handle],
        dead: DeadLetters,
        *,
        fast: bool = True,
        buffer: int = 65_536,
        backoff_s: tuple[float, float] = (0.2, 5),
        on_bug: Callable[[BaseException], None] = end_process,
    ) -> None:
        self._settings, self.group, self._handlers, self._dead = settings, group, dict(handlers), dead
        self._fast, self._buffer, self._backoff, self._on_bug = fast, buffer, backoff_s, on_bug
        self._app: Any = None
        self._handled: dict[tuple[Topic, int], tuple[int, float]] = {}  # the next offset, and the time of the last record
        self._stopping = asyncio.Event()
        self.away: str | None = None

    @property
    def ready(self) -> bool:
        assigned = self._app is not None and self._app.consumer is not None and self._app.consumer.assignment()
        return bool(assigned) and self.away is None

    async def start(self) -> None:
        install_guard()
        self._app = self._build()
        for topic, handle in self._handlers.items():
            self._app.agent(self._topic(topic), name=f"{self.group}.{topic.name}", concurrency=1)(
                self._processor(topic, handle)
            )
        try:
            await self._app.start()
        except (Away, OSError, KafkaError) as error:
            await self._end()
            raise BrokerAway(type(error).__name__) from error

    def _build(self) -> Any:
        settings = self._settings
        first, *_ = settings.kafka.split(",")
        make = _FastApp if self._fast else _StockApp
        app: Any = make(
            settings.topic(self.group),
            broker=[f"kafka://{server}" for server in settings.kafka.split(",")] if first else None,
            broker_credentials=_credentials(settings),
            datadir=Path(tempfile.gettempdir()) / f"hilo-faust-{os.getpid()}",  # made by Faust, never used: no tables
            monitor=_Quiet(),
            processing_guarantee="at_least_once",
            consumer_auto_offset_reset="earliest",
            consumer_metadata_max_age_ms=connection(settings)["metadata_max_age_ms"],
            broker_session_timeout=settings.kafka_session_timeout_s,
            broker_heartbeat_interval=settings.kafka_session_timeout_s / 4,
            broker_rebalance_timeout=max(settings.kafka_session_timeout_s, 15),
            broker_request_timeout=max(settings.kafka_session_timeout_s + 5, 30),
            broker_max_poll_interval=300,
            broker_commit_interval=0.5,
            broker_commit_every=10_000,
            producer_request_timeout=15,
            producer_linger=0.005,
            producer_max_batch_size=512 * 1024,
            stream_buffer_maxsize=self._buffer,
            stream_wait_empty=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
        )
        app.pace_s = settings.kafka_pace_s
        return app

    def _topic(self, topic: Topic) -> Any:
        name = self._settings.topic(topic.name)
        return self._app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    async def run(self) -> None:
        """Until `stop`. Raises what broke Faust itself."""
        app = self._app
        crashed = asyncio.ensure_future(app._crashed.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        while not (await asyncio.wait((crashed, stopping), timeout=2, return_when=asyncio.FIRST_COMPLETED))[0]:
            self._measure()
        for one in (crashed, stopping):
            one.cancel()
        if not self._stopping.is_set():
            raise app.crash_reason or RuntimeError("Faust stopped by itself")

    def _measure(self) -> None:
        """How far behind: the end of each partition, as the last fetch told it, against what is handled."""
        consumer = self._app.consumer
        for partition in consumer.assignment():
            topic = next((one for one in self._handlers if self._settings.topic(one.name) == partition.topic), None)
            if topic is None or (topic, partition.partition) not in self._handled:
                continue
            at, stamp = self._handled[topic, partition.partition]
            behind = max(0, (consumer.highwater(partition) or 0) - at)
            labels = (self.group, topic.name, str(partition.partition))
            metrics.LAG_RECORDS.labels(*labels).set(behind)
            metrics.LAG_SECONDS.labels(*labels).set(max(0.0, time.time() - stamp) if behind else 0)

    async def stop(self) -> None:
        self._stopping.set()
        await self._end()

    async def _end(self) -> None:
        app, self._app = self._app, None
        if app is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(app.stop(), self._settings.drain_s / 2)

    # -- the guard

    def _processor(self, topic: Topic, handle: Handle) -> Callable[[Any], Awaitable[None]]:
        async def process(stream: Any) -> None:
            async for batch in batches(stream, self._settings.kafka_batch):
                try:
                    await self._until_done([_record(topic, event.message) for event in batch], handle)
                except asyncio.CancelledError:
                    raise  # a rebalance or a stop: nothing of the batch is acknowledged, it comes again
                except BaseException as error:
                    self._on_bug(error)
                    raise
                metrics.child(metrics.CONSUMED, self.group, topic.name).inc(len(batch))
                for partition, last in {event.message.partition: event.message for event in batch}.items():
                    self._handled[topic, partition] = (last.offset + 1, last.timestamp or time.time())

        return process

    async def _until_done(self, records: Sequence[Record], handle: Handle) -> None:
        """Handle the records; again while something is away. One that can never be handled is set aside alone."""
        wait = self._backoff[0]
        while True:
            try:
                with metrics.child(metrics.BATCH_SECONDS, self.group).time():
                    await self._once(records, handle)
                self._set_away(None)
                return
            except Away as error:
                self._set_away(error.part)
                log().warning("away", group=self.group, part=error.part, reason=str(error), backoff_s=wait)
            await asyncio.sleep(wait)
            wait = min(wait * 2, self._backoff[1])

    async def _once(self, records: Sequence[Record], handle: Handle) -> None:
        try:
            await handle(records)
        except Poison as error:
            if len(records) == 1:
                await self._dead.put(records[0], str(error))
                return
            for record in records:
                await self._once([record], handle)

    def _set_away(self, part: str | None) -> None:
        if part != self.away:
            for name in filter(None, (part, self.away)):
                metrics.AWAY.labels(name).set(name == part)
            self.away = part


def _record(topic: Topic, message: Any) -> Record:
    stamp = None if message.timestamp is None else int(message.timestamp * 1000)
    return Record(topic.name, message.key, message.value, message.headers or (), message.partition, message.offset, stamp)


def _credentials(settings: CommonSettings) -> Any:
    """The same connection as every other client's, in Faust's words."""
    made = connection(settings)
    if "sasl_mechanism" in made:
        return faust.SASLCredentials(
            username=made["sasl_plain_username"],
            password=made["sasl_plain_password"],
            mechanism=made["sasl_mechanism"],
            ssl_context=made.get("ssl_context"),
        )
    return faust.SSLCredentials(made["ssl_context"]) if "ssl_context" in made else None
