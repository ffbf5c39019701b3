"""hilo.identity.changes: a person is to be forgotten. The journal keeps no word to them, and sends none that still waited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from services.common.cloudevents import Record
from services.common.errors import StoreAway
from services.common.events import CustomerChanged
from services.common.kafka import DeadLetters, read
from services.ingest.outbound import decide
from services.ingest.outbound.journal import Journal
from services.ingest.outbound.sends import Policy, milliseconds

GROUP = "outbound-erasure"


class Erasure:
    def __init__(self, journal: Journal, dead: DeadLetters, policy: Policy, clock: Callable[[], datetime]) -> None:
        self._journal, self._dead, self._policy, self._clock = journal, dead, policy, clock

    async def handle(self, records: Sequence[Record]) -> None:
        """Raises StoreAway."""
        for _, event in await read(records, self._dead, GROUP):
            if isinstance(event.data, CustomerChanged) and event.data.type == "hilo.customer.erased.v1":
                await self._erase(event.tenant, event.data.identifiers)

    async def _erase(self, tenant: str, parties: Sequence[str]) -> None:
        now = milliseconds(self._clock())
        for outbound_id in await self._journal.of_parties(tenant, parties):
            after = await self._journal.change(outbound_id, lambda s: decide.erased(s, now, self._policy))
            if not after.closed:  # a call is under way: its worker ends first, and this batch comes again
                raise StoreAway("a message to an erased person is being sent")
