"""When a consumer asks the broker again: at once where it is behind, a moment later where little came, never late for what
comes after a pause."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from services.common.kafka.clients import BUSY, FETCH, FEW, LITTLE, be_patient

LONG = 3600.0


@dataclass
class Request:
    API_KEY: int = FETCH


@dataclass
class Answer:
    """As aiokafka shows an answer to a fetch: per topic, partitions that end in their records; the second field is an error."""

    records: bytes
    error: int = 0

    @property
    def topics(self) -> list[Any]:
        return [("topic", [(0, self.error, 0, self.records)])]


@dataclass
class Client:
    answer: Any
    asked: list[int] = field(default_factory=list)

    async def send(self, node: int, request: Request) -> Any:
        self.asked.append(node)
        return self.answer


class Consumer:
    def __init__(self, answer: Any) -> None:
        self._client = self.client = Client(answer)
        be_patient(self, LONG)

    async def asks_at_once(self, node: int = 0, request: Any = None) -> bool:
        """Whether the next request leaves without waiting."""
        before = len(self.client.asked)
        asking = asyncio.ensure_future(self._client.send(node, request or Request()))
        for _ in range(5):
            await asyncio.sleep(0)
        left = len(self.client.asked) > before
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        return left


async def test_after_little_the_next_fetch_lets_records_gather() -> None:
    consumer = Consumer(Answer(b"a record"))

    assert await consumer.asks_at_once()
    assert not await consumer.asks_at_once()
    assert await consumer.asks_at_once(node=1), "another broker's records do not wait"
    assert await consumer.asks_at_once(request=Request(API_KEY=9)), "nor does what is no fetch"


@pytest.mark.parametrize("answer", [Answer(b"x" * LITTLE), Answer(b"", error=6), Answer(b"x", error=6)])
async def test_who_is_behind_or_was_refused_asks_at_once(answer: Answer) -> None:
    consumer = Consumer(answer)

    assert await consumer.asks_at_once()
    assert await consumer.asks_at_once()


async def test_after_nothing_the_next_fetch_waits_at_the_broker_and_not_here() -> None:
    consumer = Consumer(Answer(b""))
    await consumer._client.send(0, Request())

    assert await consumer.asks_at_once()


@pytest.mark.parametrize(("brought", "paces"), [(1, 1), (FEW, 1), (FEW + 1, BUSY), (LITTLE - 1, BUSY)])
async def test_where_many_come_they_gather_for_longer(brought: int, paces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    consumer = Consumer(Answer(b"x" * brought))
    await consumer._client.send(0, Request())
    monkeypatch.setattr(asyncio, "sleep", sleep)
    await consumer._client.send(0, Request())

    assert slept == [pytest.approx(paces * LONG, abs=60)]
