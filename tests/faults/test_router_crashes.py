"""A crash after every single step of a command, a join, a timer: what is left half done is finished by the poll of `due`
alone (a map record by its redelivery), and the same command again has the same answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from services.common.cloudevents import Record, decode
from services.common.events import Author, Head, Part, SendRequested
from services.common.topics import CONVERSATION_EVENTS, OUTBOUND
from services.common.vault import DEMO_KEY, Vault
from services.router import timers
from services.router.app import offer_keys
from services.router.commands import Commands, Request
from services.router.directory import Directory, QueueTimes
from services.router.invitations import Invitations
from services.router.inviting import Links
from services.router.leaks import PrivateInvitations
from services.router.outputs import Change, committed
from services.router.people import Parties, People
from services.router.protocol import Conversations, NoDesk
from services.router.settings import RouterSettings
from services.router.state import Conversation, Handoff, LegRecord, OutboxItem, Sla
from services.router.stores import Known
from services.router.wishes import Wishes
from tests.router_memory import MemoryStore
from tests.router_world import START
from tests.routing import declarations, who

EVA = Author("agent", "eva")
PUBLIC = "acme/instagram/page/ana-------------------/public:post1"


class Crash(BaseException):
    """The process is gone."""


class Nobody:
    """Nothing is known of anybody."""

    async def known(self, *args: Any, **more: Any) -> list[Any]:
        return []

    async def withdrawn(self, *args: Any) -> bool:
        return False


class Broken:
    """A router over a store in memory that crashes at a step; after that it works again."""

    def __init__(self) -> None:
        self.steps, self.crash_at = 0, -1
        self.topic: list[Record] = []
        self.store = MemoryStore(self.pause)
        self.moment = START
        self.directory = Directory(lambda _tenant, _queue: QueueTimes(60))
        for record in declarations():
            self.directory.apply(record)
        parties = Parties(Vault(DEMO_KEY))
        self.wishes = Wishes(lambda c, leg: parties.open(c.tenant, leg.party, leg.who), 10)
        self.clocks = [timers.SLA, timers.inactivity(timedelta(hours=1), self.wishes.closed)]
        self.driver = Conversations(
            self.store, self, NoDesk(), timers.armed(self.clocks), self.directory.opening, lambda: self.moment
        )
        links = Links(offer_keys(RouterSettings(env="test")), "https://x/go/")
        private = PrivateInvitations(self.store, links.keys)
        self.commands = Commands(self.driver, self.directory, cast("People", Nobody()), parties, self.wishes, private)
        self.invitations = Invitations(self.commands, links)
        self.who = parties.seal("acme", who("ana", "instagram"))

    async def pause(self) -> None:
        self.steps += 1
        if self.steps == self.crash_at:
            raise Crash

    async def send(self, conversation: str, items: Sequence[OutboxItem]) -> None:
        for item in items:
            await self.pause()
            self.topic.append(item.record)

    async def have(self, name: str, party: str = "ana-------------------", **fields: Any) -> Conversation:
        key = PUBLIC if name == "c1" else f"acme/telegram/bot/{party}/private"
        leg = LegRecord(
            key, party, "instagram", "page", self.who, "comments", "post1", "public", wait=START, last=START, proof="channel"
        )
        base = Conversation(name, "acme", key, START, legs=(leg,), customer=party, check=False, sla=Sla(60), last=START)
        fresh = committed(Change(replace(base, **fields)), START)
        assert await self.store.insert_if_absent(fresh)
        await self.store.learn(party, Known(fresh.customer, 0))
        return fresh

    async def poll(self) -> None:
        """Only what is due; until nothing is."""
        self.moment += timedelta(seconds=30)
        for _ in range(20):
            due = await self.store.due(self.moment, 100)
            if not due:
                return
            for c in due:
                await self.driver.tend(c.id, timers.fired(self.clocks))
        raise AssertionError("does not become quiet")

    def sends(self) -> set[str]:
        found = [decode(record).data for record in self.topic if record.topic == OUTBOUND.name]
        return {one.outbound_id for one in found if isinstance(one, SendRequested)}

    def heads(self) -> dict[str, Head]:
        """As a subscriber knows them. Fails on a gap and on news that never came."""
        heads: dict[str, Head] = {}
        last: dict[str, int] = {}
        for record in self.topic:
            if record.topic == CONVERSATION_EVENTS.name:
                data = cast("Any", decode(record).data)
                assert data.seq <= last.get(data.conversation_id, 0) + 1
                if data.seq > last.get(data.conversation_id, 0):
                    heads[data.conversation_id], last[data.conversation_id] = data.head, data.seq
        for c in self.store.conversations.values():
            assert not c.out
            assert last.get(c.id, 0) == c.seq
        return heads


Work = Callable[[Broken], Awaitable[Any]]


def request(key: str = "k1", version: int | None = None) -> Request:
    return Request("acme", "c1", key, EVA, version)


async def answers(router: Broken) -> Any:
    return await router.commands.reply(request(), PUBLIC, [Part("text", "sorry")])


async def closes(router: Broken) -> Any:
    return await router.commands.close(request(), "done")


async def notes(router: Broken) -> Any:
    return await router.commands.note(request(), "hm")


async def invites(router: Broken) -> Any:
    return await router.invitations.invite(
        request(), (Part("text", "Tell us."),), (Part("text", "We wrote."),), (), approval=False
    )


def shown(c: Conversation) -> dict[str, Any]:
    return {"handoff": Handoff("detected", START, PUBLIC, "item", "entry")}


async def crashing(work: Work, prepare: Work, again: Work | None, check: Callable[[Broken], None] = lambda _: None) -> int:
    """The work with a crash at every step in turn; how many steps it has. After each: poll, again, and the same end."""
    whole = Broken()
    await prepare(whole)
    before = whole.steps
    answer = await work(whole)
    count = whole.steps - before
    await whole.poll()
    check(whole)
    expected = end_of(whole, answer)
    for step in range(1, count + 1):
        router = Broken()
        await prepare(router)
        router.crash_at = router.steps + step
        with pytest.raises(Crash):
            await work(router)
        await router.poll()
        router.heads()
        repeated = await (again or work)(router)
        await router.poll()
        check(router)
        found = end_of(router, repeated)
        assert (found if again is None else found[1:]) == (expected if again is None else expected[1:]), f"step {step}"
    return count


def end_of(router: Broken, answer: Any) -> tuple[Any, int, dict[str, str]]:
    """What everybody knows at the end, but for versions and times."""
    timeless = {k: v for k, v in answer.items() if k not in ("version", "not_before", "outbound_id")} if answer else None
    return timeless, len(router.sends()), {key: head.state for key, head in router.heads().items()}


async def one_conversation(router: Broken) -> None:
    await router.have("c1", **shown(cast("Conversation", None)))


@pytest.mark.parametrize("command", [answers, closes, notes])
async def test_a_command_is_done_once_wherever_it_was_cut_short(command: Work) -> None:
    assert await crashing(command, one_conversation, None) >= 4


async def test_an_invitation_is_sent_once_wherever_it_was_cut_short() -> None:
    def whole(router: Broken) -> None:
        c = router.store.conversations["c1"]
        assert len(router.sends()) == 1
        assert c.handoff
        assert {c.handoff.waits_for} == router.sends()
        assert [leg.visibility for leg in c.held] == ["public", "private"]

    assert await crashing(invites, one_conversation, None, whole) >= 8


async def test_a_join_is_finished_wherever_it_was_cut_short() -> None:
    async def prepare(router: Broken) -> None:
        await router.have("c1")
        await router.have("c2", "ben-------------------")
        await router.store.insert_hint(PUBLIC, _hint("c1"))

    async def learns(router: Broken) -> None:
        await router.driver.learned("ben-------------------", Known("ana-------------------", 3))

    assert await crashing(learns, prepare, learns) >= 10


async def test_a_timer_fires_once_wherever_it_was_cut_short() -> None:
    async def prepare(router: Broken) -> None:
        await router.have("c1", due=START)
        router.moment = START + timedelta(seconds=61)

    async def ticks(router: Broken) -> None:
        await router.driver.tend("c1", timers.fired(router.clocks))

    count = await crashing(ticks, prepare, ticks)
    assert count >= 4


def _hint(conversation: str) -> Any:
    from services.router.stores import Hint

    return Hint(conversation, START, None)
