"""When a run is over: everything was pushed, and no consumer group has anything left to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sized
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from services.common import topics
from services.common.kafka.clients import connection
from services.common.settings import CommonSettings

STILL_S = 30


class Lag:
    """Counts the records that consumer groups have not committed, as the broker knows them."""

    def __init__(self, settings: CommonSettings) -> None:
        self._admin = AIOKafkaAdminClient(**connection(settings))
        self._consumer = AIOKafkaConsumer(**connection(settings), enable_auto_commit=False)
        self._partitions = {settings.topic(topic.name): topic.partitions for topic in topics.TOPICS}

    async def __aenter__(self) -> Self:
        await self._admin.start()
        await self._consumer.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def __call__(self) -> int:
        """Over all groups and all partitions of the topics that they have committed anything of."""
        behind = 0
        for group, *_ in await self._admin.list_consumer_groups():
            committed = await self._admin.list_consumer_group_offsets(group)
            read = {at.topic for at in committed}
            partitions = [TopicPartition(name, n) for name in read for n in range(self._partitions[name])]
            ends = await self._consumer.end_offsets(partitions) if partitions else {}
            behind += sum(max(0, end - _offset(committed.get(at))) for at, end in ends.items())
        return behind


def _offset(committed: Any) -> int:
    return max(0, committed.offset) if committed else 0


async def quiet(lag: Callable[[], Awaitable[int]], seen: Sized, missing: Callable[[], int], within_s: float) -> int:
    """Wait until nothing is missing and no group is behind, or nothing has moved for a while. Returns how far groups are
    behind."""
    moved = time.perf_counter()
    before = (-1, -1)
    deadline = moved + within_s
    while True:
        behind = await lag()
        now = (len(seen), behind)
        if now != before:
            moved, before = time.perf_counter(), now
        if (behind == 0 and missing() == 0) or time.perf_counter() > min(deadline, moved + STILL_S):
            return behind
        await asyncio.sleep(0.5)
