"""A message on its way out, as a value, and its document in the send journal (database `ingest`, collection `sends`).

A message leaves in one or more pieces, each with an id that the provider gets as our reference. What became of a piece is
told in `told` until it is on hilo.events. Times have milliseconds, as BSON keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from pydantic import TypeAdapter

from services.common.events import Part, SendRequested
from services.common.mongo import Document
from services.ingest.contract import Result, Sent
from services.ingest.contract.sending import Then

PieceState = Literal["queued", "sending", "retrying", "unknown", "sent", "failed", "refused"]
State = Literal["queued", "held", "sending", "retrying", "unknown", "sent", "failed", "refused"]
Told = Literal["sent", "retrying", "unknown", "failed", "refused"]
# Why a message waits; also the label of the gauge. Empty: it does not.
Hold = Literal["", "time", "order", "gate", "router", "account", "channel", "file", "rate", "retry", "receipt"]

FINAL: frozenset[PieceState] = frozenset(("sent", "failed", "refused"))
_PART = TypeAdapter(Part)


@dataclass(frozen=True, slots=True)
class Seen:
    """What an echo or a receipt told of a piece, by its id: it left, or it failed."""

    state: Literal["sent", "failed"]
    provider_id: str = ""
    reason: str = ""
    then: Then = "nothing"


@dataclass(frozen=True, slots=True)
class Piece:
    """One call to the provider. `attempts` counts the calls begun; `idempotent` says of the last one whether the provider
    would drop a second. `uploaded` is the provider's own id of the part's file. `seen` is what was told of it while a call
    was under way."""

    n: int
    id: str
    part: Part
    state: PieceState = "queued"
    attempts: int = 0
    idempotent: bool = False
    provider_id: str | None = None
    uploaded: str | None = None
    seen: Seen | None = None

    @property
    def final(self) -> bool:
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class Lease:
    """Who may call and write what came of it, until when. A token is given once, so a zombie's is worth nothing."""

    token: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Announcement:
    """One event for hilo.events that has not been acknowledged. Its id and time are decided with the state it tells of."""

    id: str
    kind: Told
    n: int
    attempt: int
    at: datetime
    reason: str = ""
    then: Then = "nothing"
    next_try_at: datetime | None = None
    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class Sending:
    """One message of the journal. `place` orders the messages of a leg; `blocks` is true while later ones must wait.
    `next_at` is when somebody shall look again, None when nothing is left to do."""

    id: str
    tenant: str
    channel: str
    account: str
    place: int
    request: SendRequested
    accepted_at: datetime
    state: State = "queued"
    hold: Hold = ""
    reason: str = ""
    blocks: bool = True
    next_at: datetime | None = None
    first_try_at: datetime | None = None
    pieces: tuple[Piece, ...] = ()
    lease: Lease | None = None
    told: tuple[Announcement, ...] = ()
    tell_at: datetime | None = None
    expires_at: datetime | None = None
    traceparent: str | None = None
    v: int = 0

    @property
    def leg(self) -> str:
        return self.request.leg_key

    @property
    def closed(self) -> bool:
        return self.next_at is None

    def piece(self, n: int) -> Piece:
        return self.pieces[n - 1]

    def with_piece(self, piece: Piece) -> Sending:
        return replace(self, pieces=tuple(piece if one.n == piece.n else one for one in self.pieces))


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient the worker is. All in seconds."""

    lease_s: float = 60
    first_backoff_s: float = 2
    max_backoff_s: float = 300
    retry_for_s: float = 6 * 3600
    receipt_s: float = 30
    unknown_s: float = 72 * 3600
    keep_s: float = 30 * 24 * 3600
    tell_s: float = 5


def milliseconds(at: datetime) -> datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def later(at: datetime, seconds: float) -> datetime:
    return milliseconds(at + timedelta(seconds=seconds))


def named(result: Result) -> str:
    """The label of a result in metrics."""
    return type(result).__name__.lower()


def provider_id(result: Result) -> str | None:
    return result.id if isinstance(result, Sent) else None


# -- the document -----------------------------------------------------------------------------------------------------


def document(s: Sending) -> Document:
    """Texts stand in `request` and `pieces.part` alone, as JSON: nothing in MongoDB reads them."""
    return {
        "_id": s.id,
        "tenant": s.tenant,
        "channel": s.channel,
        "account": s.account,
        "leg": s.leg,
        "party": s.request.party.key if s.request.party else None,
        "conversation": s.request.conversation_id,
        "place": s.place,
        "request": s.request.model_dump_json(exclude_defaults=True),
        "accepted_at": s.accepted_at,
        "state": s.state,
        "hold": s.hold,
        "reason": s.reason,
        "blocks": s.blocks,
        "next_at": s.next_at,
        "first_try_at": s.first_try_at,
        "pieces": [_piece_document(one) for one in s.pieces],
        "lease": {"token": s.lease.token, "until": s.lease.until} if s.lease else None,
        "told": [_told_document(one) for one in s.told],
        "tell_at": s.tell_at,
        "expires_at": s.expires_at,
        "traceparent": s.traceparent,
        "v": s.v,
    }


def _piece_document(p: Piece) -> Document:
    seen = p.seen and {"st": p.seen.state, "pid": p.seen.provider_id, "why": p.seen.reason, "then": p.seen.then}
    return {
        "n": p.n,
        "id": p.id,
        "part": _PART.dump_json(p.part, exclude_defaults=True).decode(),
        "state": p.state,
        "attempts": p.attempts,
        "idempotent": p.idempotent,
        "provider_id": p.provider_id,
        "uploaded": p.uploaded,
        "seen": seen,
    }


def _told_document(a: Announcement) -> Document:
    return {
        "id": a.id,
        "kind": a.kind,
        "n": a.n,
        "attempt": a.attempt,
        "at": a.at,
        "reason": a.reason,
        "then": a.then,
        "next_try_at": a.next_try_at,
        "provider_id": a.provider_id,
    }


def sending(d: Document) -> Sending:
    lease = d["lease"]
    return Sending(
        id=d["_id"],
        tenant=d["tenant"],
        channel=d["channel"],
        account=d["account"],
        place=d["place"],
        request=SendRequested.model_validate_json(d["request"]),
        accepted_at=d["accepted_at"],
        state=d["state"],
        hold=d["hold"],
        reason=d["reason"],
        blocks=d["blocks"],
        next_at=d["next_at"],
        first_try_at=d["first_try_at"],
        pieces=tuple(_piece(one) for one in d["pieces"]),
        lease=Lease(lease["token"], lease["until"]) if lease else None,
        told=tuple(Announcement(**one) for one in d["told"]),
        tell_at=d["tell_at"],
        expires_at=d["expires_at"],
        traceparent=d["traceparent"],
        v=d["v"],
    )


def _piece(d: Document) -> Piece:
    seen = d["seen"]
    return Piece(
        n=d["n"],
        id=d["id"],
        part=_PART.validate_json(d["part"]),
        state=d["state"],
        attempts=d["attempts"],
        idempotent=d["idempotent"],
        provider_id=d["provider_id"],
        uploaded=d["uploaded"],
        seen=Seen(seen["st"], seen["pid"], seen["why"], seen["then"]) if seen else None,
    )


def without_content(s: Sending) -> Sending:
    """The same message without what was written and to whom: what the journal keeps of a message whose fate is known, since
    only its ids are still needed."""
    unsaid: Document = {
        "parts": (),
        "context": {},
        "party": None,
        "thread": "",
        "reply_to": None,
        "target": None,
        "opens": None,
    }
    bare = s.request.model_copy(update=unsaid)
    return replace(s, request=bare, pieces=tuple(replace(one, part=Part(one.part.kind)) for one in s.pieces))
