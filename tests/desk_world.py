"""A small world around the desk's real code: four conversations, two agents, and everybody who may race for them: assigners,
agents who accept, reject, release and close on stale screens, timers, a supervisor, presence, joins, collectors.
`World(seed, bugs).go()` raises Violation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from services.common.events import Author
from services.router import conversations as decide
from services.router import desk
from services.router.agents import Desk, Profile
from services.router.assigner import Assigner
from services.router.conversations import Opening
from services.router.desk import Queue, Token
from services.router.outputs import Change
from services.router.protocol import Conversations
from services.router.state import Conversation, LegRecord, OutboxItem
from tests.agents_memory import MemoryAgents
from tests.interleaving import Scheduler, Violation
from tests.router_memory import MemoryStore

START = datetime(2026, 3, 1, tzinfo=UTC)
AGENTS = ("A", "B")
CASES = ("k1", "k2", "k3", "k4")
NOTHING: frozenset[str] = frozenset()
RULE = Author("rule", "test")


class WatchedStore(MemoryStore):
    def __init__(self, world: World) -> None:
        super().__init__(world.scheduler.pause)
        self.world = world

    def compare_and_set(self, before: Conversation, after: Conversation) -> bool:
        current = self.conversations[before.id]
        unassigned = current.assignment is None and current.state == "open"
        if "set_if_unassigned" in self.world.bugs and after.assignment and not before.assignment and unassigned:
            before, after = replace(before, v=current.v), replace(after, v=current.v + 1)  # whatever the version
        if not super().compare_and_set(before, after):
            return False
        self.world.check()
        return True

    async def cas(self, before: Conversation, after: Conversation) -> bool:
        """Sometimes an answer is lost: written, but reported as not known to be."""
        written = await super().cas(before, after)
        return written and not (self.world.lossy and self.world.scheduler.random.random() < 0.02)


class WatchedAgents(MemoryAgents):
    def __init__(self, world: World) -> None:
        super().__init__(world.scheduler.pause)
        self.world = world

    def book(self, tenant: str, agent: str, token: Token, now: datetime) -> bool:
        if "count_query" in self.world.bugs:
            old = self.documents[tenant, agent]
            self.documents[tenant, agent] = replace(old, tokens=(*old.tokens, token))
            return True
        return super().book(tenant, agent, token, now)

    async def remove(self, tenant: str, agent: str, reservation: str, now: datetime) -> Any:
        after = await super().remove(tenant, agent, reservation, now)
        self.world.check()
        return after


class BrokenDesk(Desk):
    """The real one, with the promises of the protocol's counterexamples broken as asked."""

    world: World

    async def give(self, c: Conversation, agent: str, why: str, **more: Any) -> Conversation | None:
        bugs, name = self.world.bugs, desk.reservation(c.id, c.v, agent)
        if "set_first" in bugs:
            change = desk.given(c, agent, why, self.world.now(), state=more.get("state", "active"))
            after = await self.conversations.change(c, change)
            if after:
                await self.agents.reserve(c.tenant, agent, Token(name, more["weight"], self.world.now()), self.world.now())
            return after
        if "count_query" in bugs:
            await self.world.scheduler.pause()
            if sum(one.assignment.agent == agent for one in self.world.live() if one.assignment) >= self.world.capacity[agent]:
                return None
        if "release_before_set" in bugs and c.assignment:
            await self.agents.remove(c.tenant, c.assignment.agent, c.assignment.reservation, self.world.now())
        return await super().give(c, agent, why, **more)

    async def drop(self, c: Conversation, change: Change) -> Conversation | None:
        if "release_before_clear" in self.world.bugs and c.assignment:
            await self.agents.remove(c.tenant, c.assignment.agent, c.assignment.reservation, self.world.now())
        return await super().drop(c, change)

    async def dead(self, reservation: str, *, fence: bool) -> bool:
        bugs, conversation = self.world.bugs, desk.parsed(reservation)[0]
        if "release_blind" in bugs:
            return True
        while bugs & {"gc_unversioned", "gc_no_follow", "gc_stops_early"}:
            c = await self.conversations.find(conversation)
            assert c
            holds = c.assignment is not None and c.assignment.reservation == reservation
            if "gc_unversioned" in bugs:
                return not holds
            if c.state != "joined":
                break
            if "gc_no_follow" in bugs or not holds:
                return True
            if not c.absorbed_into:
                await self.conversations.absorb(c)
            assert c.into
            conversation = c.into
        return await super().dead(reservation, fence=fence)

    async def collect(self) -> None:
        if "no_gc" in self.world.bugs:
            for agent in await self.agents.burdened():
                if not agent.on:
                    await self.requeue(agent)
        else:
            await super().collect()


class Topic:
    async def send(self, conversation: str, items: Sequence[OutboxItem]) -> None:
        return None


class ToDesk:
    """The protocol's desk, which is made after it."""

    desk: Desk

    async def release(self, reservation: str) -> None:
        await self.desk.release(reservation)

    def kick(self, tenant: str, queue: str) -> None:
        return None


def no_kick(tenant: str, queue: str) -> None:
    return None


def never(conversation: Conversation, now: datetime) -> datetime | None:
    return None


def opening_of(leg: LegRecord) -> Opening:
    return Opening("acme")


class World:
    def __init__(self, seed: int, bugs: frozenset[str] = NOTHING) -> None:
        self.scheduler, self.bugs, self.lossy, self.ticks = Scheduler(seed), bugs, seed % 4 == 0 and not bugs, 0
        self.rng = self.scheduler.random
        self.capacity = {agent: self.rng.choice((1, 1, 2)) for agent in AGENTS}
        self.store, self.agents = WatchedStore(self), WatchedAgents(self)
        self.agents.configs["acme", "q"] = Queue("q", offer_s=60, pause_s=5, sticky_s=0)
        for n, case in enumerate(CASES):
            leg = LegRecord(f"leg-{case}", case, "telegram", "bot", visibility="public")
            at = START + timedelta(seconds=n)
            self.store.conversations[case] = Conversation(
                case, "acme", leg.key, at, queue="q", legs=(leg,), check=False, since=at, v=1, customer=case
            )
        self.inversions = self.sets = 0
        self.desk = self.new_desk()
        self.cast()

    def new_desk(self) -> Desk:
        """A process of its own."""
        to_desk = ToDesk()
        driver = Conversations(self.store, Topic(), to_desk, never, opening_of, self.now)
        if not self.bugs:
            to_desk.desk = Desk(driver, self.agents, no_kick)
            return to_desk.desk
        broken = BrokenDesk(driver, self.agents, no_kick)
        broken.world, to_desk.desk = self, broken
        return broken

    def now(self) -> datetime:
        self.ticks += 1
        return START + timedelta(minutes=10, seconds=self.ticks)

    def cast(self) -> None:
        rng, add = self.rng, self.scheduler.add
        for _ in range(3):
            add(self.assigner, 1)
        for _ in range(2):
            add(self.clerk)
        for _ in range(2):
            add(self.timer, 1)
        if rng.random() < 0.5:
            add(self.supervisor, 1)
        if rng.random() < 0.4:
            add(self.leaver, 1)
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            add(self.joiner, 1)
        if rng.random() < 0.3:
            add(self.sealer)
        for _ in range(rng.choice((1, 1, 2))):
            add(self.collector, 1)

    # -- what must always hold

    def live(self) -> Iterator[Conversation]:
        """Assignments in force. A sealed loser's counts until it is absorbed."""
        for c in self.store.conversations.values():
            if c.assignment and (c.state == "open" or (c.state == "joined" and not self.taken_over(c))):
                yield c

    def taken_over(self, c: Conversation) -> bool:
        end = c
        while end.state == "joined":
            assert end.into
            end = self.store.conversations[end.into]
            if c.id in end.absorbed:
                return True
        return False

    def check(self) -> None:
        load = dict.fromkeys(AGENTS, 0)
        for c in self.live():
            assert c.assignment
            a, agent = c.assignment, self.agents.documents["acme", c.assignment.agent]
            token = next((one for one in agent.tokens if one.reservation == a.reservation), None)
            if token is None:
                raise Violation(f"assignment without a capacity token: {c.id} {a.reservation}")
            load[a.agent] += 0 if token.forced else 1
        for agent_id, held in load.items():
            if held > self.capacity[agent_id]:
                raise Violation(f"capacity exceeded: {agent_id} {held}")

    # -- actors

    async def idle(self, most: int, least: int = 0) -> None:
        for _ in range(self.rng.randint(least, most)):
            await self.scheduler.pause()

    async def assigner(self) -> None:
        assigner = Assigner(self.store, self.agents, self.new_desk())
        for _ in range(3):
            await assigner.work("acme", "q")
            await self.idle(6, 1)

    async def clerk(self) -> None:
        over = self.new_desk()
        for _ in range(6):
            await self.scheduler.pause()
            if mine := [c for c in self.store.conversations.values() if c.state == "open" and c.assignment]:
                await self.handle(over, self.rng.choice(mine))

    async def handle(self, over: Desk, seen: Conversation) -> None:
        """On a stale screen; what is not theirs any more answers 409."""
        await self.idle(self.rng.choice((0, 3, 9)))
        c = await over.conversations.find(seen.id)
        assert c
        assert seen.assignment
        if c.state != "open" or c.assignment is None or c.assignment.reservation != seen.assignment.reservation:
            return
        match c.assignment.state, self.rng.random():
            case "offered", chance if chance < 0.7:
                await over.drop(c, desk.accepted(c, self.now(), RULE))
            case "offered", _:
                await over.drop(c, desk.released(c, "rejected", self.now(), exclude=True))
            case _, chance if chance < 0.5:
                await over.drop(c, decide.closed(c, self.now()))
            case _:
                await over.drop(c, desk.released(c, "released", self.now()))

    async def timer(self) -> None:
        over = self.new_desk()
        for _ in range(3):
            await self.scheduler.pause()
            for c in [one for one in self.store.conversations.values() if one.assignment and one.state == "open"]:
                late = START + timedelta(days=1)
                if self.rng.random() < 0.4 and (change := desk.fired(c, late)):
                    await over.drop(c, change)

    async def supervisor(self) -> None:
        over = self.new_desk()
        for _ in range(3):
            await self.idle(self.rng.choice((1, 5, 15)), 1)
            seen = self.rng.choice([c for c in self.store.conversations.values() if c.state == "open"] or [None])
            to = self.rng.choice(AGENTS)
            if seen and (seen.assignment is None or seen.assignment.agent != to):
                await over.give(seen, to, "by=manual", weight=1, forced=not self.bugs and self.rng.random() < 0.3)

    async def leaver(self) -> None:
        over, agent = self.new_desk(), self.rng.choice(AGENTS)
        await self.idle(60)
        await over.present("acme", agent, on=False)

    async def joiner(self) -> None:
        over = self.new_desk()
        await self.idle(80)
        living = sorted((c for c in self.store.conversations.values() if c.state != "joined"), key=lambda c: c.id)
        if len(living) < 2:
            return
        winner, loser = sorted(self.rng.sample(living, 2), key=lambda c: c.id)
        if loser.state == "open":
            await over.conversations.seal(loser, winner.id)

    async def sealer(self) -> None:
        """Two joins in a chain, each by somebody who crashed right after sealing the loser."""
        over = self.new_desk()
        await self.idle(40)
        first, second, third = sorted(self.rng.sample(CASES, 3))
        for loser, winner in ((third, second), (second, first)):
            c = self.store.conversations[loser]
            if c.state == "open" and self.store.conversations[winner].state != "joined":
                await over.conversations.change(c, decide.sealed(c, winner, self.now()))

    async def collector(self) -> None:
        over = self.new_desk()
        for _ in range(2):
            await self.idle(30)
            await over.collect()

    # -- run and check

    async def go(self) -> None:
        for agent in AGENTS:
            await self.agents.put("acme", Profile(agent, queues=("q",), capacity=self.capacity[agent]))
            await self.agents.present("acme", agent, on=True, now=START)
        await self.scheduler.run(6000)
        self.lossy = False
        await self.repair()
        self.check()
        self.check_tokens()
        self.check_waiting()

    async def repair(self) -> None:
        """The poll of `due` and the collector, long after; then the assigner."""
        over = self.new_desk()
        assigner = Assigner(self.store, self.agents, over)
        for _ in range(6):
            self.ticks += 3600
            for c in await self.store.due(START + timedelta(days=9), 200):
                await over.conversations.tend(c.id, lambda one, _: Change(replace(one, due=None)))
            await over.collect()
            await assigner.work("acme", "q")

    def check_tokens(self) -> None:
        held = {c.assignment.reservation for c in self.live() if c.assignment}
        for agent in self.agents.documents.values():
            for token in agent.tokens:
                if token.reservation not in held:
                    raise Violation(f"capacity lost for ever: {agent.id} {token.reservation}")
            if not agent.on and agent.tokens:
                raise Violation(f"work left with an agent who is away: {agent.id}")
            if agent.load != sum(token.weight for token in agent.tokens):
                raise Violation(f"load is not the sum of the tokens: {agent.id}")

    def check_waiting(self) -> None:
        idle = [one.id for one in self.agents.documents.values() if one.on and one.load < one.capacity]
        for c in self.store.conversations.values():
            if c.state == "open" and c.assignment is None and idle:
                raise Violation(f"waiting beside a free agent: {c.id} {idle}")
            if c.state == "joined" and not c.absorbed_into:
                raise Violation("half join")
