"""Carries out the protocol: reads, asks `conversations.py` for the next step, does it, and reads again when somebody was
faster. Nothing here decides; every method may be stopped at any point and done again by anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from services.common import metrics
from services.router import conversations as decide
from services.router.conversations import Attach, Go, Held, Meet, Open, Opening, Split, Walk, Write
from services.router.newest import Newest
from services.router.outputs import Change, committed
from services.router.state import Conversation, LegRecord, OutboxItem, milliseconds
from services.router.stores import ConversationStore, Hint, Known
from services.router.together import all_of

Clock = Callable[[], datetime]
OpeningOf = Callable[[LegRecord], Opening]
Arm = Callable[[Conversation, datetime], datetime | None]  # when to look again, if nothing happens


def utc_now() -> datetime:
    return milliseconds(datetime.now(UTC))


class Outbox(Protocol):
    """Publishes records in order and returns once all are acknowledged. Raises Away."""

    async def send(self, conversation: str, items: Sequence[OutboxItem]) -> None: ...


class Desk(Protocol):
    """What the protocol tells the desk: it may lose any of it, the collector and the tick repair."""

    async def release(self, reservation: str) -> None: ...

    def kick(self, tenant: str, queue: str) -> None: ...


class NoDesk:
    """Where nobody assigns: tools, and tests of the rest."""

    async def release(self, reservation: str) -> None:
        return None

    def kick(self, tenant: str, queue: str) -> None:
        return None


class Conversations:
    """The protocol's driver over a store."""

    def __init__(
        self, store: ConversationStore, outbox: Outbox, desk: Desk, arm: Arm, opening_of: OpeningOf, clock: Clock = utc_now
    ) -> None:
        """`desk` works over this driver itself: whoever wires them gives NoDesk and sets the real one then."""
        self.store, self._outbox, self.desk, self._arm, self.opening_of, self.now = store, outbox, desk, arm, opening_of, clock
        self.newest = Newest()

    # -- one change

    async def change(self, before: Conversation, change: Change) -> Conversation | None:
        """The conversation as written, or None: read again and decide again."""
        after = committed(change, self.now())
        return self._wrote(after, done=await self.store.cas(before, after))

    async def change_many(self, changes: Sequence[tuple[Conversation, Change]]) -> list[Conversation | None]:
        """Independent changes of different conversations, together."""
        now = self.now()
        pairs = [(before, committed(change, now)) for before, change in changes]
        written = await self.store.cas_many(pairs) if pairs else []
        return [self._wrote(after, done=done) for (_, after), done in zip(pairs, written, strict=True)]

    def _wrote(self, after: Conversation, *, done: bool) -> Conversation | None:
        if done:
            self.newest.wrote(after)
            return after
        metrics.CAS_LOST.labels("conversations").inc()
        self.newest.forget(after.id)
        return None

    async def find(self, conversation: str) -> Conversation | None:
        return (await self.store.read((conversation,))).get(conversation)

    async def survivor(self, conversation: str) -> Conversation | None:
        """The conversation that this one has become: itself, or at the end of its joins, absorbed on the way."""
        found = await self.find(conversation)
        while found is not None and found.state == "joined":
            await self.absorb(found)
            assert found.into
            found = await self.find(found.into)
        return found

    async def locate(self, leg: str) -> Conversation | None:
        """Where a leg is, changing nothing: the last conversation on its way that exists."""
        hint = (await self.store.hints((leg,))).get(leg)
        found = await self.find(hint.conversation) if hint else None
        while found is not None:
            record = found.leg(leg)
            onwards = record.moved.to if record and record.moved else found.into if found.state == "joined" else None
            following = await self.find(onwards) if onwards else None
            if following is None:
                return found
            found = following
        return None

    async def bring(self, leg: LegRecord, to: Conversation) -> Conversation:
        """See that a leg is in this conversation, unless another open one holds it; the answer is the holder."""
        while True:
            await self.store.insert_hint(leg.key, Hint(to.id, self.now(), to.customer))
            holder = await self.resolve(leg, to.customer, -1)
            end = await self.survivor(to.id) or to
            if holder.id == end.id or holder.state == "open":
                return holder
            await self.move(holder, leg.key, to.customer, -1, to=end.id)

    # -- resolve, move

    async def choose(
        self, leg: LegRecord, moves: int, customer: str | None, version: int, group: str, source: str | None
    ) -> tuple[str, str | None]:
        """Where a leg goes, by the newer of the message's stamp and our copy of the map."""
        known = (await self.store.known((leg.party,))).get(leg.party)
        if known and known.version > version:
            customer = known.customer
        found = await self.store.open_of(customer, group) if customer else []
        return decide.destination(leg.key, moves, found, source), customer

    async def resolve(self, leg: LegRecord, customer: str | None, version: int) -> Conversation:
        """The conversation that holds the leg. Opens it, finishes a move, helps a join, as it finds them."""
        opening = self.opening_of(leg)
        while (hint := (await self.store.hints((leg.key,))).get(leg.key)) is None:
            target, customer = await self.choose(leg, 1, customer, version, opening.group, None)
            await self.store.insert_hint(leg.key, Hint(target, self.now(), customer))
        return await self.walk(Walk(leg.key, hint.conversation, hint.opened, hint.customer, replace(leg, n=1), opening))

    async def walk(self, walk: Walk) -> Conversation:
        first = walk.to
        while True:
            step = decide.walked(walk, await self.find(walk.to), self.now())
            match step:
                case Held(conversation):
                    if conversation.id != first:
                        await self.store.shorten(walk.leg, conversation.id)
                    return conversation
                case Open(change):
                    if fresh := await self.open(change):
                        await self.store.pull_out(fresh.id, fresh.out[-1].n)
                case Attach(before, change):
                    if after := await self.change(before, change):
                        await self.publish((after,))
                case Go(onwards, loser):
                    if loser:
                        await self.absorb(loser)
                    walk = onwards

    async def open(self, change: Change) -> Conversation | None:
        """The conversation as inserted, or None if there is one by now. It is published; whoever reconciles it, which it waits
        for, empties its outbox."""
        conversation = committed(change, self.now())
        if not await self.store.insert_if_absent(conversation):
            return None
        await self._outbox.send(conversation.id, conversation.out)
        self.desk.kick(conversation.tenant, conversation.queue)
        return conversation

    async def move(self, c: Conversation, leg: str, customer: str | None, version: int, to: str | None = None) -> None:
        """Send the leg on: to `to`, or where its customer is. The compare-and-set here elects the one successor."""
        record = c.leg(leg)
        assert record
        target = to
        if target is None:
            target, customer = await self.choose(record, record.n + 1, customer, version, c.group, c.id)
        if after := await self.change(c, decide.moved(c, leg, target, customer, self.now())):
            await self.publish((after,))
            await self.resolve(record, customer, version)

    # -- joins

    async def absorb(self, loser: Conversation) -> None:
        """See that the survivor has taken the loser over; an ancestor that was joined itself goes first."""
        if not loser.absorbed_into:
            assert loser.into
            await self._take_over(loser, loser.into)
            await self._tell_absorbed(loser.id)
        if loser.assignment:
            await self.desk.release(loser.assignment.reservation)

    async def _take_over(self, loser: Conversation, into: str) -> None:
        while True:
            winner = await self.find(into)
            assert winner
            if loser.id in winner.absorbed:
                return
            if winner.state == "joined":
                await self.absorb(winner)
                again = await self.find(into)
                assert again
                assert again.into
                if loser.id in again.absorbed:
                    return
                into = again.into
                continue
            if after := await self.change(winner, decide.absorbed(winner, loser, self.now())):
                await self.publish((after,))
                return

    async def _tell_absorbed(self, loser: str) -> None:
        found = await self.find(loser)
        if found and not found.absorbed_into:
            await self.publish((found,))
            await self.change(found, decide.finished(found))

    async def seal(self, loser: Conversation, winner: str) -> None:
        if after := await self.change(loser, decide.sealed(loser, winner, self.now())):
            await self.absorb(after)

    # -- reconcile

    async def reconcile(self, conversation: str, *, force: bool = False, opened: Conversation | None = None) -> None:
        """Level-triggered: compares the map with the conversations and does the next step until nothing is left to do. `opened`
        is the conversation as this caller has just inserted and published it: then it is not read first."""
        while True:
            c = opened or await self.find(conversation)
            if c is None or c.state == "closed":
                return
            if c.state == "joined":
                await self.absorb(c)
                assert c.into
                conversation, force = c.into, True
                continue
            if not (c.check or force):
                return
            if await self._step(c, published=opened is not None):
                return
            opened = None

    async def _step(self, c: Conversation, *, published: bool) -> bool:
        """One step of reconciliation; whether it was the last. `published`: its outbox, though it is not emptied."""
        now = self.now()
        known = await self.store.known([leg.party for leg in c.held])
        match decide.reconciled(c, known, now):
            case Split(leg, customer):
                record = c.leg(leg)
                assert record
                await self.move(c, leg, customer, -1)
            case Write(change):
                await self._write(c, change)
            case Meet(customer):
                others = await self.store.open_of(customer, c.group) if customer else []
                if others := [one for one in others if one.id != c.id]:
                    winner = decide.survivor(c, others)
                    await self.seal(others[0] if winner.id == c.id else c, winner.id)
                elif not c.check:
                    return True
                else:
                    if c.out and not published:
                        await self._outbox.send(c.id, c.out)
                    return bool(await self.change(c, Change(self._settled(c, now))))
        return False

    def _settled(self, c: Conversation, now: datetime) -> Conversation:
        """Nothing is left to reconcile, and the outbox is published. A leg that went elsewhere may not have arrived: then only
        `tend`, which looks, may put the next look off."""
        settled = c.but(check=False, out=())
        due = self._arm(settled, now)
        if any(leg.moved for leg in c.legs):
            due = min(filter(None, (due, c.due)), default=None)
        return settled.but(due=due)

    async def _write(self, c: Conversation, change: Change) -> bool:
        """Change, publish, and give the token back if the change ended an assignment."""
        after = await self.change(c, change)
        if after:
            await self.publish((after,))
            if c.assignment and not after.assignment:
                await self.desk.release(c.assignment.reservation)
        return after is not None

    async def learned(self, identifier: str, known: Known) -> None:
        """A map record. Also one that is known already: its first delivery may have been cut short."""
        await self.store.learn(identifier, known)
        for one in await self.store.open_holding(identifier):
            if any(leg.party == identifier for leg in one.held) and not await self._agrees(one):
                await self.reconcile(one.id, force=True)

    async def _agrees(self, c: Conversation) -> bool:
        """Whether the conversation says of its legs what the map says. Then nothing is left to do: whoever opened, attached or
        renamed left `check` until they had looked for another conversation of the customer."""
        if c.check:
            return False
        known = await self.store.known([leg.party for leg in c.held])
        return isinstance(decide.reconciled(c, known, self.now()), Meet)

    # -- timers

    async def tend(self, conversation: str, fire: Callable[[Conversation, datetime], Change]) -> None:
        """Finish whatever is half done in a conversation, publish what waits, then do what `fire` says is due. It says at least
        when to look again; written on the very version for which nothing was left to finish."""
        while (c := await self.find(conversation)) is not None:
            for leg in c.legs:
                if leg.moved:
                    await self.walk(decide.onwards(c, leg, self.opening_of(leg)))
            if c.state == "joined":
                await self._rest(c)
                return
            if c.check and c.state == "open":
                await self.reconcile(c.id)
                continue
            await self.publish((c,))
            clean = replace(c, out=())
            change = fire(clean, self.now())
            if change.after == clean or await self._write(c, change):
                return

    async def _rest(self, loser: Conversation) -> None:
        """Of a loser whose legs that had left were seen to arrive: no more can leave. If this is cut short or somebody was
        faster, it stays due."""
        await self.absorb(loser)
        found = await self.find(loser.id)
        if found and found.absorbed_into and found.due:
            await self.change(found, decide.rested(found))

    # -- outbox

    async def publish(self, conversations: Iterable[Conversation]) -> None:
        """Send what waits in these outboxes as they were read or written, and remove it once it is acknowledged."""
        await all_of(*(self._publish(c) for c in conversations if c.out))

    async def _publish(self, c: Conversation) -> None:
        await self._outbox.send(c.id, c.out)
        await self.store.pull_out(c.id, c.out[-1].n)
        self.newest.published(c)
