"""A client that is never the bottleneck: one process, many connections, requests that were written and signed beforehand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast


def written(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A whole POST request as it goes over the wire."""
    head = {"host": "127.0.0.1", "user-agent": "bench", **headers, "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


@dataclass(frozen=True, slots=True)
class Answered:
    seconds: float
    refused: int
    latencies_ms: Sequence[float]


class _Connection(asyncio.Protocol):
    """Sends the next request when the last one is answered."""

    def __init__(self, requests: Iterator[bytes], latencies: list[float], refused: list[bytes]) -> None:
        self._requests, self._latencies, self._refused = requests, latencies, refused
        self._buffer, self._sent_at = b"", 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            self.done.set_result(None)
        else:
            self._sent_at = time.perf_counter()
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = next((line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b"0")
        if len(rest) < int(length):
            return
        self._buffer = b""
        self._latencies.append((time.perf_counter() - self._sent_at) * 1000)
        if head[9:12] != b"200":
            self._refused.append(head)
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("closed before the answer"))


async def post(port: int, requests: Sequence[bytes], connections: int) -> Answered:
    """Send all, each connection one at a time. Raises ConnectionError."""
    loop, latencies, refused, left = asyncio.get_running_loop(), list[float](), list[bytes](), iter(requests)
    began = time.perf_counter()
    opened = [
        (await loop.create_connection(lambda: _Connection(left, latencies, refused), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(one.done for one in opened))
    return Answered(time.perf_counter() - began, len(refused), latencies)
