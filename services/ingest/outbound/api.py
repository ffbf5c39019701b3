"""What operators may ask the outbound worker: what became of a message, and which messages are in a state. No contents."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from services.common.auth import Auth, Principal
from services.common.errors import not_found
from services.ingest.outbound.journal import Journal
from services.ingest.outbound.sends import Sending


class PieceShown(BaseModel):
    n: int
    id: str
    state: str
    attempts: int
    provider_id: str | None


class SendShown(BaseModel):
    """A message in the send journal. `hold` says why it waits, `next_at` until when."""

    outbound_id: str
    conversation_id: str
    channel: str
    account: str
    leg: str
    action: str
    state: str
    hold: str
    reason: str
    accepted_at: datetime
    next_at: datetime | None
    pieces: list[PieceShown]


class SendList(BaseModel):
    sends: list[SendShown]


def shown(s: Sending) -> SendShown:
    return SendShown(
        outbound_id=s.id,
        conversation_id=s.request.conversation_id,
        channel=s.channel,
        account=s.account,
        leg=s.request.leg,
        action=s.request.action,
        state=s.state,
        hold=s.hold,
        reason=s.reason,
        accepted_at=s.accepted_at,
        next_at=s.next_at,
        pieces=[PieceShown(n=p.n, id=p.id, state=p.state, attempts=p.attempts, provider_id=p.provider_id) for p in s.pieces],
    )


def routes(journal: Journal, auth: Auth) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["sends"])
    reader = Depends(auth.requires("read", "agent"))

    @router.get("/sends/{outbound_id}")
    async def one(outbound_id: str, principal: Principal = reader) -> SendShown:
        """What became of one message."""
        found = await journal.get(outbound_id)
        if found is None or found.tenant != principal.tenant:
            raise not_found("message in the send journal")
        return shown(found)

    @router.get("/sends")
    async def newest(
        state: Annotated[
            Literal["queued", "held", "sending", "retrying", "unknown", "sent", "failed", "refused"], Query()
        ] = "unknown",
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        principal: Principal = reader,
    ) -> SendList:
        """The newest messages in a state."""
        return SendList(sends=[shown(one) for one in await journal.newest(principal.tenant, state, limit)])

    return router
