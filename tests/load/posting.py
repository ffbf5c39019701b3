"""Webhooks over kept connections with as little work as it takes: what the client spends is taken from what it measures."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Self, cast
from urllib.parse import urlsplit

import httptools

WITHIN_S = 30


class Away(Exception):
    """The connection was refused, broke, or said nothing for too long."""


class _Connection(asyncio.Protocol):
    """One request at a time, answered by its status."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[int] | None = None

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def status(self, request: bytes) -> int:
        assert self._transport
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        late = asyncio.get_running_loop().call_later(WITHIN_S, self.close)
        try:
            return int(await answer)
        finally:
            late.cancel()

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(Away(str(exc or "closed")))

    # -- httptools

    def on_message_complete(self) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(self._parser.get_status_code())
        if not self._parser.should_keep_alive():
            self.close()
        self._parser = httptools.HttpResponseParser(self)


class Posting:
    """POST to any of the services; as many connections as are under way at once. Use as a context."""

    def __init__(self) -> None:
        self._free: dict[tuple[str, int], deque[_Connection]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for free in self._free.values():
            for connection in free:
                connection.close()

    async def status(self, url: str, request: bytes) -> int:
        """Raises Away."""
        at = urlsplit(url)
        place = (at.hostname or "", at.port or 80)
        free = self._free.setdefault(place, deque())
        connection = None
        while free and connection is None:
            connection = free.pop() if free[-1].open else free.pop() and None
        try:
            if connection is None:
                _, connection = await asyncio.get_running_loop().create_connection(_Connection, *place)
            status = await connection.status(request)
        except OSError as error:
            raise Away(str(error)) from error
        free.append(connection)
        return status


def request(url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """The whole request as it goes over the wire."""
    at = urlsplit(url)
    lines = [f"POST {at.path or '/'}{'?' + at.query if at.query else ''} HTTP/1.1", f"host: {at.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body
