"""From a channel's fact to the shape of its event: the model, its own fields, and what makes this telling of it unlike
another about the same message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.common import events
from services.common.identifiers import Sender
from services.ingest.contract import facts


@dataclass(frozen=True, slots=True)
class Shape:
    """`needs_leg`: the fact stands in a thread, so its leg, and in private its party, must be known."""

    model: type[events.Fact]
    fields: Mapping[str, Any] = field(default_factory=dict)
    sender: Sender | None = None
    revision: str = ""
    needs_leg: bool = False


SAID: Mapping[str, type[events.Said]] = {
    events.short(name): model for name, model in events.BY_TYPE.items() if issubclass(model, events.Said)
}


def shape(fact: facts.Fact) -> Shape:
    """Raises TypeError for a fact that is none of the contract's."""
    known = SHAPES.get(type(fact))
    if known is None:
        raise TypeError(f"{type(fact).__name__} is not a fact of the contract")
    return known(fact)


def _received(f: facts.Received) -> Shape:
    model = SAID.get(f.type)
    if model is None:
        raise TypeError(f"{f.type} is not something that is received")
    told = {"parts": f.parts, "reply_to": f.reply_to, "context": f.context}
    return Shape(model, told, f.sender, f.revision, needs_leg=True)


def _echoed(f: facts.Echoed) -> Shape:
    """Its revision keeps it apart from our own report of the same message: neither may hide the other."""
    told = {"parts": f.parts, "reply_to": f.reply_to, "correlation": f.correlation, "echo": True}
    return Shape(events.MessageSent, told, revision="echo", needs_leg=True)


def _receipt(f: facts.Receipt) -> Shape:
    told: dict[str, Any] = {"correlation": f.correlation, "reason": f.reason}
    match f.state:
        case "sent":
            return Shape(events.MessageSent, {"correlation": f.correlation}, revision="receipt")
        case "failed":
            return Shape(events.MessageFailed, {**told, "then": f.then}, revision="receipt")
        case "delivered" | "read" as state:
            model = events.MessageDelivered if state == "delivered" else events.MessageRead
            return Shape(model, {**told, "up_to": f.up_to}, revision=str(f.at) if f.up_to else "")


def _edited(f: facts.Edited) -> Shape:
    return Shape(events.MessageEdited, {"revision": f.revision, "parts": f.parts}, f.sender, f.revision)


def _deleted(f: facts.Deleted) -> Shape:
    return Shape(events.MessageDeleted, {}, f.sender)


def _reacted(f: facts.Reacted) -> Shape:
    model = events.ReactionAdded if f.emoji else events.ReactionRemoved
    who = f.sender.id
    revision = f"{who.scheme}\0{who.scope}\0{who.value}\0{f.emoji}\0{f.revision}"
    return Shape(model, {"emoji": f.emoji, "revision": f.revision}, f.sender, revision)


def _referred(f: facts.Referred) -> Shape:
    return Shape(events.ReferralFollowed, {"ref": f.ref}, f.sender, needs_leg=True)


def _called(f: facts.Called) -> Shape:
    models = {"started": events.CallStarted, "ended": events.CallEnded, "recorded": events.CallRecorded}
    told = {
        "direction": f.direction,
        "duration_s": f.duration and f.duration.total_seconds(),
        "recording": f.recording,
        "outcome": f.outcome,
    }
    return Shape(models[f.state], told, f.sender, needs_leg=True)


def _consented(f: facts.Consented) -> Shape:
    return Shape(events.ConsentGiven if f.state == "given" else events.ConsentWithdrawn, {}, f.sender)


def _linked(f: facts.Linked) -> Shape:
    return Shape(events.IdentityAsserted, {}, f.sender)


def _typing(f: facts.Typing) -> Shape:
    return Shape(events.ParticipantTyping, {}, f.sender, needs_leg=True)


def _stepped(f: facts.Stepped) -> Shape:
    told = {"type": f"hilo.{f.type}.v1", "title": f.title, "url": f.url, "data": f.data}
    return Shape(events.JourneyStep, told, f.sender)


def _healed(f: facts.Healed) -> Shape:
    return Shape(events.AccountHealth, {"state": f.state, "reason": f.reason}, revision=f.state)


SHAPES: Mapping[type[facts.Fact], Callable[[Any], Shape]] = {
    facts.Received: _received,
    facts.Echoed: _echoed,
    facts.Receipt: _receipt,
    facts.Edited: _edited,
    facts.Deleted: _deleted,
    facts.Reacted: _reacted,
    facts.Referred: _referred,
    facts.Called: _called,
    facts.Consented: _consented,
    facts.Linked: _linked,
    facts.Typing: _typing,
    facts.Stepped: _stepped,
    facts.Healed: _healed,
}
