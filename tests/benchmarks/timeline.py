"""The timeline's projector beside bare bulk upserts of the same documents: a message, its conversation, two receipts.

Kafka is in neither. Bare upserts the same entries, with the same indexes and the same folding of a batch's changes, and nothing
else: no journal of what was applied, no marks of lanes, no conversations, no customers, no listeners of the live feed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from services.common.cloudevents import Record, decode
from services.common.events import MessageDelivered, MessageRead
from services.common.mongo import Mongo, UpdateOne, bulk
from services.timeline.consumer import project
from services.timeline.facets import folded
from tests.benchmarks.measuring import Figure, Parts, alternate
from tests.histories import appended, fact, said
from tests.timeline_parts import Log, projector, started

TEXT = "pedido roto devolución " * 40


def lives(count: int, salt: str) -> list[Record]:
    """As they follow each other in the topics."""
    log, found = Log(), []
    for n in range(count // 4):
        who, message = f"c{n // 9}", f"{salt}{n}"
        found.append(log.record(said(message, f"{n} {TEXT}", n, who)))
        found.append(log.record(appended(f"v{n // 9}", message, customer=who)))
        found += [log.record(fact(model, message, n, customer=who)) for model in (MessageDelivered, MessageRead)]
    return found


def batches(records: Sequence[Record], size: int) -> list[Sequence[Record]]:
    return [records[at : at + size] for at in range(0, len(records), size)]


async def stage(parts: Parts, count: int, size: int) -> dict[str, Any]:
    settings = parts.settings("timeline")
    mongo = Mongo(settings, retried=False)  # as the service
    await mongo.start()

    async def ours(number: int) -> Figure:
        store = await started(mongo, f"ours{number}")
        handle = projector(store, settings).handle
        return await timed(handle, lives(count, f"o{number}"))

    async def bare(number: int) -> Figure:
        entries = (await started(mongo, f"bare{number}")).collections.entries

        async def handle(batch: Sequence[Record]) -> None:
            changes = [change for record in batch for change in project(decode(record)).changes]
            await bulk(
                entries,
                [UpdateOne({"_id": c.entry, "tn": "acme"}, c.update(), upsert=True) for c in folded(changes).values()],
            )

        return await timed(handle, lives(count, f"b{number}"))

    async def timed(handle: Any, records: Sequence[Record]) -> Figure:
        began, cpu = time.perf_counter(), time.process_time()
        for batch in batches(records, size):
            await handle(batch)
        each = 1 / len(records)
        figure = Figure(len(records) / (time.perf_counter() - began), (time.process_time() - cpu) * each * 1e6)
        await mongo.client.drop_database(settings.database("timeline"))  # every run begins with an empty store
        return figure

    try:
        return await alternate("timeline", ours, bare)
    finally:
        await mongo.stop()
