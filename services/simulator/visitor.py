"""A visitor of the shop with the chat open: the socket's protocol from the other side."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from services.simulator.accounts import ChatAccount

AGAIN_S = 1.0


class Visitor:
    """Writes, keeps what was not acknowledged and sends it again after a break; reads on after the last number it saw."""

    def __init__(self, account: ChatAccount, *, visitor: str | None = None, token: str | None = None) -> None:
        self.account, self.visitor, self._token = account, visitor or secrets.token_urlsafe(24), token
        self.received: list[dict[str, Any]] = []
        self.accepted: set[str] = set()
        self._unsent: dict[str, str] = {}
        self._after = 0
        self._resume = ""
        self._socket: ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._retries: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._task = asyncio.create_task(self._run())
        async with asyncio.timeout(30):
            await self._connected.wait()

    async def close(self) -> None:
        for task in filter(None, (self._task, *self._retries)):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _url(self) -> str:
        query = {"visitor": self.visitor, "after": str(self._after)}
        query |= {"token": self._token} if self._token else {}
        query |= {"resume": self._resume} if self._resume else {}
        return f"{self.account.socket}?{urlencode(query)}"

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError, ConnectionClosed, TimeoutError):
                async with connect(self._url(), origin=self.account.origin, open_timeout=10) as socket:  # type: ignore[arg-type]
                    self._socket = socket
                    self._connected.set()
                    for frame in list(self._unsent.values()):
                        await socket.send(frame)
                    async for text in socket:
                        await self._take(json.loads(text))
            self._connected.clear()
            await asyncio.sleep(0.3)

    async def _take(self, frame: dict[str, Any]) -> None:
        match frame.get("type"):
            case "accepted":
                self._unsent.pop(frame["id"], None)
                self.accepted.add(frame["id"])
            case "retry" if frame["id"] in self._unsent:
                self._later(frame["id"])
            case "welcome":
                self._resume = frame.get("resume", "") or self._resume
            case "ping" if self._socket:
                await self._socket.send(json.dumps({"type": "pong"}))
        if isinstance(number := frame.get("n"), int) and number > self._after:
            self._after = number
            self.received.append(frame)

    def _later(self, identifier: str) -> None:
        """Say it again in a while, on whatever socket there is then."""

        async def again() -> None:
            await asyncio.sleep(AGAIN_S)
            if self._socket and identifier in self._unsent:
                with contextlib.suppress(ConnectionClosed):
                    await self._socket.send(self._unsent[identifier])

        task = asyncio.create_task(again())
        self._retries.add(task)
        task.add_done_callback(self._retries.discard)

    async def say(self, text: str, *, message_id: str | None = None) -> str:
        """Write; it counts as said once `accepted` holds the id."""
        identifier = message_id or str(uuid.uuid4())
        frame = {"type": "message", "id": identifier, "text": text, "sent_at": datetime.now(UTC).isoformat()}
        self._unsent[identifier] = json.dumps(frame)
        if self._socket and self._connected.is_set():
            with contextlib.suppress(ConnectionClosed):
                await self._socket.send(self._unsent[identifier])
        return identifier
