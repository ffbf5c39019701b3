"""Turns a step of the handoff into a change of the conversation: what it asks for is queued like an answer, what it proves is
told to identity, what it takes back is stopped. Pure; done in the compare-and-set that decides the step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from services.common.cloudevents import Event
from services.common.events import Author, IdentityAsserted
from services.common.identifiers import Evidence, Identifier, Sender, derived_event_id, outbound_id
from services.common.topics import EVENTS
from services.router import conversations, handoff, sending
from services.router.handoff import Ask, Prove, Step, Stop
from services.router.outputs import Change, Emit, Tell
from services.router.sending import Draft
from services.router.state import Conversation, LegRecord

PartyOf = Callable[[Conversation, LegRecord], Identifier | None]
SYSTEM = Author("system", "handoff")


class Wishes:
    """`party_of` opens whom a leg's messages are addressed to; `stop_s` is how long public messages wait."""

    def __init__(self, party_of: PartyOf, stop_s: float) -> None:
        self.party_of, self._stop = party_of, timedelta(seconds=stop_s)

    def not_before(self, leg: LegRecord, now: datetime) -> datetime | None:
        return now + self._stop if leg.visibility == "public" else None

    def granted(self, change: Change, step: Step | None, now: datetime) -> Change:
        """The step on top of what was decided before it."""
        if step is None:
            return change
        change = Change(step.after, change.outputs)
        for wish in step.outputs:
            match wish:
                case Emit():
                    change = change.plus(change.after, wish)
                case Ask():
                    change = self._asked(change, wish, now)
                case Prove():
                    change = self._proved(change, wish, now)
                case Stop():
                    change = sending.stopped(change, wish.outbound, SYSTEM) or change
        return change

    def closed(self, c: Conversation, now: datetime, why: str, by: Author | None = None) -> Change:
        """The case ends, and what its handoff makes of that."""
        change = self.granted(Change(c), handoff.resolved(c, now, by), now)
        ended = conversations.closed(change.after, now, why=why, by=by)
        return change.plus(ended.after, *ended.outputs)

    def _asked(self, change: Change, ask: Ask, now: datetime) -> Change:
        c = change.after
        leg = c.leg(ask.leg)
        if leg is None:
            raise LookupError(f"conversation {c.id} has no leg to send on")
        draft = Draft(
            id=outbound_id(c.id, ask.key),
            leg=leg.key,
            parts=ask.parts,
            author=ask.author or SYSTEM,
            party=self.party_of(c, leg),
            need="none",
            reply_to=c.handoff.item or None if c.handoff and leg.visibility == "public" else None,
            opens=ask.opens,
            not_before=self.not_before(leg, now),
        )
        return sending.queued(change, draft, now)

    def _proved(self, change: Change, prove: Prove, now: datetime) -> Change:
        """Evidence, told as an event of its own; identity decides what it is worth."""
        c = change.after
        one, other = prove.leg, c.leg(prove.other)
        who, also = (self.party_of(c, leg) if leg else None for leg in (one, other))
        if who is None or also is None or who.key == also.key:
            return change
        name = derived_event_id(c.id, "identity.asserted", one.key, prove.other, prove.rule)
        data = IdentityAsserted(
            provider_id=name,
            party=who,
            received_at=now,
            sender=Sender(who, also=(Evidence(also, "asserted", prove.rule),), proof=one.proof),
            conversation_id=c.id,
        )
        event = Event(id=name, tenant=c.tenant, key=who.key, time=now, data=data, channel=one.channel, account=one.account)
        return change.plus(c, Tell(EVENTS, event))
