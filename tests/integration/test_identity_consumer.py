"""Identity on a real broker and a real mongod: five channels become one customer, every record goes on as it came, and no
crash loses a map record."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.common import topics as t
from services.common.cloudevents import Event, Record, decode, encode
from services.common.errors import BrokerAway, Poison, StoreAway
from services.common.events import (
    CustomerChanged,
    Data,
    DeadLettered,
    IdentityAsserted,
    IdentityMapped,
    JourneyStep,
    MessageDelivered,
    MessageReceived,
    Part,
)
from services.common.identifiers import Evidence, Identifier, Proof, Sender, Strength, identifier_key
from services.common.kafka import Consumer, DeadLetters, Place, Publisher, View
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.vault import DEMO_KEY, Vault
from services.identity.announce import OLD_US, Announcer
from services.identity.consumer import Passing
from services.identity.linker import Linker
from services.identity.nodes import Node, Swap, Taken
from services.identity.profiles import MongoValues, Profiles
from services.identity.rules import Rules
from services.identity.stores import MongoGraph
from tests.waiting import until

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TENANT_KEY = b"k" * 32


def who(scheme: str, value: str, scope: str = "") -> Identifier:
    plain = Identifier(scheme, value, scope)
    return replace(plain, key=identifier_key(TENANT_KEY, plain))


WHATSAPP = who("whatsapp", "DE.81", "portfolio-1")
TEL = who("tel", "+491511234567")
INSTAGRAM = who("instagram", "1784", "ig-1")
TELEGRAM = who("telegram", "77")
EMAIL = who("email", "ana@ejemplo.es")
VISITOR = who("webchat", "v-1", "shop")
USER = who("user", "u-1", "shop")


def says(also: Identifier, strength: Strength = "verified", rule: str = "channel") -> Evidence:
    return Evidence(also, strength, rule)


class Clock:
    """Receive times that rise by a second, and ids that count."""

    def __init__(self) -> None:
        self.count = 0

    def event(self, data: Callable[[str, datetime], Data], key: str, channel: str, tenant: str = "acme") -> Event[Data]:
        self.count += 1
        at, name = NOW + timedelta(seconds=self.count), f"e{self.count}"
        return Event(name, tenant, key, at, data(name, at), channel, "main")

    def said(
        self, sender: Identifier, *also: Evidence, proof: Proof = "channel", channel: str = "", tenant: str = "acme"
    ) -> Event[Data]:
        def data(name: str, at: datetime) -> MessageReceived:
            speaker = Sender(sender, "Ana", also, proof)
            return MessageReceived(
                provider_id=name, party=sender, received_at=at, sender=speaker, parts=(Part("text", f"¿qué? {name}"),)
            )

        return self.event(data, sender.key, channel or sender.scheme, tenant)

    def asserted(self, sender: Identifier, *also: Evidence) -> Event[Data]:
        def data(name: str, at: datetime) -> IdentityAsserted:
            return IdentityAsserted(provider_id=name, party=sender, received_at=at, sender=Sender(sender, None, also))

        return self.event(data, sender.key, "handoff")

    def ordered(self, sender: Identifier, *also: Evidence) -> Event[Data]:
        def data(name: str, at: datetime) -> JourneyStep:
            speaker = Sender(sender, None, also, "account")
            return JourneyStep(
                type="hilo.order.placed.v1", provider_id=name, party=sender, received_at=at, sender=speaker, title="Order 1"
            )

        return self.event(data, sender.key, "journey")


class Service:
    """One identity process: consumer, graph and outbox, on the broker and database of the test."""

    def __init__(
        self, settings: CommonSettings, mongo: Mongo, publisher: Publisher, worker: str, graph: MongoGraph | None = None
    ) -> None:
        self.leap = 0
        rules = Rules()
        self.graph, self.profiles = graph or MongoGraph(mongo), Profiles(MongoValues(mongo), Vault(DEMO_KEY))
        self.linker = Linker(self.graph, rules, worker, self.now)
        self.announcer = Announcer(self.graph, self.linker, publisher, self.profiles, self.now)
        dead = DeadLetters(publisher, "identity")
        self.passing = Passing(self.linker, self.announcer, self.profiles, publisher, dead, rules)
        self.consumer = Consumer(settings, "identity", [t.EVENTS], self.passing.handle, backoff_s=(0.05, 0.2))

    def now(self) -> int:
        return time.time_ns() // 1000 + self.leap

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        await self.graph.start()
        await self.consumer.start()
        loop = asyncio.create_task(self.consumer.run())
        try:
            yield self
        finally:
            await self.consumer.stop()
            await loop


async def everything(settings: CommonSettings, topic: t.Topic) -> list[Record]:
    found: list[Record] = []
    view = View(settings, topic, found.append)
    await view.start()
    await view.stop()
    return found


async def passed(settings: CommonSettings, count: int) -> list[Event[Data]]:
    """The customer events, once there are so many."""

    await passed_records(settings, count)
    return [decode(record) for record in await everything(settings, t.CUSTOMER_EVENTS)]


async def newest_map(settings: CommonSettings) -> dict[str, IdentityMapped]:
    """As a consumer keeps it that applies only larger versions."""
    kept: dict[str, IdentityMapped] = {}
    for record in await everything(settings, t.IDENTITY_MAP):
        data = decode(record).data
        assert isinstance(data, IdentityMapped)
        if data.identifier not in kept or data.version > kept[data.identifier].version:
            kept[data.identifier] = data
    return kept


async def changes(settings: CommonSettings) -> list[CustomerChanged]:
    found = [decode(record).data for record in await everything(settings, t.IDENTITY_CHANGES)]
    return [data for data in found if isinstance(data, CustomerChanged)]


@pytest.fixture
def service(settings: CommonSettings, mongo: Mongo, publisher: Publisher) -> Service:
    return Service(settings, mongo, publisher, "w1")


async def test_five_channels_become_one_customer_by_verified_identifiers(
    settings: CommonSettings, publisher: Publisher, service: Service
) -> None:
    clock = Clock()
    first = [
        clock.said(INSTAGRAM),
        clock.said(WHATSAPP, says(TEL)),
        clock.said(TELEGRAM),
        clock.said(VISITOR),
        clock.said(EMAIL),
    ]
    linking = [
        clock.said(TELEGRAM, says(TEL)),  # shares the own contact
        clock.said(VISITOR, says(USER), says(EMAIL, "asserted", "signed-session"), proof="account"),
        clock.ordered(USER, says(TEL, "asserted", "order"), says(EMAIL, "asserted", "order")),
        clock.asserted(INSTAGRAM, says(WHATSAPP, rule="handoff.proven")),
    ]
    async with service.running():
        await publisher.emit(t.EVENTS, first)
        before = await passed(settings, 5)
        await publisher.emit(t.EVENTS, [*linking, clock.said(EMAIL)])
        after = await passed(settings, 10)
    kept = await newest_map(settings)
    oldest = next(event.customer_id for event in before if event.key == INSTAGRAM.key)

    assert len({event.customer_id for event in before}) == 5
    assert next(event for event in after if event.id == "e10").customer_id == oldest
    assert {data.customer_id for data in kept.values()} == {oldest}
    assert kept.keys() == {one.key for one in (WHATSAPP, TEL, INSTAGRAM, TELEGRAM, EMAIL, VISITOR, USER)}
    merged = [change for change in await changes(settings) if change.type == "hilo.customer.merged.v1"]
    assert {other for change in merged for other in change.others} == {e.customer_id for e in before} - {oldest}
    assert all(change.cause for change in merged)


async def test_every_record_goes_on_as_it_came_on_its_partition_and_in_order(
    settings: CommonSettings, publisher: Publisher, service: Service
) -> None:
    clock = Clock()
    events = [clock.said(who("telegram", str(n % 7))) for n in range(60)]
    nobody = clock.event(lambda name, at: MessageDelivered(provider_id=name, received_at=at), "some-entry", "telegram")
    unknown = replace(
        encode(t.EVENTS.name, clock.said(TELEGRAM)),
        headers=[(n, b"hilo.hologram.sent.v1" if n == "ce_type" else v) for n, v in encode("x", clock.said(TELEGRAM)).headers],
    )
    stranger = Record(t.EVENTS.name, b"k", b'{"x":1}', [*unknown.headers])
    tombstone = Record(t.EVENTS.name, b"k", None, [])
    sent = [*(encode(t.EVENTS.name, event) for event in (*events, nobody)), unknown, stranger, tombstone]
    async with service.running():
        places = await publisher.publish(sent)
        await passed_records(settings, len(sent))
    came, went = await everything(settings, t.EVENTS), await everything(settings, t.CUSTOMER_EVENTS)

    def lanes(records: Sequence[Record]) -> dict[int | None, list[tuple[bytes | None, bytes | None]]]:
        found = defaultdict(list)
        for record in records:
            found[record.partition].append((record.key, record.value))
        return dict(found)

    assert lanes(went) == lanes(came)
    assert len(places) == len(went)
    stamped = {r.value: r.attributes.get("customerid") for r in went}
    assert stamped[unknown.value] is not None  # its party is one, though its type is new to us
    assert stamped[stranger.value] is stamped[None] is stamped[encode("x", nobody).value] is None
    added = {"ce_customerid", "ce_identityversion"}
    heads = {r.value: [h for h in r.headers if h[0] not in added] for r in went}
    assert all(heads[record.value] == list(record.headers) for record in came)


async def passed_records(settings: CommonSettings, count: int) -> None:
    async def enough() -> bool:
        return len(await everything(settings, t.CUSTOMER_EVENTS)) >= count

    await until(enough, every_s=0.2)


async def test_what_is_no_event_is_set_aside_and_its_neighbours_go_on(
    settings: CommonSettings, publisher: Publisher, service: Service
) -> None:
    clock = Clock()
    good = [clock.said(TELEGRAM), clock.said(WHATSAPP)]
    headers = encode(t.EVENTS.name, good[0]).headers
    broken = Record(t.EVENTS.name, b"k", b"\xffjunk", headers)
    keyless = encode(t.EVENTS.name, clock.said(replace(EMAIL, key="no.key$")))
    foreign = encode(t.EVENTS.name, clock.said(TELEGRAM, tenant="evil"))
    async with service.running():
        await publisher.emit(t.EVENTS, good)
        await passed(settings, 2)
        await publisher.publish([broken, keyless, foreign, encode(t.EVENTS.name, clock.said(TELEGRAM))])
        went = await passed(settings, 3)

    dead = [decode(record).data for record in await everything(settings, t.DEAD)]

    assert [event.tenant for event in went] == ["acme"] * 3
    reasons = sorted(one.reason for one in dead if isinstance(one, DeadLettered))
    assert [reason.partition(":")[0] for reason in reasons] == [
        "an identifier has no usable key",
        "an identifier key of another tenant",
        "hilo.message.received.v1",
    ]


async def test_what_is_only_claimed_merges_nothing_and_a_forged_sender_drags_nothing_along(
    settings: CommonSettings, publisher: Publisher, service: Service
) -> None:
    clock = Clock()
    async with service.running():
        await publisher.emit(
            t.EVENTS,
            [
                clock.said(EMAIL),
                clock.said(VISITOR, says(EMAIL, "claimed", "typed")),
                clock.said(who("email", "forged@ejemplo.es"), says(TEL), proof="claimed"),
                clock.said(WHATSAPP, says(TEL)),
            ],
        )
        went = await passed(settings, 4)

    assert len({event.customer_id for event in went}) == 4


async def test_known_identifiers_and_known_evidence_cost_one_read_and_no_write(
    settings: CommonSettings, publisher: Publisher, service: Service
) -> None:
    clock = Clock()
    await service.graph.start()
    first = [*(clock.said(WHATSAPP, says(TEL)) for _ in range(3)), clock.said(TELEGRAM)]  # three events are cited
    again = [clock.said(WHATSAPP, says(TEL)), clock.said(TELEGRAM), clock.said(WHATSAPP)]
    await service.passing.handle([encode(t.EVENTS.name, event) for event in first])
    calls: list[str] = []
    for name in ("read", "insert", "swap", "take"):
        _counted(service.graph, name, calls)
    await service.passing.handle([encode(t.EVENTS.name, event) for event in again])

    assert calls == ["read"]


def _counted(graph: MongoGraph, name: str, calls: list[str]) -> None:
    real = getattr(graph, name)

    async def counted(*args: object) -> object:
        calls.append(name)
        return await real(*args)

    setattr(graph, name, counted)


class Crashing:
    """A publisher that dies the `nth` time it is used, before or after the broker has the records."""

    def __init__(self, publisher: Publisher, at: int, *, after: bool) -> None:
        self.publisher, self.left, self.after = publisher, at, after

    async def publish(self, records: Sequence[Record]) -> object:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise BrokerAway("crash")
        done = await self.publisher.publish(records)
        if self.left == 0:
            raise BrokerAway("crash")
        return done


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2])
async def test_a_crash_around_publishing_loses_no_map_record_and_no_event(
    settings: CommonSettings, mongo: Mongo, publisher: Publisher, at: int, *, after: bool
) -> None:
    clock = Clock()
    batch = [encode(t.EVENTS.name, event) for event in (clock.said(WHATSAPP, says(TEL)), clock.said(TELEGRAM, says(TEL)))]
    batch = [replace(record, partition=0) for record in batch]
    first = Service(settings, mongo, publisher, "w1")
    await first.graph.start()
    crashing = Crashing(publisher, at, after=after)
    first.announcer._publisher = crashing
    first.passing._publisher = crashing  # type: ignore[assignment]
    with pytest.raises(BrokerAway):
        await first.passing.handle(batch)
    second = Service(settings, mongo, publisher, "w2")
    await second.passing.handle(batch)
    kept = await newest_map(settings)
    went = [decode(record) for record in await everything(settings, t.CUSTOMER_EVENTS)]

    assert {kept[one.key].customer_id for one in (WHATSAPP, TEL, TELEGRAM)} == {went[-1].customer_id}
    assert {event.id for event in went} == {"e1", "e2"}
    assert all(event.identity_version == kept[event.key].version for event in went)
    second.leap = 2 * OLD_US
    await second.announcer.sweep()
    assert await second.announcer.sweep() == 0


class Forgetful(MongoGraph):
    """A store that does its `nth` write and loses the answer, as a connection may that breaks."""

    def __init__(self, mongo: Mongo, nth: int) -> None:
        super().__init__(mongo)
        self.left = nth

    def _answered(self, done: bool) -> bool:
        self.left -= 1
        if self.left == 0:
            raise StoreAway("the answer is lost")
        return done

    async def insert(self, nodes: Sequence[Node]) -> bool:
        return self._answered(await super().insert(nodes))

    async def swap(self, swaps: Sequence[Swap]) -> bool:
        return self._answered(await super().swap(swaps))

    async def take(self, taken: Sequence[Taken]) -> bool:
        return self._answered(await super().take(taken))


@pytest.mark.parametrize("nth", range(1, 6))
async def test_a_write_whose_answer_is_lost_is_told_once_when_its_batch_comes_again(
    settings: CommonSettings, mongo: Mongo, publisher: Publisher, nth: int
) -> None:
    """So identity does without the driver's second try."""
    clock = Clock()
    batch = [encode(t.EVENTS.name, event) for event in (clock.said(WHATSAPP, says(TEL)), clock.said(TELEGRAM, says(TEL)))]
    graph = Forgetful(mongo, nth)
    service = Service(settings, mongo, publisher, "w1", graph)
    await graph.start()
    with pytest.raises(StoreAway):
        await service.passing.handle(batch)
    await service.passing.handle(batch)
    kept = await newest_map(settings)
    nodes = await graph.read([one.key for one in (WHATSAPP, TEL, TELEGRAM)])
    told = await everything(settings, t.IDENTITY_CHANGES)

    assert len({kept[one.key].customer_id for one in (WHATSAPP, TEL, TELEGRAM)}) == 1
    assert len({decode(record).id for record in told}) == len([decode(record).data for record in told]) == 1
    assert not any(node.outbox or node.unfinished for node in nodes.values())
    assert {event.id for event in await passed(settings, 2)} == {"e1", "e2"}


class Narrow(Publisher):
    """A broker that takes nothing beyond some size of its own."""

    async def publish(self, records: Sequence[Record]) -> list[Place]:
        if any(len(record.value or b"") > 9000 for record in records if record.topic == t.CUSTOMER_EVENTS.name):
            raise Poison("larger than the broker takes")
        return await super().publish(records)


async def test_a_record_too_large_to_pass_on_is_set_aside_and_its_neighbours_go_on(
    settings: CommonSettings, mongo: Mongo, topics: None
) -> None:
    clock, narrow = Clock(), Narrow(settings)
    service = Service(settings, mongo, narrow, "w1")
    await service.graph.start()
    large = encode(t.EVENTS.name, clock.said(who("telegram", "1")))
    large = replace(large, value=(large.value or b"") + b" " * 9000, partition=0, offset=7)
    await service.passing.handle(
        [encode(t.EVENTS.name, clock.said(TELEGRAM)), large, encode(t.EVENTS.name, clock.said(TELEGRAM))]
    )
    went = await passed(settings, 2)
    dead = [decode(record).data for record in await everything(settings, t.DEAD)]
    await narrow.stop()

    assert [event.id for event in went] == ["e2", "e3"]
    assert [(one.offset, one.body) for one in dead if isinstance(one, DeadLettered)] == [(7, "")]


async def test_what_a_dead_process_did_not_publish_the_sweep_does(
    settings: CommonSettings, mongo: Mongo, publisher: Publisher
) -> None:
    first, second = Service(settings, mongo, publisher, "w1"), Service(settings, mongo, publisher, "w2")
    await first.graph.start()
    first.announcer._publisher = Crashing(publisher, 1, after=False)
    with pytest.raises(BrokerAway):
        await first.passing.handle([encode(t.EVENTS.name, Clock().said(TELEGRAM))])

    assert await second.announcer.sweep() == 0  # its writer may still be at it
    second.leap = 2 * OLD_US
    assert await second.announcer.sweep() == 1
    assert TELEGRAM.key in await newest_map(settings)
    assert [change.type for change in await changes(settings)] == ["hilo.customer.created.v1"]
    assert await second.announcer.sweep() == 0


async def test_a_replay_from_the_beginning_changes_nothing(
    settings: CommonSettings, mongo: Mongo, publisher: Publisher, service: Service
) -> None:
    clock = Clock()
    await service.graph.start()
    log = [clock.said(INSTAGRAM), clock.said(WHATSAPP, says(TEL)), clock.asserted(INSTAGRAM, says(WHATSAPP)), clock.said(TEL)]
    records = [encode(t.EVENTS.name, event) for event in log]
    for record in records:
        await service.passing.handle([record])
    told, there = await changes(settings), await service.graph.read([WHATSAPP.key, TEL.key, INSTAGRAM.key])
    replay = Service(settings, mongo, publisher, "w2")
    for record in records:
        await replay.passing.handle([record])

    assert await changes(settings) == told
    assert await replay.graph.read([WHATSAPP.key, TEL.key, INSTAGRAM.key]) == there


async def test_values_stand_sealed_in_their_own_collection(mongo: Mongo, service: Service) -> None:
    await service.graph.start()
    await service.passing.handle([encode(t.EVENTS.name, Clock().said(WHATSAPP, says(TEL)))])
    database = mongo.database("identity")
    everything = repr([await database[name].find().to_list(None) for name in await database.list_collection_names()])

    assert (await service.profiles.read("acme", [TEL.key]))[TEL.key].value == TEL.value
    assert "1511234567" not in everything
    assert "Ana" not in everything
