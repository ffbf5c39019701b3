"""hilo.outbound into the journal: a record is acknowledged once its message is there, or was there already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from services.common import metrics
from services.common.cloudevents import Event, Record
from services.common.events import Data, SendRequested
from services.common.kafka import DeadLetters, read
from services.common.logs import log
from services.ingest.contract import Failed
from services.ingest.outbound.decide import failed
from services.ingest.outbound.journal import Journal, too_old
from services.ingest.outbound.sends import Policy, Sending, milliseconds
from services.ingest.outbound.typing_sign import Typing

GROUP = "outbound"


def accepted(event: Event[Data], request: SendRequested, record: Record, now: datetime, policy: Policy) -> Sending:
    """The message as it enters the journal: due at once, or when it may be sent."""
    due = milliseconds(max(request.not_before or now, now))
    s = Sending(
        id=request.outbound_id,
        tenant=event.tenant,
        channel=event.channel,
        account=event.account,
        place=record.offset,
        request=request,
        accepted_at=now,
        hold="time" if due > now else "",
        next_at=due,
        traceparent=event.traceparent,
    )
    if too_old(_written_at(record), now, policy.keep_s):
        return failed(s, Failed("it was asked for too long ago to know whether it was sent"), now, policy)
    return s


def _written_at(record: Record) -> datetime | None:
    return datetime.fromtimestamp(record.timestamp_ms / 1000, UTC) if record.timestamp_ms else None


class Intake:
    def __init__(
        self,
        journal: Journal,
        dead: DeadLetters,
        typing: Typing,
        policy: Policy,
        wake: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._journal, self._dead, self._typing = journal, dead, typing
        self._policy, self._wake, self._clock = policy, wake, clock

    async def handle(self, records: Sequence[Record]) -> None:
        """Raises StoreAway: then the batch comes again."""
        now = milliseconds(self._clock())
        found: list[Sending] = []
        for record, event in await read(records, self._dead, GROUP):
            request = event.data
            if not isinstance(request, SendRequested) or not event.channel or not event.account:
                await self._dead.put(record, "not a message to send, or without channel and account")
            elif event.origin != "live":
                log().info("send_not_live", outbound_id=request.outbound_id, reason=event.origin)
                metrics.SENDS.labels(event.channel, "not live").inc()
            elif request.action == "typing":
                self._typing.show(event, request, _written_at(record) or now, now)
            else:
                found.append(accepted(event, request, record, now, self._policy))
        if found:
            await self._journal.accept(found)
            self._wake()
