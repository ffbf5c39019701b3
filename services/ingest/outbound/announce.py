"""What became of a message, as events on hilo.events: published from the journal's `told`, then struck off there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.common import topics
from services.common.cloudevents import Event
from services.common.errors import BrokerAway
from services.common.events import (
    Fact,
    MessageDeleted,
    MessageEdited,
    MessageFailed,
    MessageRefused,
    MessageRetrying,
    MessageSent,
    MessageUnknown,
    Part,
)
from services.common.identifiers import pending_entry_id, piece_id
from services.common.kafka import Publisher
from services.common.logs import log
from services.ingest.outbound.decide import announced
from services.ingest.outbound.journal import Journal
from services.ingest.outbound.sends import Announcement, Sending


def event(s: Sending, told: Announcement) -> Event[Fact] | None:
    """The event that tells of it, always the same for the same announcement; None for what no event is made of: that a
    reaction or a read mark arrived, which the provider echoes where it matters."""
    data = _data(s, told)
    if data is None:
        return None
    return Event(
        id=told.id,
        tenant=s.tenant,
        key=s.request.party.key if s.request.party else pending_entry_id(s.tenant, s.id),
        time=told.at,
        data=data,
        channel=s.channel,
        account=s.account,
        traceparent=s.traceparent,
    )


def _data(s: Sending, told: Announcement) -> Fact | None:
    common = _common(s, told)
    outcome = {**common, "outbound_id": s.id, "correlation": piece_id(s.id, told.n), **_place(s, told)}
    match told.kind:
        case "sent":
            return _sent(s, told, common, outcome)
        case "retrying":
            return MessageRetrying(**outcome, attempt=told.attempt, reason=told.reason, next_try_at=told.next_try_at)
        case "unknown":
            return MessageUnknown(**outcome, attempt=told.attempt, reason=told.reason)
        case "refused":
            return MessageRefused(**outcome, attempt=told.attempt, reason=told.reason)
        case "failed":
            return MessageFailed(**outcome, attempt=told.attempt, reason=told.reason, then=told.then)


def _sent(s: Sending, told: Announcement, common: Mapping[str, Any], outcome: Mapping[str, Any]) -> Fact | None:
    request, target = s.request, s.request.target or ""
    match request.action:
        case "message" | "template":
            return MessageSent(**outcome, at=told.at, parts=_parts(s, told), reply_to=request.reply_to, author=request.author)
        case "edit" if target:
            named = {**common, "provider_id": target}
            return MessageEdited(**named, at=told.at, revision=told.id, parts=_parts(s, told))
        case "delete" if target:
            return MessageDeleted(**{**common, "provider_id": target}, at=told.at)
    return None


def _common(s: Sending, told: Announcement) -> dict[str, Any]:
    return {
        "provider_id": told.provider_id,
        "party": s.request.party,
        "received_at": told.at,
        "leg": s.request.leg,
        "thread": s.request.thread,
        "visibility": s.request.visibility,
    }


def _place(s: Sending, told: Announcement) -> dict[str, int]:
    return {"piece": told.n, "pieces": len(s.pieces)}


def _parts(s: Sending, told: Announcement) -> tuple[Part, ...]:
    """What this piece carried, with the reference that our side knows the file by."""
    return (s.piece(told.n).part,)


class Announcer:
    def __init__(self, publisher: Publisher, journal: Journal) -> None:
        self._publisher, self._journal = publisher, journal

    async def tell(self, s: Sending) -> None:
        """Publish, then strike off. While the broker is away everything stays in the journal, and the poll repeats it."""
        if not s.told:
            return
        found = [one for told in s.told if (one := event(s, told))]
        try:
            await self._publisher.emit(topics.EVENTS, found)
        except BrokerAway as error:
            log().warning("away", part=error.part, outbound_id=s.id)
            return
        ids = [told.id for told in s.told]
        await self._journal.change(s.id, lambda now: announced(now, ids), known=s)

    async def repair(self, now: datetime, limit: int) -> int:
        """Publish what somebody decided and did not come to publish; how many messages that were."""
        found = await self._journal.untold(now, limit)
        for s in found:
            if s.told:
                await self.tell(s)
            else:
                await self._journal.change(s.id, lambda now: announced(now, ()))
        return len(found)
