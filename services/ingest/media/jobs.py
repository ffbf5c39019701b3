"""One file to fetch, as a value, and what an event asks for and an attempt makes of it: pure.

The job's id is a function of the event and the part, so the same event twice is one job; so are the ids of what is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import TypeAdapter

from services.common.cloudevents import Event
from services.common.events import CallRecorded, Data, Fact, MediaFailed, MediaStored, MessageSent, Part, Said
from services.common.identifiers import Identifier, derived_event_id
from services.common.media import Stored
from services.common.mongo import Document

State = Literal["queued", "stored", "failed", "erased"]
KINDS = frozenset(("image", "audio", "video", "file", "sticker"))
_PARTY: TypeAdapter[Identifier | None] = TypeAdapter(Identifier | None)


@dataclass(frozen=True, slots=True)
class Job:
    """`part` counts from 0 within the message. `next_at` is when somebody shall look, None when nothing is left to do; a
    result that is not announced yet is still to do."""

    id: str
    tenant: str
    channel: str
    account: str
    key: str
    provider_id: str
    party: Identifier | None
    leg: str
    thread: str
    visibility: Any
    part: int
    kind: str
    ref: str
    declared: str | None
    name: str | None
    asked_at: datetime
    next_at: datetime | None
    state: State = "queued"
    attempts: int = 0
    reason: str = ""
    sha256: str | None = None
    media_type: str | None = None
    size: int | None = None
    ended_at: datetime | None = None
    told: bool = False
    v: int = 0


@dataclass(frozen=True, slots=True)
class Gone:
    """It cannot be had, now or later."""

    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    reason: str
    seconds: float | None = None


Result = Stored | Gone | Later


@dataclass(frozen=True, slots=True)
class Patience:
    """In seconds. Providers keep media for hours to weeks; what is not there after a day will not come."""

    first_s: float = 2
    most_s: float = 900
    give_up_s: float = 24 * 3600


def wanted(event: Event[Data], now: datetime) -> Iterator[Job]:
    """A job for each file that this event refers to."""
    data, now = event.data, milliseconds(now)
    if not isinstance(data, Fact) or not event.channel:
        return
    for number, part in _files(data):
        yield Job(
            id=derived_event_id(event.id, "media", number),
            tenant=event.tenant,
            channel=event.channel,
            account=event.account,
            key=event.key,
            provider_id=data.provider_id,
            party=data.party,
            leg=data.leg,
            thread=data.thread,
            visibility=data.visibility,
            part=number,
            kind=part.kind,
            ref=part.ref or "",
            declared=part.media_type,
            name=part.name,
            asked_at=now,
            next_at=now,
        )


def _files(data: Fact) -> Iterator[tuple[int, Part]]:
    match data:
        case Said() | MessageSent():
            yield from ((n, part) for n, part in enumerate(data.parts) if part.ref and part.kind in KINDS)
        case CallRecorded(recording=str(recording)) if recording:
            yield 0, Part("audio", ref=recording)


def ended(job: Job, result: Result, now: datetime, patience: Patience, jitter: float) -> Job:
    """The job after an attempt."""
    attempts, now = job.attempts + 1, milliseconds(now)
    match result:
        case Stored(sha256, size, media_type):
            done = replace(job, state="stored", sha256=sha256, size=size, media_type=media_type, reason="")
            return replace(done, attempts=attempts, ended_at=now, next_at=now)
        case Gone(reason):
            return replace(job, state="failed", reason=reason[:300], attempts=attempts, ended_at=now, next_at=now)
        case Later(reason, seconds):
            again = now + timedelta(seconds=max(seconds or 0, pause(attempts, jitter, patience)))
            if again > job.asked_at + timedelta(seconds=patience.give_up_s):
                return ended(job, Gone(f"gave up after {attempts} attempts: {reason}"), now, patience, jitter)
            return replace(job, reason=reason[:300], attempts=attempts, next_at=milliseconds(again))


def milliseconds(at: datetime) -> datetime:
    """The time as BSON keeps it, so that what is announced again is announced alike."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def pause(attempt: int, jitter: float, patience: Patience) -> float:
    most = min(patience.most_s, patience.first_s * 2.0 ** min(attempt - 1, 30))
    return most * (0.5 + 0.5 * jitter)


def announcement(job: Job) -> Event[Fact]:
    """media.stored or media.failed: always the same event for the same end of the job."""
    assert job.ended_at
    common: dict[str, Any] = {
        "provider_id": job.provider_id,
        "party": job.party,
        "received_at": job.ended_at,
        "leg": job.leg,
        "thread": job.thread,
        "visibility": job.visibility,
        "part": job.part,
    }
    data: Fact
    if job.state == "stored":
        file = {"sha256": job.sha256, "media_type": job.media_type, "size": job.size, "name": job.name}
        data = MediaStored(**common, **file)
    else:
        data = MediaFailed(**common, reason=job.reason)
    identifier = derived_event_id(job.id, data.type)
    return Event(identifier, job.tenant, job.key, job.ended_at, data, job.channel, job.account)


def erased(job: Job) -> Job:
    """Nothing of the file or the person stays."""
    bare = replace(job, party=None, thread="", key="", provider_id="", ref="", name=None, sha256=None)
    return replace(bare, state="erased", reason="", next_at=None, told=True)


# -- the document -----------------------------------------------------------------------------------------------------

_PLAIN = (
    "tenant",
    "channel",
    "account",
    "key",
    "provider_id",
    "leg",
    "thread",
    "visibility",
    "part",
    "kind",
    "ref",
    "declared",
    "name",
    "asked_at",
    "next_at",
    "state",
    "attempts",
    "reason",
    "sha256",
    "media_type",
    "size",
    "ended_at",
    "told",
    "v",
)


def document(job: Job) -> Document:
    """`person` is the identifier key, by which an erasure finds the job."""
    plain = {name: getattr(job, name) for name in _PLAIN}
    party = _PARTY.dump_json(job.party).decode()
    return {"_id": job.id, "party": party, "person": job.party.key if job.party else None, **plain}


def job_of(d: Document) -> Job:
    return Job(id=d["_id"], party=_PARTY.validate_json(d["party"]), **{name: d[name] for name in _PLAIN})
