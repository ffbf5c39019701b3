"""The projection on a real mongod: whatever the order, doubles, batches and writers, the same documents."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from services.common.cloudevents import Event
from services.common.events import (
    Data,
    MediaStored,
    MessageDeleted,
    MessageDelivered,
    MessageEdited,
    MessageFailed,
    MessageRead,
    MessageRetrying,
    Part,
    ReactionAdded,
    ReactionRemoved,
)
from services.common.identifiers import piece_id
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.timeline.order import NOWHERE
from services.timeline.reader import Reader
from services.timeline.stores import TimelineStore
from tests.histories import appended, at, changed, entry, event, fact, mapped, pending, queued, said, sender, sent, who
from tests.timeline_parts import Log, canonical, projected, projector, started

LIVES, PERMUTATIONS = 40, 5


def life(rng: random.Random, number: int) -> list[Data]:
    """A plausible life of one message: 4 to 14 events with equal times on purpose, a third of them of ours."""
    message, outbound, customer = f"m{number}", f"o{number}", f"customer{number % 7}"

    def when() -> float:
        return number * 10 + rng.choice((0, 0, 1, 2))

    def one(model: type[Any], **more: Any) -> Data:
        made: Data = fact(model, more.pop("message", message), when(), customer=more.pop("party", customer), **more)
        return made

    if rng.random() < 0.6:
        first: list[Data] = [said(message, f"secreto {number} $name {{$gt: 1}}", when(), customer)]
    else:
        pieces = rng.choice((1, 1, 2))
        first = [
            queued("v", number + 10, outbound, f"secreto {number}", when(), anchor=who(customer).key, party=who(customer)),
            sent(
                message,
                rng.choice((f"secreto {number}", "")) if pieces == 1 else "secreto",
                when(),
                customer,
                outbound_id=outbound,
                pieces=pieces,
            ),
            one(MessageRetrying, message="", outbound_id=outbound, attempt=rng.randrange(3)),
            one(MessageDelivered, message="", correlation=piece_id(outbound, 1)),
        ]
        if pieces == 2:
            first.append(sent(f"{message}-2", "resto", when(), customer, outbound_id=outbound, piece=2, pieces=2))
        if rng.random() < 0.5:
            first.append(sent(message, f"secreto {number} eco", when(), customer, echo=True))
    more: list[Callable[[], Data]] = [
        lambda: one(MessageEdited, revision=str(rng.random()), parts=(Part("text", f"secreto editado {rng.randrange(99)}"),)),
        lambda: one(MessageDelivered, party=None),
        lambda: one(MessageRead),
        lambda: one(MessageFailed, reason="131047"),
        lambda: one(ReactionAdded, sender=sender(rng.choice("ab")), emoji=rng.choice("👍❤")),
        lambda: one(ReactionRemoved, sender=sender(rng.choice("ab"))),
        lambda: appended(f"v{rng.randrange(3)}", message, after=rng.randrange(5), customer=customer),
        lambda: one(MediaStored, part=rng.randrange(2), sha256=f"{rng.randrange(99):064x}", media_type="image/png", size=1),
        lambda: one(MessageRead, up_to=True),
    ]  # fmt: skip
    life = first + [rng.choice(more)() for _ in range(rng.randrange(3, 10))]
    if rng.random() < 0.3:
        life.append(one(MessageDeleted, sender=sender(customer)))
    return life


def cut(rng: random.Random, items: list[Any]) -> Iterable[list[Any]]:
    """Batches, cut anywhere."""
    edges = sorted(rng.sample(range(1, len(items)), 6))
    return (items[a:b] for a, b in zip([0, *edges], [*edges, len(items)], strict=True))


@pytest.mark.parametrize("seed", [11, 12, 13])
async def test_any_order_doubles_batches_and_two_writers_give_one_history(
    mongo: Mongo, mongo_settings: CommonSettings, seed: int
) -> None:
    rng = random.Random(seed)
    lives = [life(rng, number) for number in range(LIVES)]
    erased: list[Data] = [mapped("customer3", None, version=2, previous="c3")]
    hashes: dict[str, set[str]] = {}
    compared = 0
    for permutation in range(PERMUTATIONS):
        generation = f"p{permutation}"
        every = [*lives, erased]
        events = [one for some in every for one in (*some, *rng.choices(some, k=len(some) // 2))]
        if permutation:
            rng.shuffle(events)
        log = Log(permutation * 1_000_000)
        writers = [projector(await started(mongo, generation), mongo_settings) for _ in range(2)]
        for batch in cut(rng, events):
            records = log.add((event(one, time=at(1)) for one in batch), partition=permutation)
            halves = (records[::2], records[1::2])  # as with a zombie that still writes
            await asyncio.gather(*(w.handle(half) for w, half in zip(writers, halves, strict=True) if half))
        entries = mongo.database("timeline")[f"entries_{generation}"]
        documents = await entries.find({}).to_list(None)
        for name, value in canonical(documents).items():
            hashes.setdefault(name, set()).add(value)
            compared += 1
        assert not [one for one in documents if "gone" in one and whole(one) and bytes(one["k"]) != NOWHERE]
        assert not [one for one in documents if "del" in one and "secreto" in repr(one)]
        assert not [one for one in documents if one.get("b", {}).get("i") == who("customer3").key and "secreto" in repr(one)]

    assert [name for name, found in hashes.items() if len(found) > 1] == []
    assert compared == PERMUTATIONS * len(hashes)


def whole(document: dict[str, Any]) -> bool:
    pieces = list(document["gone"].values())
    return bool(len(pieces) == max(piece["n"] for piece in pieces))


async def test_four_writers_of_the_same_new_entries_lose_nothing(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    records = Log().add(said(f"m{number}", "x", number) for number in range(300))
    writers = [projector(await started(mongo), mongo_settings) for _ in range(4)]
    await asyncio.gather(*(writer.handle(records) for writer in writers))
    entries = mongo.database("timeline")["entries_a"]

    assert await entries.count_documents({"c.parts": {"$exists": True}}) == 300
    assert await mongo.database("timeline")["journal"].count_documents({}) == 300


async def test_an_event_is_journaled_once_at_its_first_place(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    log, one = Log(), said("m1", "x")
    await projected(mongo, mongo_settings, one, said("m2", "y"), one, log=log)
    store = await started(mongo)
    await projector(store, mongo_settings).handle(log.add([one]))
    journal = await mongo.database("timeline")["journal"].find({}).sort("p", 1).to_list(None)
    marks = await mongo.database("timeline")["marks"].find_one({"_id": "a/1"})

    assert [document["p"] & 0xFFFF for document in journal] == [0, 1]
    assert journal[0]["s"] == [f"i:{who('ana').key}"]
    assert marks is not None
    assert marks["o"] == 4


async def test_a_receipt_of_an_unknown_message_waits_and_is_pushed_with_it(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    reader = await projected(mongo, mongo_settings, mapped("ana", "c1"), fact(MessageRead, "p1", 9))
    page = await reader.timeline("acme", "c1")
    assert page is not None
    assert page.items == ()
    store = await started(mongo)
    await projector(store, mongo_settings).handle(Log(9_000).add([sent("p1", "hola", 5)], partition=1))
    page = await reader.timeline("acme", "c1")

    assert page is not None
    assert [(one.text, one.status) for one in page.items] == [("hola", "read")]


async def test_a_mark_of_the_leg_covers_what_came_before_and_what_arrives_later(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    mark = fact(MessageRead, "", 10, up_to=True)
    reader = await projected(
        mongo,
        mongo_settings,
        mapped("ana", "c1"),
        sent("p1", "antes", 5),
        mark,
        sent("p2", "tarde", 9),
        sent("p3", "nuevo", 11),
    )
    page = await reader.timeline("acme", "c1")

    assert page is not None
    assert [(one.text, one.status) for one in page.items] == [("nuevo", "sent"), ("tarde", "read"), ("antes", "read")]


async def test_erasing_an_identifier_takes_its_words_and_those_that_come_late(
    mongo: Mongo, mongo_settings: CommonSettings
) -> None:
    log = Log()
    before = event(said("m1", "secreto", 1), identity_version=1)
    reader = await projected(mongo, mongo_settings, mapped("ana", "c1"), before, log=log)
    store = await started(mongo)
    await projector(store, mongo_settings).handle(log.add([mapped("ana", None, version=2, previous="c1")]))
    late = event(said("m2", "secreto", 2), identity_version=1)
    again = event(said("m3", "nueva vida", 3), identity_version=3)
    await projector(store, mongo_settings).handle(log.add([late, again, mapped("ana", "c2", version=3)]))
    everything = repr(await mongo.database("timeline")["entries_a"].find({}).to_list(None))
    page = await reader.timeline("acme", "c2")

    assert "secreto" not in everything
    assert everything.count("Ana") == 1
    assert page is not None
    assert [one.text for one in page.items] == ["nueva vida"]


async def test_a_conversation_keeps_its_newest_head(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    newest = changed("v1", 5, "closed", with_head={"state": "closed", "queue": "billing"})
    reader = await projected(mongo, mongo_settings, newest, changed("v1", 1), changed("v1", 3, with_head={"queue": "sales"}))
    row = await reader.conversation("acme", "v1")
    found = await mongo.database("timeline")["conversations_a"].find_one({"_id": "v1"})

    assert row is not None
    assert (row.seq, row.head.state, row.head.queue, row.type) == (5, "closed", "billing", "conversation.closed")
    assert found is not None
    assert sorted(found["qs"]) == ["billing", "sales", "support"]


@pytest.mark.parametrize("seed", [21, 22])
async def test_conversations_are_the_same_whatever_the_order_doubles_and_batches(
    mongo: Mongo, mongo_settings: CommonSettings, seed: int
) -> None:
    rng = random.Random(seed)
    queues, agents = ("support", "sales", "billing"), ("lena", "tom", None)
    events: list[Data] = [said(f"m{n}", "x", n, f"c{n % 3}") for n in range(30)]
    events += [appended(f"v{n % 3}", f"m{n}", n, f"c{n % 3}") for n in range(30)]
    for n in range(30):
        stated = {"queue": rng.choice(queues), "agent": rng.choice(agents)}
        events.append(changed(f"v{n % 3}", n, rng.choice(("opened", "queued", "closed")), n, with_head=stated))
    found = []
    for permutation in range(4):
        generation, log = f"c{permutation}", Log(permutation * 1_000_000)
        every = [*events, *rng.choices(events, k=20)]
        rng.shuffle(every)
        handle = projector(await started(mongo, generation), mongo_settings).handle
        for batch in cut(rng, every):
            await handle(log.add(batch, partition=permutation))
        rows = await mongo.database("timeline")[f"conversations_{generation}"].find({}).to_list(None)
        found.append(canonical([{**row, "qs": sorted(row["qs"]), "as": sorted(row["as"])} for row in rows]))

    assert len(found[0]) == 3
    assert found == [found[0]] * 4


async def test_two_tenants_with_equal_ids_do_not_meet(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    theirs = event(said("m1", "de otros"), tenant="other", id="x")
    reader = await projected(mongo, mongo_settings, said("m1", "nuestro"), theirs, mapped("ana", "c1"))

    assert isinstance(reader, Reader)
    assert await reader.entry("other", entry("m1")) is None
    assert (await reader.entry("other", entry("m1", "other"))) is not None
    assert await reader.timeline("other", "c1") is None
    assert await reader.entry("acme", pending("o1")) is None


@pytest.mark.parametrize("theirs_first", [False, True])
async def test_an_event_that_names_another_tenants_documents_stops_the_projector_and_touches_nothing(
    mongo: Mongo, mongo_settings: CommonSettings, theirs_first: bool
) -> None:
    """Ids hold their tenant, so only a bug can name another's: whoever came first, and whatever this process wrote before."""
    ours: list[Event[Data] | Data] = [said("m1", "nuestro"), changed("v1", 1), appended("v1", "m1")]
    wrong: list[Event[Data] | Data] = [
        event(appended("v1", "m1", after=9), tenant="other"),
        event(changed("v1", 9, "closed"), tenant="other"),
    ]
    handle, log = projector(await started(mongo), mongo_settings).handle, Log()
    tenant, first, second = ("other", wrong, ours) if theirs_first else ("acme", ours, wrong)
    for one in first:
        await handle(log.add([one]))
    before = await _of_tenant(mongo, tenant)
    for one in second:
        with pytest.raises(RuntimeError, match="another tenant"):
            await handle(log.add([one]))

    assert await _of_tenant(mongo, tenant) == before
    assert "nuestro" not in repr(await _of_tenant(mongo, "other"))


async def _of_tenant(mongo: Mongo, tenant: str) -> list[Any]:
    timeline = mongo.database("timeline")
    names = ("entries_a", "conversations_a", "journal")
    return [await timeline[name].find({"tn": tenant}).sort("_id", 1).to_list(None) for name in names]


async def test_what_was_written_before_is_found_without_planning(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    handle, log = projector(await started(mongo), mongo_settings).handle, Log()
    await handle(log.add([said("m1", "x"), said("m2", "x"), changed("v1", 1), appended("v1", "m1")]))
    timeline = mongo.database("timeline")
    await timeline.command("profile", 2)
    await handle(log.add([appended("v1", "m2"), fact(MessageRead, "m1", 9)]))
    await timeline.command("profile", 0)
    updates = await timeline["system.profile"].find({"op": "update"}).to_list(None)
    names = sorted(one["ns"].rpartition(".")[2] for one in updates)

    assert names == ["conversations_a", "entries_a", "entries_a", *["marks"] * 2]
    assert {one["planSummary"] for one in updates} == {"IDHACK"}


async def test_how_long_the_journal_is_kept_can_be_set_anew(mongo: Mongo) -> None:
    for days in (3.0, 1.0):
        await TimelineStore(mongo, "a", days).start()
    indexes = await mongo.database("timeline")["journal"].index_information()

    assert indexes["age"]["expireAfterSeconds"] == 86400


async def test_every_list_is_read_by_its_index(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    """A merge of index ranges reads as many keys as it shows; without it the whole history of a customer is sorted."""
    events = [said(f"m{n}", "x", n, f"i{n % 5}") for n in range(300)]
    await projected(mongo, mongo_settings, *events)
    entries = mongo.database("timeline")["entries_a"]
    keys = [who(f"i{n}").key for n in range(5)]
    query = {"tn": "acme", "b.i": {"$in": keys}, "k": {"$gt": NOWHERE, "$lt": b"\xff" * 30}}
    told = await entries.find(query).sort("k", -1).limit(51).explain()
    stats = told["executionStats"]

    assert "SORT_MERGE" in repr(told["queryPlanner"]["winningPlan"])
    assert stats["totalDocsExamined"] <= 51
    assert stats["totalKeysExamined"] <= 51 + 5
