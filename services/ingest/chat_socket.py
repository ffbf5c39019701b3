"""One socket of the web chat, both directions.

What the visitor writes goes the one path of every input and is acknowledged to the widget only once it is on the log. What
we write is read from chat_out, in order, at the pace of the socket: nothing waits in memory for somebody who does not read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from services.common import metrics, topics
from services.common.errors import Away, BrokerAway, Poison, StoreAway
from services.common.kafka import Publisher
from services.common.media import MediaStore, uploaded
from services.ingest import chat_protocol as protocol
from services.ingest.accounts import AccountBroken, Connected
from services.ingest.chat_out import ChatOut, Marks, Thread
from services.ingest.contract import Outcome, Raw, Secret, Session
from services.ingest.intake import Intake, read
from services.ingest.settings import IngestSettings

CHANNEL = "webchat"
BATCH = 100
SEND_S = 10.0
PINGS_MISSED = 2.5
RETRY_S = 1.0


class Closed(Exception):
    """The socket is to be closed with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


@dataclass(frozen=True, slots=True)
class Parts:
    """What every socket works with."""

    settings: IngestSettings
    intake: Intake
    out: ChatOut
    publisher: Publisher
    store: MediaStore
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic


def secret_of(account: Connected) -> Secret:
    """The secret that the visitor's site and we share."""
    found = getattr(account.account, "identity_secret", None)
    if not isinstance(found, Secret):
        raise AccountBroken("a web chat needs an identity_secret")
    return found


def session_of(account: Connected) -> Session[Any]:
    return next(door for door in account.channel.doors if isinstance(door, Session))


@dataclass(eq=False)
class Socket:
    """An admitted visitor's socket. `who` is what was proven about them; `within_rate` takes one from their allowance."""

    websocket: WebSocket
    account: Connected
    thread: Thread
    visit: protocol.Visit
    who: Mapping[str, str]
    parts: Parts
    within_rate: Callable[[], bool]
    marks: Marks
    _sent: int = 0
    _newest: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _heard_at: float = 0.0
    _sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    _party_known: bool = False

    def tell(self, last: int) -> None:
        """There are messages up to this number."""
        if last > self._newest:
            self._newest = last
            self._news.set()

    async def run(self) -> None:
        """Until either side closes."""
        offered = self.websocket.scope.get("subprotocols", [])
        await self.websocket.accept(subprotocol=protocol.PROTOCOL if protocol.PROTOCOL in offered else None)
        # A number that is not there yet belongs to a list that was forgotten: the widget's next message is the first again.
        self._sent = self.visit.after if self.visit.after <= self.marks.last else 0
        self._newest, self._heard_at = self.marks.last, self.parts.clock()
        tasks = [asyncio.create_task(one) for one in (self._hear(), self._speak(), self._ping())]
        try:
            await self._greet()
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except Closed as error:
            await self.close(error.code, error.reason)
        except WebSocketDisconnect:
            pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self, code: int, reason: str) -> None:
        """Nobody waits long for a widget that does not read."""
        with suppress(RuntimeError, TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(1):
                if self.websocket.application_state is WebSocketState.CONNECTED:
                    await self.websocket.close(code, reason)

    async def _send(self, frame: Mapping[str, Any]) -> None:
        """Raises Closed for a widget that does not take it in time."""
        try:
            async with self._sending, asyncio.timeout(SEND_S):
                await self.websocket.send_text(orjson.dumps(frame).decode())
        except TimeoutError as error:
            raise Closed(protocol.TOO_SLOW, "too slow") from error
        except RuntimeError as error:  # it was closed meanwhile
            raise WebSocketDisconnect from error

    async def _greet(self) -> None:
        stored, now = self.account.stored, self.parts.now()
        resume = protocol.resume_token(secret_of(self.account), self.thread, now)
        await self._send(protocol.welcome(self.thread, resume, self._sent, stored.title, stored.language, now))

    async def _ping(self) -> None:
        """So that either side notices when the other has gone without a word."""
        every = self.parts.settings.chat_ping_s
        while True:
            await asyncio.sleep(every)
            if self.parts.clock() - self._heard_at > every * PINGS_MISSED:
                raise Closed(protocol.SILENT, "silent")
            await self._send({"type": "ping"})

    # -- what we say

    async def _speak(self) -> None:
        while True:
            self._news.clear()
            try:
                found = await self.parts.out.after(*self._place, self._sent, BATCH)
            except StoreAway:
                await asyncio.sleep(RETRY_S)
                continue
            for said in found:
                if frame := protocol.numbered(said, self.parts.now()):
                    await self._send(frame)
                self._sent = said.n
            if not found:
                await self._news.wait()

    @property
    def _place(self) -> tuple[str, str, str]:
        return self.thread.tenant, self.thread.account, self.thread.thread

    # -- what the visitor says

    async def _hear(self) -> None:
        if self.visit.ref:
            await self._refer()
        while True:
            body = await self._frame()
            match protocol.frame(body):
                case protocol.ForChannel() as message:
                    await self._answer(message, body)
                case protocol.Seen(n, state):
                    await self._seen(n, state)
                case protocol.TypingNow():
                    await self._typing(body)
                case protocol.Junk(reason, identifier):
                    await self._refuse(identifier, reason)
                case protocol.Pong():
                    pass

    async def _frame(self) -> bytes:
        """The next frame. Raises Closed for one that is too large, no text, or one too many."""
        message = await self.websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        self._heard_at = self.parts.clock()
        text = message.get("text")
        if text is None:
            raise Closed(protocol.UNSUPPORTED, "frames are text")
        body = str(text).encode(errors="replace")
        if len(body) > session_of(self.account).max_bytes:
            raise Closed(protocol.TOO_BIG, f"a frame may have {session_of(self.account).max_bytes} bytes")
        if not self.within_rate():
            metrics.INPUTS.labels(CHANNEL, "session", "overload").inc()
            raise Closed(protocol.LATER, "too fast")
        return body

    def _raw(self, body: bytes) -> Raw:
        door = session_of(self.account).name
        return Raw(body, self.who, method="FRAME", received_at=self.parts.now(), door=door)

    async def _answer(self, message: protocol.ForChannel, body: bytes) -> None:
        """`accepted` once it is on the log; `retry` when it is not sure to be; `refused` for what never will be."""
        raw = self._raw(body)
        outcome = read([self.account], raw)
        reason = _unusable(outcome) or await self._wrong_file(message)
        if reason:
            await self._refuse(message.id, reason)
            return
        try:
            await self.parts.intake.take([self.account], raw, outcome=outcome)
        except Away:
            metrics.INPUTS.labels(CHANNEL, "session", "away").inc()
            await self._send({"type": "retry", "id": message.id})
        except Poison:
            await self._refuse(message.id, "larger than can be taken")
        else:
            await self._send({"type": "accepted", "id": message.id})
            await self._remember_party(outcome)

    async def _refuse(self, identifier: str | None, reason: str) -> None:
        metrics.INPUTS.labels(CHANNEL, "session", "refused").inc()
        await self._send({"type": "refused", "id": identifier, "reason": reason[:200]})

    async def _wrong_file(self, message: protocol.ForChannel) -> str | None:
        """A message may name only a file that was uploaded, as the kind of file that it is."""
        if message.file is None:
            return None
        sha256 = uploaded(message.file)
        try:
            found = await self.parts.store.find(self.account.tenant, sha256, declared=message.media_type) if sha256 else None
        except Away:
            return None  # the upload was answered; what became of it shows when the media worker looks for it
        if found is None:
            return "file: upload it first and name it by the answer's ref"
        return None if found.media_type == message.media_type else f"file: it is {found.media_type}"

    async def _remember_party(self, outcome: Outcome) -> None:
        party = next((event.data.party for event in outcome.events if event.data.party), None)
        if party and not self._party_known:
            with suppress(StoreAway):  # the next message says it again
                await self.parts.out.belongs(self.thread, party.key)
                self._party_known = True

    async def _seen(self, n: int, state: protocol.ReceiptState) -> None:
        """Receipts for what was sent here and not yet acknowledged. They repeat themselves at the next connection when they
        are not on the log, so nobody waits for them."""
        before, upto = getattr(self.marks, state), min(n, self._sent)
        if upto <= before:
            return
        try:
            found = await self.parts.out.after(*self._place, before, min(upto - before, BATCH))
            messages = [said for said in found if protocol.is_message(said)]
            if messages:
                await self.parts.intake.take([self.account], self._raw(protocol.receipt(messages[-1], state)))
            upto = found[-1].n if found else upto
            await self.parts.out.mark(self.thread, state, upto)
        except (Away, Poison):
            return
        self.marks = Marks(self.marks.last, **{"delivered": self.marks.delivered, "read": self.marks.read, state: upto})

    async def _typing(self, body: bytes) -> None:
        """Shown live and never kept: it goes past raw and ledger."""
        outcome = read([self.account], self._raw(body))
        if outcome.live and not self.parts.publisher.away:
            with suppress(BrokerAway):
                await self.parts.publisher.emit(topics.LIVE, outcome.live)

    async def _refer(self) -> None:
        """The visitor came by a link of ours. If it cannot be taken now, the first message says it again."""
        with suppress(Away, Poison):
            await self.parts.intake.take([self.account], self._raw(protocol.START))


def _unusable(outcome: Outcome) -> str | None:
    """Why a message cannot be taken, for the widget. A bug of ours is no reason: the message is kept and can be replayed."""
    if outcome.quarantined:
        return None if any(one.bug for one in outcome.quarantined) else outcome.quarantined[0].reason
    return None if outcome.events else "there is nothing in it"
