"""The last word before a message leaves: may it still go? One read of the primary, so what was revoked before it counts."""

from __future__ import annotations

from services.common import metrics
from services.router import sending
from services.router.people import People
from services.router.protocol import Conversations
from services.router.sending import Verdict

UNKNOWN = Verdict(allow=False, reason="unknown", final=True)


class Gate:
    def __init__(self, conversations: Conversations, people: People) -> None:
        self._conversations, self._people = conversations, people

    async def ask(self, tenant: str, outbound: str) -> Verdict:
        """`tenant` is empty for our own worker. A send whose fate is known already is as unknown as one that never was."""
        verdict = await self._verdict(tenant, outbound)
        metrics.GATE.labels("allow" if verdict.allow else "hold", verdict.reason).inc()
        return verdict

    async def _verdict(self, tenant: str, outbound: str) -> Verdict:
        found = await self._conversations.store.with_send(outbound)
        c = await self._conversations.survivor(found[0].id) if found else None
        send = sending.send_of(c, outbound) if c else None
        if c is None or send is None or (tenant and c.tenant != tenant):
            return UNKNOWN
        leg = c.leg(send.leg)
        place = f"{leg.channel}/{leg.account}" if leg else ""
        withdrawn = await self._people.withdrawn(c.tenant, leg.party, place) if leg else False
        return sending.verdict(c, send, self._conversations.now(), withdrawn=withdrawn)
