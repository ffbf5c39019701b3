"""One suite for the agents' store in memory and in MongoDB, so that the one the interleavings run on cannot lie."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from services.common.mongo import Mongo
from services.router.agent_store import MongoAgentStore
from services.router.agents import AgentStore, Profile
from services.router.desk import Agent, Queue, Token
from services.router.hours import Hours
from tests.agents_memory import MemoryAgents

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
INES = Profile("ines", "Inés", "IN", ("es", "en"), ("refunds",), ("default", "vip"), capacity=3)


@pytest.fixture(params=["memory", "mongo"])
async def store(request: pytest.FixtureRequest, mongo: Mongo) -> AgentStore:
    if request.param == "memory":
        return MemoryAgents()
    one = MongoAgentStore(mongo)
    await one.start()
    return one


def token(name: str, weight: int = 1, *, forced: bool = False) -> Token:
    return Token(f"{name}@1@ines", weight, NOW, forced)


async def here(store: AgentStore) -> Agent:
    await store.put("acme", INES)
    found = await store.present("acme", "ines", on=True, now=NOW)
    assert found
    return found


async def test_an_agent_is_kept_as_told_and_is_away_at_first(store: AgentStore) -> None:
    made = await store.put("acme", INES)

    assert made == Agent("ines", "acme", "Inés", "IN", ("es", "en"), ("refunds",), ("default", "vip"), 3)
    assert await store.agent("acme", "ines") == made
    assert await store.agent("other", "ines") is None
    assert await store.agents("acme") == [made]


async def test_a_changed_profile_keeps_presence_and_tokens(store: AgentStore) -> None:
    await here(store)
    await store.reserve("acme", "ines", token("c1", 2), NOW)
    changed = await store.put("acme", replace(INES, capacity=1, name="Inés G."))

    assert (changed.on, changed.load, changed.tokens, changed.capacity) == (True, 2, (token("c1", 2),), 1)


async def test_members_are_those_of_any_of_the_queues(store: AgentStore) -> None:
    await store.put("acme", INES)
    await store.put("acme", replace(INES, id="luis", queues=("night",)))
    await store.put("other", replace(INES, id="eva"))

    assert [one.id for one in await store.members("acme", ("vip", "night"))] == ["ines", "luis"]
    assert [one.id for one in await store.members("acme", ("default",))] == ["ines"]
    assert await store.members("acme", ()) == []


async def test_who_comes_is_free_from_then_and_who_is_here_keeps_their_place(store: AgentStore) -> None:
    assert (await here(store)).free_since == NOW

    again = await store.present("acme", "ines", on=True, now=NOW + timedelta(hours=1))
    away = await store.present("acme", "ines", on=False, now=NOW + timedelta(hours=2))
    back = await store.present("acme", "ines", on=True, now=NOW + timedelta(hours=3))
    assert again and away and back
    assert (again.free_since, away.on, back.free_since) == (NOW, False, NOW + timedelta(hours=3))
    assert await store.present("acme", "nobody", on=True, now=NOW) is None


async def test_a_token_takes_its_weight_and_no_more_than_there_is(store: AgentStore) -> None:
    await here(store)

    assert await store.reserve("acme", "ines", token("c1", 2), NOW)
    assert not await store.reserve("acme", "ines", token("c2", 2), NOW)
    assert await store.reserve("acme", "ines", token("c3", 1), NOW + timedelta(seconds=1))
    found = await store.agent("acme", "ines")
    assert found
    assert (found.load, found.tokens) == (3, (token("c1", 2), token("c3", 1)))
    assert found.free_since == NOW + timedelta(seconds=1)


async def test_the_same_token_again_is_a_success_and_counts_once_even_when_full(store: AgentStore) -> None:
    await here(store)
    await store.reserve("acme", "ines", token("c1", 3), NOW)

    assert await store.reserve("acme", "ines", token("c1", 3), NOW)
    assert [one.load for one in await store.burdened()] == [3]


async def test_who_is_away_or_unknown_gets_nothing_unless_it_is_forced_on_them(store: AgentStore) -> None:
    await store.put("acme", INES)

    assert not await store.reserve("acme", "ines", token("c1"), NOW)
    assert not await store.reserve("acme", "nobody", token("c1"), NOW)
    assert await store.reserve("acme", "ines", token("c2", 0, forced=True), NOW)
    [found] = await store.burdened()
    assert (found.load, found.tokens) == (0, (token("c2", 0, forced=True),))


async def test_a_token_that_goes_takes_its_weight_with_it_once(store: AgentStore) -> None:
    await here(store)
    await store.reserve("acme", "ines", token("c1", 2), NOW)
    await store.reserve("acme", "ines", token("c2", 1), NOW)
    gone = await store.remove("acme", "ines", token("c1").reservation, NOW)

    assert gone
    assert (gone.load, gone.tokens) == (1, (token("c2", 1),))
    assert await store.remove("acme", "ines", token("c1").reservation, NOW) is None
    assert await store.remove("acme", "nobody", "x@1@y", NOW) is None


async def test_many_at_once_never_take_more_than_the_capacity(store: AgentStore) -> None:
    await here(store)
    taken = await asyncio.gather(*(store.reserve("acme", "ines", token(f"c{n}", 1 + n % 2), NOW) for n in range(30)))
    found = await store.agent("acme", "ines")

    assert found
    assert found.load == sum(one.weight for one in found.tokens) <= 3
    assert sum(taken) == len(found.tokens)


async def test_a_queue_is_kept_as_told(store: AgentStore) -> None:
    hours = Hours("Europe/Madrid", (((540, 840), (960, 1200)),) * 5 + ((), ()), (date(2026, 12, 25),))
    queue = Queue("default", "Todo", 30, 10, 60, "vip", 300, 3600, 86400, hours, ("refunds",), {"public": 1, "webchat": 2})
    await store.put_queue("acme", queue)
    await store.put_queue("acme", Queue("vip"))

    assert await store.queue("acme", "default") == queue
    assert await store.queues("acme") == [queue, Queue("vip")]
    assert await store.queue("other", "default") is None
