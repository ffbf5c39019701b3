"""What every stage shares: a figure, runs in alternation, and the plain aiokafka loop that stands for "without a framework"."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from aiokafka import AIOKafkaConsumer

from services.common import topics
from services.common.cloudevents import Record
from services.common.kafka import Publisher, connection
from services.common.settings import CommonSettings

ROUNDS = 3
Handle = Callable[[Sequence[Record]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the broker and the store are. Stages and rounds keep apart by prefixes of their names."""

    kafka: str
    mongo: str
    mongod_pid: int = 0

    def settings(self, prefix: str) -> CommonSettings:
        return CommonSettings(
            env="test", kafka=self.kafka, mongo=self.mongo, kafka_prefix=f"{prefix}.", mongo_prefix=f"{prefix}_"
        )


@dataclass(frozen=True, slots=True)
class Figure:
    """One run. Processor time is of the process that does the work, all its threads, and not of broker, store or client."""

    events_s: float
    cpu_us: float


Run = Callable[[int], Awaitable[Figure]]


async def alternate(stage: str, ours: Run, bare: Run, **more: Run) -> dict[str, Any]:
    """A line of the report: medians of runs that take turns, since other work on the machine moves the rates. `more` are
    other bare versions, by the prefix of their figures."""
    runs = {"": ours, "bare_": bare, **{f"{name}_": run for name, run in more.items()}}
    figures: dict[str, list[Figure]] = {name: [] for name in runs}
    for number in range(ROUNDS):
        for name, run in runs.items():
            figures[name].append(await run(number))
    line: dict[str, Any] = {"stage": stage}
    for name, found in figures.items():
        line[f"{name}events_s"] = round(statistics.median(one.events_s for one in found))
        line[f"{name}cpu_us"] = round(statistics.median(one.cpu_us for one in found))
    for name in list(runs)[1:]:
        prefix = name.removeprefix("bare_")
        line[f"{prefix}ratio"] = round(line["events_s"] / line[f"{name}events_s"], 2)
        line[f"{prefix}cpu_ratio"] = round(line[f"{name}cpu_us"] / line["cpu_us"], 2)
    return line


def cpu_s(pid: int | None = None) -> float:
    """Processor time of a process so far; of this one by default."""
    spent = psutil.Process(pid).cpu_times()
    return float(spent.user + spent.system)


class Stopwatch:
    """Counts from the first event to the last of `total`; `handle` does the work."""

    def __init__(self, handle: Handle, total: int) -> None:
        self._handle, self._total = handle, total
        self._count, self._began, self._cpu = 0, 0.0, 0.0
        self._figure: asyncio.Future[Figure] = asyncio.get_running_loop().create_future()

    async def __call__(self, batch: Sequence[Record]) -> None:
        if not self._count:
            self._began, self._cpu = time.perf_counter(), time.process_time()
        await self._handle(batch)
        self._count += len(batch)
        if self._count >= self._total and not self._figure.done():
            took, used = time.perf_counter() - self._began, time.process_time() - self._cpu
            self._figure.set_result(Figure(self._count / took, used / self._count * 1e6))

    async def of(self, part: Any) -> Figure:
        """The figure of a consumer, ours or the plain one, that was given this as its handler. Raises what it raised."""
        await part.start()
        running = asyncio.create_task(part.run())
        try:
            await asyncio.wait((self._figure, running), return_when=asyncio.FIRST_COMPLETED)
            return self._figure.result() if self._figure.done() else await _failed(running)
        finally:
            await part.stop()
            await asyncio.gather(running, return_exceptions=True)


async def _failed(running: asyncio.Task[None]) -> Figure:
    await running
    raise RuntimeError("the consumer ended before all events were handled")


class PlainLoop:
    """aiokafka as its own documentation writes it: poll, handle, commit. No error policy, no metrics, no finishing of a batch
    before a rebalance."""

    def __init__(self, settings: CommonSettings, group: str, topic: topics.Topic, handle: Handle) -> None:
        self._settings, self._topic, self._handle = settings, topic, handle
        self._consumer = AIOKafkaConsumer(
            settings.topic(topic.name),
            **connection(settings),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )
        self._stopping = False
        self._ended = asyncio.Event()

    async def start(self) -> None:
        await self._consumer.start()

    async def run(self) -> None:
        name = self._topic.name
        while not self._stopping:
            polled = await self._consumer.getmany(timeout_ms=200, max_records=self._settings.kafka_batch)
            batch = [
                Record(name, m.key, m.value, m.headers, m.partition, m.offset, m.timestamp)
                for ms in polled.values()
                for m in ms
            ]
            if batch:
                await self._handle(batch)
                await self._consumer.commit()
        self._ended.set()

    async def stop(self) -> None:
        self._stopping = True
        with contextlib.suppress(TimeoutError):  # a loop that raised has not ended like that
            await asyncio.wait_for(self._ended.wait(), 5)
        await self._consumer.stop()


async def publish(publisher: Publisher, records: Sequence[Record]) -> None:
    """Fill a topic before the clock runs: what is measured is catching up."""
    for at in range(0, len(records), 1000):
        await publisher.publish(records[at : at + 1000])
