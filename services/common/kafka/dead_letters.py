"""Records that are set aside in hilo.dead, and reading a batch so that what is no event goes there."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

from services.common import metrics, topics
from services.common.cloudevents import Event, Record, UnknownType, Unreadable, decode
from services.common.events import Data, DeadLettered
from services.common.identifiers import dead_id
from services.common.kafka.publishing import Publisher
from services.common.logs import log


class DeadLetters:
    """Sets records aside, with their original bytes and where they came from. Returns once that is on the log."""

    def __init__(self, publisher: Publisher, stage: str) -> None:
        self._publisher, self._stage = publisher, stage

    async def put(self, record: Record, reason: str, *, path: str = "", kind: str = "", bug: bool = False) -> str:
        """The id of the dead letter, which is a function of where the record stood."""
        event = self.event(record, reason, path=path, kind=kind, bug=bug)
        await self._publisher.emit(topics.DEAD, [event])
        metrics.DEAD.labels(self._stage).inc()
        log().warning("dead_letter", stage=self._stage, topic=record.topic, reason=reason, dead_id=event.data.dead_id)
        return event.data.dead_id

    def event(
        self, record: Record, reason: str, *, path: str = "", kind: str = "", bug: bool = False, body: bytes | None = None
    ) -> Event[DeadLettered]:
        now = datetime.now(UTC)
        try:
            attributes = record.attributes
        except Unreadable:
            attributes = {}
        identifier = dead_id(record.topic, record.partition or 0, record.offset, path)
        data = DeadLettered(
            dead_id=identifier,
            topic=record.topic,
            partition=record.partition or 0,
            offset=record.offset,
            path=path,
            kind=kind,
            reason=reason[:500],
            stage=self._stage,
            bug=bug,
            at=now,
            key=record.key.decode(errors="replace") if record.key else None,
            headers={name: value.decode(errors="replace") for name, value in record.headers},
            body=base64.b64encode((record.value or b"") if body is None else body).decode(),
        )
        return Event(
            id=identifier,
            tenant=attributes.get("tenant", ""),
            channel=attributes.get("channel", ""),
            account=attributes.get("account", ""),
            key=data.key or identifier,
            time=now,
            data=data,
        )


async def read(records: Sequence[Record], dead: DeadLetters, group: str) -> list[tuple[Record, Event[Data]]]:
    """The events among the records: what is no event goes to hilo.dead, what is newer than we are is counted."""
    found: list[tuple[Record, Event[Data]]] = []
    for record in records:
        if record.value is None:
            continue
        try:
            found.append((record, decode(record)))
        except UnknownType as error:
            metrics.UNKNOWN_TYPES.labels(group, error.name[:80]).inc()
        except Unreadable as error:
            await dead.put(record, str(error))
    return found
