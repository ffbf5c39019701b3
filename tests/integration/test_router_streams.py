"""Faust behind our guard, on a real broker: what is away is waited for, what is poison is set aside, what raised comes again.
And what Faust does without the guard, so that we notice when we may drop it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from services.common import topics as t
from services.common.cloudevents import Record
from services.common.errors import Poison, StoreAway
from services.common.kafka import DeadLetters, Publisher, read_all
from services.common.settings import CommonSettings
from services.router import streams
from services.router.streams import Streams
from tests.waiting import until

COUNT = 40


def records(count: int = COUNT, key: bytes = b"k") -> list[Record]:
    return [Record(t.CUSTOMER_EVENTS.name, key, str(number).encode()) for number in range(count)]


class Seen:
    def __init__(self) -> None:
        self.values: list[int] = []
        self.records: list[Record] = []

    async def __call__(self, batch: Sequence[Record]) -> None:
        self.records.extend(batch)
        self.values.extend(int(record.value or b"0") for record in batch)


def made(settings: CommonSettings, publisher: Publisher, handle: Any, **more: Any) -> Streams:
    more = {"backoff_s": (0.05, 0.1), **more}
    return Streams(settings, "router", {t.CUSTOMER_EVENTS: handle}, DeadLetters(publisher, "router"), **more)


@pytest.mark.parametrize("fast", [True, False])
async def test_every_record_comes_as_it_was_and_in_order_and_a_second_process_goes_on_where_the_first_stopped(
    settings: CommonSettings, publisher: Publisher, fast: bool
) -> None:
    sent = records()
    placed = await publisher.publish(sent)
    first, second = Seen(), Seen()
    one = made(settings, publisher, first, fast=fast)
    await one.start()
    await until(lambda: len(first.values) == COUNT)
    await one.stop()

    assert first.values == list(range(COUNT))
    assert [(r.key, r.value, r.offset) for r in first.records] == [
        (r.key, r.value, p.offset) for r, p in zip(sent, placed, strict=True)
    ]

    await publisher.publish([Record(t.CUSTOMER_EVENTS.name, b"k", b"777")])
    two = made(settings, publisher, second, fast=fast)
    await two.start()
    await until(lambda: 777 in second.values)
    await two.stop()

    assert second.values == [777]


@pytest.mark.parametrize("fast", [True, False])
async def test_what_has_no_room_in_memory_waits_and_comes_in_order(
    settings: CommonSettings, publisher: Publisher, fast: bool
) -> None:
    seen, go_on = Seen(), asyncio.Event()

    async def handle(batch: Sequence[Record]) -> None:
        await go_on.wait()
        await seen(batch)

    sent = records(400)
    placed = await publisher.publish(sent)
    one = made(settings, publisher, handle, fast=fast, buffer=16)
    await one.start()
    await until(lambda: one._app.consumer._buffered_partitions, what="fetching was stopped")
    go_on.set()
    await until(lambda: len(seen.values) == len(sent))
    await one.stop()

    assert [(r.value, r.offset) for r in seen.records] == [(r.value, p.offset) for r, p in zip(sent, placed, strict=True)]


async def test_a_store_that_is_away_holds_the_partition_and_readiness_says_so(
    settings: CommonSettings, publisher: Publisher
) -> None:
    seen, away = Seen(), [StoreAway("x")] * 3

    async def handle(batch: Sequence[Record]) -> None:
        if away:
            raise away.pop()
        await seen(batch)

    one = made(settings, publisher, handle, backoff_s=(0.2, 0.2))
    await one.start()
    await publisher.publish(records())
    await until(lambda: one.away == "store")

    assert not one.ready

    await until(lambda: len(seen.values) == COUNT)
    assert seen.values == list(range(COUNT))
    assert one.ready
    await one.stop()


async def test_a_poison_record_is_set_aside_and_its_neighbours_go_on(settings: CommonSettings, publisher: Publisher) -> None:
    seen = Seen()

    async def handle(batch: Sequence[Record]) -> None:
        if any(record.value == b"7" for record in batch):
            raise Poison("seven")
        await seen(batch)

    await publisher.publish(records())
    one = made(settings, publisher, handle)
    await one.start()
    await until(lambda: len(seen.values) == COUNT - 1)
    await one.stop()
    letters = [letter async for letter in read_all(settings, t.DEAD)]

    assert sorted(seen.values) == [n for n in range(COUNT) if n != 7]
    assert len(letters) == 1


async def test_with_the_guard_what_raised_comes_again_and_nothing_is_lost(
    settings: CommonSettings, publisher: Publisher
) -> None:
    first, second, bugs = Seen(), Seen(), list[BaseException]()

    async def raises(batch: Sequence[Record]) -> None:
        good = [record for record in batch if int(record.value or b"") < 20]
        if len(good) < len(batch):
            raise KeyError("bug")
        await first(good)

    await publisher.publish(records(20))
    one = made(settings, publisher, raises, on_bug=bugs.append)
    await one.start()
    await until(lambda: len(first.values) == 20)
    await publisher.publish(records(COUNT)[20:])
    await until(lambda: bugs)
    await one.stop()  # here the process would have ended at once; even an orderly stop commits nothing past the bug
    two = made(settings, publisher, second)
    await two.start()
    await until(lambda: len(set(first.values + second.values)) == COUNT)
    await two.stop()

    assert set(second.values) >= set(range(20, COUNT))


async def test_without_the_guard_faust_acknowledges_what_raised(settings: CommonSettings, publisher: Publisher) -> None:
    """When this fails, Faust has changed: look whether the guard is still needed."""
    lost, second = list[int](), Seen()
    one = made(settings, publisher, Seen())
    one._app = app = one._build()

    async def bare(stream: Any) -> None:
        async for event in stream.events():
            if event.message.value == b"7" and not lost:
                lost.append(7)
                raise KeyError("bug")

    topic = one._topic(t.CUSTOMER_EVENTS)
    app.agent(topic, name="bare")(bare)
    await publisher.publish(records())
    await app.start()
    committed = app.consumer._committed_offset
    await until(lambda: max((o or 0 for o in committed.values()), default=0) == COUNT, what="everything committed")
    await one.stop()
    two = made(settings, publisher, second)
    await two.start()
    await publisher.publish([Record(t.CUSTOMER_EVENTS.name, b"k", b"777")])
    await until(lambda: 777 in second.values)
    await two.stop()

    assert lost == [7]
    assert 7 not in second.values


class Message:
    def __init__(self, offset: int, acked: bool) -> None:
        self.tp, self.offset, self.acked = "tp", offset, acked


class Tracked:
    """The part of Faust's consumer that decides what may be committed."""

    def __init__(self, *, committed: int | None, acked: list[int], unacked: list[int]) -> None:
        self._acked, self._gap = {"tp": list(acked)}, {"tp": None}
        self._acked_index = {"tp": set(acked)}
        self._committed_offset = {"tp": committed}
        self._unacked_messages = {Message(offset, acked=False) for offset in unacked}


@pytest.mark.parametrize(
    ("acked", "unacked", "expected"),
    [
        ([11, 12], [10], None),  # the head is being worked on
        ([10, 11, 13, 14], [12], 12),
        ([10, 11, 12], [], 13),
        ([], [10], None),
    ],
)
def test_nothing_past_a_record_in_hand_is_committed(acked: list[int], unacked: list[int], expected: int | None) -> None:
    tracked = Tracked(committed=None, acked=acked, unacked=unacked)

    assert streams._new_offset(tracked, "tp") == expected
    assert sorted(tracked._acked["tp"]) == [one for one in acked if expected is None or one >= expected]


def test_faust_alone_would_commit_past_a_record_in_hand() -> None:
    """When this fails, https://github.com/faust-streaming/faust/pull/707 has landed: drop the guard."""
    unguarded: Any = streams._unguarded

    assert unguarded(Tracked(committed=None, acked=[11, 12], unacked=[10]), "tp") == 13
