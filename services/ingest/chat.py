"""The web chat's door: who may open a socket, and telling the sockets of this process when there is something to say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from services.common import metrics
from services.common.errors import Away, StoreAway
from services.common.logs import log
from services.ingest import chat_protocol as protocol
from services.ingest.accounts import AccountBroken, Accounts, Connected
from services.ingest.chat_out import Marks, Thread
from services.ingest.chat_socket import CHANNEL, Closed, Parts, Socket, secret_of, session_of
from services.ingest.contract import Raw, Refused
from services.ingest.rate import Bucket, Buckets, caller
from services.ingest.settings import IngestSettings


class Denied(Exception):
    """The handshake is answered with this status, as HTTP."""

    def __init__(self, status: int, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.outcome, self.reason = status, outcome, reason


def allowed_origin(account: Connected, origin: str, own: str) -> bool:
    """Whether a page of this site may show the widget: the account's sites, and our own page."""
    return bool(origin) and (origin in getattr(account.account, "origins", ()) or origin == own)


class Chat:
    """The door: admits sockets, and tells those of this process when there is something for their visitor."""

    def __init__(self, accounts: Accounts, parts: Parts) -> None:
        settings = parts.settings
        self._accounts, self._parts, self._settings = accounts, parts, settings
        self._sockets: dict[Thread, set[Socket]] = {}
        self._count = 0
        self._visitors = Buckets(settings.chat_frames_per_s, settings.chat_burst, parts.clock)
        self._arrivals = Buckets(settings.chat_arrivals_per_min / 60, settings.chat_arrivals_per_min, parts.clock)
        self._stopping = asyncio.Event()
        self.away = False

    def routes(self) -> list[BaseRoute]:
        return [WebSocketRoute("/chat/{account}/socket", self.socket, name="chat_socket")]

    async def start(self) -> None:
        logging.getLogger("uvicorn.error").addFilter(_is_no_denial)
        await self._parts.out.prepare()

    async def stop(self) -> None:
        """Widgets connect again, to another process, and send again what was not acknowledged."""
        self._stopping.set()
        every = [socket for sockets in self._sockets.values() for socket in sockets]
        await asyncio.gather(*(socket.close(protocol.RESTART, "restart") for socket in every))

    async def run(self) -> None:
        """Look up what is new for the visitors that are here, until `stop`."""
        while not self._stopping.is_set():
            try:
                await self._look()
                self.away = False
            except StoreAway as error:
                if not self.away:
                    log().warning("away", part=error.part, reason=str(error), door="session")
                self.away = True
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._settings.chat_poll_s)

    async def _look(self) -> None:
        threads = list(self._sockets)
        for start in range(0, len(threads), 1000):
            for thread, last in (await self._parts.out.last(threads[start : start + 1000])).items():
                for socket in self._sockets.get(thread, ()):
                    socket.tell(last)

    # -- one socket

    async def socket(self, websocket: WebSocket) -> None:
        try:
            socket = await self._admitted(websocket)
        except Denied as error:
            metrics.INPUTS.labels(CHANNEL, "session", error.outcome).inc()
            await websocket.send_denial_response(PlainTextResponse(error.reason, error.status))
            return
        except Closed as error:
            metrics.INPUTS.labels(CHANNEL, "session", "refused").inc()
            await websocket.accept(subprotocol=_subprotocol(websocket))
            await websocket.close(error.code, error.reason)
            return
        self._enter(socket)
        try:
            await socket.run()
        finally:
            self._leave(socket)

    def _enter(self, socket: Socket) -> None:
        self._sockets.setdefault(socket.thread, set()).add(socket)
        self._count += 1
        metrics.CHAT_SOCKETS.set(self._count)

    def _leave(self, socket: Socket) -> None:
        sockets = self._sockets.get(socket.thread, set())
        sockets.discard(socket)
        if not sockets:
            self._sockets.pop(socket.thread, None)
        self._count -= 1
        metrics.CHAT_SOCKETS.set(self._count)

    async def _admitted(self, websocket: WebSocket) -> Socket:
        """Raises Denied or Closed."""
        account = await self._account(websocket.path_params["account"])
        origin = websocket.headers.get("origin", "")
        if not allowed_origin(account, origin, own_origin(websocket, self._settings)):
            raise Denied(403, "origin", "This site is not on the account's list of origins.")
        visit = protocol.visit(websocket.query_params, websocket.scope.get("subprotocols", []))
        if visit is None:
            raise Denied(400, "refused", "A visitor is 22 to 128 of A-Z, a-z, 0-9, - and _; after is a number.")
        if self._count >= self._settings.chat_sockets:
            raise Denied(503, "overload", "Too many sockets; try again.")
        who = proven(account, visit, origin, self._parts.now())
        thread = Thread(account.tenant, account.id, who["thread"])
        if len(self._sockets.get(thread, ())) >= self._settings.chat_sockets_each:
            raise Closed(protocol.LATER, "too many sockets")
        marks = await self._known(account, thread, visit, signed="user" in who, caller=_caller(websocket, self._settings))
        return Socket(websocket, account, thread, visit, who, self._parts, self._allowance(thread), marks)

    def _allowance(self, thread: Thread) -> Callable[[], bool]:
        """Whether one more frame is within the rate of this socket and of its visitor."""
        clock, per_s, burst = self._parts.clock, self._settings.chat_frames_per_s, self._settings.chat_burst
        own = Bucket(per_s, burst, burst, clock())
        return lambda: own.take(clock()) and self._visitors.take(thread.name)

    async def _account(self, name: str) -> Connected:
        try:
            found = await self._accounts.get(CHANNEL, name)
        except (Away, AccountBroken) as error:
            raise Denied(503, "away", "Not now; try again.") from error
        if found is None:
            raise Denied(404, "unknown_account", "There is no such chat.")
        return found

    async def _known(self, account: Connected, thread: Thread, visit: protocol.Visit, *, signed: bool, caller: str) -> Marks:
        """Where the thread stands. It is open to whom the site has signed for, to the holder of its resume token, and to
        whoever comes to it first. Raises Closed."""
        now = self._parts.now()
        try:
            if signed:
                pass
            elif visit.resume:
                if not protocol.resumes(secret_of(account), thread, visit.resume, now):
                    raise Closed(protocol.NOT_YOURS, "resume token")
            elif not self._arrivals.take(caller):
                raise Closed(protocol.LATER, "too many new visitors")
            elif not await self._parts.out.claim(thread, now):
                raise Closed(protocol.NOT_YOURS, "thread is taken")
            return await self._parts.out.returned(thread, now)
        except StoreAway as error:
            raise Denied(503, "away", "Not now; try again.") from error


def _is_no_denial(record: logging.LogRecord) -> bool:
    """uvicorn takes a handshake that we answered with a status for one that we forgot, and says so as an error."""
    return "without completing handshake" not in record.getMessage()


def proven(account: Connected, visit: protocol.Visit, origin: str, now: datetime) -> Mapping[str, str]:
    """What the channel proves about the visitor. Our own page speaks for the account's first site. Raises Closed."""
    origins = getattr(account.account, "origins", ()) or (origin,)
    query = {name: value for name in ("visitor", "token", "ref") if (value := getattr(visit, name))}
    headers = {"origin": origin if origin in origins else origins[0]}
    raw = Raw(b"", headers, query, "GET", received_at=now, door=session_of(account).name)
    try:
        return session_of(account).admit(account.account, raw)
    except Refused as error:
        raise Closed(protocol.NOT_SIGNED, str(error)[:120]) from error


def own_origin(websocket: Any, settings: IngestSettings) -> str:
    """The origin of our own page. Only the demo believes the Host header about it."""
    if settings.env == "production":
        return settings.public_url
    host = websocket.headers.get("host", "")
    return f"http://{host}" if host else settings.public_url


def _caller(websocket: WebSocket, settings: IngestSettings) -> str:
    return caller(websocket.client.host if websocket.client else None, websocket.headers, settings.forwarded_for)


def _subprotocol(websocket: WebSocket) -> str | None:
    return protocol.PROTOCOL if protocol.PROTOCOL in websocket.scope.get("subprotocols", []) else None
