"""The conversation as a value. Deciders make new values; the store compares and sets them (documents.py).

Times have milliseconds, as BSON keeps them: `milliseconds` rounds what comes from outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal, Self

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

State = Literal["open", "closed", "joined"]
OfferState = Literal["open", "claimed", "used", "expired"]
Given = Literal["public", "private"]

WINDOW = 64
_ENTRY = 14  # 8 bytes of id, 6 bytes of time
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def milliseconds(at: datetime) -> datetime:
    """The time as BSON keeps it, in UTC: with a zone of another kind every comparison would ask it for its offset."""
    at = at.astimezone(UTC)
    over = at.microsecond % 1000
    return at - timedelta(microseconds=over) if over else at


def stamp(at: datetime) -> int:
    """Milliseconds since 1970 in 6 bytes: what orders the inputs of a leg. Times outside are moved to the nearest end."""
    since = at - _EPOCH
    return min(max(since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000, 0), 2**48 - 1)


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


class Copied:
    """What every message makes anew. `but` is `dataclasses.replace` for a value of thirty fields: it copies one dictionary
    instead of setting each field, and is ten times as fast. Such a value has no slots, and nothing to do after its init."""

    def but(self, **fields: Any) -> Self:
        """The same with these fields as given."""
        if not fields.keys() <= self.__dict__.keys():
            raise TypeError(f"{type(self).__name__} has no field {', '.join(fields.keys() - self.__dict__.keys())}")
        return self.made({**self.__dict__, **fields})

    @classmethod
    def made(cls, fields: dict[str, Any]) -> Self:
        """Of all its fields, which it keeps."""
        value = object.__new__(cls)
        object.__setattr__(value, "__dict__", fields)
        return value


@dataclass(frozen=True, slots=True)
class Moved:
    """The leg has left: the one successor, when it was named, and the customer it is opened for if it does not exist."""

    to: str
    at: datetime
    customer: str | None


@dataclass(frozen=True)
class LegRecord(Copied):
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


@dataclass(frozen=True)
class Conversation(Copied):
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
        for one in self.legs:
            if one.key == key:
                return one
        return None

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
        return self.but(legs=self.legs_with(leg))

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
