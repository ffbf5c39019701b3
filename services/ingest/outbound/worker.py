"""One message, as far as it can go now: the order of its leg, its account, its turn, the gate, the call, what came of it.

Nothing here decides what a state means (`decide`) or what to build (`prepare`); nothing else calls a provider to write to
somebody. Two rules hold it together: `sending` is in the journal, under a lease, before the call; and between the gate's
answer and the call lies nothing but that write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from services.common import metrics
from services.common.errors import StoreAway
from services.common.http import AnswerLost, NotSent
from services.common.logs import log, place
from services.common.media import MediaAway, Missing
from services.ingest.accounts import AccountBroken, Accounts, Connected
from services.ingest.contract import Failed, Request, Response, Result, Retry, Sent, Unknown, read
from services.ingest.outbound import decide, rates
from services.ingest.outbound.announce import Announcer
from services.ingest.outbound.call import Caller
from services.ingest.outbound.files import MISSING, Files, needs_upload, read_upload
from services.ingest.outbound.gate import Allow, Gate, Hold, Refuse
from services.ingest.outbound.health import Health
from services.ingest.outbound.journal import Change, Journal, LeaseLost, holding
from services.ingest.outbound.prepare import Ready, cut, outgoing, ready
from services.ingest.outbound.sends import Hold as Why
from services.ingest.outbound.sends import Piece, Policy, Seen, Sending, later, milliseconds, named

# A turn that comes within so many seconds is waited for; a later one is left to the poll.
NEAR_S = 0.5
ACCOUNT_S = 30.0
ORDER_S = 5.0
FILE_S = 5.0


@dataclass(frozen=True, slots=True)
class Held:
    """Why the message cannot go on now, and when somebody shall look again."""

    why: Why
    reason: str
    until: datetime


def nothing_happens(step: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Usable:
    """An account that may be used now; `trying` because it was refused before, and this message is the one that finds out
    whether it still is."""

    connected: Connected
    trying: bool = False


Stop = Held | Hold | Refuse | Failed


@dataclass(frozen=True, slots=True)
class Outside:
    """What a worker needs from the world besides its parts: the clock, the dice, tokens, and a hook at each step, by which a
    fault test ends the process there."""

    clock: Callable[[], datetime]
    dice: Callable[[], float]
    token: Callable[[], str]
    reached: Callable[[str], None] = nothing_happens


@dataclass(frozen=True, slots=True)
class Parts:
    journal: Journal
    accounts: Accounts
    gate: Gate
    caller: Caller
    files: Files
    health: Health
    announcer: Announcer
    rates: rates.Rates


class Worker:
    def __init__(self, parts: Parts, policy: Policy, outside: Outside, *, gate_valid_s: float = 2) -> None:
        self._parts, self._policy, self._outside, self._gate_valid_s = parts, policy, outside, gate_valid_s
        self._journal = parts.journal

    def now(self) -> datetime:
        return milliseconds(self._outside.clock())

    async def work(self, s: Sending) -> None:
        """As far as it goes without waiting. Raises StoreAway; what was begun is then found again by the poll."""
        current: Sending | None = s
        while current is not None:
            current = await self._once(current)

    async def _once(self, s: Sending) -> Sending | None:
        """The message after one step, if there is more to do at once."""
        now = self.now()
        match decide.step(s, now):
            case decide.Plan() | decide.Try():
                return await self._try(s)
            case decide.Recover(piece):
                log().warning("send_recovered", outbound_id=s.id, attempt=piece.attempts)
                return await self._write(s, decide.recovered(s, piece.n, now, self._policy))
            case decide.GoOn():
                return await self._write(s, decide.gone_on(s, now, self._policy))
            case decide.GiveUp():
                return await self._write(s, decide.given_up(s, now, self._policy))
            case decide.Wait() | None:
                return None

    # -- before the call

    async def _try(self, s: Sending) -> Sending | None:
        if (ahead := await self._order(s)) is not None:
            return await self._stop(s, ahead)
        account = await self._account(s)
        if not isinstance(account, Usable):
            return await self._stop(s, account)
        try:
            cut_up = s if s.pieces else await self._cut(s, account.connected)
            if not isinstance(cut_up, Sending):
                return await self._stop(s, cut_up)
            piece = next(one for one in cut_up.pieces if one.state in decide.UNSENT)
            upload = piece.uploaded is None and needs_upload(account.connected.channel, piece.part)
            done = await (self._upload if upload else self._send)(cut_up, piece, account)
        except MediaAway as error:
            return await self._stop(s, Held("file", str(error), later(self.now(), FILE_S)))
        return done if done is None or isinstance(done, Sending) else await self._stop(cut_up, done)

    async def _stop(self, s: Sending, stop: Stop) -> Sending | None:
        now = self.now()
        match stop:
            case Held(why, reason, until):
                return await self._write(s, decide.held(s, why, reason, until))
            case Hold(reason, seconds, away):
                until = later(now, seconds * (0.75 + 0.5 * self._outside.dice()))
                return await self._write(s, decide.held(s, "router" if away else "gate", reason, until))
            case Refuse(reason):
                return await self._write(s, decide.refused(s, reason, now, self._policy))
            case Failed():
                return await self._write(s, decide.failed(s, stop, now, self._policy))

    async def _order(self, s: Sending) -> Held | None:
        """Whoever comes to its end wakes the next; looking again by itself is for when that worker is gone."""
        if await self._journal.ahead(s) is None:
            return None
        return Held("order", "an earlier message of this thread is not through", later(self.now(), ORDER_S))

    async def _account(self, s: Sending) -> Usable | Held | Failed:
        """The account, if it can be used now."""
        now = self.now()
        try:
            found = await self._parts.accounts.get(s.channel, s.account)
        except AccountBroken as error:
            return Held("channel", str(error), later(now, ACCOUNT_S))
        if found is None or found.tenant != s.tenant:
            return Failed("the account is not connected any more", then="other_leg")
        if not found.active:
            return Held("account", "the account is paused", later(now, ACCOUNT_S))
        broken = await self._parts.health.broken(found)
        if broken is None:
            return Usable(found)
        if await self._parts.health.may_try(found, now) and (usable := await self._check(found)) is not None:
            return usable
        return Held("account", broken.reason, later(max(broken.check_at, now), 1 + self._outside.dice()))

    async def _check(self, account: Connected) -> Usable | None:
        """Where the channel has a question for it, ask whether the account works; else one message is the question."""
        works = await self._parts.health.check(account)
        if works:
            await self._parts.health.works(account, self.now())
        return None if works is False else Usable(account, trying=not works)

    async def _cut(self, s: Sending, account: Connected) -> Sending | Held | Failed:
        try:
            parts = await self._parts.files.described(s.tenant, s.request.parts)
        except Missing:
            return Failed(MISSING)
        return cut(s, account.channel, parts)

    async def _turn(self, s: Sending, account: Connected) -> Held | None:
        """Wait for a turn in the lanes of account and thread."""
        declared = account.channel.legs[s.request.leg].rates
        while True:
            now = self._outside.clock()
            wait = self._parts.rates.wait(account.stored.name, s.request.thread, declared, s.id, now.timestamp())
            if wait == 0:
                return None
            if wait > NEAR_S:
                return Held("rate", "the provider takes no more at once", later(now, wait - NEAR_S / 2))
            await asyncio.sleep(wait)

    async def _allowed(self, s: Sending, account: Connected) -> Allow | Held | Hold | Refuse:
        """Its turn, then the gate: what the gate says must be fresh when the call is made."""
        if (wait := await self._turn(s, account)) is not None:
            return wait
        verdict = await self._parts.gate.ask(s.tenant, s.id, self._outside.clock())
        self._outside.reached("gate answered")
        return verdict

    async def _begin(self, s: Sending, piece: Piece, allow: Allow, *, idempotent: bool) -> Sending | None:
        """The message with `sending` in the journal under our lease; None if somebody else has it, or the gate's answer is
        too old by now: then it is asked again."""
        token, now = self._outside.token(), self.now()
        begin = decide.begun(s, piece.n, token, now, self._policy, idempotent=idempotent)
        try:
            begun = await self._journal.replace(s, begin)
        except StoreAway:  # perhaps written, certainly not called
            await self._give_back(begin, piece.n)
            return None
        if begun is None:
            return None
        self._outside.reached("begun")
        if not allow.stale(self._outside.clock(), self._gate_valid_s):
            return begun
        await self._give_back(begun, piece.n)
        return None

    async def _give_back(self, s: Sending, n: int) -> None:
        """The call that was begun is not made."""
        try:
            await self._as_holder(s, lambda found: decide.not_begun(found, n, self.now()))
        except LeaseLost:
            log().warning("lease_lost", outbound_id=s.id)

    async def _as_holder(self, s: Sending, change: Change) -> Sending:
        """Change the message for as long as our lease allows, however long the store is away meanwhile. Raises LeaseLost, and
        StoreAway once the lease is over."""
        assert s.lease
        wait = 0.1
        known: Sending | None = s
        while True:
            try:
                return await self._journal.change(s.id, holding(s.lease.token, self.now(), change), known=known)
            except StoreAway:
                if self.now() >= s.lease.until:
                    raise
                known = None
                await asyncio.sleep(wait)
                wait = min(wait * 2, 2)

    # -- the call

    async def _send(self, s: Sending, piece: Piece, account: Usable) -> Sending | Stop | None:
        now, connected = self.now(), account.connected
        part = self._parts.files.reachable(s.tenant, connected.channel, piece.part, piece.uploaded, now)
        prepared = ready(connected, outgoing(s, piece, part, now))
        if not isinstance(prepared, Ready):
            return prepared
        allow = await self._allowed(s, connected)
        if not isinstance(allow, Allow):
            return allow
        begun = await self._begin(s, piece, allow, idempotent=prepared.request.idempotent)
        if begun is None:
            return None
        result, response = await self._made(begun, prepared, connected)
        self._outside.reached("called")
        return await self._after(begun, piece.n, account, result, response, uploading=False)

    async def _made(self, s: Sending, prepared: Ready, account: Connected) -> tuple[Result, Response | None]:
        out, request, response = prepared.out, prepared.request, None
        try:
            response = await self._parts.caller.message(s, out, request)
            return read(account.channel, out, request, response), response
        except NotSent as error:
            return Retry(f"not sent: {error}"), None
        except AnswerLost:
            return read(account.channel, out, request, None), None
        except Exception as error:  # our bug or the channel's, after the call was begun: nobody knows whether it arrived
            log().error("send_bug", outbound_id=s.id, channel=s.channel, exc_type=type(error).__name__, path=place(error))
            return Unknown(f"bug: {type(error).__name__}"), response

    async def _upload(self, s: Sending, piece: Piece, account: Usable) -> Sending | Stop | None:
        """The file first, as a step of its own: a retry of the message then does not upload again."""
        request = await self._parts.files.upload(account.connected, piece.part)
        if isinstance(request, Failed):
            return request
        allow = await self._allowed(s, account.connected)
        if not isinstance(allow, Allow):
            return allow
        begun = await self._begin(s, piece, allow, idempotent=True)
        if begun is None:
            return None
        result, response = await self._uploaded(account.connected, request)
        return await self._after(begun, piece.n, account, result, response, uploading=True)

    async def _uploaded(self, account: Connected, request: Request) -> tuple[Result, Response | None]:
        try:
            response = await self._parts.caller.call(account.channel.name, request)
        except NotSent as error:
            return Retry(f"not sent: {error}"), None
        except AnswerLost:
            return read_upload(account.channel, None), None
        return read_upload(account.channel, response), response

    # -- after the call

    async def _after(
        self, s: Sending, n: int, account: Usable, result: Result, response: Response | None, *, uploading: bool
    ) -> Sending | None:
        metrics.SENDS.labels(s.channel, named(result)).inc()
        self._learn_rates(account.connected, result, response, s.piece(n).attempts)
        now, dice = self.now(), self._outside.dice()
        postponed = account.trying and isinstance(result, Failed) and result.then == "fix_account"

        def change(found: Sending) -> Sending:
            if postponed:
                return decide.postponed(found, n, "account", "the provider still refuses the account", later(now, 1 + dice))
            if uploading and isinstance(result, Sent):
                return decide.uploaded(found, n, result.id or "", now)
            return decide.answered(found, n, result, now, self._policy, dice)

        written = await self._record(s, n, change, result)
        await self._learn_health(account, result)
        return await self._written(s, written) if written else None

    async def _record(self, s: Sending, n: int, change: Change, result: Result) -> Sending | None:
        """Write what came of it, for as long as the lease allows. Whoever has lost the lease writes nothing as its holder;
        that the provider has named the message is then told like an echo of it, which settles only what is unknown."""
        try:
            return await self._as_holder(s, change)
        except LeaseLost:
            log().warning("lease_lost", outbound_id=s.id, result=named(result))
            if isinstance(result, Sent):
                await self.saw(s.id, s.piece(n).id, Seen("sent", result.id or ""))
            return None

    async def saw(self, outbound_id: str, piece_id: str, seen: Seen) -> None:
        """An echo, a receipt or an answer that came too late named this piece."""
        now = self.now()
        before = await self._journal.get(outbound_id)
        if before is not None:
            after = await self._journal.change(outbound_id, lambda s: decide.saw(s, piece_id, seen, now, self._policy))
            await self._written(before, after)

    async def _learn_health(self, account: Usable, result: Result) -> None:
        """The first message that shows that an account is refused fails with it, so that people see it; later ones wait."""
        if isinstance(result, Failed) and result.then == "fix_account":
            await self._parts.health.refused(account.connected, result.reason, self.now())
        elif account.trying and isinstance(result, Sent):
            await self._parts.health.works(account.connected, self.now())

    def _learn_rates(self, account: Connected, result: Result, response: Response | None, attempt: int) -> None:
        if response is None or account.channel.send is None:
            return
        now, name = self._outside.clock(), account.stored.name
        if response.status == 429:
            asked = result.seconds if isinstance(result, Retry) else None
            self._parts.rates.close(name, later(now, decide.pause(asked, attempt, 0, self._policy)).timestamp())
        left = account.channel.send.left(response)
        if left and (until := rates.until(left, now)):
            self._parts.rates.left(name, left.calls, until.timestamp(), now.timestamp())

    # -- writing

    async def _write(self, before: Sending, after: Sending) -> Sending | None:
        """The compare-and-set of a step without a call; somebody who was faster goes on from there."""
        written = await self._journal.replace(before, after)
        return await self._written(before, written) if written is not None else None

    async def _written(self, before: Sending, after: Sending) -> Sending | None:
        """Tell what is to be told, and wake whoever waited; the message itself if it can go on at once."""
        self._outside.reached("written")
        await self._parts.announcer.tell(after)
        if before.blocks and not after.blocks:
            await self._journal.wake_next(after, self.now())
        go_on = after.next_at is not None and after.next_at <= self.now() and after.lease is None
        return await self._journal.get(after.id) if go_on else None
