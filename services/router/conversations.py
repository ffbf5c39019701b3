"""Which conversation holds a leg, what an input does to it, when two become one: the protocol's steps as pure decisions.

Each takes what was read and returns the next step; `protocol.py` carries it out and asks again. Invariant: a leg is held by
exactly one conversation. "One open conversation per customer and group" is a goal that `reconciled` reaches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from services.common.events import Author
from services.common.identifiers import Proof, conversation_id
from services.router import state
from services.router.hours import ALWAYS, Hours, deadline
from services.router.outputs import Change, Emit
from services.router.state import Conversation, LegRecord, Moved
from services.router.stores import Known

UNFINISHED = timedelta(seconds=10)  # after so long somebody looks whether a half-done step is still half done


@dataclass(frozen=True, slots=True)
class Opening:
    """How a new conversation begins: where it waits, in which language, and by when it wants an answer and an end."""

    tenant: str
    group: str = "default"
    queue: str = "default"
    priority: int = 5
    language: str | None = None
    answer_s: int | None = None
    resolve_s: int | None = None
    hours: Hours = ALWAYS
    sticky: str | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """A message as the conversation sees it. `time` orders the inputs of a leg and is a function of the event, never of the
    copy received. `leg` is the record that a leg seen for the first time begins with."""

    id: str
    kind: Literal["said", "echo"]
    leg: LegRecord
    customer: str | None
    version: int
    time: int
    at: datetime
    received: datetime
    provider_id: str
    entry_id: str
    window: datetime | None = None
    text: str = ""


def unfinished(c: Conversation, now: datetime) -> Conversation:
    """With a moment at which somebody looks again, in case nobody finishes what this change leaves half done."""
    return c.but(due=min(filter(None, (c.due, now + UNFINISHED))))


# -- resolve: the holder of a leg -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Walk:
    """The way along a leg's conversations. `carry` is the leg's record as it left the last one, `need` the number of moves it
    must have where it is attached. `opened`, `customer` and `opening` make the conversation if it does not exist."""

    leg: str
    to: str
    opened: datetime
    customer: str | None
    carry: LegRecord
    opening: Opening
    need: int = 1


@dataclass(frozen=True, slots=True)
class Held:
    conversation: Conversation


@dataclass(frozen=True, slots=True)
class Open:
    """The conversation does not exist: insert it with the leg in it."""

    change: Change


@dataclass(frozen=True, slots=True)
class Attach:
    """The leg is on its way to this conversation: whoever comes by finishes the move."""

    before: Conversation
    change: Change


@dataclass(frozen=True, slots=True)
class Go:
    """Look at the next conversation; before that, help the loser's survivor to take it over."""

    walk: Walk
    loser: Conversation | None = None


Step = Held | Open | Attach | Go


def attached(record: LegRecord | None, need: int) -> bool:
    """Whether the leg has arrived here on this move. A record of an earlier stay does not count."""
    return record is not None and record.n >= need


def walked(walk: Walk, found: Conversation | None, now: datetime) -> Step:
    """The next step on the way to the leg's holder."""
    if found is None:
        return Open(opened(walk, now))
    record = found.leg(walk.leg)
    if record is not None and attached(record, walk.need):
        return _onwards(walk, found, record)
    if found.state == "joined":
        assert found.into
        return Go(replace(walk, to=found.into), loser=found)
    return Attach(found, attachment(found, arrived(walk), now))


def onwards(c: Conversation, record: LegRecord, opening: Opening) -> Walk:
    """From a conversation that the leg has left to where it went."""
    assert record.moved
    to, at, customer = record.moved.to, record.moved.at, record.moved.customer
    return Walk(record.key, to, at, customer, record, inherited(opening, c), record.n + 1)


def _onwards(walk: Walk, found: Conversation, record: LegRecord) -> Step:
    if record.moved:
        return Go(onwards(found, record, walk.opening))
    if found.state == "joined":
        assert found.into
        return Go(replace(walk, to=found.into, carry=record, need=record.n + 1), loser=found)
    return Held(found)


def inherited(opening: Opening, previous: Conversation) -> Opening:
    """The follow-up of a conversation waits where that one did, and its agent is preferred."""
    sticky = previous.assignment.agent if previous.assignment else previous.sticky
    return replace(
        opening,
        group=previous.group,
        queue=previous.queue,
        language=previous.language or opening.language,
        sticky=sticky,
    )


def arrived(walk: Walk) -> LegRecord:
    """The leg's record where it arrives: its memory of inputs comes with it. A send decided before a move is refused, hence
    the epoch; a leg that was attached by a token stays attached by it only where the token put it."""
    if walk.need == 1:
        return walk.carry.but(n=1, moved=None)
    return walk.carry.but(n=walk.need, moved=None, via="id", epoch=walk.carry.epoch + 1)


def opened(walk: Walk, now: datetime) -> Change:
    o = walk.opening
    conversation = Conversation(
        id=walk.to,
        tenant=o.tenant,
        home=walk.leg,
        opened=walk.opened,
        group=o.group,
        queue=o.queue,
        priority=o.priority,
        language=o.language,
        customer=walk.customer,
        legs=(arrived(walk),),
        sla=state.Sla(o.answer_s, deadline(o.hours, walk.opened, o.resolve_s) if o.resolve_s else None, hours=o.hours),
        since=walk.opened,
        last=walk.opened,
        sticky=o.sticky,
    )
    return Change(unfinished(conversation, now), (Emit("conversation.opened", more={"other": walk.leg}),))


def attachment(c: Conversation, record: LegRecord, now: datetime) -> Change:
    after = replace(c.with_leg(invited(c, record)), check=c.state == "open")
    return Change(unfinished(after, now), (Emit("leg.attached", more={"other": record.key}),))


def invited(c: Conversation, record: LegRecord) -> LegRecord:
    """A leg that comes here for the first time, and by an invitation, is worth what the invitation proved: whoever attaches
    it, it is never taken for the customer's own because somebody sent a code that anybody could read."""
    proof = next((o.proof for o in c.offers if o.state == "used" and o.leg == record.key and o.proof), None)
    return record if proof is None or c.leg(record.key) else replace(record, via="token", proof=proof)


def first_id(leg: str, moves: int) -> str:
    """The conversation that is opened for a leg after so many moves, if its customer has none."""
    return conversation_id(leg, moves)


def destination(leg: str, moves: int, open_: Sequence[Conversation], source: str | None = None) -> str:
    """Where a leg goes: the customer's oldest open conversation in the group, else a new one; never back where it leaves."""
    target = min(open_, key=_age).id if open_ else first_id(leg, moves)
    return first_id(leg, moves) if target == source else target


def moved(c: Conversation, leg: str, to: str, customer: str | None, now: datetime) -> Change:
    """Freeze the leg's record here and name the one successor; anybody can finish the move."""
    record = c.leg(leg)
    assert record
    after = c.with_leg(replace(record, moved=Moved(to, now, customer)))
    return Change(unfinished(after, now), (Emit("leg.moved", more={"other": leg}),))


# -- joins ----------------------------------------------------------------------------------------------------------------


def _age(c: Conversation) -> tuple[datetime, str]:
    return c.opened, c.id


def survivor(one: Conversation, others: Iterable[Conversation]) -> Conversation:
    """The oldest of them: everybody picks the same, whoever acts."""
    return min((one, *others), key=_age)


def sealed(loser: Conversation, winner: str, now: datetime) -> Change:
    """The loser says where it goes. Its legs and assignment stay as they are, frozen, until the winner has them."""
    after = replace(loser, state="joined", into=winner, absorbed_into=False)
    return Change(unfinished(after, now), (Emit("conversation.joined", more={"other": winner}),))


def absorbed(winner: Conversation, loser: Conversation, now: datetime) -> Change:
    """The winner takes the loser's legs, offers, sends and clocks; an agent only if it has none of its own. Closed, it is open
    again: somebody wrote to the loser whom no close command of the winner has seen."""
    c = winner
    for leg in loser.legs:
        mine = c.leg(leg.key)
        if leg.moved is None and (mine is None or mine.n < leg.n + 1):
            c = c.with_leg(replace(leg, n=leg.n + 1))
    reopens = winner.state == "closed"
    assignment = winner.assignment or loser.assignment
    after = replace(
        c,
        state="open",
        check=True,
        absorbed=tuple(dict.fromkeys((*c.absorbed, loser.id, *loser.absorbed))),
        offers=_offers(winner, loser),
        sends=(*c.sends, *(send for send in loser.sends if send.id not in {one.id for one in c.sends})),
        handoff=winner.handoff if winner.handoff and winner.handoff.state not in ENDED else loser.handoff or winner.handoff,
        sla=_slas(c, loser),
        since=min(filter(None, (winner.since, loser.since)), default=None),
        last=max(filter(None, (winner.last, loser.last)), default=None),
        due=min(filter(None, (winner.due, loser.due)), default=None),
        assignment=assignment,
        sticky=winner.sticky or loser.sticky,
        participants=_participants(winner, loser),
    )
    outputs = [Emit("conversation.absorbed", more={"other": loser.id}, why=f"up to {loser.seq}")]
    if reopens:
        outputs.append(Emit("conversation.reopened", why="joined_open"))
    return Change(unfinished(after, now), tuple(outputs))


ENDED = frozenset(("resolved", "public_closed", "declined", "expired", "rejected_by_platform", "author_deleted"))
_RANK = {"expired": 0, "open": 1, "claimed": 2, "used": 3}


def _offers(winner: Conversation, loser: Conversation) -> tuple[state.Offer, ...]:
    """United; what was used stays used."""
    found = {one.id: one for one in winner.offers}
    for one in loser.offers:
        if one.id not in found or _RANK[found[one.id].state] < _RANK[one.state]:
            found[one.id] = one
    return tuple(found.values())


def _slas(winner: Conversation, loser: Conversation) -> state.Sla:
    """Deadlines never move away. A breach that was told for a wait is not told again."""
    mine, other, waiting = winner.sla, loser.sla, winner.waiting_since
    told = next((one for one in (mine.answer_breached, other.answer_breached) if one == waiting), mine.answer_breached)
    return state.Sla(
        answer_s=min((one for one in (mine.answer_s, other.answer_s) if one is not None), default=None),
        resolve_by=min(filter(None, (mine.resolve_by, other.resolve_by)), default=None),
        answer_breached=told,
        resolve_breached=mine.resolve_breached or other.resolve_breached,
        hours=mine.hours,
    )


def _participants(winner: Conversation, loser: Conversation) -> tuple[str, ...]:
    """Everybody who took part; the loser's agent too, who is no more in charge."""
    agents = [loser.assignment.agent] if loser.assignment and winner.assignment else []
    return tuple(dict.fromkeys((*winner.participants, *loser.participants, *agents)))


def finished(loser: Conversation) -> Change:
    """The survivor has all that was held here. A leg that had left before the join is not among it and may not have arrived
    where it went: then somebody has still to look."""
    due = loser.due if any(leg.moved for leg in loser.legs) else None
    return Change(replace(loser, absorbed_into=True, due=due))


def rested(loser: Conversation) -> Change:
    """Its legs have arrived wherever they went, and it is frozen: nobody needs to look at it again."""
    return Change(replace(loser, due=None))


# -- reconcile: what the map says against what is held --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Split:
    """This leg belongs to another customer."""

    leg: str
    customer: str | None


@dataclass(frozen=True, slots=True)
class Write:
    change: Change


@dataclass(frozen=True, slots=True)
class Meet:
    """All legs belong here; see whether the customer has another open conversation."""

    customer: str | None


def reconciled(c: Conversation, known: Mapping[str, Known], now: datetime) -> Split | Write | Meet:
    """The next step towards one customer per conversation. Identifiers that nobody told of, or that were erased, say
    nothing. Legs attached by a token stay: their holder came on purpose."""
    here = c.held
    if not here:
        return Write(closed(c, now, why="legs_left"))
    home = next((leg for leg in here if leg.key == c.home), None) or min(here, key=lambda leg: leg.key)
    at_home = known.get(home.party)
    customer = at_home.customer if at_home and at_home.customer else c.customer
    for leg in here:
        other = known.get(leg.party)
        if leg.via == "id" and other and other.customer and other.customer != customer:
            return Split(leg.key, other.customer)
    if c.customer != customer:
        after = unfinished(replace(c, customer=customer, check=True), now)
        return Write(Change(after, (Emit("conversation.renamed"),)))
    return Meet(customer)


def without_open_offers(c: Conversation) -> Conversation:
    """Nobody comes in by an invitation of this conversation any more."""
    return replace(c, offers=tuple(replace(o, state="expired") if o.state in ("open", "claimed") else o for o in c.offers))


def closed(c: Conversation, now: datetime, why: str = "", by: Author | None = None) -> Change:
    """Nobody works on it, no clock runs, no invitation leads here. Whoever writes next opens a conversation of its own."""
    c = without_open_offers(c)
    legs = tuple(leg if leg.wait is None or leg.moved else replace(leg, wait=None) for leg in c.legs)
    agents = (c.assignment.agent,) if c.assignment else ()
    after = replace(
        c,
        state="closed",
        check=False,
        legs=legs if any(one is not other for one, other in zip(legs, c.legs, strict=True)) else c.legs,
        assignment=None,
        sticky=c.assignment.agent if c.assignment else c.sticky,
        participants=tuple(dict.fromkeys((*c.participants, *agents))),
        since=None,
        due=None,
    )
    return Change(unfinished(after, now), (Emit("conversation.closed", by=by, why=why),))


# -- inputs ---------------------------------------------------------------------------------------------------------------

WINDOW = state.WINDOW


def repeated(record: LegRecord, one: Input) -> bool:
    return record.seen.has(one.id)


def effect(record: LegRecord, one: Input) -> Literal["duplicate", "late", "new"]:
    """Redelivery, provider retries, replays, joins and splits are one case: remembered, or below the floor."""
    if repeated(record, one):
        return "duplicate"
    return "late" if record.seen.is_late(one.time) else "new"


def applied(change: Change, leg: str, one: Input, now: datetime) -> Change:
    """The input takes effect: remembered, clocks moved, what a reply needs kept."""
    c = change.after
    record = c.leg(leg)
    assert record
    match one.kind:
        case "said":
            return _said(change, c, record, one, now)
        case "echo":
            return _answered(change, c, record, one)


def _said(change: Change, c: Conversation, record: LegRecord, one: Input, now: datetime) -> Change:
    """One new record and one new conversation: this is the way of every message, and copies are what it costs."""
    begins = c.waiting_since is None
    wait = record.wait or min(one.received, now)
    newest = _newest(record, one) if record.last is None or one.at >= record.last else {}
    seen = record.seen.plus(one.id, one.time, WINDOW)
    heard = record.but(seen=seen, version=max(record.version, one.version), wait=wait, **newest)
    answer_by = c.sla.answer_by(wait)
    after = c.but(
        legs=c.legs_with(heard),
        check=c.check or one.version > record.version,
        last=max(filter(None, (c.last, one.received))),
        due=min(filter(None, (c.due, answer_by)), default=None),
        since=c.since or (now if c.assignment is None else None),
    )
    told = (Emit("conversation.waiting", more={"other": record.key}),) if begins and not _opens(change) else ()
    return change.plus(after, *told)


def _newest(record: LegRecord, one: Input) -> dict[str, Any]:
    """What the newest message says about the leg."""
    new = one.leg
    found: dict[str, Any] = {
        "last": one.at,
        "proof": stronger(record, new),
        "last_id": one.provider_id,
        "last_entry": one.entry_id,
        "window": max(filter(None, (record.window, one.window)), default=None),
    }
    if new.context:
        found |= {"context": new.context, "context_at": new.context_at}
    found |= {name: value for name in ("name", "who", "leg", "thread") if (value := getattr(new, name))}
    return found


def _opens(change: Change) -> bool:
    return any(isinstance(one, Emit) and one.name == "conversation.opened" for one in change.outputs)


def stronger(record: LegRecord, new: LegRecord) -> Proof:
    """What the channel vouches for now, if it is more than what was known."""
    order = ("none", "claimed", "channel", "account")
    return max(record.proof, new.proof, key=order.index) if record.via == "id" else record.proof


def _answered(change: Change, c: Conversation, record: LegRecord, one: Input) -> Change:
    """Somebody of ours wrote in the provider's own app: the customer does not wait any more."""
    ends = record.wait is not None and one.received >= record.wait
    answered = record.but(
        seen=record.seen.plus(one.id, one.time, WINDOW),
        version=max(record.version, one.version),
        sent=max(filter(None, (record.sent, one.at))),
        wait=None if ends else record.wait,
    )
    after = c.but(
        legs=c.legs_with(answered),
        check=c.check or one.version > record.version,
        last=max(filter(None, (c.last, one.received))),
    )
    told = (Emit("conversation.answered", more={"other": record.key}, why="native_app"),) if ends else ()
    return change.plus(after, *told)


def forgotten(c: Conversation, party: str) -> Change | None:
    """What an erasure takes out of a conversation: the name and what a channel needs to write. None if there is nothing."""
    legs = tuple(replace(leg, name=None, who=b"", context={}, context_at=None) if leg.party == party else leg for leg in c.legs)
    if legs == c.legs:
        return None
    return Change(replace(c, legs=legs))
