"""What an invitation that comes back proves: who tapped the link, and whose leg the code arrived on.

A link in a public reply can be opened by anybody, so it only claims. A code that was given on a private leg and comes back
from a sender whom the channel vouches for proves that both legs are one person's. Nothing moves on a claim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from services.common.identifiers import PROOFS, Proof
from services.router.handoff import INVITED, NOT_YET, OVER, Prove, Step, moved
from services.router.outputs import Emit
from services.router.state import Conversation, LegRecord, Offer

# again: by the same leg, done already; reused: another leg was first, it gets a conversation of its own; related: its leg
# is held by another open conversation, which keeps it; idle: this way a code says nothing, and is not used up.
Outcome = Literal["proven", "claimed", "related", "again", "reused", "expired", "idle", "unknown"]


@dataclass(frozen=True, slots=True)
class Redeemer:
    """The leg on which a code arrived, the input that carried it, and how far the channel vouches for its sender.
    `elsewhere` is the other open conversation that holds the leg."""

    leg: LegRecord
    input: str
    proof: Proof
    elsewhere: str | None = None


@dataclass(frozen=True, slots=True)
class Redeemed:
    outcome: Outcome
    step: Step | None = None


def tapped(c: Conversation, offer: str, now: datetime) -> Step | None:
    """Somebody, perhaps a bystander, tapped the link. Nothing is attached and the code can still be used."""
    found = _offer(c, offer)
    if found is None or found.state != "open" or found.expires <= now:
        return None
    after = _with(c, replace(found, state="claimed"))
    if after.handoff and after.handoff.state in ("approved", "offered", "public_replied"):
        return moved(after, after.handoff, "claimed", "link_opened", now, None, offer)
    return Step(after, ())


def redeemed(c: Conversation, offer: str, by: Redeemer, now: datetime) -> Redeemed:
    """A message carried the code of this offer. One compare-and-set says who used it and what that proves; then the leg is
    brought here, by whoever comes by (`conversations.invited`). The same input again finds it done."""
    found = _offer(c, offer)
    if found is None:
        return Redeemed("unknown")
    if found.state == "used":
        return Redeemed("again" if found.leg == by.leg.key else "reused")
    if found.state == "expired" or found.expires <= now:
        return Redeemed("expired")
    held = c.leg(by.leg.key)
    here = held is not None and held.moved is None
    if by.leg.key == found.on or (by.leg.visibility == "public" and not (here and found.given == "private")):
        return Redeemed("idle")
    one = _is_one_person(c, found, by)
    level = _level(c, found) if one else "claimed"
    used = _with(c, replace(found, state="used", leg=by.leg.key, input=by.input, proof=None if by.elsewhere else level))
    evidence = (Prove(by.leg, found.on, "handoff.code"),) if one else ()
    if by.elsewhere:
        return Redeemed("related", _related(used, offer, now).plus(*evidence))
    step = _proven(used, found, by, level, now) if one else Step(used)
    return Redeemed("proven" if one else "claimed", _told(step, found, by, one=one, now=now).plus(*evidence))


def _level(c: Conversation, offer: Offer) -> Proof:
    """What the leg it was given on lends to the one it comes back on. A login there is no login here."""
    on = c.leg(offer.on)
    return _capped(on.proof if on else "none")


def _is_one_person(c: Conversation, offer: Offer, by: Redeemer) -> bool:
    """The code was seen by nobody but the person on the leg it was given on, if that leg is still here; and its sender is
    who the channel says. A sender that can be forged would let them take somebody else's history."""
    on = c.leg(offer.on)
    return offer.given == "private" and on is not None and on.moved is None and by.proof in ("channel", "account")


def _related(c: Conversation, offer: str, now: datetime) -> Step:
    if c.handoff and c.handoff.state in NOT_YET | INVITED:
        return moved(c, c.handoff, "claimed", "code_elsewhere", now, None, offer)
    return Step(c, ())


def _proven(c: Conversation, offer: Offer, by: Redeemer, level: Proof, now: datetime) -> Step:
    """Both legs are one person's: what one of them proves, the other proves too."""
    on, here = c.leg(offer.on), c.leg(by.leg.key)
    here = None if here and here.moved else here
    c, proven = _raised(c, here, _stronger(here.proof, level)) if here else (c, [])
    if on and here:
        c, other = _raised(c, on, _stronger(on.proof, _capped(here.proof)))
        proven += other
    return Step(c, tuple(Emit("leg.proven", why="handoff.code", more={"other": key}) for key in proven))


def _raised(c: Conversation, record: LegRecord, proof: Proof) -> tuple[Conversation, list[str]]:
    """A leg whose proof changes gets a new epoch: what was decided to be sent before is decided again."""
    rises = PROOFS.index(proof) >= PROOFS.index("channel") > PROOFS.index(record.proof)
    if not rises:
        return c, []
    return c.with_leg(replace(record, proof=proof, epoch=record.epoch + 1)), [record.key]


def _told(step: Step, offer: Offer, by: Redeemer, *, one: bool, now: datetime) -> Step:
    c = step.after
    if c.handoff is None:
        return step
    if one:
        if c.handoff.state not in NOT_YET | INVITED | OVER:
            return step
        public = by.leg.visibility == "public"
        reason, leg = ("code_in_public", offer.on) if public else ("code_from_private", by.leg.key)
        told = moved(c, replace(c.handoff, private_leg=leg, deadline=None), "proven", reason, now, None, offer.id)
    elif c.handoff.state in NOT_YET | INVITED:
        reason = "code_unverified_sender" if offer.given == "private" else "code_from_public"
        after = replace(c.handoff, private_leg=c.handoff.private_leg or by.leg.key, deadline=None)
        told = moved(c, after, "claimed", reason, now, None, offer.id)
    else:
        return step
    return Step(told.after, (*step.outputs, *told.outputs))


def proved(c: Conversation, leg: str, epoch: int, proof: Proof, now: datetime, reason: str = "logged_in") -> Step | None:
    """A leg was proven in another way, a login or a merge, as it was asked for at this epoch. A leg that has moved or was
    proven since has another one, and this proof is not for it."""
    record = c.leg(leg)
    if record is None or record.moved or record.epoch != epoch:
        return None
    c, proven = _raised(c, record, proof)
    if not proven:
        return None
    step = Step(c, (Emit("leg.proven", why=reason, more={"other": leg}),))
    if c.handoff and c.handoff.state in INVITED and record.visibility == "private":
        told = moved(c, replace(c.handoff, private_leg=leg, deadline=None), "proven", reason, now)
        return Step(told.after, (*step.outputs, *told.outputs))
    return step


def _offer(c: Conversation, offer: str) -> Offer | None:
    return next((one for one in c.offers if one.id == offer), None)


def _with(c: Conversation, offer: Offer) -> Conversation:
    return replace(c, offers=tuple(offer if one.id == offer.id else one for one in c.offers))


def _capped(proof: Proof) -> Proof:
    """A login on one leg is no login on another."""
    return "channel" if proof == "account" else proof


def _stronger(one: Proof, other: Proof) -> Proof:
    return max(one, other, key=PROOFS.index)
