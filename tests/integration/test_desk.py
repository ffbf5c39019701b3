"""The desk on a real MongoDB and a real broker: commands over HTTP, offers, presence, and many who race for few agents."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from services.common import topics, web
from services.common.auth import Auth, Keyring
from services.common.kafka import Consumer, Publisher
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.vault import vault
from services.router import conversations as decide
from services.router import desk, desk_api
from services.router.agent_store import MongoAgentStore
from services.router.agents import Desk, Profile
from services.router.app import KafkaOutbox, offer_keys
from services.router.assigner import Assigner, Kicks, Owner
from services.router.commands import Commands
from services.router.conversation_store import MongoConversationStore
from services.router.conversations import Opening
from services.router.desk import Queue
from services.router.desk_commands import DeskCommands
from services.router.directory import Directory, QueueTimes
from services.router.leaks import PrivateInvitations
from services.router.outputs import Change
from services.router.people import Parties, People
from services.router.protocol import Conversations, NoDesk, utc_now
from services.router.settings import RouterSettings
from services.router.state import Conversation, LegRecord
from services.router.wishes import Wishes
from tests.waiting import until


@dataclass
class Office:
    """A router's desk, its doors, and agents with keys."""

    store: MongoConversationStore
    agents: MongoAgentStore
    desk: Desk
    assigner: Assigner
    owner: Owner
    kicks: Kicks
    client: httpx.AsyncClient
    keyring: Keyring
    keys: dict[str, str] = field(default_factory=dict)
    calls: int = 0

    async def waits(self, name: str, **more: Any) -> Conversation:
        leg = LegRecord(f"acme/telegram/bot/{name}/private", name, "telegram", "bot", visibility="public")
        now = utc_now()
        c = Conversation(name, "acme", leg.key, now, v=1, legs=(leg,), check=False, since=now, customer=name)
        assert await self.store.insert_if_absent(replace(c, **more))
        return await self.get(name)

    async def get(self, name: str) -> Conversation:
        return (await self.store.read((name,)))[name]

    async def agent(self, name: str, capacity: int = 2, *, on: bool = True, **more: Any) -> None:
        await self.agents.put("acme", Profile(name, queues=("default",), capacity=capacity, **more))
        if on:
            await self.agents.present("acme", name, on=True, now=utc_now())
        self.keys[name] = await self.keyring.create_key("acme", name, frozenset(("agent", "read")), agent=name)

    async def post(self, who: str, path: str, **body: Any) -> httpx.Response:
        self.calls += 1
        headers = {"authorization": f"Bearer {self.keys[who]}", "idempotency-key": f"call-{self.calls}"}
        return await self.client.post(f"/v1/{path}", json=body, headers=headers)


@pytest.fixture
async def office(settings: CommonSettings, mongo: Mongo, publisher: Publisher) -> AsyncIterator[Office]:
    store, agents = MongoConversationStore(mongo), MongoAgentStore(mongo)
    await store.start()
    await agents.start()
    sealing = vault(settings)
    keyring, kicks = Keyring(mongo, sealing), Kicks(publisher)
    driver = Conversations(store, KafkaOutbox(publisher), NoDesk(), lambda _c, _now: None, lambda _leg: Opening("acme"))
    driver.desk = over = Desk(driver, agents, kicks)
    assigner = Assigner(store, agents, over)
    directory, parties = Directory(lambda _t, _q: QueueTimes()), Parties(sealing)
    wishes = Wishes(lambda c, leg: parties.open(c.tenant, leg.party, leg.who), 10)
    private = PrivateInvitations(store, offer_keys(RouterSettings(env="test")))
    commands = Commands(driver, directory, People(mongo, sealing), parties, wishes, private)
    readiness = web.Readiness()
    readiness.started = True
    app = web.build("desk", "router", readiness)
    app.include_router(desk_api.routes(DeskCommands(commands, over, agents), over, agents, Auth(keyring, settings)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://router") as client:
        made = Office(store, agents, over, assigner, Owner(store, assigner, over, tick_s=0.05), kicks, client, keyring)
        key = await keyring.create_tenant("acme")
        assert key
        made.keys["chief"] = key
        yield made


# -- commands -----------------------------------------------------------------------------------------------------------


async def test_an_agent_takes_a_conversation_and_another_gets_409_with_what_is_there(office: Office) -> None:
    await office.agent("ines")
    await office.agent("luis")
    c = await office.waits("c1")
    took = await office.post("ines", "conversations/c1/take", version=c.v)
    late = await office.post("luis", "conversations/c1/take", version=c.v)

    assert took.status_code == 200
    assert took.json()["assignee"]["agent"] == "ines"
    assert took.json()["version"] == (await office.get("c1")).v
    assert (late.status_code, late.json()["code"]) == (409, "version_lost")
    assert late.json()["current"]["assignee"]["agent"] == "ines"

    late = await office.post("luis", "conversations/c1/take")
    assert (late.status_code, late.json()["code"]) == (409, "taken")


async def test_the_same_command_again_is_answered_the_same_and_done_once(office: Office) -> None:
    await office.agent("ines")
    await office.waits("c1")
    headers = {"authorization": f"Bearer {office.keys['ines']}", "idempotency-key": "once"}
    first = await office.client.post("/v1/conversations/c1/take", json={}, headers=headers)
    again = await office.client.post("/v1/conversations/c1/take", json={}, headers=headers)

    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    ines = await office.agents.agent("acme", "ines")
    assert ines
    assert (ines.load, len(ines.tokens)) == (1, 1)


async def test_who_is_full_takes_no_more_unless_they_force_it_and_that_costs_no_room(office: Office) -> None:
    await office.agent("ines", capacity=1)
    await office.waits("c1")
    await office.waits("c2")
    await office.post("ines", "conversations/c1/take")
    full = await office.post("ines", "conversations/c2/take")

    assert (full.status_code, full.json()["code"], full.json()["load"], full.json()["capacity"]) == (409, "no_room", 1, 1)
    assert (await office.post("ines", "conversations/c2/take", force=True)).status_code == 200
    ines = await office.agents.agent("acme", "ines")
    assert ines
    assert [(one.weight, one.forced) for one in ines.tokens] == [(1, False), (0, True)]


async def test_an_offer_is_accepted_once_rejected_by_its_agent_alone_and_not_after_its_time(office: Office) -> None:
    await office.agents.put_queue("acme", Queue("default", offer_s=60))
    await office.agent("ines")
    await office.agent("luis")
    await office.waits("c1")
    assert not await office.assigner.work("acme", "default")
    offer = (await office.get("c1")).assignment
    assert offer
    assert (offer.state, offer.why.split()[:2]) == ("offered", ["by=auto", "rule=longest_free"])
    holder, other = (offer.agent, "luis" if offer.agent == "ines" else "ines")

    denied = await office.post(other, "conversations/c1/accept", reservation=offer.reservation)
    assert (denied.status_code, denied.json()["code"]) == (409, "taken")
    rejected = await office.post(holder, "conversations/c1/reject", reservation=offer.reservation, why="not mine")
    assert rejected.status_code == 200
    await office.assigner.work("acme", "default")
    second = (await office.get("c1")).assignment
    assert second
    assert second.agent == other

    gone = await office.post(holder, "conversations/c1/accept", reservation=offer.reservation)
    assert (gone.status_code, gone.json()["code"]) == (409, "not_held")
    accepted = await office.post(other, "conversations/c1/accept", reservation=second.reservation)
    assert accepted.json()["assignee"] == {
        "agent": other,
        "reservation": second.reservation,
        "state": "active",
        "expires_at": None,
        "why": second.why,
    }
    found = await office.agents.agent("acme", holder)
    assert found
    assert found.tokens == ()


async def test_an_offer_that_nobody_answered_goes_to_the_next_and_cannot_be_accepted_any_more(office: Office) -> None:
    await office.agents.put_queue("acme", Queue("default", offer_s=60))
    await office.agent("ines")
    await office.waits("c1")
    await office.assigner.work("acme", "default")
    c = await office.get("c1")
    assert c.assignment
    assert c.assignment.expires
    past = replace(c.assignment, expires=utc_now() - timedelta(seconds=1))
    assert await office.desk.conversations.change(c, Change(replace(c, assignment=past)))
    over = await office.post("ines", "conversations/c1/accept", reservation=past.reservation)
    assert (over.status_code, over.json()["code"]) == (409, "offer_over")

    def fire(one: Conversation, now: datetime) -> Change:
        return desk.fired(one, now) or Change(one)

    await office.desk.conversations.tend("c1", fire)
    c = await office.get("c1")
    assert (c.assignment, c.excluded) == (None, ("ines",))


async def test_work_is_handed_to_another_agent_or_queue_and_its_token_goes_with_it(office: Office) -> None:
    await office.agents.put_queue("acme", Queue("default"))
    await office.agents.put_queue("acme", Queue("vip"))
    await office.agent("ines")
    await office.agent("luis")
    await office.waits("c1")
    await office.post("ines", "conversations/c1/take")
    moved = await office.post("ines", "conversations/c1/transfer", agent="luis")
    assert moved.json()["assignee"]["agent"] == "luis"
    assert [len(one.tokens) for one in await office.agents.agents("acme")] == [0, 1]

    refused = await office.post("ines", "conversations/c1/release")
    assert (refused.status_code, refused.json()["code"]) == (409, "taken")
    queued = await office.post("luis", "conversations/c1/transfer", queue="vip")
    c = await office.get("c1")
    assert queued.status_code == 200
    assert (c.queue, c.assignment, c.participants) == ("vip", None, ("ines", "luis"))
    assert [len(one.tokens) for one in await office.agents.agents("acme")] == [0, 0]
    assert (await office.post("luis", "conversations/c1/transfer", queue="none")).status_code == 404
    assert (await office.post("luis", "conversations/c1/transfer", queue="vip", agent="ines")).status_code == 422


async def test_who_goes_away_gives_everything_back(office: Office) -> None:
    await office.agent("ines", capacity=3)
    for name in ("c1", "c2"):
        await office.waits(name)
        await office.post("ines", f"conversations/{name}/take")
    gone = await office.post("ines", "agents/ines/presence", on=False)

    assert (gone.json()["on"], gone.json()["load"], gone.json()["conversations"]) == (False, 0, [])
    assert [(await office.get(name)).assignment for name in ("c1", "c2")] == [None, None]
    assert (await office.post("ines", "agents/luis/presence", on=True)).status_code == 403
    assert (await office.post("chief", "agents/nobody/presence", on=True)).status_code == 404


async def test_agents_and_queues_are_made_by_an_administrator_alone(office: Office) -> None:
    await office.agent("ines")
    chief = {"authorization": f"Bearer {office.keys['chief']}"}
    mine = {"authorization": f"Bearer {office.keys['ines']}"}
    eva = {"name": "Eva", "initials": "EV", "languages": ["es"], "skills": [], "queues": ["default"], "capacity": 4}
    week = [[["09:00", "14:00"], ["16:00", "20:00"]]] * 5 + [[], []]
    hours = {"zone": "Europe/Madrid", "week": week, "holidays": ["2026-12-25"]}

    assert (await office.client.put("/v1/agents/eva", json=eva, headers=mine)).status_code == 403
    assert (await office.client.put("/v1/agents/eva", json=eva, headers=chief)).json()["capacity"] == 4
    assert (await office.client.put("/v1/agents/a%2Fb", json=eva, headers=chief)).status_code in (404, 422)
    listed = (await office.client.get("/v1/agents", headers=mine)).json()["agents"]
    assert [one["id"] for one in listed] == ["eva", "ines"]

    made = await office.client.put("/v1/queues/default", json={"answer_s": 3600, "hours": hours}, headers=chief)
    assert made.json()["hours"] == hours
    assert (await office.client.get("/v1/queues", headers=mine)).json()["queues"] == [made.json()]
    bad = {"hours": {"zone": "Mars/Olympus", "week": [], "holidays": []}}
    assert (await office.client.put("/v1/queues/default", json=bad, headers=chief)).json()["code"] == "hours_invalid"


async def test_another_tenants_conversations_and_agents_do_not_exist(office: Office) -> None:
    await office.agent("ines")
    await office.waits("c1", tenant="other")

    assert (await office.post("ines", "conversations/c1/take")).status_code == 404
    assert (await office.post("ines", "conversations/none/take")).status_code == 404


# -- the automatic --------------------------------------------------------------------------------------------------------


async def test_a_kick_brings_what_waits_to_who_is_free_and_lost_kicks_are_made_good(
    office: Office, settings: CommonSettings
) -> None:
    await office.agent("ines", capacity=2)
    for name in ("c1", "c2", "c3"):
        await office.waits(name)
    consumer = Consumer(settings, "router.desk", [topics.DESK_KICKS], office.owner.handle)
    await consumer.start()
    loops = [asyncio.create_task(run()) for run in (consumer.run, office.kicks.run, office.owner.run)]

    async def active(count: int) -> bool:
        found = await office.store.read(("c1", "c2", "c3"))
        return sum(one.assignment is not None for one in found.values()) == count

    await until(lambda: active(2))  # nobody kicked: the sweep did
    first = await office.get("c1")
    closed = decide.closed(first, utc_now())
    assert await office.desk.drop(first, closed)
    await until(lambda: active(2))
    third = await office.get("c3")
    assert third.assignment
    await consumer.stop()
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)


async def test_few_agents_and_many_who_race_for_them_on_a_real_store(office: Office) -> None:
    """Assigners, commands, presence, collectors and crashes at once; then nothing is exceeded, doubled, lost or left."""
    rng = random.Random(20261122)
    names = [f"c{n:02}" for n in range(24)]
    for name in names:
        await office.waits(name)
    for name in ("ines", "luis", "eva"):
        await office.agent(name, capacity=3)
    worst: Counter[str] = Counter()

    async def watch() -> None:
        while True:
            for agent in await office.agents.agents("acme"):
                worst[agent.id] = max(worst[agent.id], sum(token.weight for token in agent.tokens))
                assert agent.load == sum(token.weight for token in agent.tokens)
            await asyncio.sleep(0.01)

    async def assign() -> None:
        for _ in range(6):
            await office.assigner.work("acme", "default")

    async def work(agent: str) -> None:
        for _ in range(12):
            name = rng.choice(names)
            verb = rng.choice(("take", "release", "transfer"))
            body = {"agent": rng.choice(("ines", "luis", "eva"))} if verb == "transfer" else {}
            answer = await office.post(agent, f"conversations/{name}/{verb}", **body)
            assert answer.status_code in (200, 409, 503), answer.text

    async def come_and_go() -> None:
        for on in (False, True, False, True):
            await office.desk.present("acme", "eva", on=on)
            await asyncio.sleep(0)

    async def crash() -> None:
        for _ in range(10):
            task = asyncio.create_task(office.assigner.work("acme", "default"))
            for _ in range(rng.randint(1, 12)):
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    watching = asyncio.create_task(watch())
    racing = (
        assign(),
        assign(),
        assign(),
        work("ines"),
        work("luis"),
        work("eva"),
        come_and_go(),
        crash(),
        office.desk.collect(),
    )
    await asyncio.gather(*racing)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await settle(office)

    assert all(most <= 3 for most in worst.values()), worst
    agents = {one.id: one for one in await office.agents.agents("acme")}
    found = await office.store.read(names)
    held = Counter(one.assignment.agent for one in found.values() if one.assignment)
    assert {name: agent.load for name, agent in agents.items()} == {name: held[name] for name in agents}
    assert {token.reservation for agent in agents.values() for token in agent.tokens} == {
        one.assignment.reservation for one in found.values() if one.assignment
    }
    assert sum(held.values()) == 9  # no waiting beside a free agent


async def settle(office: Office) -> None:
    """The collector, after the time for which a set might still come; then the queue."""
    late = utc_now() + timedelta(minutes=5)
    office.desk.conversations.now = lambda: late
    for _ in range(3):
        await office.desk.collect()
        await office.assigner.work("acme", "default")
