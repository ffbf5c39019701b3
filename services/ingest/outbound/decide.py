"""What happens to a message next, and what an answer makes of it: pure, with the clock and the dice as arguments.

    queued -> sending -> sent | failed | unknown | retrying -> sending ...
       \\-> held (time, gate, rate, account ...) -> sending            \\-> refused

A call is begun by writing `sending` under a lease, before it is made. Whoever finds `sending` under a lease that is over
knows that the call may have been made: a second one is made only where the provider would drop it, else the piece is
unknown. A later message of a leg waits while an earlier one `blocks`: until it is sent, failed or refused; behind an unknown
one it waits `receipt_s` for a receipt, then goes on, since nobody knows how long the truth will take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, assert_never

from services.common.events import Part
from services.common.identifiers import derived_event_id, piece_id
from services.ingest.contract import Failed, Result, Retry, Sent, Unknown
from services.ingest.outbound.sends import (
    Announcement,
    Hold,
    Lease,
    Piece,
    PieceState,
    Policy,
    Seen,
    Sending,
    State,
    Told,
    later,
    without_content,
)

# A piece of which no call is under way and none may have arrived.
UNSENT: tuple[PieceState, ...] = ("queued", "retrying")
STOPPED = "the worker stopped during the call"


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before this time."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """Cut the message into pieces first."""


@dataclass(frozen=True, slots=True)
class Try:
    piece: Piece


@dataclass(frozen=True, slots=True)
class Recover:
    """A call was begun and its worker is gone."""

    piece: Piece


@dataclass(frozen=True, slots=True)
class GoOn:
    """No receipt came in time: what follows in the leg waits no longer."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No receipt came at all: it stays unknown and says so."""


Step = Wait | Plan | Try | Recover | GoOn | GiveUp | None


def step(s: Sending, now: datetime) -> Step:
    """What to do with this message now; None when its fate is known."""
    if s.next_at is None:
        return None
    if s.lease and now < s.lease.until:
        return Wait(s.lease.until)
    if begun := next((one for one in s.pieces if one.state == "sending"), None):
        return Recover(begun)
    if now < s.next_at:
        return Wait(s.next_at)
    if not s.pieces:
        return Plan()
    if piece := next((one for one in s.pieces if one.state in UNSENT), None):
        return Try(piece)
    return GoOn() if s.blocks else GiveUp()


def planned(s: Sending, parts: Sequence[Part]) -> Sending:
    """With its pieces; their ids are functions of the message's id, so a second plan gives the same."""
    return replace(s, pieces=tuple(Piece(n, piece_id(s.id, n), part) for n, part in enumerate(parts, 1)))


def held(s: Sending, hold: Hold, reason: str, until: datetime) -> Sending:
    return replace(s, state="held", hold=hold, reason=reason, next_at=until, lease=None)


def begun(s: Sending, n: int, token: str, now: datetime, policy: Policy, *, idempotent: bool) -> Sending:
    """To be written before the call. `next_at` is when the lease is over: the poll that finds it then repairs a crash."""
    piece, until = s.piece(n), later(now, policy.lease_s)
    calling = replace(piece, state="sending", attempts=piece.attempts + 1, idempotent=idempotent)
    return replace(
        s.with_piece(calling),
        state="sending",
        hold="",
        reason="",
        lease=Lease(token, until),
        next_at=until,
        first_try_at=s.first_try_at or now,
    )


def not_begun(s: Sending, n: int, now: datetime) -> Sending:
    """The call was not made after all, and will be asked for anew."""
    return replace(s.with_piece(_before(s.piece(n))), state="queued", lease=None, next_at=now)


def postponed(s: Sending, n: int, hold: Hold, reason: str, until: datetime) -> Sending:
    """The provider refused the account, not the message: it waits with the others of this account."""
    return held(s.with_piece(_before(s.piece(n))), hold, reason, until)


def uploaded(s: Sending, n: int, name: str, now: datetime) -> Sending:
    """The part's file is with the provider: the call that was begun was not the message itself."""
    return replace(s.with_piece(replace(_before(s.piece(n)), uploaded=name)), state="queued", lease=None, next_at=now)


def _before(piece: Piece) -> Piece:
    state: PieceState = "retrying" if piece.attempts > 1 else "queued"
    return replace(piece, state=state, attempts=piece.attempts - 1, idempotent=False)


def backoff(attempt: int, jitter: float, policy: Policy) -> float:
    """Doubling from `first_backoff_s` to `max_backoff_s`, of which between half and all, by `jitter` from 0 to 1."""
    most = min(policy.max_backoff_s, policy.first_backoff_s * 2.0 ** min(max(attempt, 1) - 1, 30))
    return most * (0.5 + 0.5 * jitter)


def pause(asked: Any, attempt: int, jitter: float, policy: Policy) -> float:
    """How long to wait before the next try. What the provider asks for is the least; a little more, so that not all come
    back at once. What it says is untrusted: anything but a finite number counts as not said."""
    seconds = float(asked) if isinstance(asked, int | float) and not isinstance(asked, bool) else math.nan
    if not math.isfinite(seconds) or seconds < 0:
        return backoff(attempt, jitter, policy)
    return seconds + jitter * min(5, 0.1 * seconds + 0.1)


def answered(s: Sending, n: int, result: Result, now: datetime, policy: Policy, jitter: float) -> Sending:
    """What the answer to a call makes of the message; the lease is given back."""
    s = replace(s, lease=None)
    if s.piece(n).seen:  # an echo or receipt was faster than the answer, and knows better than a lost one
        result = _better(result, s.piece(n).seen)
    match result:
        case Sent(id):
            return _sent(s, n, id, now, policy)
        case Retry(reason, seconds):
            return _retrying(s, n, reason, pause(seconds, s.piece(n).attempts, jitter, policy), now, policy)
        case Failed():
            return _failed(s, n, result, now, policy)
        case Unknown(reason):
            return _unknown(s, n, reason, now, policy)
    assert_never(result)


def recovered(s: Sending, n: int, now: datetime, policy: Policy) -> Sending:
    """A call was begun under a lease that is over: whether it was made is not known."""
    result = Retry(STOPPED, 0) if s.piece(n).idempotent else Unknown(STOPPED)
    return answered(s, n, result, now, policy, 0)


def refused(s: Sending, reason: str, now: datetime, policy: Policy) -> Sending:
    """The gate said a final no: what has not left will not."""
    s = _planned_at_all(s)
    for piece in s.pieces:
        if piece.state in UNSENT:
            s = _tell(s.with_piece(replace(piece, state="refused")), "refused", piece, now, policy, reason=reason)
    return _settled(replace(s, reason=reason, lease=None), now, policy)


def failed(s: Sending, result: Failed, now: datetime, policy: Policy) -> Sending:
    """It cannot be sent at all, found before any call."""
    s = _planned_at_all(s)
    n = next((one.n for one in s.pieces if one.state in UNSENT), 1)
    return _failed(replace(s, lease=None), n, result, now, policy)


def gone_on(s: Sending, now: datetime, policy: Policy) -> Sending:
    """Unknown, and holding up nothing any more."""
    return replace(s, blocks=False, hold="", next_at=later(now, policy.unknown_s))


def given_up(s: Sending, now: datetime, policy: Policy) -> Sending:
    """Unknown for good, unless a receipt comes after all."""
    reason = f"nothing was heard of it in {policy.unknown_s / 3600:.0f} h: {s.reason}"
    for piece in s.pieces:
        if piece.state == "unknown":
            s = _tell(s, "unknown", piece, now, policy, "final", reason=reason)
    return replace(s, reason=reason, next_at=None, expires_at=later(now, policy.keep_s))


def saw(s: Sending, piece: str, seen: Seen, now: datetime, policy: Policy) -> Sending:
    """An echo or a receipt named this piece. The same value comes back where it says nothing new."""
    known = next((one for one in s.pieces if one.id == piece), None)
    if known is None:
        return s
    match known.state:
        case "unknown" | "retrying" | "queued":  # queued: the journal is older than the truth, from a backup perhaps
            return _evident(s, known, seen, now, policy)
        case "sending":
            return s if known.seen else s.with_piece(replace(known, seen=seen))
        case "sent" if seen.state == "sent" and seen.provider_id and not known.provider_id:
            s = s.with_piece(replace(known, provider_id=seen.provider_id))
            return _tell(s, "sent", known, now, policy, "named", provider_id=seen.provider_id)
        case _:
            return s


def announced(s: Sending, ids: Sequence[str]) -> Sending:
    """These events are on hilo.events. Once nothing is left to do or to learn, the content goes."""
    told = tuple(one for one in s.told if one.id not in ids)
    s = replace(s, told=told, tell_at=s.tell_at if told else None)
    nameless = any(one.state == "unknown" or (one.state == "sent" and not one.provider_id) for one in s.pieces)
    return without_content(s) if s.closed and not told and not nameless else s


def erased(s: Sending, now: datetime, policy: Policy) -> Sending:
    """The person is to be forgotten: what has not left will not, and no content stays. Nothing is told, since there is nobody
    left to tell it of. A call under way is left to its worker."""
    if any(one.state == "sending" for one in s.pieces):
        return s
    pieces = tuple(one if one.final else replace(one, state="refused") for one in s.pieces)
    closed = replace(_closed(replace(s, pieces=pieces, reason="erased"), now, policy), told=(), tell_at=None)
    return without_content(closed)


# -- steps of the above -----------------------------------------------------------------------------------------------


def _sent(s: Sending, n: int, id: str | None, now: datetime, policy: Policy) -> Sending:
    piece = s.piece(n)
    s = s.with_piece(replace(piece, state="sent", provider_id=id))
    return _settled(_tell(s, "sent", piece, now, policy, provider_id=id or ""), now, policy)


def _retrying(s: Sending, n: int, reason: str, seconds: float, now: datetime, policy: Policy) -> Sending:
    """Until `retry_for_s` after the first call; a wait that would end later is the end too."""
    piece, again = s.piece(n), later(now, seconds)
    if again > later(s.first_try_at or now, policy.retry_for_s):
        return _failed(s, n, Failed(f"gave up after {piece.attempts} attempts: {reason}"), now, policy)
    s = _tell(s.with_piece(replace(piece, state="retrying")), "retrying", piece, now, policy, reason=reason, next_try_at=again)
    return replace(s, state="retrying", hold="retry", reason=reason, next_at=again)


def _failed(s: Sending, n: int, result: Failed, now: datetime, policy: Policy) -> Sending:
    """What would follow the failed piece is not sent: half a message from the middle on helps nobody."""
    for piece in s.pieces:
        if piece.n != n and not (piece.n > n and piece.state in UNSENT):
            continue
        reason = result.reason if piece.n == n else f"not sent, because piece {n} was not: {result.reason}"
        s = _tell(s.with_piece(replace(piece, state="failed")), "failed", piece, now, policy, reason=reason, then=result.then)
    return _settled(replace(s, reason=result.reason), now, policy)


def _unknown(s: Sending, n: int, reason: str, now: datetime, policy: Policy) -> Sending:
    """What follows waits a while for a receipt: the next pieces, and the leg."""
    piece = s.piece(n)
    s = _tell(s.with_piece(replace(piece, state="unknown")), "unknown", piece, now, policy, reason=reason)
    return replace(s, state="unknown", hold="receipt", reason=reason, next_at=later(now, policy.receipt_s))


def _evident(s: Sending, piece: Piece, seen: Seen, now: datetime, policy: Policy) -> Sending:
    if seen.state == "sent":
        return _sent(s, piece.n, seen.provider_id, now, policy)
    return _failed(s, piece.n, Failed(seen.reason or "the provider says so", seen.then), now, policy)


def _better(result: Result, seen: Seen | None) -> Result:
    """An answer that names the message stands; of a lost one, what was seen is the truth."""
    if seen is None or (isinstance(result, Sent) and result.id):
        return result
    if seen.state == "sent":
        return Sent(seen.provider_id or None)
    return Failed(seen.reason or "the provider says so", seen.then) if isinstance(result, Unknown | Retry) else result


def _settled(s: Sending, now: datetime, policy: Policy) -> Sending:
    """After a piece reached its end: the next one at once, or the end of the message. A message that left in part and then
    has an unknown piece stays unknown until that is known."""
    states = {one.state for one in s.pieces}
    if "sending" in states:  # a receipt told of another piece: the call under way goes on under its lease
        return s
    if states & set(UNSENT):
        return replace(s, state="queued", hold="", next_at=now)
    if "unknown" in states:
        hold: Hold = "receipt" if s.blocks else ""
        return replace(s, state="unknown", hold=hold, next_at=later(now, policy.receipt_s if s.blocks else policy.unknown_s))
    return _closed(s, now, policy)


def _closed(s: Sending, now: datetime, policy: Policy) -> Sending:
    states = {one.state for one in s.pieces}
    order: tuple[State, ...] = ("failed", "refused", "unknown")
    state: State = next((one for one in order if one in states), "sent" if states else "refused")
    return replace(s, state=state, hold="", blocks=False, lease=None, next_at=None, expires_at=later(now, policy.keep_s))


def _planned_at_all(s: Sending) -> Sending:
    """A message that ends before it was cut ends as one piece."""
    return s if s.pieces else planned(s, [Part("text")])


def _tell(
    s: Sending,
    kind: Told,
    piece: Piece,
    now: datetime,
    policy: Policy,
    more: str = "",
    *,
    reason: str = "",
    then: Any = "nothing",
    next_try_at: datetime | None = None,
    provider_id: str = "",
) -> Sending:
    """With one more event to publish. The id is a function of message, piece, attempt and kind, so publishing it twice is
    publishing it once. `tell_at` lets the worker that decided publish first; a poll does it if that worker is gone."""
    event_id = derived_event_id(s.id, f"message.{kind}", piece.n, piece.attempts, more)
    one = Announcement(event_id, kind, piece.n, piece.attempts, now, reason[:500], then, next_try_at, provider_id)
    if any(other.id == event_id for other in s.told):
        return s
    return replace(s, told=(*s.told, one), tell_at=later(now, policy.tell_s))
