"""Echoes and receipts on hilo.events that name a piece of ours by its id: they settle what the answer to the call did not."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from services.common.cloudevents import Record, UnknownType, Unreadable, decode
from services.common.events import Data, MessageDelivered, MessageFailed, MessageRead, MessageSent
from services.ingest.outbound.journal import Journal
from services.ingest.outbound.sends import Seen
from services.ingest.outbound.worker import Worker

GROUP = "outbound-receipts"
TYPES = frozenset(model.model_fields["type"].default for model in (MessageSent, MessageDelivered, MessageRead, MessageFailed))


def told(data: Data) -> tuple[str, Seen] | None:
    """The piece id and what became of it. What we published ourselves (it has our outbound id) tells us nothing."""
    match data:
        case MessageSent() | MessageDelivered() | MessageRead() if data.correlation and data.outbound_id is None:
            return data.correlation, Seen("sent", data.provider_id)
        case MessageFailed() if data.correlation and data.outbound_id is None:
            return data.correlation, Seen("failed", data.provider_id, data.reason or "", data.then)
    return None


class Receipts:
    def __init__(self, journal: Journal, worker: Worker) -> None:
        self._journal, self._worker = journal, worker

    async def handle(self, records: Sequence[Record]) -> None:
        """Raises StoreAway. Records that are no events are left to identity, which sets them aside for everybody."""
        seen: dict[str, Seen] = {}
        for record in records:
            found = _read(record)
            if found and _ours(found[0]):
                seen.setdefault(*found)
        for piece, outbound_id in (await self._unsettled(seen)).items():
            await self._worker.saw(outbound_id, piece, seen[piece])

    async def _unsettled(self, seen: Mapping[str, Seen]) -> Mapping[str, str]:
        """One read a batch: nearly every receipt is of a piece that is settled."""
        return await self._journal.unsettled(list(seen)) if seen else {}


def _read(record: Record) -> tuple[str, Seen] | None:
    try:
        return told(decode(record).data)
    except (Unreadable, UnknownType):
        return None


def _ours(correlation: str) -> bool:
    """Another program that writes for the same account has references of its own."""
    try:
        return str(uuid.UUID(correlation)) == correlation
    except ValueError:
        return False
