"""Puts a batch of inputs where they belong: one compare-and-set per conversation for all its messages, and one batched read
for the conversations that this process has not written lately.

Rounds: find the holders, apply what can be applied, do one step for the legs that cannot yet (open, move on from a closed
conversation, put right by a newer map), and again until nothing waits. Inputs of a leg keep their order. What is only as this
process last wrote it may be compared and set, no more: where that is lost, or there is nothing to set, the next round reads.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.router import conversations as decide
from services.router.conversations import Input, Walk
from services.router.outputs import Change
from services.router.protocol import Conversations
from services.router.state import Conversation, LegRecord
from services.router.stores import Hint, Known
from services.router.together import all_of

PLACES = 200_000
React = Callable[[Change, str, Input, datetime], Change]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an input was put: the conversation as it was decided on."""

    input: Input
    conversation: Conversation
    effect: str


class Placer:
    """Remembers where legs were, so that a known leg costs no read of its own. What it remembers is only a hint."""

    def __init__(self, conversations: Conversations, react: React = lambda change, *_: change) -> None:
        """`react` is what else an input does to its conversation, in the same compare-and-set."""
        self.conversations, self.react = conversations, react
        self.places: OrderedDict[str, str] = OrderedDict()

    async def place(self, inputs: Sequence[Input]) -> list[Placed]:
        """Every input has had its effect, once, and state events are published when this returns; the answer is in the order
        of the inputs."""
        batch = _Batch(self, inputs)
        return await batch.run()

    def remember(self, leg: str, conversation: str) -> None:
        self.places[leg] = conversation
        if len(self.places) > PLACES:
            self.places.popitem(last=False)


class _Batch:
    def __init__(self, placer: Placer, inputs: Sequence[Input]) -> None:
        self._placer, self._driver, self._inputs = placer, placer.conversations, inputs
        self._store = self._driver.store
        self._queues: dict[str, deque[int]] = defaultdict(deque)
        for number, one in enumerate(inputs):
            self._queues[one.leg.key].append(number)
        self._placed: dict[int, Placed] = {}
        self._touched: dict[str, Conversation] = {}
        self._opened: dict[str, Conversation] = {}  # by this batch, and not changed since
        self._learned: dict[str, int] = {}
        self._recalled: Mapping[str, Conversation] = {}  # in this round: not read, but as we last wrote them

    async def run(self) -> list[Placed]:
        while self._queues:
            await self._round(await self._holders())
        await self._driver.publish(self._touched.values())
        unsettled = {one.conversation.id for one in self._placed.values() if one.conversation.check}
        await all_of(*(self._driver.reconcile(one, opened=self._opened.get(one)) for one in sorted(unsettled)))
        return [self._placed[number] for number in range(len(self._inputs))]

    def _first(self, leg: str) -> Input:
        return self._inputs[self._queues[leg][0]]

    # -- who holds the legs

    async def _holders(self) -> dict[str, Conversation]:
        """The holder of every waiting leg; legs that were opened with their inputs are not among them."""
        holders = await self._remembered()
        missing = [leg for leg in self._queues if leg not in holders]
        if missing:
            hints = await self._store.hints(missing)
            ready = self._ready(missing, hints)
            found = await all_of(*(self._look_up(leg, hints.get(leg)) for leg in ready))
            holders.update((leg, c) for leg, c in zip(ready, found, strict=True) if c is not None)
        for leg, c in holders.items():
            self._placer.remember(leg, c.id)
        return holders

    async def _remembered(self) -> dict[str, Conversation]:
        wanted = {leg: self._placer.places[leg] for leg in self._queues if leg in self._placer.places}
        self._recalled = self._driver.newest.of(wanted.values())
        unknown = set(wanted.values()) - self._recalled.keys()
        found = {**self._recalled, **(await self._store.read(unknown) if unknown else {})}
        return {leg: found[c] for leg, c in wanted.items() if c in found and _holds(found[c], leg)}

    def _ready(self, missing: Sequence[str], hints: Mapping[str, Hint]) -> list[str]:
        """Of a customer's new legs in one batch the first opens the conversation, the others find it in the next round."""
        ready: list[str] = []
        opening: set[str] = set()
        for leg in missing:
            customer = None if leg in hints else self._first(leg).customer
            if customer is None or customer not in opening:
                ready.append(leg)
                opening |= {customer} if customer else set()
        return ready

    async def _look_up(self, leg: str, hint: Hint | None) -> Conversation | None:
        first = self._first(leg)
        if hint is None and await self._open(leg, first):
            return None
        return await self._driver.resolve(first.leg, first.customer, first.version)

    async def _open(self, leg: str, first: Input) -> bool:
        """A leg that nobody has seen: insert its conversation with its inputs in it, in one write. False if the leg goes to a
        conversation that exists, or somebody was faster: then the common way does it."""
        await self._learn(first)
        opening = self._driver.opening_of(first.leg)
        target, customer = await self._driver.choose(first.leg, 1, first.customer, first.version, opening.group, None)
        hint = Hint(target, self._driver.now(), customer)
        if not await self._store.insert_hint(leg, hint) or target != decide.first_id(leg, 1):
            del self._learned[leg]  # it goes where others are: reconcile before the input is applied
            return False
        walk = Walk(leg, target, hint.opened, customer, first.leg.but(n=1), opening)
        change, done = self._apply(decide.opened(walk, self._driver.now()), leg)
        after = await self._driver.open(change)
        if after is None:
            return False
        self._opened[after.id] = after
        self._done(after, {leg: done})
        self._placer.remember(leg, after.id)
        return True

    async def _learn(self, one: Input) -> None:
        """A message's stamp is as good as a map record."""
        if one.version >= 0:
            await self._store.learn(one.leg.party, Known(one.customer, one.version))
        self._learned[one.leg.key] = one.version

    # -- a round

    async def _round(self, holders: dict[str, Conversation]) -> None:
        """All that can be applied in one compare-and-set per conversation; where nothing can, one step for each leg."""
        fresh = {c.id: c for c in sorted(holders.values(), key=lambda c: c.v)}  # they may have been read one after the other
        by_conversation: dict[str, list[str]] = defaultdict(list)
        for leg, c in holders.items():
            if _holds(fresh[c.id], leg):  # else it has left meanwhile: the next round goes after it
                by_conversation[c.id].append(leg)
        changes: list[tuple[Conversation, Change]] = []
        applied: list[dict[str, list[tuple[int, str]]]] = []
        steps: list[tuple[Conversation, str]] = []
        for key, legs in by_conversation.items():
            change, done = self._apply_all(fresh[key], legs)
            if change.after is not fresh[key]:
                changes.append((fresh[key], change))
                applied.append(done)
            elif key in self._recalled:
                self._driver.newest.forget(key)
            else:
                self._done(fresh[key], done)
                steps += [(fresh[key], leg) for leg in legs if leg in self._queues]
        for after, done in zip(await self._driver.change_many(changes), applied, strict=True):
            if after is not None:
                self._done(after, done)
        await all_of(*(self._step(c, leg) for c, leg in steps))

    def _apply_all(self, c: Conversation, legs: Sequence[str]) -> tuple[Change, dict[str, list[tuple[int, str]]]]:
        change = Change(c)
        done: dict[str, list[tuple[int, str]]] = {}
        for leg in legs:
            change, done[leg] = self._apply(change, leg)
        return change, done

    def _apply(self, change: Change, leg: str) -> tuple[Change, list[tuple[int, str]]]:
        """Apply the leg's inputs from the first to the first that needs a step before it."""
        done: list[tuple[int, str]] = []
        for number in self._queues[leg]:
            one, record = self._inputs[number], change.after.leg(leg)
            assert record
            effect = decide.effect(record, one)
            if effect == "new" and one.kind == "echo" and change.after.state == "closed":
                effect = "late"  # what we say after the end belongs to the case and opens nothing
            if effect == "new":
                if change.after.state == "closed" or self._is_newer(record, one):
                    break
                now = self._driver.now()
                change = self._placer.react(decide.applied(change, leg, one, now), leg, one, now)
            done.append((number, effect))
        return change, done

    def _is_newer(self, record: LegRecord, one: Input) -> bool:
        return one.version > record.version and one.version > self._learned.get(record.key, -1)

    async def _step(self, c: Conversation, leg: str) -> None:
        one, record = self._first(leg), c.leg(leg)
        assert record
        step: Awaitable[None]
        if c.state == "closed":
            step = self._driver.move(c, leg, one.customer, one.version)
        else:
            await self._learn(one)
            step = self._driver.reconcile(c.id, force=True)
        await step

    def _done(self, c: Conversation, done: dict[str, list[tuple[int, str]]]) -> None:
        if self._opened.get(c.id) is not c:
            self._opened.pop(c.id, None)
            if c.out:  # also what a delivery before this one left unpublished
                self._touched[c.id] = c
        for leg, numbers in done.items():
            for number, effect in numbers:
                assert self._queues[leg].popleft() == number
                self._placed[number] = Placed(self._inputs[number], c, effect)
            if not self._queues[leg]:
                del self._queues[leg]


def _holds(c: Conversation, leg: str) -> bool:
    record = c.leg(leg)
    return record is not None and record.moved is None and c.state != "joined"
