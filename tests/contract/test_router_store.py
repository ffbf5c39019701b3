"""The router's store does what the protocol needs of it, in MongoDB and in memory alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.common.events import Author, Part
from services.common.mongo import Mongo
from services.router.conversation_store import MongoConversationStore
from services.router.outputs import Change, Emit, committed
from services.router.state import (
    Assignment,
    Command,
    Conversation,
    Handoff,
    LegRecord,
    Moved,
    Offer,
    Seen,
    Send,
    Sla,
)
from services.router.stores import ConversationStore, Hint, Known
from tests.router_memory import MemoryStore

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["memory", "mongo"])
async def store(request: pytest.FixtureRequest, mongo: Mongo) -> AsyncIterator[ConversationStore]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        one = MongoConversationStore(mongo)
        await one.start()
        yield one


def leg(key: str = "acme/x/1", party: str = "p1") -> LegRecord:
    return LegRecord(key=key, party=party, channel="x", account="1", seen=Seen().plus("e1", 7), wait=NOW, last=NOW)


def conversation(name: str = "c1", **fields: object) -> Conversation:
    base = Conversation(id=name, tenant="acme", home="acme/x/1", opened=NOW, customer="ana", legs=(leg(),), since=NOW)
    return committed(Change(replace(base, **fields), (Emit("conversation.opened"),)), NOW)  # type: ignore[arg-type]


async def only(store: ConversationStore, name: str = "c1") -> Conversation:
    return (await store.read([name]))[name]


async def test_every_field_comes_back_as_it_was(store: ConversationStore) -> None:
    author = Author("agent", "ag1", "Eva")
    full = conversation(
        legs=(replace(leg(), moved=Moved("c9", NOW, None), context={"a.b": "1", "$c": "2"}, context_at=NOW, name="Añá"),),
        assignment=Assignment("ag1", "c1@1@ag1", "offered", NOW, "longest waiting"),
        offers=(Offer("o1", "h1", "hc1", "used", "public", "acme/x/1", NOW, "acme/y/1", "e1"),),
        handoff=Handoff(
            state="offered", since=NOW, public_leg="l", then=(Part("text", "hi", data={"k.x": "v"}),), author=author
        ),
        sends=(Send("s1", "acme/x/1", "public", "none", 1, NOW, NOW, "stopped", NOW),),
        commands=(Command("k1", {"version": 3, "nested": {"a": 1}}),),
        sla=Sla(60, NOW, NOW, True),
        absorbed=("c0",),
        due=NOW,
        participants=("ag1",),
        excluded=("ag2",),
    )
    assert await store.insert_if_absent(full)

    assert await only(store) == full


async def test_an_id_is_taken_once(store: ConversationStore) -> None:
    results = await asyncio.gather(*(store.insert_if_absent(conversation()) for _ in range(5)))

    assert sorted(results) == [False, False, False, False, True]


async def test_of_many_who_compare_and_set_one_wins(store: ConversationStore) -> None:
    await store.insert_if_absent(conversation())
    before = await only(store)
    tries = [committed(Change(replace(before, queue=f"q{n}")), NOW) for n in range(8)]
    results = await asyncio.gather(*(store.cas(before, after) for after in tries))

    assert sum(results) == 1
    assert await only(store) == tries[results.index(True)]


async def test_of_a_bulk_everybody_learns_their_own_result(store: ConversationStore) -> None:
    for n in range(6):
        await store.insert_if_absent(conversation(f"c{n}"))
    found = await store.read([f"c{n}" for n in range(6)])
    stale = replace(found["c3"], v=7)
    pairs = [(one, committed(Change(replace(one, queue="new")), NOW)) for one in (*found.values(), stale)]
    pairs.append((conversation("absent"), conversation("absent")))

    assert await store.cas_many(pairs) == [True] * 6 + [False, False]


async def test_the_outbox_is_added_to_by_whoever_sets_and_shortened_by_whoever_published(store: ConversationStore) -> None:
    await store.insert_if_absent(conversation())
    before = await only(store)
    after = committed(Change(before, (Emit("conversation.closed"), Emit("conversation.reopened"))), NOW)
    await store.pull_out("c1", 1)

    assert await store.cas(before, after)
    assert [(item.n, item.s) for item in (await only(store)).out] == [(2, 2), (3, 3)]

    await store.pull_out("c1", 2)
    assert [item.n for item in (await only(store)).out] == [3]
    assert (await only(store)).v == after.v


async def test_whoever_has_published_all_empties_the_outbox_with_what_they_set(store: ConversationStore) -> None:
    await store.insert_if_absent(conversation())
    before = await only(store)
    settled = committed(Change(replace(before, check=False, out=())), NOW)

    assert await store.cas(before, settled)
    assert (await only(store)).out == ()
    assert not await store.cas(before, settled), "only at the version that was read"


async def test_one_field_of_a_leg_is_written_beside_a_leg_that_is_added(store: ConversationStore) -> None:
    await store.insert_if_absent(conversation())
    before = await only(store)
    moved = replace(before.legs[0], moved=Moved("c9", NOW, None), seen=before.legs[0].seen.plus("e2", 8), context={"a.b": "1"})
    after = committed(Change(before.with_leg(moved).with_leg(leg("acme/y/1", "p2"))), NOW)

    assert await store.cas(before, after)
    assert await only(store) == after


async def test_conversations_of_many_identifiers_are_found_at_once(store: ConversationStore) -> None:
    await store.insert_if_absent(conversation("c1"))
    await store.insert_if_absent(conversation("c2", legs=(leg("acme/y/1", "p2"), leg("acme/z/1", "p3"))))
    found = await asyncio.gather(*(store.open_holding(party) for party in ("p3", "p1", "p4", "p2")))

    assert [[c.id for c in one] for one in found] == [["c2"], ["c1"], [], ["c2"]]


async def test_one_leg_is_written_without_the_others(store: ConversationStore) -> None:
    two = conversation(legs=(leg(), leg("acme/y/1", "p2")))
    await store.insert_if_absent(two)
    changed = two.with_leg(replace(two.legs[1], wait=None)).with_leg(leg("acme/z/1", "p3"))

    assert await store.cas(two, committed(Change(changed), NOW))
    assert [(one.key, one.wait) for one in (await only(store)).legs] == [
        ("acme/x/1", NOW),
        ("acme/y/1", None),
        ("acme/z/1", NOW),
    ]


async def test_a_customers_open_conversations_come_oldest_first(store: ConversationStore) -> None:
    await store.insert_if_absent(conversation("c2", opened=NOW + timedelta(seconds=1)))
    await store.insert_if_absent(conversation("c1"))
    await store.insert_if_absent(conversation("c3", state="closed"))
    await store.insert_if_absent(conversation("c4", group="other"))
    await store.insert_if_absent(conversation("c5", customer="ben"))
    found = await asyncio.gather(store.open_of("ana", "default"), store.open_of("ben", "default"), store.open_of("x", "y"))

    assert [[c.id for c in one] for one in found] == [["c1", "c2"], ["c5"], []]


async def test_conversations_are_found_by_identifier_offer_and_send(store: ConversationStore) -> None:
    offer = Offer("o1", "h1", "hc1", "open", "public", "acme/x/1", NOW)
    send = Send("s1", "acme/x/1", "public", "none", 1, NOW)
    await store.insert_if_absent(conversation("c1", offers=(offer,), sends=(send,)))
    await store.insert_if_absent(conversation("c2", state="closed"))

    assert [c.id for c in await store.open_holding("p1")] == ["c1"]
    assert sorted(c.id for c in await store.of_identifier("p1")) == ["c1", "c2"]
    assert [c.id for c in await store.with_token("h1")] == ["c1"]
    assert [c.id for c in await store.with_code("acme", "hc1")] == ["c1"]
    assert await store.with_code("other", "hc1") == []
    assert [c.id for c in await store.with_offer("o1")] == ["c1"]
    assert [c.id for c in await store.with_send("s1")] == ["c1"]
    assert await store.with_send("s2") == []


async def test_what_is_due_comes_earliest_first(store: ConversationStore) -> None:
    for n, due in enumerate((NOW, None, NOW - timedelta(seconds=1), NOW + timedelta(seconds=1))):
        await store.insert_if_absent(conversation(f"c{n}", due=due))

    assert [c.id for c in await store.due(NOW, 10)] == ["c2", "c0"]
    assert [c.id for c in await store.due(NOW, 1)] == ["c2"]


async def test_a_queue_is_read_from_its_head(store: ConversationStore) -> None:
    await store.insert_if_absent(conversation("c1", since=NOW))
    await store.insert_if_absent(conversation("c2", since=NOW - timedelta(seconds=5)))
    await store.insert_if_absent(conversation("c3", priority=1))
    await store.insert_if_absent(conversation("c4", assignment=Assignment("a", "r", "active")))
    await store.insert_if_absent(conversation("c5", queue="sales"))
    await store.insert_if_absent(conversation("c6", state="closed"))

    assert [c.id for c in await store.waiting("acme", "default", 10)] == ["c3", "c2", "c1"]
    assert await store.queues_waiting() == [("acme", "default"), ("acme", "sales")]


async def test_a_leg_has_one_first_place_and_may_be_hinted_on(store: ConversationStore) -> None:
    hints = [Hint(f"c{n}", NOW, None) for n in range(3)]
    results = await asyncio.gather(*(store.insert_hint("l1", hint) for hint in hints))

    assert sum(results) == 1
    assert await store.hints(["l1", "l2"]) == {"l1": hints[results.index(True)]}

    await store.shorten("l1", "c9")
    assert (await store.hints(["l1"]))["l1"].conversation == "c9"


async def test_only_a_newer_map_record_is_learned(store: ConversationStore) -> None:
    await asyncio.gather(*(store.learn("i1", Known(f"c{n}", n)) for n in (3, 1, 2)))
    await store.learn("i1", Known("c2", 2))
    await store.learn("i2", Known(None, 1))

    assert await store.known(["i1", "i2", "i3"]) == {"i1": Known("c3", 3), "i2": Known(None, 1)}
    assert await store.known(["i1"]) == {"i1": Known("c3", 3)}


async def test_a_hundred_steps_at_once_each_get_their_answer(store: ConversationStore) -> None:
    names = [f"c{n}" for n in range(100)]
    assert all(await asyncio.gather(*(store.insert_if_absent(conversation(n)) for n in names)))
    found = await asyncio.gather(*(store.read([n]) for n in names))

    assert [next(iter(one)) for one in found] == names
