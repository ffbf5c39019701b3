"""How many events a second the projector writes, against bare bulk upserts of the same documents.

    python -m tests.benchmarks.timeline_projection [events] [batch]

Records are made beforehand; Kafka is not in it. Runs alternate and the median of three is printed, since other work on the
machine moves the rates; the processor time per event, ours and mongod's, is steadier.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import psutil

from deploy.local.embedded import EmbeddedMongod
from services.common.cloudevents import Record, decode
from services.common.events import MessageDelivered, MessageRead
from services.common.mongo import Mongo, UpdateOne, bulk
from services.common.settings import CommonSettings
from services.timeline.consumer import project
from services.timeline.facets import folded, operators
from tests.histories import appended, event, fact, said
from tests.timeline_parts import Log, projector, started

TEXT = "pedido roto devolución " * 40
Run = Callable[[Mongo, CommonSettings, str, Sequence[Record], int], Coroutine[Any, Any, None]]


def new(count: int, salt: str) -> list[Record]:
    """Messages of 1 KB from many customers."""
    return Log().add(event(said(f"{salt}{n}", f"{n} {TEXT}", n, f"c{n // 9}")) for n in range(count))


def lives(count: int, salt: str) -> list[Record]:
    """A message, its conversation and two receipts, as they follow each other."""
    log, found = Log(), []
    for n in range(count // 4):
        who, message = f"c{n // 9}", f"{salt}{n}"
        found.append(log.record(said(message, f"{n} {TEXT}", n, who)))
        found.append(log.record(appended(f"v{n // 9}", message, customer=who)))
        found += [log.record(fact(model, message, n, customer=who)) for model in (MessageDelivered, MessageRead)]
    return found


def batches(records: Sequence[Record], size: int) -> list[Sequence[Record]]:
    return [records[at : at + size] for at in range(0, len(records), size)]


async def projecting(mongo: Mongo, settings: CommonSettings, name: str, records: Sequence[Record], size: int) -> None:
    handler = projector(await started(mongo, name), settings)
    for batch in batches(records, size):
        await handler.handle(batch)


async def upserting(mongo: Mongo, settings: CommonSettings, name: str, records: Sequence[Record], size: int) -> None:
    """The same entries, with the same indexes, and nothing else: no journal, no marks, no listeners."""
    entries = (await started(mongo, name)).collections.entries
    for batch in batches(records, size):
        changes = [change for record in batch for change in project(decode(record)).changes]
        updates = [UpdateOne({"_id": c.entry, "tn": "acme"}, operators(c), upsert=True) for c in folded(changes).values()]
        await bulk(entries, updates)


async def main(count: int, size: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        mongod = EmbeddedMongod(Path(place))
        await asyncio.to_thread(mongod.start)
        settings = CommonSettings(env="test", mongo=mongod.uri)
        mongo = Mongo(settings)
        try:
            for name, make in (("new messages", new), ("messages with receipts", lives)):
                await compare(mongo, settings, name, make, count, size, mongod.pid or 0)
        finally:
            await mongo.stop()
            mongod.stop()


async def compare(
    mongo: Mongo, settings: CommonSettings, name: str, make: Callable[[int, str], list[Record]], count: int, size: int, pid: int
) -> None:
    ways: tuple[tuple[str, Run], ...] = (("projector", projecting), ("bare upserts", upserting))
    found: dict[str, list[tuple[float, float, float]]] = {label: [] for label, _ in ways}
    for turn in range(3):
        for label, run in ways:
            await mongo.client.drop_database(settings.database("timeline"))
            records = make(count, f"{turn}{label}")
            began, ours, theirs = time.perf_counter(), time.process_time(), cpu(pid)
            await run(mongo, settings, f"g{turn}", records, size)
            each = 1e6 / len(records)
            spent = ((time.process_time() - ours) * each, (cpu(pid) - theirs) * each)
            found[label].append((len(records) / (time.perf_counter() - began), *spent))
    print(f"{name}, batches of {size}")
    for label, runs in found.items():
        rate, own, server = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"  {label:13} {rate:8,.0f} events/s   {own:5.0f} us of this process and {server:5.0f} us of mongod an event")


def cpu(pid: int) -> float:
    spent = psutil.Process(pid).cpu_times()
    return float(spent.user + spent.system)


if __name__ == "__main__":
    asyncio.run(main(*(int(one) for one in (sys.argv[1:] + ["12000", "500"][len(sys.argv) - 1 :])[:2])))
