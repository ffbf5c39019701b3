"""What is said to visitors, on a real mongod: numbered without gap, once, whoever races."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest

from services.common.mongo import Mongo
from services.ingest.chat_out import ChatOut, Said, Thread

ANA = Thread("acme", "shop", "v-ana")


@pytest.fixture
async def out(mongo: Mongo) -> AsyncIterator[ChatOut]:
    one = ChatOut(mongo)
    await one.prepare()
    yield one


async def said(out: ChatOut, thread: Thread, piece: str, *, party: str = "") -> int:
    return await out.append(thread.tenant, thread.account, thread.thread, piece, {"text": piece}, party=party)


async def read(out: ChatOut, thread: Thread, n: int = 0, limit: int = 1000) -> list[Said]:
    return await out.after(thread.tenant, thread.account, thread.thread, n, limit)


async def test_numbers_are_gapless_though_many_append_at_once(out: ChatOut) -> None:
    numbers = await asyncio.gather(*(said(out, ANA, f"p{i}") for i in range(40)))

    assert sorted(numbers) == list(range(1, 41))
    assert [one.n for one in await read(out, ANA)] == list(range(1, 41))
    assert {one.piece: one.n for one in await read(out, ANA)} == {f"p{i}": n for i, n in enumerate(numbers)}


async def test_the_same_piece_is_said_once_even_by_two_workers_at_the_same_moment(out: ChatOut, mongo: Mongo) -> None:
    another = ChatOut(mongo)
    numbers = await asyncio.gather(*(said(one, ANA, "p") for one in (out, another) * 10))

    assert set(numbers) == {1}
    assert await said(out, ANA, "next") == 2
    assert await said(out, ANA, "p") == 1
    assert [one.piece for one in await read(out, ANA)] == ["p", "next"]


async def test_threads_count_for_themselves_and_read_only_their_own(out: ChatOut) -> None:
    strangers = [Thread("acme", "shop", "v-eva"), Thread("acme", "help", "v-ana"), Thread("other", "shop", "v-ana")]
    for thread in (ANA, *strangers):
        assert await said(out, thread, f"{thread.tenant}-{thread.account}-{thread.thread}") == 1
    await said(out, ANA, "second")

    assert [one.piece for one in await read(out, ANA)] == ["acme-shop-v-ana", "second"]
    assert await out.last([ANA, *strangers, Thread("acme", "shop", "v-nobody")]) == {ANA: 2, **dict.fromkeys(strangers, 1)}


async def test_reading_goes_on_after_a_number_and_stops_at_the_limit(out: ChatOut) -> None:
    for i in range(5):
        await said(out, ANA, f"p{i}")

    assert [one.n for one in await read(out, ANA, 2)] == [3, 4, 5]
    assert [one.n for one in await read(out, ANA, 1, 2)] == [2, 3]
    assert await read(out, ANA, 5) == []


async def test_numbers_go_on_after_all_messages_have_expired(out: ChatOut, mongo: Mongo) -> None:
    for i in range(3):
        await said(out, ANA, f"p{i}")
    await mongo.database("ingest")["chat_out"].delete_many({})

    assert await said(out, ANA, "after a month") == 4


async def test_an_attempt_that_died_between_its_two_writes_is_mended_by_the_next(out: ChatOut, mongo: Mongo) -> None:
    await said(out, ANA, "p")
    await mongo.database("ingest")["chat_last"].delete_many({})

    assert await out.last([ANA]) == {}
    assert await said(out, ANA, "p") == 1
    assert await out.last([ANA]) == {ANA: 1}


async def test_erasing_a_party_takes_what_was_said_to_it_and_nothing_else(out: ChatOut) -> None:
    eva = Thread("acme", "shop", "v-eva")
    await said(out, ANA, "a1", party="key-ana")
    await said(out, ANA, "a2", party="key-ana")
    await said(out, eva, "e1", party="key-eva")

    assert await out.erase("other", ["key-ana"]) == 0
    assert await out.erase("acme", ["key-ana"]) == 2
    assert (await read(out, ANA), await out.last([ANA])) == ([], {})
    assert [one.piece for one in await read(out, eva)] == ["e1"]


async def test_messages_expire_and_the_numbers_live_longer(out: ChatOut, mongo: Mongo) -> None:
    database = mongo.database("ingest")

    def keep(info: MutableMapping[str, Any]) -> object:
        return info["expiry"]["expireAfterSeconds"]

    assert keep(await database["chat_out"].index_information()) == 30 * 86400
    assert keep(await database["chat_last"].index_information()) == 400 * 86400
