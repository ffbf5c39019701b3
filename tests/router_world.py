"""A small world around the router's real protocol: three legs on one to three partitions, an identity history of merges and
splits, messages with duplicates, workers that crash, zombies, a mapper, closes, answers, sweepers. `World(seed, bugs).go()`
raises Violation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.router import conversations as decide
from services.router.conversations import Input, Opening
from services.router.outputs import Change, Emit
from services.router.placing import Placer
from services.router.protocol import Conversations, NoDesk
from services.router.state import Conversation, LegRecord, OutboxItem, Seen
from services.router.stores import Hint, Known
from tests.interleaving import Scheduler, Violation
from tests.router_memory import MemoryStore

START = datetime(2026, 3, 1, tzinfo=UTC)
LEGS = ("a", "b", "c")
PARTITIONS = (LEGS, LEGS, LEGS, ("ab", "c"), ("abc",))  # which legs share one, and with it a worker and its batches
NOTHING: frozenset[str] = frozenset()


class WatchedStore(MemoryStore):
    """Counts how often each input took effect, keeps which messages a conversation has, and carries the seeded bugs."""

    def __init__(self, world: World) -> None:
        super().__init__(world.scheduler.pause)
        self.world = world
        self.inputs: dict[str, set[str]] = {}

    async def insert_if_absent(self, conversation: Conversation) -> bool:
        await self._write()
        if "unique_customer_index" in self.world.bugs and self._another(conversation):
            return False
        if conversation.id in self.conversations:
            return False
        self.conversations[conversation.id] = conversation
        self.inputs[conversation.id] = set()
        for leg in conversation.legs:
            if leg.n == 1:
                self._count(conversation, leg, Seen())
        return True

    def compare_and_set(self, before: Conversation, after: Conversation) -> bool:
        current = self.conversations[before.id]
        if "unique_customer_index" in self.world.bugs and self._another(after):
            return False
        if "no_cas" in self.world.bugs:
            before = replace(before, v=current.v)
        if not super().compare_and_set(before, after):
            return False
        for leg in after.legs:
            mine = before.leg(leg.key)
            if mine and mine.n == leg.n:
                self._count(after, leg, mine.seen)
        for loser in set(after.absorbed) - set(before.absorbed):
            self.inputs[after.id] |= self.inputs[loser]
        return True

    async def cas(self, before: Conversation, after: Conversation) -> bool:
        """Sometimes an answer is lost: written, but reported as not known to be."""
        written = await super().cas(before, after)
        return written and not (self.world.lossy and self.world.scheduler.random.random() < 0.02)

    def _another(self, c: Conversation) -> bool:
        return c.state == "open" and any(
            one.id != c.id and one.state == "open" and one.customer == c.customer for one in self.conversations.values()
        )

    def _count(self, c: Conversation, leg: LegRecord, before: Seen) -> None:
        for name in self.world.names(leg.key):
            if leg.seen.has(name) and not before.has(name):
                if c.state != "open":
                    raise Violation("message applied to a conversation that is not open")
                self.world.applied[name] = self.world.applied.get(name, 0) + 1
                self.inputs[c.id].add(name)

    async def pull_out(self, conversation: str, up_to: int) -> None:
        if "trim_all" in self.world.bugs:
            up_to = 10**9
        await super().pull_out(conversation, up_to)

    def accept(self, identifier: str, known: Known) -> None:
        if "map_no_version" in self.world.bugs:
            self.idents[identifier] = known
        else:
            super().accept(identifier, known)


class Topic:
    def __init__(self, world: World) -> None:
        self.world, self.records = world, list[tuple[str, int]]()

    async def send(self, conversation: str, items: Sequence[OutboxItem]) -> None:
        for item in reversed(items) if "publish_newest_first" in self.world.bugs else items:
            await self.world.scheduler.pause()
            assert item.s
            self.records.append((conversation, item.s))


def opening_of(leg: LegRecord) -> Opening:
    return Opening("acme")


def never(conversation: Conversation, now: datetime) -> datetime | None:
    return None


class Driver(Conversations):
    """The real one, with the seeded bugs that are in steps rather than in decisions."""

    bugs: frozenset[str] = NOTHING

    async def reconcile(self, conversation: str, *, force: bool = False, opened: Conversation | None = None) -> None:
        if "no_postcheck" not in self.bugs or force:
            await super().reconcile(conversation, force=force, opened=opened)

    def _settled(self, c: Conversation, now: datetime) -> Conversation:
        settled = super()._settled(c, now)
        return replace(settled, due=None) if "due_put_off" in self.bugs else settled

    async def absorb(self, loser: Conversation) -> None:
        if "no_help" in self.bugs and not loser.absorbed_into:
            raise Violation("leg lost in a half join")
        await super().absorb(loser)

    async def seal(self, loser: Conversation, winner: str) -> None:
        after = await self.change(loser, decide.sealed(loser, winner, self.now()))
        if after:
            await Conversations.absorb(self, after)


class World:
    def __init__(self, seed: int, bugs: frozenset[str] = NOTHING, *, lossy: bool = True) -> None:
        self.scheduler, self.bugs, self.lossy = Scheduler(seed), bugs, lossy
        self.rng = self.scheduler.random
        self.store, self.topic = WatchedStore(self), Topic(self)
        self.ticks = 0
        self.applied: dict[str, int] = {}
        self.appended: dict[str, int] = {}
        self.late: set[str] = set()
        self.committed: dict[int | str, int] = {}  # by partition; and of the map
        self.marked: set[str] = set()
        self.closed_with: set[str] = set()
        self.answered: set[str] = set()
        self.history()
        self.logs()
        self.cast()

    def now(self) -> datetime:
        self.ticks += 1
        return START + timedelta(hours=1, seconds=self.ticks)

    def driver(self) -> Driver:
        one = Driver(self.store, self.topic, NoDesk(), never, opening_of, self.now)
        one.bugs = self.bugs
        return one

    # -- what happens

    def history(self) -> None:
        """Identity's versions, each a partition of the legs' identifiers into customers."""
        rng, customers = self.rng, {leg: leg for leg in LEGS}
        self.map_log = [(leg, customers[leg], 0) for leg in LEGS]
        self.snapshots = [dict(customers)]
        for version in range(1, 1 + rng.choice((0, 1, 2, 2, 3, 5, 8))):
            x, y = rng.sample(LEGS, 2)
            if rng.random() < 0.65:
                low, high = sorted((customers[x], customers[y]))
                new = {leg: (low if c == high else c) for leg, c in customers.items()}
            else:
                new = {**customers, x: x}
                for leg in LEGS:  # the others get their own oldest name, if x gave it
                    if leg != x and new[leg] == x:
                        new[leg] = min(k for k in LEGS if k != x and customers[k] == x)
            self.map_log += [(leg, new[leg], version) for leg in LEGS if new[leg] != customers[leg]]
            customers = new
            self.snapshots.append(dict(customers))
        self.final = customers

    def logs(self) -> None:
        """Per leg the messages in order, with a version that only grows; the provider's duplicates come later."""
        rng = self.rng
        self.log: dict[str, list[Input]] = {leg: [] for leg in LEGS}
        for leg in LEGS:
            stamped = 0
            for number in range(rng.choice((1, 2, 3))):
                stamped = rng.randint(stamped, len(self.snapshots) - 1)
                version = max(v for key, _, v in self.map_log if key == leg and v <= stamped)
                one = message(leg, number, self.snapshots[stamped][leg], version)
                self.log[leg] += [one, one] if rng.random() < 0.3 else [one]
            if rng.random() < 0.3:
                self.log[leg].append(rng.choice(self.log[leg]))
        self.partitions = [self.mixed(legs) for legs in rng.choice(PARTITIONS)]

    def mixed(self, legs: str) -> list[Input]:
        """A partition's log: its legs' messages in any order, those of a leg in theirs."""
        left = {leg: list(self.log[leg]) for leg in legs}
        places = [leg for leg in legs for _ in left[leg]]
        return [left[leg].pop(0) for leg in self.rng.sample(places, len(places))]

    def names(self, leg: str) -> set[str]:
        return {one.id for one in self.log[leg]}

    def cast(self) -> None:
        rng, add = self.rng, self.scheduler.add
        for partition in range(len(self.partitions)):
            add(lambda partition=partition: self.worker(partition), 2)  # type: ignore[misc]
            if rng.random() < 0.35:
                add(lambda partition=partition: self.worker(partition), 1)  # type: ignore[misc]  # a zombie beside it
        add(self.mapper, 2)
        if rng.random() < 0.4:
            add(self.mapper, 1)
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            add(self.closer)
        for _ in range(rng.choice((0, 1, 2))):
            add(self.replier)
        for _ in range(2):
            add(self.sweeper)

    async def idle(self, most: int, least: int = 0) -> None:
        for _ in range(self.rng.randint(least, most)):
            await self.scheduler.pause()

    # -- actors

    async def worker(self, partition: int) -> None:
        log, placer = self.partitions[partition], Placer(self.driver())
        at = self.committed.get(partition, 0)
        while at < len(log):
            batch = log[at : at + self.rng.choice((1, 1, 2))]
            if "commit_first" in self.bugs:
                await self.commit(partition, at + len(batch))
            await self.consume(placer, batch)
            at += len(batch)
            if self.rng.random() < 0.6:
                await self.scheduler.pause()
                self.committed[partition] = at  # a zombie may also set it back: redelivery
        await self.commit(partition, at)

    async def commit(self, partition: int, at: int) -> None:
        await self.scheduler.pause()
        self.committed[partition] = max(at, self.committed.get(partition, 0))

    async def consume(self, placer: Placer, batch: Sequence[Input]) -> None:
        if "marker_first" in self.bugs:  # naive: ids are remembered elsewhere, before the effect
            await self.scheduler.pause()
            batch = [one for one in batch if one.id not in self.marked]
            self.marked |= {one.id for one in batch}
        for placed in await placer.place(batch):
            if placed.effect == "late":
                self.late.add(placed.input.id)
            await self.scheduler.pause()
            self.appended[placed.input.id] = self.appended.get(placed.input.id, 0) + 1

    async def mapper(self) -> None:
        driver, at = self.driver(), self.committed.get("map", 0)
        while at < len(self.map_log):
            identifier, customer, version = self.map_log[at]
            if version:
                await self.idle(self.rng.choice((0, 0, 4, 12)))
            if "map_ignores_conversations" in self.bugs:
                await self.store.learn(identifier, Known(customer, version))
            else:
                await driver.learned(identifier, Known(customer, version))
            at += 1
            await self.scheduler.pause()
            self.committed["map"] = at

    async def closer(self) -> None:
        """An agent closes, naming the version seen."""
        await self.idle(60, 5)
        if (found := self.any_open()) is None:
            return
        here = {leg.key for leg in found.held}  # the agent sees the whole timeline of these legs
        driver, seen = self.driver(), self.store.inputs[found.id] | {name for name in self.applied if name[0] in here}
        if await driver.change(found, decide.closed(found, self.now())):
            self.closed_with |= seen
        elif self.store.conversations[found.id].state == "closed":
            self.closed_with |= seen if self.store.conversations[found.id].v == found.v + 1 else set()

    async def replier(self) -> None:
        """An agent answers what was there, on all legs held, naming the version seen."""
        await self.idle(70, 5)
        if (found := self.any_open()) is None:
            return
        seen = set(self.applied)
        await self.idle(6)
        here = {leg.key for leg in found.held}
        if "reply_unseen" in self.bugs:
            found = self.store.conversations[found.id]
        legs = tuple(replace(leg, wait=None) if leg.key in here else leg for leg in found.legs)
        after = decide.unfinished(replace(found, legs=legs), self.now())
        change = Change(after, (Emit("conversation.answered"),))
        if found.state == "open" and (
            await self.driver().change(found, change) or self.store.conversations[found.id].v == found.v + 1
        ):
            self.answered |= {name for name in seen if name[0] in here}

    def any_open(self) -> Conversation | None:
        found = [c for c in self.store.conversations.values() if c.state == "open"]
        return self.rng.choice(found) if found else None

    async def sweeper(self) -> None:
        await self.idle(60)
        await self.sweep()

    async def sweep(self) -> None:
        """The poll of `due`, and nothing else."""
        driver = self.driver()
        for c in await self.store.due(START + timedelta(days=1), 200):
            if "no_sweeper" not in self.bugs:
                await driver.tend(c.id, lambda c, _: Change(replace(c, due=None)))
            else:
                await driver.publish((c,))

    # -- run and check

    async def go(self) -> None:
        await self.scheduler.run()
        await self.heal()
        self.check_inputs()
        self.check_legs()
        self.check_outputs()
        self.check_unseen()
        self.check_clocks()

    async def heal(self) -> None:
        """Nobody acts any more, and only what is due is looked at, until nothing changes."""
        self.lossy = False
        for _ in range(12):
            before = {key: c.v for key, c in self.store.conversations.items()}
            await self.sweep()
            if {key: c.v for key, c in self.store.conversations.items()} == before:
                break
        else:
            raise Violation("does not become quiet")

    def check_inputs(self) -> None:
        for name in {one.id for log in self.log.values() for one in log}:
            count = self.applied.get(name, 0)
            if count > 1:
                raise Violation(f"input applied twice: {name}")
            if count == 0:
                raise Violation(f"{'new input taken for late' if name in self.late else 'input lost'}: {name}")
            if not self.appended.get(name):
                raise Violation(f"input not published: {name}")

    def check_legs(self) -> None:
        living = [c for c in self.store.conversations.values() if c.state != "joined"]
        customers: dict[str, str] = {}
        for leg in LEGS:
            holders = [c.id for c in living if any(one.key == leg for one in c.held)]
            if leg in self.store.legs and len(holders) != 1:
                raise Violation(f"leg not in exactly one conversation: {leg} {holders}")
        for c in (one for one in living if one.state == "open"):
            found = {self.final[leg.key] for leg in c.held}
            if len(found) != 1:
                raise Violation(f"conversation holds legs of several customers: {c.id}")
            if (customer := found.pop()) in customers:
                raise Violation(f"two open conversations of one customer: {c.id}")
            customers[customer] = c.id

    def check_outputs(self) -> None:
        for key, c in self.store.conversations.items():
            if c.out:
                raise Violation("outbox not empty")
            last = 0
            for number in (s for k, s in self.topic.records if k == key):
                if number > last + 1:
                    raise Violation(f"subscriber sees a gap: {key} {last} to {number}")
                last = max(last, number)
            if last != c.seq:
                raise Violation(f"output lost: {key}")

    def check_unseen(self) -> None:
        """A message that no close command has seen is in an open conversation."""
        for c in self.store.conversations.values():
            end = c
            while end.state == "joined":
                assert end.into
                end = self.store.conversations[end.into]
            if end is not c and not self.store.inputs[c.id] <= self.store.inputs[end.id]:
                raise Violation("join lost content")
            if end.state != "open" and (unseen := self.store.inputs[c.id] - self.closed_with):
                raise Violation(f"unseen message in a closed conversation: {sorted(unseen)}")

    def check_clocks(self) -> None:
        received = {one.id: one.received for log in self.log.values() for one in log}
        for c in self.store.conversations.values():
            for leg in c.held if c.state != "joined" else ():
                open_ = [received[n] for n in self.names(leg.key) & set(self.applied) - self.answered - self.closed_with]
                if open_ and (leg.wait is None or leg.wait > min(open_)):
                    raise Violation(f"customer waits and no clock runs: {leg.key}")


def message(leg: str, number: int, customer: str, version: int) -> Input:
    at = START + timedelta(minutes=number, seconds=LEGS.index(leg))
    return Input(
        id=f"{leg}{number}",
        kind="said",
        leg=LegRecord(key=leg, party=leg, channel="telegram", account="bot", proof="channel"),
        customer=customer,
        version=version,
        time=number,
        at=at,
        received=at,
        provider_id=f"{leg}{number}",
        entry_id=f"entry-{leg}{number}",
    )


__all__ = ["Hint", "Violation", "World", "message"]
