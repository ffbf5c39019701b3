"""The conversation as a value, and its document in MongoDB. Deciders make new values; the store compares and sets them.

A document is written by whoever wins the compare-and-set on `v`; `out` alone is also shortened without it. Times have
milliseconds, as BSON keeps them: `milliseconds` rounds what comes from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal

from services.common.cloudevents import Record
from services.common.events import (
    AssignmentHead,
    Author,
    HandoffHead,
    HandoffState,
    Head,
    LegHead,
    OfferHead,
    Part,
    SlaHead,
)
from services.common.identifiers import Proof, Visibility
from services.router.hours import ALWAYS, Hours, deadline

Document = dict[str, Any]
State = Literal["open", "closed", "joined"]
OfferState = Literal["open", "claimed", "used", "expired"]
Given = Literal["public", "private"]

WINDOW = 64
_ENTRY = 14  # 8 bytes of id, 6 bytes of time
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def milliseconds(at: datetime) -> datetime:
    """The time as BSON keeps it."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def stamp(at: datetime) -> int:
    """Milliseconds since 1970 in 6 bytes: what orders the inputs of a leg. Times outside are moved to the nearest end."""
    return min(max((at - _EPOCH) // timedelta(milliseconds=1), 0), 2**48 - 1)


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest inputs of a leg, by the provider's time: ids that were applied, packed as (8-byte id, 6-byte time) in order
    of time. What falls out of the window raises the floor; an input at or below the floor is late."""

    packed: bytes = b""
    floor: int = -1

    @staticmethod
    def short(input_id: str) -> bytes:
        return blake2b(input_id.encode(), digest_size=8).digest()

    def has(self, input_id: str) -> bool:
        short, at = self.short(input_id), -1
        while (at := self.packed.find(short, at + 1)) != -1:
            if at % _ENTRY == 0:
                return True
        return False

    def is_late(self, time: int) -> bool:
        return time <= self.floor

    def plus(self, input_id: str, time: int, window: int = WINDOW) -> Seen:
        """With this input remembered and, beyond the window, the oldest forgotten."""
        packed, when, at = self.packed, time.to_bytes(6, "big"), len(self.packed)
        while at and packed[at - 6 : at] > when:
            at -= _ENTRY
        packed = packed[:at] + self.short(input_id) + when + packed[at:]
        over = len(packed) // _ENTRY - window
        if over <= 0:
            return Seen(packed, self.floor)
        dropped = int.from_bytes(packed[over * _ENTRY - 6 : over * _ENTRY], "big")
        return Seen(packed[over * _ENTRY :], max(self.floor, dropped))

    def __len__(self) -> int:
        return len(self.packed) // _ENTRY


@dataclass(frozen=True, slots=True)
class Moved:
    """The leg has left: the one successor, when it was named, and the customer it is opened for if it does not exist."""

    to: str
    at: datetime
    customer: str | None


@dataclass(frozen=True, slots=True)
class LegRecord:
    """What a conversation knows about a leg. `n` counts the leg's moves between conversations; with `moved` the record is
    frozen. `party` is the identifier key of the customer's side. `wait` is since when the customer waits for an answer,
    `last` when they wrote last. A record is never removed."""

    key: str
    party: str
    channel: str
    account: str
    who: bytes = b""  # the party's identifier, sealed: what a send is addressed to
    leg: str = ""
    thread: str = ""
    visibility: Visibility = "private"
    name: str | None = None
    n: int = 1
    moved: Moved | None = None
    version: int = -1  # identity version of the newest stamp that was applied
    via: Literal["id", "token"] = "id"
    proof: Proof = "claimed"
    epoch: int = 0
    seen: Seen = field(default_factory=Seen)
    wait: datetime | None = None
    last: datetime | None = None
    sent: datetime | None = None
    window: datetime | None = None  # until then the provider lets us write freely
    context: Mapping[str, str] = field(default_factory=dict)
    context_at: datetime | None = None
    last_id: str | None = None  # the provider's id of the customer's last message
    last_entry: str | None = None  # and its entry on the timeline

    @property
    def held(self) -> bool:
        return self.moved is None


@dataclass(frozen=True, slots=True)
class Assignment:
    """`reservation` is `<conversation>@<version>@<agent>` and has its token on the agent's document."""

    agent: str
    reservation: str
    state: Literal["offered", "active"]
    expires: datetime | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """An invitation to a private leg. `token` and `code` are hashes of what the customer gets; `given` says whether it was
    handed over in public or on a private leg, `on` is that leg. `leg` and `input` are who used it, and with which input;
    `proof` is what that proved of the leg, None if the leg stays where it is."""

    id: str
    token: str
    code: str
    state: OfferState
    given: Given
    on: str
    expires: datetime
    leg: str | None = None
    input: str | None = None
    proof: Proof | None = None
    targets: tuple[str, ...] = ()  # `channel/account` of the ways that the invitation's page offers, best first


@dataclass(frozen=True, slots=True)
class Handoff:
    """From a public leg to a private one. `item` is the provider's id of the public post, `entry` its timeline entry; `item`
    is empty once its author deleted it. `deadline` is by when the platform's own private reply must go, or until when an
    invitation stands. `waits_for` is the outbound id of a send whose fate decides the next step, `waits_as` which step. `say` and `then` are the
    private and the public text of a draft; `then` is also the public reply that follows an accepted private message. `ways`
    are the targets of a draft, `used` the items whose one private reply was spent."""

    state: HandoffState
    since: datetime
    public_leg: str
    item: str = ""
    entry: str = ""
    private_leg: str | None = None
    deadline: datetime | None = None
    reason: str = ""
    waits_for: str | None = None
    waits_as: Literal["private", "link", "follow", "closing"] | None = None
    say: tuple[Part, ...] = ()
    then: tuple[Part, ...] = ()
    ways: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
    author: Author | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """A message that was decided and can still be refused. It leaves the conversation when its fate is known."""

    id: str
    leg: str
    visibility: Visibility
    need: Proof
    epoch: int
    at: datetime
    not_before: datetime | None = None
    state: Literal["queued", "stopped"] = "queued"
    wait: datetime | None = None  # the wait that it ended, which goes on if it is not sent
    windowed: bool = True  # whether the provider's window must be open for it


@dataclass(frozen=True, slots=True)
class Command:
    """A command that was carried out, and what it was answered; the same idempotency key gets the same answer."""

    key: str
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """A record that waits to be published. `n` orders and removes all items, `s` is the state event's own number."""

    n: int
    s: int | None
    record: Record


@dataclass(frozen=True, slots=True)
class Sla:
    """Deadlines of the case: an answer within `answer_s` open seconds of the wait's beginning, an end by `resolve_by`. `answer_breached`
    is the beginning of the wait for which the breach was told."""

    answer_s: int | None = None
    resolve_by: datetime | None = None
    answer_breached: datetime | None = None
    resolve_breached: bool = False
    hours: Hours = ALWAYS

    def answer_by(self, waiting: datetime | None) -> datetime | None:
        return deadline(self.hours, waiting, self.answer_s) if waiting and self.answer_s is not None else None


@dataclass(frozen=True, slots=True)
class Conversation:
    """One case. `opened` never changes; (opened, id) decides which of two survives. `home` is the leg whose customer is the
    conversation's. `check` asks for reconciliation; `absorbed_into` false means that `into` has not taken it over yet.
    `since` is since when it waits for an agent; `excluded` are the agents who refused it in this round."""

    id: str
    tenant: str
    home: str
    opened: datetime
    v: int = 0
    group: str = "default"
    state: State = "open"
    queue: str = "default"
    priority: int = 5
    language: str | None = None
    customer: str | None = None
    legs: tuple[LegRecord, ...] = ()
    check: bool = True
    due: datetime | None = None
    sla: Sla = Sla()
    last: datetime | None = None  # when anything last happened that postpones the close by inactivity
    into: str | None = None
    absorbed_into: bool = True
    absorbed: tuple[str, ...] = ()
    assignment: Assignment | None = None
    since: datetime | None = None
    excluded: tuple[str, ...] = ()
    pause_until: datetime | None = None  # all who are free refused: a new round begins then
    sticky: str | None = None  # the agent who is preferred because the case was theirs
    participants: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    handoff: Handoff | None = None
    offers: tuple[Offer, ...] = ()
    sends: tuple[Send, ...] = ()
    commands: tuple[Command, ...] = ()
    seq: int = 0
    last_n: int = 0
    out: tuple[OutboxItem, ...] = ()

    def leg(self, key: str) -> LegRecord | None:
        return next((one for one in self.legs if one.key == key), None)

    @property
    def held(self) -> tuple[LegRecord, ...]:
        return tuple(one for one in self.legs if one.moved is None)

    @property
    def anchor(self) -> str:
        """The identifier key of the home leg; it stays when that leg leaves."""
        home = self.leg(self.home)
        return home.party if home else ""

    @property
    def waiting_since(self) -> datetime | None:
        """Since when a customer waits for an answer on any leg that is held here."""
        return min((one.wait for one in self.legs if one.wait and one.moved is None), default=None)

    def with_leg(self, leg: LegRecord) -> Conversation:
        return replace(self, legs=self.legs_with(leg))

    def legs_with(self, leg: LegRecord) -> tuple[LegRecord, ...]:
        """With this record in place of the one with its key, else added at the end: places never change."""
        for place, one in enumerate(self.legs):
            if one.key == leg.key:
                return (*self.legs[:place], leg, *self.legs[place + 1 :])
        return (*self.legs, leg)


# -- as others see it -------------------------------------------------------------------------------------------------


def head(conversation: Conversation) -> Head:
    """The whole state as others may know it."""
    c, waiting = conversation, conversation.waiting_since
    answer_by = c.sla.answer_by(waiting)
    return Head(
        state=c.state,
        version=c.v,
        seq=c.seq,
        customer_id=c.customer,
        group=c.group,
        queue=c.queue,
        priority=c.priority,
        language=c.language,
        opened_at=c.opened,
        assignee=_assignment_head(c.assignment),
        participants=c.participants,
        legs=tuple(leg_head(one) for one in c.legs),
        handoff=_handoff_head(c),
        sla=SlaHead(
            waiting_since=waiting,
            answer_by=answer_by,
            resolve_by=c.sla.resolve_by,
            breached=c.sla.resolve_breached or (waiting is not None and c.sla.answer_breached == waiting),
        ),
        into=c.into,
        absorbed=c.absorbed,
    )


def leg_head(leg: LegRecord) -> LegHead:
    return LegHead(
        key=leg.key,
        channel=leg.channel,
        account=leg.account,
        leg=leg.leg,
        thread=leg.thread,
        visibility=leg.visibility,
        party=leg.party,
        name=leg.name,
        via=leg.via,
        proof=leg.proof,
        epoch=leg.epoch,
        held=leg.held,
        last_received_at=leg.last,
        last_sent_at=leg.sent,
        waiting_since=leg.wait,
        window_until=leg.window,
        last_message=leg.last_entry,
    )


def _assignment_head(assignment: Assignment | None) -> AssignmentHead | None:
    if assignment is None:
        return None
    a = assignment
    return AssignmentHead(agent=a.agent, reservation=a.reservation, state=a.state, expires_at=a.expires, why=a.why)


def _handoff_head(conversation: Conversation) -> HandoffHead | None:
    h = conversation.handoff
    if h is None:
        return None
    return HandoffHead(
        state=h.state,
        since=h.since,
        public_leg=h.public_leg,
        private_leg=h.private_leg,
        deadline_at=h.deadline,
        reason=h.reason,
        offers=tuple(
            OfferHead(id=o.id, state=o.state, given_on=o.on, expires_at=o.expires, used_by=o.leg) for o in conversation.offers
        ),
    )


# -- as MongoDB keeps it ------------------------------------------------------------------------------------------------


def _pairs(values: Mapping[str, str]) -> list[list[str]]:
    """Other people's names may hold what MongoDB reads as a path."""
    return [[name, value] for name, value in values.items()]


def _leg_document(leg: LegRecord) -> Document:
    moved = leg.moved
    return {
        "k": leg.key,
        "i": leg.party,
        "ch": leg.channel,
        "ac": leg.account,
        "who": leg.who,
        "lg": leg.leg,
        "th": leg.thread,
        "vis": leg.visibility,
        "name": leg.name,
        "n": leg.n,
        "mv": moved and {"to": moved.to, "at": moved.at, "cust": moved.customer},
        "iv": leg.version,
        "via": leg.via,
        "proof": leg.proof,
        "epoch": leg.epoch,
        "seen": leg.seen.packed,
        "floor": leg.seen.floor,
        "wait": leg.wait,
        "last": leg.last,
        "sent": leg.sent,
        "win": leg.window,
        "ctx": _pairs(leg.context),
        "ctx_at": leg.context_at,
        "pid": leg.last_id,
        "entry": leg.last_entry,
    }


def _leg(d: Document) -> LegRecord:
    moved = d["mv"]
    return LegRecord(
        key=d["k"],
        party=d["i"],
        channel=d["ch"],
        account=d["ac"],
        who=d["who"],
        leg=d["lg"],
        thread=d["th"],
        visibility=d["vis"],
        name=d["name"],
        n=d["n"],
        moved=moved and Moved(moved["to"], moved["at"], moved["cust"]),
        version=d["iv"],
        via=d["via"],
        proof=d["proof"],
        epoch=d["epoch"],
        seen=Seen(d["seen"], d["floor"]),
        wait=d["wait"],
        last=d["last"],
        sent=d["sent"],
        window=d["win"],
        context=dict(d["ctx"]),
        context_at=d["ctx_at"],
        last_id=d["pid"],
        last_entry=d["entry"],
    )


def _part_document(part: Part) -> Document:
    return {
        "kind": part.kind,
        "text": part.text,
        "ref": part.ref,
        "media_type": part.media_type,
        "name": part.name,
        "size": part.size,
        "data": _pairs(part.data),
    }


def _part(d: Document) -> Part:
    return Part(**{**d, "data": dict(d["data"])})


def _handoff_document(h: Handoff | None) -> Document | None:
    if h is None:
        return None
    return {
        "st": h.state,
        "since": h.since,
        "pub": h.public_leg,
        "item": h.item,
        "entry": h.entry,
        "priv": h.private_leg,
        "by": h.deadline,
        "why": h.reason,
        "waits": h.waits_for,
        "as": h.waits_as,
        "say": [_part_document(one) for one in h.say],
        "then": [_part_document(one) for one in h.then],
        "ways": list(h.ways),
        "used": list(h.used),
        "author": h.author and {"kind": h.author.kind, "id": h.author.id, "name": h.author.name},
    }


def _handoff(d: Document | None) -> Handoff | None:
    if d is None:
        return None
    return Handoff(
        state=d["st"],
        since=d["since"],
        public_leg=d["pub"],
        item=d["item"],
        entry=d["entry"],
        private_leg=d["priv"],
        deadline=d["by"],
        reason=d["why"],
        waits_for=d["waits"],
        waits_as=d["as"],
        say=tuple(_part(one) for one in d["say"]),
        then=tuple(_part(one) for one in d["then"]),
        ways=tuple(d["ways"]),
        used=tuple(d["used"]),
        author=d["author"] and Author(**d["author"]),
    )


def _assignment_document(a: Assignment | None) -> Document | None:
    return None if a is None else {"a": a.agent, "r": a.reservation, "st": a.state, "exp": a.expires, "why": a.why}


def _assignment(d: Document | None) -> Assignment | None:
    return None if d is None else Assignment(d["a"], d["r"], d["st"], d["exp"], d["why"])


def _offer_document(o: Offer) -> Document:
    return {
        "id": o.id,
        "h": o.token,
        "c": o.code,
        "st": o.state,
        "given": o.given,
        "on": o.on,
        "exp": o.expires,
        "leg": o.leg,
        "input": o.input,
        "proof": o.proof,
        "to": list(o.targets),
    }


def _offer(d: Document) -> Offer:
    return Offer(
        d["id"], d["h"], d["c"], d["st"], d["given"], d["on"], d["exp"], d["leg"], d["input"], d["proof"], tuple(d["to"])
    )


def _send_document(s: Send) -> Document:
    return {
        "id": s.id,
        "leg": s.leg,
        "vis": s.visibility,
        "need": s.need,
        "epoch": s.epoch,
        "at": s.at,
        "nb": s.not_before,
        "st": s.state,
        "wait": s.wait,
        "win": s.windowed,
    }


def _send(d: Document) -> Send:
    return Send(d["id"], d["leg"], d["vis"], d["need"], d["epoch"], d["at"], d["nb"], d["st"], d["wait"], d["win"])


def _sla_document(s: Sla) -> Document:
    hours = s.hours.kept() if s.hours.week else None
    return {"answer_s": s.answer_s, "by": s.resolve_by, "told": s.answer_breached, "over": s.resolve_breached, "hours": hours}


def _sla(d: Document) -> Sla:
    hours = Hours.of(d["hours"]) if d["hours"] else ALWAYS
    return Sla(d["answer_s"], d["by"], d["told"], d["over"], hours)


def out_document(item: OutboxItem) -> Document:
    r = item.record
    return {"n": item.n, "s": item.s, "topic": r.topic, "key": r.key, "value": r.value, "h": [[k, v] for k, v in r.headers]}


def _out(d: Document) -> OutboxItem:
    return OutboxItem(d["n"], d["s"], Record(d["topic"], d["key"], d["value"], [(k, v) for k, v in d["h"]]))


def _same(value: Any) -> Any:
    return value


def _each(one: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda values: [one(value) for value in values]


def _tuple_of(one: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda values: tuple(one(value) for value in values)


# attribute: (name in the document, to it, from it). `_id`, `v` and `out` are the store's own business.
FIELDS: Mapping[str, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "tenant": ("tenant", _same, _same),
    "home": ("home", _same, _same),
    "opened": ("opened", _same, _same),
    "group": ("group", _same, _same),
    "state": ("st", _same, _same),
    "queue": ("queue", _same, _same),
    "priority": ("priority", _same, _same),
    "language": ("lang", _same, _same),
    "customer": ("cust", _same, _same),
    "legs": ("legs", _each(_leg_document), _tuple_of(_leg)),
    "check": ("chk", _same, _same),
    "due": ("due", _same, _same),
    "sla": ("sla", _sla_document, _sla),
    "last": ("last", _same, _same),
    "into": ("into", _same, _same),
    "absorbed_into": ("ab", _same, _same),
    "absorbed": ("absorbed", list, tuple),
    "assignment": ("asg", _assignment_document, _assignment),
    "since": ("since", _same, _same),
    "excluded": ("excl", list, tuple),
    "pause_until": ("pause", _same, _same),
    "sticky": ("sticky", _same, _same),
    "participants": ("parts", list, tuple),
    "skills": ("skills", list, tuple),
    "handoff": ("handoff", _handoff_document, _handoff),
    "offers": ("offers", _each(_offer_document), _tuple_of(_offer)),
    "sends": ("sends", _each(_send_document), _tuple_of(_send)),
    "commands": ("cmds", _each(lambda c: {"key": c.key, "result": dict(c.result)}), _tuple_of(lambda d: Command(**d))),
    "seq": ("seq", _same, _same),
    "last_n": ("n", _same, _same),
}


def to_document(conversation: Conversation) -> Document:
    document: Document = {"_id": conversation.id, "v": conversation.v}
    for attribute, (name, to, _) in FIELDS.items():
        document[name] = to(getattr(conversation, attribute))
    document["out"] = [out_document(item) for item in conversation.out]
    return document


def from_document(document: Document) -> Conversation:
    found = {attribute: back(document[name]) for attribute, (name, _, back) in FIELDS.items()}
    return Conversation(id=document["_id"], v=document["v"], out=tuple(_out(one) for one in document["out"]), **found)


def changes(before: Conversation, after: Conversation) -> Document:
    """What a compare-and-set writes: the fields that differ, but for `v` and `out`. Of the legs, the records that differ."""
    changed: Document = {}
    for attribute, (name, to, _) in FIELDS.items():
        old, new = getattr(before, attribute), getattr(after, attribute)
        if old is new:
            continue
        if attribute == "legs":
            for place, leg in enumerate(after.legs):
                if place >= len(before.legs) or before.legs[place] is not leg:
                    changed[f"legs.{place}"] = _leg_document(leg)
        elif old != new:
            changed[name] = to(new)
    return changed


def added_out(before: Conversation, after: Conversation) -> tuple[OutboxItem, ...]:
    """The outbox items that `after` has more than `before`."""
    return tuple(item for item in after.out if item.n > before.last_n)
