"""Many identity workers over one store, interleaved by a seed at every step of the store and the log, with crashes and
zombies. The code under test is the real one; only the scheduler, the store's memory and the log are ours."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from services.common.cloudevents import Record, decode
from services.common.errors import Away
from services.common.events import CustomerChanged, IdentityMapped
from services.common.identifiers import Strength
from services.identity.announce import OLD_US, Announcer, roots_of
from services.identity.component import APART, SAME, Component, Edge, Kind, Member, edge
from services.identity.evidence import Carried
from services.identity.linker import Linker
from services.identity.linking import Cycle
from services.identity.nodes import Node, Swap, Taken
from services.identity.resolve import customers, named
from services.identity.rules import Limit, Rules
from services.identity.stores import MemoryGraph

TENANT = "acme"
RULES = Rules(
    limits={
        "tel": Limit(per_customer=2, per_scope=2),
        "email": Limit(per_customer=2, per_scope=2),
        "user": Limit(per_scope=1),
        "cookie": Limit(per_customer=9, per_scope=9, counts=False),
    }
)
KINDS: tuple[Kind, ...] = (("tel", ""), ("email", ""), ("user", "shop"), ("cookie", "shop"), ("chat", "bot"))


SAID: tuple[Strength, ...] = ("verified", "asserted", "claimed")


class Violation(AssertionError):
    """A promise that did not hold in this interleaving."""


class _Step:
    def __await__(self) -> Generator[None, None, None]:
        yield


@dataclass
class Actor:
    make: Callable[[], Coroutine[Any, Any, None]]
    crashes: int
    running: Coroutine[Any, Any, None] = field(init=False)
    weight: float = 1.0

    def __post_init__(self) -> None:
        self.running = self.make()


class Scheduler:
    """Runs one step of one actor after the other; some nearly stand still for a while, and some die and are born again."""

    def __init__(self, seed: int, crash: float) -> None:
        self.rng, self.crash = random.Random(seed), crash
        self.actors: list[Actor] = []
        self.steps = self.crashed = 0

    def add(self, make: Callable[[], Coroutine[Any, Any, None]], crashes: int = 0) -> None:
        self.actors.append(Actor(make, crashes))

    def run(self, limit: int = 20_000) -> None:
        stop = self.steps + limit
        while self.actors:
            self.steps += 1
            if self.steps > stop:
                self.close()
                raise Violation("does not end")
            if self.steps % 12 == 1:
                for actor in self.actors:
                    actor.weight = self.rng.choice((0.02, 0.3, 1.0, 4.0))
            self._one(self.rng.choices(self.actors, [actor.weight for actor in self.actors])[0])

    def _one(self, actor: Actor) -> None:
        if actor.crashes and self.rng.random() < self.crash:
            actor.crashes -= 1
            self.crashed += 1
            actor.running.close()
            actor.running = actor.make()
            return
        try:
            actor.running.send(None)
        except StopIteration:
            self.actors.remove(actor)
        except (Away, Cycle, KeyError) as error:
            self.close()
            raise Violation(_names(error)) from error
        except BaseException:
            self.actors.remove(actor)
            self.close()
            raise

    def close(self) -> None:
        for actor in self.actors:
            actor.running.close()
        self.actors.clear()


def _names(error: Exception) -> str:
    match error:
        case Away():
            return "does not end"
        case Cycle():
            return "a cycle"
        case _:
            return "the state is corrupt"


class SteppedGraph(MemoryGraph):
    """Every document is read and written at a moment of its own, in any order. `ever` is the largest version that each
    identifier was given."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self.ever: dict[str, int] = defaultdict(int)
        self.lost = 0

    async def read(self, keys: Collection[str]) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key in self._shuffled(sorted(keys)):
            await _Step()
            found |= await super().read([key])
        return found

    async def insert(self, nodes: Sequence[Node]) -> bool:
        done = True
        for node in self._shuffled(nodes):
            await _Step()
            done &= await super().insert([node])
            self._check(self.nodes[node.key])
        return done

    async def swap(self, swaps: Sequence[Swap]) -> bool:
        done = True
        for one in self._shuffled(swaps):
            await _Step()
            won = await super().swap([one])
            self.lost += not won
            self._check(self.nodes[one.after.key])
            done &= won
        return done

    async def take(self, taken: Sequence[Taken]) -> bool:
        done = True
        for one in self._shuffled(taken):
            await _Step()
            done &= await super().take([one])
        return done

    def _shuffled(self, some: Sequence[Any]) -> list[Any]:
        return self._rng.sample(list(some), len(some))

    def _check(self, node: Node) -> None:
        if node.redirect is not None:
            return
        for key, one in node.component.assigned.items():
            if one.version < self.ever[key]:
                raise Violation("a version fell")
            self.ever[key] = one.version


class Log:
    """The topics that identity writes, in the order in which the broker got the records."""

    def __init__(self) -> None:
        self.mapped: list[IdentityMapped] = []
        self.changed: dict[str, CustomerChanged] = {}
        self.newest: dict[str, int] = defaultdict(int)

    async def publish(self, records: Sequence[Record]) -> None:
        for record in records:
            await _Step()
            self.put(record)
        await _Step()

    def put(self, record: Record) -> None:
        event = decode(record)
        match event.data:
            case IdentityMapped() as data:
                self.mapped.append(data)
                self.newest[data.identifier] = max(self.newest[data.identifier], data.version)
            case CustomerChanged() as data:
                if self.changed.setdefault(event.id, data) != data:
                    raise Violation("one id for two changes")


class Nothing:
    async def forget(self, tenant: str, keys: Sequence[str], at: int) -> None: ...


def evidence(rng: random.Random, count: int = 14, keys: int = 9) -> list[Carried]:
    """Events of a few people, with verified, asserted and claimed evidence, some of it wrong, and agents' verdicts."""
    kinds = {f"k{n:02d}": rng.choice(KINDS) for n in range(keys)}
    people = {key: rng.randrange(3) for key in kinds}
    return [_event(rng, n, kinds, people) for n in range(count)]


def _event(rng: random.Random, number: int, kinds: dict[str, Kind], people: dict[str, int]) -> Carried:
    who = rng.choice(sorted(kinds))
    own = [key for key in kinds if people[key] == people[who] and key != who] or [key for key in kinds if key != who]
    others = rng.sample(own, min(len(own), rng.choice((0, 1, 1, 2))))
    strangers = [key for key in kinds if key not in (who, *others)]
    if strangers and rng.random() < 0.15:
        others.append(rng.choice(strangers))
    at, name = rng.randrange(1, 60), f"e{number}"
    edges: list[Edge] = []
    members = {who: _member(kinds[who], at)}
    for other in others:
        rule = rng.choices(("said", APART, SAME), (8, 1, 1))[0]
        strength: Strength = rng.choice(SAID) if rule == "said" else "asserted"
        edges.append(edge({who: kinds[who], other: kinds[other]}, rule, "bot/1", strength, at, name, actor="ana", why="x"))
        if edges[-1].strong:
            members[other] = _member(kinds[other], at)
    return Carried(TENANT, at, name, who, who, members, tuple(edges))


def _member(kind: Kind, at: int) -> Member:
    return Member(kind[0], kind[1], at, "channel")


def oracle(events: Sequence[Carried], rules: Rules = RULES) -> dict[str, str]:
    """The customer of each identifier, from all evidence at once."""
    component = Component()
    for one in events:
        component = component.learned(one.members, [e for e in one.edges if e.strong], rules.suggestions)
    return named(customers(component, rules), component.members, TENANT)


class World:
    def __init__(self, seed: int, *, workers: int = 4, crash: float = 0.03, crashes: int = 2) -> None:
        self.scheduler = Scheduler(seed, crash)
        rng = self.scheduler.rng
        self.graph, self.log = SteppedGraph(rng), Log()
        self.events = evidence(rng, rng.randrange(4, 16), rng.randrange(3, 10))
        self.leap = 0
        self.names = 0
        again = [one for one in self.events if rng.random() < 0.2]
        logs: list[list[Carried]] = [[] for _ in range(rng.randrange(2, workers + 1))]
        for one in rng.sample(self.events, len(self.events)) + again:
            rng.choice(logs).append(one)
        for one_log in logs:
            batches = _batches(one_log, rng)
            self.scheduler.add(partial(self._worker, batches, [0]), crashes)
            if rng.random() < 0.3:  # a zombie with the same partition
                self.scheduler.add(partial(self._worker, batches, [0]), crashes)

    def now(self) -> int:
        return 10**15 + self.scheduler.steps * 1000 + self.leap

    def _process(self) -> tuple[Linker, Announcer]:
        self.names += 1

        async def pause(attempt: int) -> None:
            await _Step()

        linker = Linker(self.graph, RULES, f"w{self.names}", self.now, pause)
        return linker, Announcer(self.graph, linker, self.log, Nothing(), self.now, pause)

    async def _worker(self, batches: Sequence[Sequence[Carried]], committed: list[int]) -> None:
        linker, announcer = self._process()
        for number in range(committed[0], len(batches)):
            before = dict(self.graph.ever)
            view = await linker.learn(batches[number])
            stamps = {key: one.version for root in roots_of(view) for key, one in root.component.assigned.items()}
            await announcer.announce(view)
            for key in {key for one in batches[number] for key in one.members}:
                if stamps.get(key, -1) < before.get(key, 0):
                    raise Violation("a stamp is older than what was decided before")
                if self.log.newest[key] < stamps[key]:
                    raise Violation("a stamp is newer than the map")
            await _Step()
            committed[0] = number + 1

    async def _sweeper(self) -> None:
        _, announcer = self._process()
        while await announcer.sweep():
            pass

    def go(self) -> World:
        self.scheduler.run()
        self.leap += 2 * OLD_US
        for crashes in (1, 1):
            self.scheduler.add(self._sweeper, crashes)
        self.scheduler.run()
        self.leap += 2 * OLD_US
        self.scheduler.add(self._sweeper)
        self.scheduler.run()
        self.check()
        return self

    def check(self) -> None:
        roots = [node for node in self.graph.nodes.values() if node.redirect is None]
        truth = {key: one for root in roots for key, one in root.component.assigned.items()}
        where = [key for root in roots for key in root.component.members]
        if len(where) != len(set(where)) or set(where) != set(self.graph.nodes):
            raise Violation("an identifier is in no component or in two")
        if any(node.unfinished or node.outbox for node in self.graph.nodes.values()):
            raise Violation("something was left half done")
        if {key: one.customer for key, one in truth.items()} != oracle(self.events):
            raise Violation("not the customers of the evidence")
        last = {data.identifier: (data.customer_id, data.version) for data in self.log.mapped}
        if last != {key: (one.customer, one.version) for key, one in truth.items()}:
            raise Violation("the compacted map is not what holds")
        told: dict[tuple[str, int], str | None] = {}
        for data in self.log.mapped:
            if told.setdefault((data.identifier, data.version), data.customer_id) != data.customer_id:
                raise Violation("two customers under one version")
        named_ones = {change.customer_id for change in self.log.changed.values()} | {
            other for change in self.log.changed.values() for other in change.others
        }
        if not {one.customer for one in truth.values()} <= named_ones:
            raise Violation("a customer nobody was told of")


def _batches(log: list[Carried], rng: random.Random) -> list[list[Carried]]:
    found: list[list[Carried]] = []
    while log:
        count = rng.choice((1, 1, 2, 3, 5))
        found.append(log[:count])
        log = log[count:]
    return found
