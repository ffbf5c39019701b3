"""Who is typing: from hilo.live straight to the feed, never to the store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from services.common import metrics
from services.common.cloudevents import Record, UnknownType, Unreadable, decode
from services.common.events import ParticipantTyping
from services.timeline.live import Feed
from services.timeline.views import TypingView

STALE = timedelta(seconds=15)


def typing_into(feed: Feed) -> Callable[[Record], None]:
    """What is done with each record of hilo.live. It is keyed by the party, or by a conversation when one of ours types;
    nothing is set aside, since nothing there is worth keeping."""

    def push(record: Record) -> None:
        try:
            event = decode(record)
        except UnknownType as error:
            metrics.UNKNOWN_TYPES.labels("timeline-live", error.name[:80]).inc()
            return
        except Unreadable:
            metrics.UNKNOWN_TYPES.labels("timeline-live", "unreadable").inc()
            return
        data = event.data
        if isinstance(data, ParticipantTyping) and datetime.now(UTC) - data.received_at < STALE:
            party = data.party.key if data.party else None
            conversation = event.key if event.key != party else None
            view = TypingView(
                party=party,
                conversation_id=conversation,
                name=data.sender.name if data.sender else None,
                visibility=data.visibility,
                at=data.received_at,
            )
            names = [f"t:{party}"] if party else []
            feed.fleeting(event.tenant, [*names, *([f"v:{conversation}"] if conversation else [])], "typing", view)

    return push
