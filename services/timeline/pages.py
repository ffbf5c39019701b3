"""One page of entries out of several ordered sources: identifiers in groups, a conversation and the journey before it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.common.errors import StoreAway
from services.common.mongo import ASCENDING, DESCENDING, Collection, Document, reaching
from services.timeline.order import ABOVE, NOWHERE

# Above 200 ranges the server collects and sorts everything instead of merging (timeline page, section 2).
SCANS, GROUP = 200, 100
WINDOW, WIDEST = 500, 8000
LONGEST_MS = 2000  # a single query; a page of windows stops earlier


@dataclass(frozen=True, slots=True)
class Source:
    """Entries in order of `k`: a filter that one index serves, bounded above by `below`."""

    where: Mapping[str, Any]
    below: bytes = ABOVE
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """What is asked for: entries older than `before`, or newer than `after`."""

    before: bytes | None = None
    after: bytes | None = None
    limit: int = 50

    @property
    def upward(self) -> bool:
        return self.after is not None


@dataclass(slots=True)
class Found:
    """Documents, the newest first. `on` is where a reader goes on who had to stop early or has more to read."""

    documents: list[Document] = field(default_factory=list)
    on: bytes | None = None


def groups(identifiers: Sequence[str], kinds: int = 1) -> list[list[str]]:
    """At most 200 ranges a query; above that groups of 100, merged by us."""
    most = max(1, SCANS // kinds)
    if len(identifiers) <= most:
        return [list(identifiers)] if identifiers else []
    size = min(GROUP, most)
    return [list(identifiers[at : at + size]) for at in range(0, len(identifiers), size)]


@dataclass(frozen=True, slots=True)
class Walk:
    """How a page is read: from where the reader stands outwards, downwards to older entries or upwards to newer ones."""

    entries: Collection
    tenant: str
    sources: Sequence[Source]
    rising: bool
    limit: int
    limit_ms: int

    async def read(self, filters: Mapping[str, Any], low: bytes, high: bytes) -> list[Document]:
        """The first `limit` + 1 between two keys, of all sources together. Bounded on both sides, always: half a range
        would read other customers' keys of the index."""
        lists = await asyncio.gather(*(self._of(source, filters, low, high) for source in self.sources))
        by = {bytes(document["_id"]): document for documents in lists for document in documents}
        return self.ordered(by.values())[: self.limit + 1]

    async def _of(self, source: Source, filters: Mapping[str, Any], low: bytes, high: bytes) -> list[Document]:
        query = {"tn": self.tenant, **source.where, **filters, "k": {"$gt": low, "$lt": min(high, source.below)}}
        cursor = (
            self.entries.find(query)
            .sort("k", self._direction)
            .limit(self.limit + 1)
            .max_time_ms(max(LONGEST_MS, self.limit_ms))
        )
        async with reaching():
            found: list[Document] = await (cursor.hint(source.hint) if source.hint else cursor).to_list(None)
        return found

    async def edge(self, low: bytes, high: bytes, size: int) -> bytes | None:
        """The key up to which no source has more than `size` entries; None when everything is nearer."""
        found = await asyncio.gather(*(self._edge(source, low, high, size) for source in self.sources))
        keys = [key for key in found if key is not None]
        return (min(keys) if self.rising else max(keys)) if keys else None

    async def _edge(self, source: Source, low: bytes, high: bytes, size: int) -> bytes | None:
        query = {"tn": self.tenant, **source.where, "k": {"$gt": low, "$lt": min(high, source.below)}}
        cursor = self.entries.find(query, {"k": 1, "_id": 0}).sort("k", self._direction).skip(size - 1).limit(1)
        async with reaching():
            found = await cursor.to_list(1)
        return bytes(found[0]["k"]) if found else None

    def ordered(self, documents: Iterable[Document]) -> list[Document]:
        return sorted(documents, key=lambda document: bytes(document["k"]), reverse=not self.rising)

    @property
    def _direction(self) -> int:
        return ASCENDING if self.rising else DESCENDING


async def page(
    entries: Collection, tenant: str, sources: Sequence[Source], filters: Mapping[str, Any], span: Span, limit_ms: int
) -> Found:
    """One page. Without filters every entry that is read is shown. With filters it walks in windows of entries, so that a
    filter that matches nothing costs a bounded time: the page is then short and says where to go on."""
    walk = Walk(entries, tenant, sources, span.upward, span.limit, limit_ms)
    if not filters:
        return _cut(walk, await walk.read({}, span.after or NOWHERE, span.before or ABOVE), None)
    began, size = time.monotonic(), WINDOW
    low, high = span.after or NOWHERE, span.before or ABOVE
    found: list[Document] = []
    stopped: bytes | None = None
    while True:
        edge = await walk.edge(low, high, size)
        if edge is None:
            return _cut(walk, found + await walk.read(filters, low, high), None)
        near, far = (low, beside(edge, 1)) if walk.rising else (beside(edge, -1), high)
        try:
            found += await walk.read(filters, near, far)
        except StoreAway:  # also what takes too long; a page that has come some way is short, not lost
            if stopped is None:
                raise
            return _cut(walk, found, stopped)
        stopped = edge
        low, high = (edge, high) if walk.rising else (low, edge)
        if len(found) > span.limit:
            return _cut(walk, found, None)
        if (time.monotonic() - began) * 1000 > limit_ms:
            return _cut(walk, found, edge)
        size = min(size * 2, WIDEST)


def beside(key: bytes, step: int) -> bytes:
    """The next key: what lies exactly on an edge belongs to the window before it."""
    return (int.from_bytes(key, "big") + step).to_bytes(len(key), "big")


def _cut(walk: Walk, found: list[Document], stopped: bytes | None) -> Found:
    """One more than asked for says that there is more."""
    ordered = walk.ordered(found)
    kept = ordered[: walk.limit]
    on = bytes(kept[-1]["k"]) if len(ordered) > walk.limit else stopped
    return Found(list(reversed(kept)) if walk.rising else kept, on)
