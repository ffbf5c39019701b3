"""Messages of ours as the conversation knows them: queued while they can be refused, then sent, or not. Pure.

The send stands in the conversation's document from the compare-and-set that decides it until its fate is known, so that the
gate's one read sees the send, its leg and whatever revoked it together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from services.common.cloudevents import Event
from services.common.events import Action, Author, Part, SendRequested
from services.common.identifiers import PROOFS, Identifier, Proof, derived_event_id
from services.common.topics import OUTBOUND
from services.router.outputs import Change, Emit, Tell
from services.router.state import Conversation, LegRecord, Send

MOST = 64  # messages of a conversation whose fate is not known; more are refused until some of them are
KEPT = timedelta(days=30)  # as long as the worker's journal


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that was decided on. `party` is whom it is addressed to; `opens` is the public item that the platform's own
    private reply answers; `need` is the proof without which it may not go."""

    id: str
    leg: str
    parts: tuple[Part, ...]
    author: Author
    party: Identifier | None
    need: Proof
    action: Action = "message"
    reply_to: str | None = None
    target: str | None = None
    opens: str | None = None
    not_before: datetime | None = None

    @property
    def answers(self) -> bool:
        """Whether the customer need not wait any more once it is there."""
        return self.action in ("message", "template")


def queued(change: Change, draft: Draft, now: datetime) -> Change:
    """The message in the conversation, in the timeline's news and on its way to the outbound worker, in one change."""
    c = change.after
    leg = c.leg(draft.leg)
    assert leg
    send = Send(
        id=draft.id,
        leg=leg.key,
        visibility=leg.visibility,
        need=draft.need,
        epoch=leg.epoch,
        at=now,
        not_before=draft.not_before,
        wait=leg.wait if draft.answers else None,
        windowed=draft.action == "message" and draft.opens is None and not any(p.kind == "template" for p in draft.parts),
    )
    if draft.answers:
        c = c.with_leg(replace(leg, wait=None))
    after = replace(c, sends=(*c.sends, send), last=max(filter(None, (c.last, now))))
    return change.plus(after, _announced(leg, draft), Tell(OUTBOUND, _requested(c, leg, draft, now)))


def _announced(leg: LegRecord, draft: Draft) -> Emit:
    more = {
        "outbound_id": draft.id,
        "leg": leg.key,
        "parts": draft.parts,
        "visibility": leg.visibility,
        "channel": leg.channel,
        "account": leg.account,
        "party": draft.party,
        "thread": leg.thread,
        "reply_to": draft.reply_to,
        "not_before": draft.not_before,
    }
    return Emit("message.queued", by=draft.author, more=more)


def _requested(c: Conversation, leg: LegRecord, draft: Draft, now: datetime) -> Event[SendRequested]:
    data = SendRequested(
        outbound_id=draft.id,
        conversation_id=c.id,
        leg_key=leg.key,
        leg=leg.leg,
        thread=leg.thread,
        party=draft.party,
        visibility=leg.visibility,
        need=draft.need,
        epoch=leg.epoch,
        action=draft.action,
        parts=draft.parts,
        reply_to=draft.reply_to,
        target=draft.target,
        context=leg.context,
        context_at=leg.context_at,
        opens=draft.opens,
        not_before=draft.not_before,
        author=draft.author,
    )
    return Event(
        id=derived_event_id(draft.id, "send.requested"),
        tenant=c.tenant,
        key=leg.key,
        time=now,
        data=data,
        channel=leg.channel,
        account=leg.account,
    )


def send_of(c: Conversation, outbound: str) -> Send | None:
    return next((one for one in c.sends if one.id == outbound), None)


def _without(c: Conversation, outbound: str) -> Conversation:
    return replace(c, sends=tuple(one for one in c.sends if one.id != outbound))


def sent(change: Change, outbound: str, at: datetime) -> Change:
    """It is there: nothing can refuse it any more."""
    c = change.after
    send = send_of(c, outbound)
    if send is None:
        return change
    leg = c.leg(send.leg)
    after = _without(c, outbound)
    if leg:
        after = after.with_leg(replace(leg, sent=max(filter(None, (leg.sent, at)))))
    return change.plus(replace(after, last=max(filter(None, (c.last, at)))))


def unsent(change: Change, outbound: str) -> Change:
    """It will never be there: the wait that it ended goes on, unless another message has ended it."""
    send = send_of(change.after, outbound)
    if send is None:
        return change
    return change.plus(_waiting_again(_without(change.after, outbound), send))


def _waiting_again(c: Conversation, send: Send) -> Conversation:
    leg = c.leg(send.leg)
    if send.wait is None or leg is None or leg.moved:
        return c
    answered = any(one.leg == send.leg and one.wait is None and one.at >= send.at and one.state == "queued" for one in c.sends)
    if answered or (leg.sent and leg.sent > send.at):
        return c
    return c.with_leg(replace(leg, wait=min(filter(None, (leg.wait, send.wait)))))


def stopped(change: Change, outbound: str, by: Author) -> Change | None:
    """Taken back in time: the gate refuses it from now on. None if there is nothing to stop."""
    c = change.after
    send = send_of(c, outbound)
    if send is None or send.state == "stopped":
        return None
    sends = tuple(replace(one, state="stopped") if one.id == outbound else one for one in c.sends)
    after = _waiting_again(replace(c, sends=sends), send)
    return change.plus(after, Emit("message.stopped", by=by, more={"outbound_id": outbound}))


# -- the gate ---------------------------------------------------------------------------------------------------------------

Reason = Literal[
    "ok",
    "unknown",
    "stopped",
    "too_early",
    "leg_moved",
    "visibility_changed",
    "epoch_changed",
    "proof_too_low",
    "window_closed",
    "consent_withdrawn",
]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a message may go now. `final`: it never will, as it was decided; else ask again."""

    allow: bool
    reason: Reason
    final: bool = False
    retry_after_s: float | None = None


def verdict(c: Conversation, send: Send, now: datetime, *, withdrawn: bool) -> Verdict:
    """Judged on one read of the conversation: what was revoked before it is honoured."""
    leg = c.leg(send.leg)
    if send.state == "stopped":
        return Verdict(allow=False, reason="stopped", final=True)
    if leg is None or leg.moved:
        return Verdict(allow=False, reason="leg_moved", final=True)
    if leg.visibility != send.visibility:
        return Verdict(allow=False, reason="visibility_changed", final=True)
    if leg.epoch != send.epoch:
        return Verdict(allow=False, reason="epoch_changed", final=True)
    if PROOFS.index(leg.proof) < PROOFS.index(send.need):
        return Verdict(allow=False, reason="proof_too_low", final=True)
    if withdrawn:
        return Verdict(allow=False, reason="consent_withdrawn", final=True)
    if send.not_before and now < send.not_before:
        wait = (send.not_before - now).total_seconds()
        return Verdict(allow=False, reason="too_early", retry_after_s=max(wait, 0.05))
    if send.windowed and leg.window and now >= leg.window:
        return Verdict(allow=False, reason="window_closed", final=True)
    return Verdict(allow=True, reason="ok")
