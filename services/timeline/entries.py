"""What every event does to the entries of the timeline: facts here, state events of conversations in cases.py. Pure.

An entry's id is not the event's: a message, its echo, edits, receipts and reactions meet on one document, whichever came
first. Our own message is `pending` until the provider has named it; the send result retires that entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.common.cloudevents import Event
from services.common.events import (
    Author,
    Call,
    CallEnded,
    CallRecorded,
    ConsentGiven,
    ConsentWithdrawn,
    Data,
    Delivery,
    Fact,
    IdentityAsserted,
    JourneyStep,
    MediaFailed,
    MediaStored,
    MessageDeleted,
    MessageDelivered,
    MessageEdited,
    MessageFailed,
    MessageRead,
    MessageReceived,
    MessageRefused,
    MessageRetrying,
    MessageSent,
    MessageUnknown,
    Part,
    PostCommented,
    PostMentioned,
    Reaction,
    ReactionAdded,
    ReferralFollowed,
    ReviewPosted,
    ReviewUpdated,
    Said,
    short,
)
from services.common.identifiers import Identifier, Sender, entry_id, event_entry_id, pending_entry_id, piece_entry_id, piece_id
from services.common.media import uploaded
from services.timeline.facets import Change, Value
from services.timeline.order import (
    BOTTOM,
    EDITED_RANK,
    NOWHERE,
    TOP,
    id_bytes,
    microseconds,
    milliseconds,
    order_key,
    sequence,
    version,
)

KINDS: Mapping[type[Said], str] = {
    MessageReceived: "message",
    PostCommented: "comment",
    PostMentioned: "mention",
    ReviewPosted: "review",
    ReviewUpdated: "review",
}
# Ranks of the base and the content of an entry: the provider's own words beat ours, an edit beats both.
QUEUED, SENT, SAID, EDITED = 0, 1, 2, EDITED_RANK
# Ranks of what became of a send: under way, over without a message, sent.
UNDER_WAY, OVER, DONE = 1, 2, 3
# A document holds first and last content and has a limit of 16 MB; an event has one of 4 MB.
LARGEST_ORIGINAL = 1_000_000


@dataclass(frozen=True, slots=True)
class Watermark:
    """`up to here` receipts: everything of ours on this leg up to `ms` was delivered or read."""

    channel: str
    account: str
    party: str
    state: str
    ms: int


@dataclass(slots=True)
class Projected:
    """What one event does. `shown` are the entries whose readers should hear of it, in the order in which they should."""

    changes: tuple[Change, ...] = ()
    shown: tuple[bytes, ...] = ()
    watermark: Watermark | None = None


@dataclass(slots=True)
class Told:
    """A fact with what all its facets need."""

    event: Event[Fact]
    id: bytes
    ms: int
    number: int

    @classmethod
    def of(cls, event: Event[Fact]) -> Told:
        data = event.data
        number = sequence(data.received_at, data.place)
        return cls(event, id_bytes(event.id), milliseconds(data.at or data.received_at), number)

    def version(self, rank: int) -> bytes:
        return version(rank, self.ms, self.number, self.id)

    def attempt(self, rank: int, piece: int, attempt: int) -> bytes:
        """The version of a send's state: by rank, then piece and attempt, then time."""
        return version(rank, (piece << 24 | min(attempt, 2**24 - 1)) % 2**48, self.number, self.id)

    @property
    def entry(self) -> bytes:
        """The message, call or post that the fact is about."""
        e = self.event
        return id_bytes(entry_id(e.tenant, e.channel, e.account, e.data.provider_id))

    @property
    def own_entry(self) -> bytes:
        """The entry of a fact that is about nothing but itself."""
        return id_bytes(event_entry_id(self.event.tenant, self.event.id))

    def pending(self, outbound: str) -> bytes:
        return id_bytes(pending_entry_id(self.event.tenant, outbound))

    def piece(self, correlation: str) -> bytes:
        return id_bytes(piece_entry_id(self.event.tenant, correlation))

    def key(self, entry: bytes) -> bytes:
        given = self.event.data.sequence
        return order_key(self.ms, self.number if given is None else given, entry)

    def base(self, rank: int, kind: str, direction: str, sender: Sender | None) -> Mapping[str, object]:
        """The facet `b`: what the entry is. `i` is the identifier that a page finds it by."""
        e, data = self.event, self.event.data
        party = data.party or (sender.id if sender else None)
        found: dict[str, object] = {
            "v": self.version(rank),
            "i": party.key if party else None,
            "kd": kind,
            "ch": e.channel,
            "ac": e.account,
            "vs": data.visibility,
            "dr": direction,
            "ms": self.ms,
            "pt": data.at is not None,
            "rcv": microseconds(data.received_at),
            "pid": data.provider_id,
            "ev": self.id,
            "by": named(sender),
            "lg": data.leg,
            "iv": e.identity_version,
        }
        if kind != "message":
            found["rare"] = True  # these few have an index of their own
        return {name: value for name, value in found.items() if value is not None and value != ""}


def project(event: Event[Fact]) -> Projected:
    """What a fact does; nothing for those that are no part of a history."""
    told = Told.of(event)
    match event.data:
        case Said() as said:
            return _said(told, said)
        case MessageSent() as sent:
            return _sent(told, sent)
        case MessageDelivered() | MessageRead() as receipt:
            return _receipt(told, receipt)
        case MessageRetrying() | MessageUnknown() | MessageRefused() | MessageFailed() as result:
            return _result(told, result)
        case MessageEdited() as edited:
            return _one(Change(told.entry, {"c": content(told.version(EDITED), edited.parts)}))
        case MessageDeleted() as deleted:
            return _one(Change(told.entry, {"c": {"v": TOP}, "del": _deleted(told, deleted)}, {"c0": {"v": BOTTOM}}))
        case Reaction() as reaction:
            return _reaction(told, reaction)
        case MediaStored() as m:
            facet = {"v": told.version(1), "sha": m.sha256, "mt": m.media_type, "sz": m.size}
            return _one(Change(told.entry, {f"md.{m.part}": facet}))
        case MediaFailed() as m:
            return _one(Change(told.entry, {f"md.{m.part}": {"v": told.version(0), "why": m.reason}}))
        case Call() as call:
            return _call(told, call)
        case JourneyStep() as step:
            return _own(told, "journey", step.sender, _journey(step))
        case ReferralFollowed() as followed:
            return _own(told, "referral", followed.sender, {"ref": followed.ref})
        case ConsentGiven() | ConsentWithdrawn() as consent:
            return _own(told, "consent", consent.sender, {"state": short(consent.type).rpartition(".")[2]})
        case IdentityAsserted() as asserted:
            return _asserted(told, asserted)
    return Projected()


# -- messages ---------------------------------------------------------------------------------------------------------


def _said(told: Told, said: Said) -> Projected:
    """A review that was updated is the same entry with later words."""
    entry, base = told.entry, dict(told.base(SAID, KINDS[type(said)], "in", said.sender))
    if said.reply_to:
        base["rt"] = said.reply_to
    words = content(told.version(EDITED if isinstance(said, ReviewUpdated) else SAID), said.parts)
    lowest: dict[str, Value] = {"k": told.key(entry), "c0": original(words), "st.sent": told.ms}
    return _one(Change(entry, {"b": base, "c": words}, lowest))


def _sent(told: Told, sent: MessageSent) -> Projected:
    """A send result, an echo, or a bare confirmation that names no message of ours but by its piece."""
    entry = told.entry
    if not (sent.outbound_id or sent.parts or sent.echo):
        return Projected((Change(entry, {}, {"st.sent": told.ms}), *_pieces(told, sent, entry)), (entry,))
    base = dict(told.base(SAID if sent.echo else SENT, "message", "out", None))
    if sent.reply_to:
        base["rt"] = sent.reply_to
    highest: dict[str, Value] = {"b": base}
    lowest: dict[str, Value] = {"k": told.key(entry), "st.sent": told.ms}
    if sent.parts:
        words = content(told.version(SAID if sent.echo else SENT), sent.parts)
        highest["c"], lowest["c0"] = words, original(words)
    if sent.author:
        highest["au"] = author(told.version(1), sent.author)
    if not sent.outbound_id:
        return Projected((Change(entry, highest, lowest), *_pieces(told, sent, entry)), (entry,))
    highest["out"] = {"v": told.attempt(DONE, sent.piece, 0), "id": sent.outbound_id, "state": "sent", "n": sent.piece}
    retired = _retired(told, sent, entry)
    return Projected((Change(entry, highest, lowest), retired, *_pieces(told, sent, entry)), (retired.entry, entry))


def _retired(told: Told, sent: MessageSent, entry: bytes) -> Change:
    """The pending entry, told what one of its pieces became. It leaves the lists with its last piece (binding.py)."""
    assert sent.outbound_id
    facet = {"v": told.version(1), "to": entry, "n": sent.pieces, "bare": not sent.parts}
    highest: dict[str, Value] = {f"gone.{sent.piece}": facet}
    if sent.pieces == 1:
        return Change(told.pending(sent.outbound_id), highest, {"k": NOWHERE}, bind=True)
    under_way = told.attempt(UNDER_WAY, sent.piece, 2**24 - 1)
    highest["out"] = {"v": under_way, "id": sent.outbound_id, "state": "queued"}
    return Change(told.pending(sent.outbound_id), highest, bind=True)


def _pieces(told: Told, sent: MessageSent, entry: bytes) -> list[Change]:
    """The places where receipts wait that know only our piece id, told which entry the piece became."""
    names = {sent.correlation} if sent.correlation else set()
    if sent.outbound_id:
        names.add(piece_id(sent.outbound_id, sent.piece))
    facet = {"v": told.version(1), "id": entry}
    return [Change(told.piece(name), {"to": facet}, {"st.sent": told.ms}, bind=True) for name in sorted(names)]


def _receipt(told: Told, receipt: MessageDelivered | MessageRead) -> Projected:
    state = short(receipt.type).rpartition(".")[2]
    targets = _targets(told, receipt)
    mark = None
    if receipt.up_to and receipt.party:
        e = told.event
        mark = Watermark(e.channel, e.account, receipt.party.key, state, told.ms)
    return Projected(tuple(Change(t, {}, {f"st.{state}": told.ms}, bind=b) for t, b in targets), _ids(targets), mark)


def _result(told: Told, result: MessageRetrying | MessageUnknown | MessageRefused | MessageFailed) -> Projected:
    """A failure that names the provider's message happened after it was sent; all else happened to the send."""
    changes = []
    if isinstance(result, MessageFailed) and (result.provider_id or not result.outbound_id):
        failed = {"v": told.version(1), "code": result.reason or "", "then": result.then}
        changes = [Change(t, {"err": failed}, {"st.failed": told.ms}, bind=b) for t, b in _targets(told, result)]
    if result.outbound_id:
        changes.append(Change(told.pending(result.outbound_id), {"out": _state(told, result, result.outbound_id)}))
    return Projected(tuple(changes), tuple(change.entry for change in changes))


def _state(told: Told, result: Delivery, outbound: str) -> Mapping[str, object]:
    state = short(result.type).rpartition(".")[2]
    rank = UNDER_WAY if isinstance(result, MessageRetrying | MessageUnknown) else OVER
    found: dict[str, object] = {"v": told.attempt(rank, result.piece, result.attempt), "id": outbound, "state": state}
    if result.reason:
        found["reason"] = result.reason
    if isinstance(result, MessageRetrying) and result.next_try_at:
        found["next"] = milliseconds(result.next_try_at)
    if isinstance(result, MessageFailed) and result.then != "nothing":
        found["then"] = result.then
    return found


def _targets(told: Told, delivery: Delivery) -> list[tuple[bytes, bool]]:
    """Which documents a receipt is written to, and whether it only waits there: the message that the provider named, and
    the piece, which knows the message or will."""
    found = [(told.entry, False)] if delivery.provider_id else []
    names = {delivery.correlation} if delivery.correlation else set()
    if delivery.outbound_id:
        names.add(piece_id(delivery.outbound_id, delivery.piece))
    return [*found, *((told.piece(name), True) for name in sorted(names))]


def _reaction(told: Told, reaction: Reaction) -> Projected:
    """One reaction per person and entry: adding another emoji replaces it, as on every platform but a few."""
    who = reaction.sender.id
    actor = hashlib.blake2b((who.key or f"{who.scheme}\0{who.value}").encode(), digest_size=8).hexdigest()
    emoji = reaction.emoji if isinstance(reaction, ReactionAdded) else None
    ours = reaction.party is not None and reaction.party.key != who.key
    return _one(Change(told.entry, {f"rx.{actor}": {"v": told.version(1), "e": emoji, "us": ours}}))


def _deleted(told: Told, deleted: MessageDeleted) -> Mapping[str, object]:
    """Who took it back: the customer, unless the event names somebody else."""
    ours = deleted.sender is not None and deleted.party is not None and deleted.sender.id.key != deleted.party.key
    return {"v": told.version(1), "by": "us" if ours else "customer", "ms": told.ms}


# -- what is no message -------------------------------------------------------------------------------------------------


def _call(told: Told, call: Call) -> Projected:
    """Start, end and recording of one call are one entry, since its recording is stored under the call's id."""
    entry, state = told.entry, short(call.type).rpartition(".")[2]
    direction = "in" if call.direction == "inbound" else "out"
    facts: dict[str, object] = {"v": told.version(1), "ms": told.ms, "direction": call.direction}
    if isinstance(call, CallEnded):
        facts |= {"duration": call.duration_s, "outcome": call.outcome}
    highest: dict[str, Value] = {"b": told.base(SENT, "call", direction, call.sender), f"x.{state}": facts}
    lowest: dict[str, Value] = {"k": told.key(entry)}
    if isinstance(call, CallRecorded):
        highest["c"] = content(told.version(SAID), (Part("audio", ref=call.recording),))
    return _one(Change(entry, highest, lowest))


def _own(told: Told, kind: str, sender: Sender | None, data: Mapping[str, object], **more: Value) -> Projected:
    """An entry for the fact itself; nothing where nobody is known whose history it would belong to."""
    party: Identifier | None = told.event.data.party or (sender.id if sender else None)
    if party is None or not party.key:
        return Projected()
    entry = told.own_entry
    facets = {"b": told.base(SAID, kind, "none", sender), f"x.{kind}": {"v": told.version(1), **data}, **more}
    return _one(Change(entry, facets, {"k": told.key(entry)}))


def _journey(step: JourneyStep) -> Mapping[str, object]:
    return {"type": short(step.type), "title": step.title, "url": step.url, "dt": pairs(step.data)}


def _asserted(told: Told, asserted: IdentityAsserted) -> Projected:
    data = {"dt": [[one.rule, one.strength] for one in asserted.sender.also]}
    if asserted.conversation_id:
        bound = {"v": told.version(1), "id": asserted.conversation_id}
        return _own(told, "identity", asserted.sender, data, cv=bound)
    return _own(told, "identity", asserted.sender, data)


# -- pieces of facets ---------------------------------------------------------------------------------------------------


def content(v: bytes, parts: Sequence[Part]) -> Mapping[str, object]:
    """The facet `c`. Only here (and in `c0`) are a message's words, so that a deletion finds them all."""
    return {"v": v, "parts": [_part(part) for part in parts]}


def original(content: Mapping[str, object]) -> Mapping[str, object]:
    """The facet `c0`: the same words, kept when later ones replace them."""
    parts = content["parts"]
    assert isinstance(parts, list)
    large = sum(len(part.get("tx", "")) for part in parts) > LARGEST_ORIGINAL
    return {"v": content["v"]} if large else content


def _part(part: Part) -> Mapping[str, object]:
    """The provider's reference stays out: it may hold a token, and the media worker has it from the event."""
    found = {
        "k": part.kind,
        "tx": part.text,
        "mt": part.media_type,
        "nm": part.name,
        "sz": part.size,
        "dt": pairs(part.data) or None,
        "rf": True if part.ref else None,
        "sha": uploaded(part.ref),
    }
    return {name: value for name, value in found.items() if value is not None}


def pairs(data: Mapping[str, str]) -> list[list[str]]:
    """As a list: a key may hold what a field name of the store must not."""
    return [[name, value] for name, value in sorted(data.items())]


def named(sender: Sender | None) -> Mapping[str, object] | None:
    """Who wrote, without the identifier's value: that stands in identity's sealed store only."""
    if sender is None:
        return None
    found = {"n": sender.name, "s": sender.id.scheme, "i": sender.id.key or None, "p": sender.proof}
    return {name: value for name, value in found.items() if value is not None}


def author(v: bytes, by: Author) -> Mapping[str, object]:
    return {"v": v, "kd": by.kind, "id": by.id, "n": by.name}


def _one(change: Change) -> Projected:
    return Projected((change,), (change.entry,))


def _ids(targets: Sequence[tuple[bytes, bool]]) -> tuple[bytes, ...]:
    return tuple(target for target, _ in targets)


__all__ = ["Data", "Projected", "Watermark", "author", "content", "original", "project"]
