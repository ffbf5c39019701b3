"""The whole router on a real broker and a real mongod: events in, one conversation out, whatever channel they came by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from services.common.kafka import Publisher
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from tests.routing import NOW, Router, mapped, running, said
from tests.waiting import until


@pytest.fixture
async def router(settings: CommonSettings, publisher: Publisher, mongo: Mongo) -> AsyncIterator[Router]:
    async with running(settings, publisher, mongo) as one:
        yield one


async def appended(router: Router, count: int) -> dict[str, str]:
    async def enough() -> dict[str, str] | None:
        found = await router.appended()
        return found if len(found) >= count else None

    found = await until(enough, every_s=0.1, what=f"{count} messages appended")
    assert found
    return found


async def test_a_first_message_opens_a_conversation_and_the_next_ones_join_it(router: Router) -> None:
    await router.tell(*(said("ana", number) for number in range(5)))
    found = await appended(router, 5)
    heads = await router.heads()

    assert len(set(found.values())) == 1
    (head,) = heads.values()
    assert (head.state, head.customer_id, head.queue, head.language) == ("open", "cust-ana", "default", "en")
    assert (head.legs[0].channel, head.legs[0].name, head.legs[0].proof) == ("telegram", "Ana", "channel")
    assert head.sla.waiting_since == NOW
    assert head.sla.answer_by == NOW + timedelta(hours=1)


async def test_a_customer_who_writes_on_another_channel_goes_on_in_the_same_conversation(router: Router) -> None:
    await router.tell(said("ana", 0), mapped("ana", "cust-ana", 1))
    await appended(router, 1)
    await router.tell(said("ana-wa", 0, channel="whatsapp", account="main", customer="cust-ana"))
    found = await appended(router, 2)

    async def two_legs() -> bool:
        return any(len(head.legs) == 2 for head in (await router.heads()).values())

    await until(two_legs)
    assert len(set(found.values())) == 1
    assert len(await router.heads()) == 1


async def test_two_conversations_become_one_when_identity_learns_that_they_are_one_customers(router: Router) -> None:
    await router.tell(said("ana", 0), said("ben", 1, channel="whatsapp", account="main"))
    found = await appended(router, 2)
    assert len(set(found.values())) == 2

    await router.tell(mapped("ben", "cust-ana", 2, "whatsapp"))

    async def joined() -> bool:
        heads = await router.heads()
        return sorted(head.state for head in heads.values()) == ["joined", "open"] and any(h.absorbed for h in heads.values())

    await until(joined, every_s=0.1)
    heads = await router.heads()
    (winner,) = [key for key, head in heads.items() if head.state == "open"]
    (loser,) = [key for key, head in heads.items() if head.state == "joined"]
    assert heads[loser].into == winner
    assert {leg.channel for leg in heads[winner].legs if leg.held} == {"telegram", "whatsapp"}
    assert heads[winner].sla.waiting_since == NOW

    await router.tell(said("ben", 2, channel="whatsapp", account="main", customer="cust-ana", version=2))
    assert list((await appended(router, 3)).values()).count(winner) >= 2


async def test_a_split_gives_the_leg_that_leaves_a_conversation_of_its_own(router: Router) -> None:
    await router.tell(said("ana", 0), said("ben", 1, channel="whatsapp", account="main", customer="cust-ana"))
    assert len(set((await appended(router, 2)).values())) == 1

    await router.tell(mapped("ben", "cust-ben", 5, "whatsapp"))

    async def split() -> bool:
        return len(await router.open_heads()) == 2

    await until(split, every_s=0.1)
    heads = await router.open_heads()
    assert sorted(str(head.customer_id) for head in heads.values()) == ["cust-ana", "cust-ben"]
    assert sorted([leg.channel for leg in head.legs if leg.held] for head in heads.values()) == [["telegram"], ["whatsapp"]]


async def test_the_same_event_again_changes_nothing(router: Router) -> None:
    await router.tell(said("ana", 0), said("ana", 0))
    await router.tell(said("ana", 0), said("ana", 1))
    await appended(router, 2)
    first = await router.heads()
    await router.tell(said("ana", 0), said("ana", 2))
    await appended(router, 3)

    assert (await router.heads()).keys() == first.keys()
    (key,) = first
    document = await router.mongo.database("router")["convs"].find_one({"_id": key})
    assert document
    assert len(document["legs"][0]["seen"]) == 3 * 14


async def test_an_old_message_is_appended_without_effect(router: Router) -> None:
    await router.tell(*(said("ana", number) for number in range(70)))
    await appended(router, 70)
    await router.tell(said("ana", 99, at=NOW - timedelta(days=1)))
    found = await appended(router, 71)
    document = await router.mongo.database("router")["convs"].find_one({})

    assert len(set(found.values())) == 1
    assert document
    assert len(document["legs"][0]["seen"]) == 64 * 14


async def test_imported_history_opens_nothing_and_joins_what_is_there(router: Router) -> None:
    await router.tell(said("ana", 0, origin="backfill"), said("ben", 0))
    await appended(router, 1)
    await router.tell(said("ben", 5, origin="replay"))
    found = await appended(router, 2)

    assert len(set(found.values())) == 1
    assert [head.customer_id for head in (await router.heads()).values()] == ["cust-ben"]


async def test_who_writes_after_the_close_opens_a_new_conversation(router: Router) -> None:
    await router.tell(said("ana", 0))
    (first,) = set((await appended(router, 1)).values())
    version = (await router.http.get(f"/v1/conversations/{first}")).json()["head"]["version"]
    answer = await router.command(first, "close", "k1", version=version)
    assert answer.status_code == 200, answer.text

    await router.tell(said("ana", 1))
    found = await appended(router, 2)
    heads = await router.heads()
    assert len(set(found.values())) == 2
    assert sorted(head.state for head in heads.values()) == ["closed", "open"]


async def test_an_unreadable_record_is_set_aside_and_the_others_go_on(router: Router) -> None:
    from services.common.cloudevents import Record
    from services.common.topics import CUSTOMER_EVENTS

    bad = said("ana", 0)
    await router.tell(Record(CUSTOMER_EVENTS.name, bad.key, b"{junk", bad.headers), said("ana", 1))

    assert len(await appended(router, 1)) == 1


async def test_a_second_process_goes_on_after_a_stop_without_loss_or_repetition(
    settings: CommonSettings, publisher: Publisher, mongo: Mongo
) -> None:
    async with running(settings, publisher, mongo) as first:
        await first.tell(*(said("ana", number) for number in range(10)))
        await appended(first, 10)
    await publisher.publish([said("ana", number) for number in range(5, 20)])
    async with running(settings, publisher, mongo) as second:
        found = await appended(second, 20)
        document = await mongo.database("router")["convs"].find_one({})

        assert len(found) == 20
        assert len(set(found.values())) == 1
        assert document
        assert len(document["legs"][0]["seen"]) == 20 * 14
