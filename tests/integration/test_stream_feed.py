"""The live feed proven on a real mongod: projectors that crash, are late or doubled, lanes that change hands, identifiers
that move, conversations that join; clients cut at random that resume on either of two processes. No gap, no repeat."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from services.common.cloudevents import Record, decode
from services.common.events import (
    Data,
    MessageEdited,
    MessageRead,
    Part,
    ParticipantTyping,
)
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.timeline.consumer import Projector
from services.timeline.facets import Change
from services.timeline.generations import switch
from services.timeline.lanes import lane_of, offset_of
from services.timeline.live import Feed, Sent
from services.timeline.order import id_bytes
from services.timeline.presence import typing_into
from services.timeline.reader import Reader, Span
from services.timeline.stores import Journaled, TimelineStore
from services.timeline.subjects import Listen
from services.timeline.vectors import Vector, vector_of
from services.timeline.views import CustomerView, EntryView, RemovedView, TypingView
from tests.histories import appended, changed, entry, event, fact, key_of, leg, mapped, queued, said, sent, who
from tests.timeline_parts import Log, feed_of, projector, started
from tests.waiting import until

TENANT = "acme"
NAMES = [f"i{n}" for n in range(8)]
SECONDS = 3.0


class Crash(Exception):
    """The process died here."""


class Fragile(TimelineStore):
    """A store whose process dies or stalls between any two writes."""

    def __init__(self, mongo: Mongo, rng: random.Random, rate: float) -> None:
        super().__init__(mongo, "a")
        self._rng, self._rate = rng, rate

    async def _maybe(self) -> None:
        if self._rng.random() < 0.1:
            await asyncio.sleep(self._rng.random() * 0.03)
        if self._rng.random() < self._rate:
            raise Crash

    async def write(self, tenant: str, changes: Iterable[Change]) -> set[bytes]:
        fresh = await super().write(tenant, changes)
        await self._maybe()
        return fresh

    async def journal(self, items: Sequence[Journaled]) -> None:
        some = list(items)
        self._rng.shuffle(some)
        cut = self._rng.randrange(len(some) + 1)
        await super().journal(some[:cut])
        await self._maybe()
        await super().journal(some[cut:])

    async def raise_marks(self, ends: Mapping[int, int]) -> None:
        await self._maybe()
        await super().raise_marks(ends)
        await self._maybe()


Partition = tuple[str, int]


@dataclass
class Kafka:
    """Partitions with committed offsets; a commit by somebody who lost the partition is refused."""

    log: Log = field(default_factory=Log)
    records: dict[Partition, list[Record]] = field(default_factory=dict)
    committed: dict[Partition, int] = field(default_factory=dict)
    owner: dict[Partition, object] = field(default_factory=dict)

    def add(self, one: Data, partition: int = 0) -> None:
        record = self.log.record(one, partition)
        self.records.setdefault((record.topic, partition), []).append(record)

    def behind(self) -> bool:
        return any(self.committed.get(name, 0) < len(records) for name, records in self.records.items())


@dataclass
class Worker:
    """A projector process: takes a batch of each partition it owns, handles, commits."""

    kafka: Kafka
    projector: Projector
    rng: random.Random
    zombies: int = 0
    crashes: int = 0

    async def step(self) -> None:
        mine = [name for name, owner in self.kafka.owner.items() if owner is self]
        batch: list[Record] = []
        ends: dict[Partition, int] = {}
        for name in mine:
            begin = self.kafka.committed.get(name, 0)
            records = self.kafka.records.get(name, [])[begin : begin + self.rng.randrange(1, 15)]
            if records:
                batch += records
                ends[name] = begin + len(records)
        if not batch:
            await asyncio.sleep(0.002)
            return
        try:
            await self.projector.handle(batch)
        except Crash:
            self.crashes += 1
            return
        for name, end in ends.items():
            if self.kafka.owner.get(name) is self:
                self.kafka.committed[name] = max(self.kafka.committed.get(name, 0), end)
            else:
                self.zombies += 1


@dataclass
class Client:
    """Reads, is cut, comes back to any process with its last id; keeps every position and what it knows of each entry."""

    feeds: Sequence[Feed]
    listen: Listen
    rng: random.Random
    last: str | None = None
    positions: list[int] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    resumes: int = 0
    moved: bool = False

    async def run(self, done: asyncio.Event, upto: Mapping[int, int]) -> None:
        while not (done.is_set() and self.last and reached(vector_of(self.last).offsets, upto)):
            stream = self.rng.choice(self.feeds).open(TENANT, self.listen, vector_of(self.last) if self.last else None)
            self.resumes += 1
            batches = stream.batches(0.05)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.rng.random() * 0.5):
                    async for batch in batches:
                        self.take(batch)
            await batches.aclose()
            if self.moved and self.listen.customer:
                self.moved = False
                self.known = await page_of(self.feeds[0], self.listen.customer)
            if self.rng.random() < 0.3:
                await asyncio.sleep(self.rng.random() * 0.2)

    def take(self, batch: Sequence[Sent]) -> None:
        for sent_ in batch:
            if sent_.item is not None:
                self.positions.append(sent_.item.position)
                for push in sent_.item.pushes:
                    self.learn(push.view)
            self.last = sent_.id or self.last

    def learn(self, view: object) -> None:
        match view:
            case EntryView():
                self.known[view.id] = view.rev
            case RemovedView():
                self.known.pop(view.id, None)
            case CustomerView():
                self.moved = True  # its identifiers changed: it reads its page again


async def page_of(feed: Feed, customer: str) -> dict[str, str]:
    """What the page shows: entries and their content."""
    page = await feed._reader.timeline(TENANT, customer, Span(limit=20_000))
    return {one.id: one.rev for one in page.items} if page else {}


def reached(offsets: Mapping[int, int], upto: Mapping[int, int]) -> bool:
    return all(offsets.get(lane, 0) >= end for lane, end in upto.items())


class World:
    """Writes a plausible stream of events into the log: new messages, revisions, doubles, appended, joins, moves."""

    def __init__(self, kafka: Kafka, rng: random.Random) -> None:
        self.kafka, self.rng = kafka, rng
        self.customer = {name: f"c-{name}" for name in NAMES}
        self.number, self.version, self.seq = 0, 0, 1
        self.messages: list[tuple[str, str]] = []

    def partition(self, name: str) -> int:
        return NAMES.index(name) % 3

    def step(self) -> None:
        rng, name = self.rng, self.rng.choice(NAMES)
        self.number += 1
        one: Data
        if self.messages and rng.random() < 0.5:
            message, name = rng.choice(self.messages)
            made = (
                fact(MessageEdited, message, self.number, customer=None, revision="r", parts=(Part("text", str(self.number)),)),
                fact(MessageRead, message, self.number, customer=name),
            )
            one = rng.choice(made)
        elif rng.random() < 0.2:
            outbound = f"o{self.number}"
            stated = queued("v0", self.next(), outbound, "claro", self.number, party=who(name), anchor=who(name).key)
            self.kafka.add(stated)
            one = sent(f"p{self.number}", "claro", self.number, name, outbound_id=outbound)
        else:
            one = said(f"m{self.number}", f"texto {self.number}", self.number, name)
            self.messages.append((f"m{self.number}", name))
            if rng.random() < 0.5:
                self.kafka.add(appended(f"v{self.number % 3}", f"m{self.number}", customer=name), self.number % 2)
        self.kafka.add(one, self.partition(name))
        if rng.random() < 0.1:
            self.kafka.add(one, self.partition(name))  # the producer's retry
        if rng.random() < 0.04:
            self.move()
        if rng.random() < 0.02:
            self.kafka.add(
                changed("v0", self.next(), "queued", self.number, anchor=who("i0").key, with_head={"customer": None})
            )

    def next(self) -> int:
        self.seq += 1
        return self.seq

    def move(self) -> None:
        name, to = self.rng.choice(NAMES), f"c-{self.rng.choice(NAMES)}"
        was = self.customer[name]
        if to != was:
            self.version += 1
            self.customer[name] = to
            self.kafka.add(mapped(name, to, version=self.version + 1, previous=was))


@asynccontextmanager
async def running(*loops: object) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(loop) for loop in loops]  # type: ignore[call-overload]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def truth(feed: Feed, listen: Listen) -> dict[str, str]:
    """What the pages show at the end of all that the client listened to: entries and their content."""
    reader, span = feed._reader, Span(limit=20_000)
    if listen.customer:
        return await page_of(feed, listen.customer)
    found: dict[str, str] = {}
    for identifier in [*listen.identifiers, *((key_of(name) for name in NAMES) if listen.tenant else ())]:
        page = await reader.entries_of_identifier(TENANT, identifier, span)
        found |= {one.id: one.rev for one in page.items}
    if listen.conversation or listen.queues:
        thread = await reader.conversation_entries(TENANT, "v0", span)
        assert thread is not None
        found |= {one.id: one.rev for one in thread.items}
    return found


def told_of(document: Mapping[str, Any], listen: Listen) -> bool:
    """Whether the journal says that this listener is to be told. Who follows a customer hears of changing identifiers."""
    names = {f"i:{one}" for one in listen.identifiers} | {f"q:{one}" for one in listen.queues}
    names |= {f"v:{listen.conversation}"} if listen.conversation else set()
    return listen.tenant or bool(names & set(document["s"]))


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_gap_and_no_repeat_whatever_happens(mongo: Mongo, mongo_settings: CommonSettings, seed: int) -> None:
    rng = random.Random(seed)
    store = await started(mongo)
    kafka = Kafka()
    world = World(kafka, rng)
    for name in NAMES:
        kafka.add(mapped(name, f"c-{name}"))
    kafka.add(changed("v0", 1, anchor=who("i0").key, with_head={"customer": None, "legs": (leg("i0"),)}))
    workers = [
        Worker(kafka, projector(Fragile(mongo, random.Random(seed * 10 + n), 0.04), mongo_settings), random.Random(n))
        for n in range(3)
    ]
    stopping = asyncio.Event()

    async def work(worker: Worker) -> None:
        while not stopping.is_set():
            await worker.step()

    async def owners() -> None:
        while not stopping.is_set():
            for name in [*kafka.records]:
                if name not in kafka.owner or rng.random() < 0.05:
                    kafka.owner[name] = rng.choice(workers)
            await asyncio.sleep(0.02)

    feeds = [await feed_of(mongo, interval_s=0.01) for _ in range(2)]
    async with running(owners(), *(work(worker) for worker in workers), *(feed.run() for feed in feeds)):
        await until(lambda: not kafka.behind())
        start = await until(lambda: marks_of(mongo))
        begin = Vector(feeds[0]._epoch, datetime.now(UTC), start).text()
        listens = [
            Listen(tenant=True), *(Listen(identifiers=(key_of(name),)) for name in NAMES[:3]), Listen(conversation="v0"),
            *(Listen(customer=f"c-{name}") for name in NAMES[:4]), Listen(queues=("support",)),
        ]  # fmt: skip
        clients = [Client(feeds, listen, random.Random(seed * 100 + n), begin) for n, listen in enumerate(listens)]
        for client in clients:
            client.known = await truth(feeds[0], client.listen)  # the page first, then the stream from before it
        done, upto = asyncio.Event(), dict[int, int]()
        reading = [asyncio.create_task(client.run(done, upto)) for client in clients]
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            for _ in range(rng.randrange(1, 6)):
                world.step()
            await asyncio.sleep(0.01)
        await until(lambda: not kafka.behind(), within_s=40)
        upto |= await marks_of(mongo)
        done.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*reading)
    journal = await mongo.database("timeline")["journal"].find({}).to_list(None)
    pushed = [one for one in journal if one["e"] or one["kd"] in ("moved", "state")]
    later = [one for one in pushed if offset_of(one["p"]) >= start.get(lane_of(one["p"]), 0)]
    written = {id_bytes(decode(record).id) for records in kafka.records.values() for record in records}

    assert {bytes(one["_id"]) for one in journal} == written
    for client in clients:
        assert len(client.positions) == len(set(client.positions)), client.listen
        if not client.listen.customer:
            assert set(client.positions) == {one["p"] for one in later if told_of(one, client.listen)}, client.listen
        assert client.known == await truth(feeds[0], client.listen), client.listen
    assert sum(client.resumes for client in clients) > 3 * len(clients)
    assert sum(worker.crashes for worker in workers) > 0
    assert sum(worker.zombies for worker in workers) > 0
    assert store.collections.generation == "a"


async def marks_of(mongo: Mongo) -> dict[int, int]:
    found = await mongo.database("timeline")["marks"].find({}).to_list(None)
    return {int(one["_id"].partition("/")[2]): int(one["o"]) for one in found if one["_id"] != "live"}


# -- single promises ----------------------------------------------------------------------------------------------------


@dataclass
class Line:
    """One open stream and what it has been sent."""

    feed: Feed
    listen: Listen
    since: str | None = None
    heartbeat_s: float = 0.05
    sent: list[Sent] = field(default_factory=list)

    async def run(self) -> None:
        batches = self.feed.open(TENANT, self.listen, vector_of(self.since) if self.since else None).batches(self.heartbeat_s)
        try:
            async for batch in batches:
                self.sent += batch
        finally:
            await batches.aclose()

    @property
    def last(self) -> str:
        return [one.id for one in self.sent if one.id][-1]

    def events(self) -> list[tuple[str, str]]:
        """(event, what it shows) of everything that was pushed."""
        pushes = [push for one in self.sent for push in (one.item.pushes if one.item else [one.push] if one.push else [])]
        return [(push.event, str(getattr(push.view, "text", None) or getattr(push.view, "id", ""))) for push in pushes]


def heard(line: Line, texts: set[str]) -> bool:
    return {text for _, text in line.events()} >= texts


def sent_more(line: Line) -> bool:
    return len(line.sent) > 1


async def test_a_stream_says_where_it_stands_at_once_and_while_nothing_happens(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    await started(mongo)
    feed = await feed_of(mongo, interval_s=0.01)
    line = Line(feed, Listen(tenant=True))
    async with running(feed.run(), line.run()):
        await until(lambda: len(line.sent) >= 3)

    assert line.events() == []
    assert all(vector_of(one.id or "") for one in line.sent)


async def test_a_merge_in_mid_stream_adds_what_the_other_identifier_says_next(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    log, writer = Log(), projector(await started(mongo), mongo_settings)
    await writer.handle(log.add([mapped("ana", "c1"), mapped("bea", "c2")]))
    feed = await feed_of(mongo, interval_s=0.01)
    winner, loser = Line(feed, Listen(customer="c1")), Line(feed, Listen(customer="c2"))
    async with running(feed.run(), winner.run(), loser.run()):
        await until(lambda: winner.sent and loser.sent)
        await writer.handle(log.add([said("m1", "antes", 1, "bea")]))
        await until(lambda: ("entry", "antes") in loser.events())
        await writer.handle(log.add([mapped("bea", "c1", version=2, previous="c2")]))
        await until(lambda: winner.events() and len(loser.events()) > 1)
        await writer.handle(log.add([said("m2", "de bea", 2, "bea"), said("m3", "de ana", 3, "ana")]))
        await until(lambda: len(winner.events()) > 2 and len(loser.events()) > 3)

    assert winner.events() == [("customer", ""), ("entry", "de bea"), ("entry", "de ana")]
    assert loser.events() == [("entry", "antes"), ("customer", ""), ("entry", "de bea"), ("entry", "de ana")]


async def test_who_follows_a_customer_that_was_merged_away_hears_where_its_identifiers_go_from_there(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    """Its id leads to where most of them went: whichever of them moves on may change that."""
    log, writer = Log(), projector(await started(mongo), mongo_settings)
    await writer.handle(log.add([mapped("ana", "c0"), mapped("bea", "c0")]))
    moves = [mapped("ana", "c2", version=2, previous="c0"), mapped("bea", "c3", version=2, previous="c0")]
    await writer.handle(log.add(moves))
    feed = await feed_of(mongo, interval_s=0.01)
    line = Line(feed, Listen(customer="c0"))
    async with running(feed.run(), line.run()):
        await until(lambda: line.sent)
        assert (await feed._reader.identifiers(TENANT, "c0"))[0] == "c2"
        await writer.handle(log.add([said("m1", "ajeno", 1, "bea")]))
        await writer.handle(log.add([mapped("bea", "c1", version=3, previous="c3")]))
        assert (await feed._reader.identifiers(TENANT, "c0"))[0] == "c1"
        await until(line.events)
        await writer.handle(log.add([said("m2", "de bea", 2, "bea")]))
        await until(lambda: len(line.events()) > 1)

    assert line.events() == [("customer", ""), ("entry", "de bea")]


async def test_a_join_in_mid_stream_brings_the_other_thread(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    log, writer = Log(), projector(await started(mongo), mongo_settings)
    await writer.handle(log.add([changed("v1", 1), changed("v2", 1)]))
    feed = await feed_of(mongo, interval_s=0.01)
    joined, survivor = Line(feed, Listen(conversation="v1")), Line(feed, Listen(conversation="v2"))
    async with running(feed.run(), joined.run(), survivor.run()):
        await until(lambda: joined.sent and survivor.sent)
        await writer.handle(log.add([
            changed("v1", 2, "joined", with_head={"state": "joined", "into": "v2"}),
            changed("v2", 2, "absorbed", with_head={"absorbed": ("v1",)}),
        ]))  # fmt: skip
        await until(lambda: ("conversation", "v2") in joined.events())
        await writer.handle(log.add([said("m1", "uno", 1), appended("v1", "m1"), said("m2", "dos", 2), appended("v2", "m2")]))
        for line in (joined, survivor):
            await until(partial(heard, line, {"uno", "dos"}))


async def test_who_comes_back_after_three_days_or_from_another_database_is_told_to_read_again(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    log, writer = Log(), projector(await started(mongo), mongo_settings)
    await writer.handle(log.add([said("m1", "x", 1)]))
    feed = await feed_of(mongo, interval_s=0.01)
    now = vector_of(feed.now())
    for since in (
        Vector(now.epoch, now.at - timedelta(days=3), now.offsets),
        Vector(b"what", now.at, now.offsets),
        Vector(now.epoch, now.at, {**now.offsets, 99: 5}),
    ):
        line = Line(feed, Listen(tenant=True), since.text())
        async with running(feed.run(), line.run()):
            await until(partial(sent_more, line))

        assert line.events() == [("reset", "")]
        assert line.sent[0].id is not None
        assert b"id: " in line.sent[0].wire()
    await feed.stop()


async def test_a_slow_client_is_closed_and_comes_back_without_a_gap(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    log, writer = Log(), projector(await started(mongo), mongo_settings)
    feed = await feed_of(mongo, interval_s=0.01, buffer_bytes=20_000)
    stream = feed.open(TENANT, Listen(tenant=True))
    batches = stream.batches(0.02)
    first = await anext(batches)
    async with running(feed.run()):
        await writer.handle(log.add(said(f"m{n}", "x" * 2000, n) for n in range(30)))
        await until(lambda: stream._ended)
        rest = [one async for batch in batches for one in batch]
        line = Line(feed, Listen(tenant=True), [one.id for one in (*first, *rest) if one.id][-1])
        async with running(line.run()):
            await until(lambda: len(line.events()) == 30)

    assert [one.push.event for one in rest if one.push] == ["shed"]
    assert rest[-1].id is None


async def test_a_client_that_reads_is_not_closed_however_much_comes_at_once(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    log, writer = Log(), projector(await started(mongo), mongo_settings)
    feed = await feed_of(mongo, interval_s=0.01, buffer_bytes=20_000)
    line = Line(feed, Listen(tenant=True))
    async with running(feed.run(), line.run()):
        await until(lambda: line.sent)
        await writer.handle(log.add(said(f"m{n}", "x" * 2000, n) for n in range(30)))
        await until(lambda: len(line.events()) >= 30 or any(one.push for one in line.sent))

    assert [event for event, _ in line.events()] == ["entry"] * 30


async def test_who_types_is_told_to_who_listens_now_and_to_nobody_later(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    log, writer = Log(), projector(await started(mongo), mongo_settings)
    await writer.handle(log.add([mapped("ana", "c1"), changed("v1", 1)]))
    feed = await feed_of(mongo, interval_s=0.01)
    lines = [Line(feed, Listen(customer="c1")), Line(feed, Listen(conversation="v1")), Line(feed, Listen(conversation="v2"))]
    push = typing_into(feed)
    async with running(feed.run(), *(line.run() for line in lines)):
        await until(lambda: all(line.sent for line in lines))
        now = datetime.now(UTC)
        push(Log().record(event(fact(ParticipantTyping, "", received_at=now), key=who("ana").key)))
        push(Log().record(event(fact(ParticipantTyping, "", received_at=now, customer=None), key="v1")))
        push(Log().record(event(fact(ParticipantTyping, "", received_at=now - timedelta(minutes=1)), key=who("ana").key)))
        push(Record("hilo.live", b"k", b"junk", (("ce_type", b"x"),)))
        await until(lambda: len(lines[1].events()) == 2)

    told = [[one.push.view for one in line.sent if one.push] for line in lines]
    assert [len(one) for one in told] == [1, 2, 0]
    assert isinstance(told[0][0], TypingView)
    assert isinstance(told[1][1], TypingView)
    assert (told[0][0].party, told[1][1].conversation_id) == (who("ana").key, "v1")
    assert all(one.id is None for line in lines for one in line.sent if one.push)


async def test_one_event_about_two_entries_is_one_place_to_come_back_to(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    log, writer = Log(), projector(await started(mongo), mongo_settings)
    await writer.handle(log.add([queued("v1", 1, "o1", "claro")]))
    feed = await feed_of(mongo, interval_s=0.01)
    line = Line(feed, Listen(conversation="v1"))
    async with running(feed.run(), line.run()):
        await until(lambda: line.sent)
        await writer.handle(log.add([sent("p1", "claro", 1, outbound_id="o1")]))
        await until(line.events)
    item = next(one for one in line.sent if one.item)

    assert [event for event, _ in line.events()] == ["removed", "entry"]
    assert item.wire().count(b"id: ") == 1
    assert item.wire().index(b"event: removed") < item.wire().index(b"id: ") < item.wire().index(b"event: entry")
    assert entry("p1").encode() in item.wire()


async def test_a_client_that_was_ahead_hears_nothing_twice_on_a_process_that_is_behind(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    log, writer = Log(), projector(await started(mongo), mongo_settings)
    await writer.handle(log.add([said("m0", "cero", 0)]))
    ahead, behind = await feed_of(mongo, interval_s=0.01), await feed_of(mongo)
    first = Line(ahead, Listen(tenant=True))
    async with running(ahead.run(), first.run()):
        await until(lambda: first.sent)
        await writer.handle(log.add([said("m1", "uno", 1), mapped("ana", "c1")]))
        await until(lambda: len(first.events()) == 2)
    second = Line(behind, Listen(tenant=True), first.last)
    async with running(second.run()):
        await until(lambda: second.sent)
        await writer.handle(log.add([said("m2", "dos", 2)]))
        await behind.tick()
        await until(second.events)

    assert second.events() == [("entry", "dos")]
    here, there = vector_of(first.last).offsets, vector_of(second.sent[0].id or "").offsets
    assert all(there[lane] >= end for lane, end in here.items())


async def test_a_rebuild_takes_over_only_when_it_has_all_that_readers_have_seen(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    log = Log()
    blue = projector(await started(mongo), mongo_settings)
    first = log.add([mapped("ana", "c1"), said("m1", "uno", 1), said("m2", "dos", 2)])
    await blue.handle(first)
    feed = await feed_of(mongo, interval_s=0.01)
    green = projector(await started(mongo, "b"), mongo_settings)
    await green.handle(first[:1])

    assert not await switch(mongo, "b")

    line = Line(feed, Listen(customer="c1"))
    async with running(feed.run(), line.run()):
        await until(lambda: line.sent)
        await green.handle(first[1:])
        assert await switch(mongo, "b")
        await green.handle(log.add([said("m3", "tres", 3)]))
        await until(line.events)
    page = await feed._reader.timeline(TENANT, "c1")
    reader = Reader(mongo)

    assert line.events() == [("entry", "tres")]
    assert page is not None
    assert [one.text for one in page.items] == ["tres", "dos", "uno"]
    assert (await reader.collections()).generation == "b"
    blue_entries = mongo.database("timeline")["entries_a"]
    assert await blue_entries.count_documents({}) == 2
