"""The publisher and the consumer loop on a real broker: acknowledged means there, and each error has its own answer."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from deploy.local.embedded import EmbeddedBroker
from services.common import metrics
from services.common import topics as t
from services.common.cloudevents import Event, Record, decode, encode
from services.common.errors import BrokerAway, StoreAway
from services.common.events import DeadLettered, MediaFailed, MessageReceived, Part
from services.common.identifiers import Identifier, Sender
from services.common.kafka import Consumer, DeadLetters, Publisher, View, consuming, create_topics, read
from services.common.settings import CommonSettings
from tests.waiting import until

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def said(number: int) -> Event[MessageReceived]:
    who = Identifier("telegram", "7", key="k" * 22)
    data = MessageReceived(
        provider_id=f"m{number}", party=who, received_at=NOW, sender=Sender(who, "Añá"), parts=(Part("text", "¿qué?"),)
    )
    return Event(id=f"e{number}", tenant="acme", key=who.key, time=NOW, data=data, channel="telegram", account="bot")


def failed(number: int) -> Event[MediaFailed]:
    data = MediaFailed(provider_id=f"m{number}", received_at=NOW, part=0, reason="gone")
    return Event(id=f"f{number}", tenant="acme", key="k" * 22, time=NOW, data=data, channel="telegram", account="bot")


class Seen:
    """A handler that keeps what it got, and fails as told."""

    def __init__(self, *errors: Exception) -> None:
        self.records: list[Record] = []
        self.errors = list(errors)

    async def __call__(self, batch: Sequence[Record]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.records.extend(batch)


async def test_what_is_published_is_read_back_as_it_was(settings: CommonSettings, publisher: Publisher) -> None:
    placed = await publisher.emit(t.EVENTS, [said(1), said(2)])
    seen = Seen()
    consumer = Consumer(settings, "reader", [t.EVENTS], seen)
    await consumer.start()
    running = asyncio.create_task(consumer.run())
    await until(lambda: len(seen.records) == 2)
    await consumer.stop()
    await running

    assert [decode(r) for r in seen.records] == [said(1), said(2)]
    assert [(r.partition, r.offset) for r in seen.records] == [(p.partition, p.offset) for p in placed]


async def test_of_other_types_than_it_wants_a_handler_sees_nothing_and_they_are_committed_all_the_same(
    settings: CommonSettings, publisher: Publisher
) -> None:
    seen = Seen()
    consumer = Consumer(settings, "picky", [t.EVENTS], seen, types=["hilo.media.failed.v1"], commit_interval_s=0)
    await consumer.start()
    running = asyncio.create_task(consumer.run())
    nothing = Record(t.EVENTS.name, b"k" * 22, b"no event")
    placed = await publisher.publish(
        [encode(t.EVENTS.name, said(1)), nothing, *(encode(t.EVENTS.name, failed(n)) for n in (1, 2))]
    )
    await until(lambda: len(seen.records) == 2)
    last = await publisher.emit(t.EVENTS, [said(2), said(3)])
    await until(lambda: consumed("picky") == 6)
    await consumer.stop()
    await running
    again = Seen()
    late = Consumer(settings, "picky", [t.EVENTS], again)
    await late.start()
    running = asyncio.create_task(late.run())
    await publisher.emit(t.EVENTS, [said(4)])
    await until(lambda: again.records)
    await late.stop()
    await running

    assert [decode(r) for r in seen.records] == [failed(1), failed(2)]
    assert [r.offset for r in seen.records] == [place.offset for place in placed[2:]]
    assert [decode(r) for r in again.records] == [said(4)], f"all up to {last[-1]} was committed"


async def test_a_store_that_is_away_gets_the_same_batch_again_and_nothing_is_committed_before(
    settings: CommonSettings, publisher: Publisher
) -> None:
    await publisher.emit(t.EVENTS, [said(1)])
    seen = Seen(StoreAway("x"), StoreAway("y"))
    consumer = Consumer(settings, "patient", [t.EVENTS], seen, backoff_s=(0.05, 0.1))
    await consumer.start()
    running = asyncio.create_task(consumer.run())
    await until(lambda: consumer.away == "store")

    assert not consumer.ready

    await until(lambda: seen.records)
    assert consumer.ready
    await consumer.stop()
    await running


def consumed(group: str) -> float:
    """What the group's counter says."""
    samples = [sample for metric in metrics.CONSUMED.collect() for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.labels["group"] == group and sample.name.endswith("_total"))


def behind(group: str) -> float:
    """What the group's gauge says, over all partitions."""
    samples = [sample for metric in metrics.LAG_RECORDS.collect() for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.labels["group"] == group)


async def test_how_far_behind_a_group_is_is_told_while_the_store_is_away(
    settings: CommonSettings, publisher: Publisher, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "MEASURED_S", 0)
    await publisher.emit(t.EVENTS, [said(1), said(2), said(3)])
    seen = Seen(*(StoreAway("x") for _ in range(1000)))
    consumer = Consumer(settings, f"behind-{unique}", [t.EVENTS], seen, backoff_s=(0.02, 0.02))
    await consumer.start()
    running = asyncio.create_task(consumer.run())
    await until(lambda: behind(consumer.group) == 3, what="three records behind")
    seen.errors.clear()
    await until(lambda: behind(consumer.group) == 0, what="caught up")
    await publisher.emit(t.EVENTS, [said(4)])
    await until(lambda: len(seen.records) == 4 and behind(consumer.group) == 0, what="caught up again")
    await consumer.stop()
    await running


async def test_a_bug_ends_the_loop_and_the_next_process_gets_the_batch(settings: CommonSettings, publisher: Publisher) -> None:
    await publisher.emit(t.EVENTS, [said(1)])
    first = Consumer(settings, "buggy", [t.EVENTS], Seen(KeyError("bug")))
    await first.start()
    with pytest.raises(KeyError):
        await first.run()
    await first.stop()
    seen = Seen()
    second = Consumer(settings, "buggy", [t.EVENTS], seen)
    await second.start()
    running = asyncio.create_task(second.run())

    await until(lambda: seen.records)
    await second.stop()
    await running


async def test_a_poison_record_is_set_aside_with_its_bytes_and_the_others_go_on(
    settings: CommonSettings, publisher: Publisher
) -> None:
    junk = Record(t.EVENTS.name, b"k", b"\xff\x00junk", encode(t.EVENTS.name, said(1)).headers)
    await publisher.publish([junk, encode(t.EVENTS.name, said(2))])
    good: list[str] = []
    dead = DeadLetters(publisher, "test")

    async def handle(batch: Sequence[Record]) -> None:
        good.extend(event.id for _, event in await read(batch, dead, "mender"))

    consumer = Consumer(settings, "mender", [t.EVENTS], handle)
    await consumer.start()
    running = asyncio.create_task(consumer.run())
    await until(lambda: good == ["e2"])
    await consumer.stop()
    await running
    letters: list[Record] = []
    view = View(settings, t.DEAD, letters.append)
    await view.start()
    await view.stop()
    letter = decode(letters[0]).data

    assert isinstance(letter, DeadLettered)
    assert (letter.topic, letter.stage, letter.body) == ("hilo.events", "test", "/wBqdW5r")
    assert "Invalid JSON" in letter.reason


async def test_a_view_has_everything_when_it_has_started_and_then_follows(
    settings: CommonSettings, publisher: Publisher
) -> None:
    await publisher.emit(t.CHANNELS, [said(1)])
    seen: list[str] = []
    view = View(settings, t.CHANNELS, lambda record: seen.append(decode(record).id))
    await view.start()

    assert seen == ["e1"]

    await publisher.emit(t.CHANNELS, [said(2)])
    await until(lambda: seen == ["e1", "e2"])
    await view.stop()


def connections_to(port: int) -> int:
    """Sockets of this process to a server."""
    return sum(bool(one.raddr) and one.raddr.port == port for one in psutil.Process().net_connections("tcp"))


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """One that a test may stop and start as it likes."""
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


async def test_no_connection_is_left_open_to_a_broker_that_does_not_answer_any_more(
    mongo_uri: str, unique: str, own_broker: EmbeddedBroker
) -> None:
    settings = CommonSettings(env="test", kafka=own_broker.servers, mongo=mongo_uri, kafka_publish_timeout_s=1)
    await create_topics(settings)
    publisher, seen = Publisher(settings), Seen()
    consumer, view = Consumer(settings, "reader", [t.EVENTS], seen), View(settings, t.CHANNELS, lambda _: None)
    for part in (publisher, consumer, view):
        await part.start()
    running = asyncio.create_task(consumer.run())
    await publisher.emit(t.EVENTS, [said(1)])
    await until(lambda: seen.records)
    assert connections_to(own_broker.port) >= 3
    assert own_broker.pid
    os.kill(own_broker.pid, signal.SIGSTOP)
    try:
        with pytest.raises(BrokerAway):
            await publisher.emit(t.EVENTS, [said(2)])
        await asyncio.gather(publisher.stop(), consumer.stop(), view.stop())
        await until(lambda: connections_to(own_broker.port) == 0, what="all connections closed")
        late = Publisher(settings)
        with pytest.raises(BrokerAway):
            await late.emit(t.EVENTS, [said(3)])
        await until(lambda: connections_to(own_broker.port) == 0, what="all connections closed")
    finally:
        os.kill(own_broker.pid, signal.SIGCONT)
    running.cancel()
