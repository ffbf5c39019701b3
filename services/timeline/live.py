"""The live feed: one loop per process follows the marks, reads the journal up to them and hands every event to the streams
that listen. No clock and no window: a stream's id says how far it has read each lane, so it resumes on any process.

Positions never repeat and never skip; content may repeat, with the same `rev`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from services.common import metrics
from services.common.errors import Away
from services.common.logs import log
from services.common.mongo import ASCENDING, Document, Mongo, reaching
from services.timeline.lanes import lane_of, offset_of, position
from services.timeline.reader import Reader
from services.timeline.subjects import EVERYTHING, Listen, subjects
from services.timeline.vectors import Trail, Vector, encoded, prefix
from services.timeline.views import CustomerView, EntryView, View

CHUNK = 2000
CATCH_UP = 500
# Where many events come they are looked for less often: what a look costs, here and in the store, is then shared by more.
MANY, UNHURRIED = 20, 2


@dataclass(frozen=True)
class Push:
    """One event of a stream. `text` is its wire form without id, made once for all streams."""

    event: str
    view: EntryView | View

    @cached_property
    def text(self) -> bytes:
        return b"event: %s\ndata: %s\n\n" % (self.event.encode(), self.view.wire())


@dataclass(frozen=True, slots=True)
class Item:
    """A journaled event with what it pushes. All of it stands at one position: only its last push carries the id."""

    position: int
    pushes: tuple[Push, ...]

    def wire(self, name: str) -> bytes:
        *first, last = self.pushes
        return b"".join((*(push.text for push in first), b"id: ", name.encode(), b"\n", last.text))


@dataclass(frozen=True, slots=True)
class Sent:
    """What a stream yields: an event with the id up to which the client then has everything; without an event it only says
    how far it is (a heartbeat); without an id it is fleeting (typing) or the last word of the stream."""

    id: str | None
    item: Item | None = None
    push: Push | None = None

    def wire(self) -> bytes:
        if self.item is not None and self.id is not None:
            return self.item.wire(self.id)
        name = b"id: %s\n" % self.id.encode() if self.id is not None else b""
        return name + (self.push.text if self.push is not None else b"\n")

    @property
    def size(self) -> int:
        """About what it takes until it is sent."""
        pushes = self.item.pushes if self.item is not None else (self.push,) if self.push is not None else ()
        return sum(len(push.text) for push in pushes) + 200


class Ended(View):
    """`reset`: there is no way back, read the page again; the stream goes on from here. `shed` (too slow) and `renew` (open
    long enough, or we stop) are last words: come back with the last id."""

    why: str


class Stream:
    """One client. Register first and hold back: what happens while the past is read waits in `_waiting`."""

    def __init__(self, feed: Feed, tenant: str, listen: Listen, since: Vector | None) -> None:
        self._feed, self.tenant, self.listen = feed, tenant, listen
        self._since = since
        self.subjects: frozenset[str] = frozenset()
        self.ahead: dict[int, int] = {}
        self._waiting: list[Sent] = []
        self._left, self._size = 0, 0  # what was still waiting at the last tick
        self._something = asyncio.Event()
        self._ended: str | None = None

    async def batches(self, heartbeat_s: float, longest_s: float = 900) -> AsyncGenerator[list[Sent], None]:
        """Until the client goes or the stream ends. What is yielded at once may be sent at once."""
        until = time.monotonic() + longest_s
        try:
            if self._since is not None and not await self._feed.knows(self._since):
                self._since = None
                yield [Sent(self._feed.now(), push=Push("reset", Ended(why="reset")))]
            offsets = dict(self._since.offsets) if self._since else dict(self._feed.offsets)
            self.subjects = await self._feed.subjects(self)
            async for batch in self._past(offsets, dict(self._feed.offsets)):
                yield batch
            upto = await self._feed.register(self, offsets)
            async for batch in self._past(offsets, upto):
                yield batch
            yield [Sent(encoded(self._feed.prefix, offsets))]
            while not self._ended and time.monotonic() < until:
                yield await self._next(heartbeat_s)
            yield [*self._drained(), Sent(None, push=Push(self._ended or "renew", Ended(why=self._ended or "renew")))]
        finally:
            self.close()

    async def _past(self, offsets: dict[int, int], upto: Mapping[int, int]) -> AsyncIterator[list[Sent]]:
        """What the journal holds between two vectors, lane by lane; `offsets` moves along."""
        for lane, end in sorted(upto.items()):
            while offsets.get(lane, 0) < end:
                documents = await self._feed.journal(self, position(lane, offsets.get(lane, 0)), position(lane, end))
                batch, trail = [], Trail(self._feed.prefix, offsets)
                for item in await self._feed.items(self.tenant, documents):
                    trail.move(lane, offset_of(item.position) + 1)
                    if item.pushes:
                        batch.append(Sent(trail.text(), item))
                offsets[lane] = end if len(documents) < CATCH_UP else trail.offsets[lane]
                if batch:
                    yield batch

    async def _next(self, heartbeat_s: float) -> list[Sent]:
        if not self._waiting and not self._ended:
            self._something.clear()
            try:
                async with asyncio.timeout(heartbeat_s):
                    await self._something.wait()
            except TimeoutError:
                return [Sent(self._feed.name_for(self))]
        return self._drained()

    def _drained(self) -> list[Sent]:
        batch, self._waiting = self._waiting, []
        self._left, self._size = 0, 0
        return batch

    def offer(self, batch: Sequence[Sent]) -> None:
        """Called in the feed's fan-out; must not wait."""
        if self._ended:
            return
        self._waiting += batch
        self._something.set()

    def shed_if_slow(self, most: int) -> None:
        """Called at the beginning of a tick: a client is slow by what it has left since the last, not by how much came at once."""
        self._size += sum(sent.size for sent in self._waiting[self._left :])
        self._left = len(self._waiting)
        if self._size > most and not self._ended:
            metrics.SHED.inc()
            self._drained()
            self.end("shed")

    def end(self, why: str) -> None:
        self._ended = self._ended or why
        self._something.set()

    def close(self) -> None:
        self._feed.forget(self)


@dataclass(slots=True)
class _Tick:
    """What one look at the journal found: how far, and which events somebody listens to."""

    upto: dict[int, int] = field(default_factory=dict)
    documents: list[Document] = field(default_factory=list)


class Feed:
    """The loop and its streams. `offsets` is how far this process has read each lane."""

    def __init__(
        self,
        mongo: Mongo,
        reader: Reader,
        *,
        interval_s: float = 0.05,
        buffer_bytes: int = 4 * 1024 * 1024,
        journal_days: float = 3,
    ) -> None:
        database = mongo.database("timeline")
        self._journal, self._marks, self._lanes = database["journal"], database["marks"], database["lanes"]
        self._reader, self._interval, self.buffer_bytes, self._days = reader, interval_s, buffer_bytes, journal_days
        self.offsets: dict[int, int] = {}
        self._epoch = b"\0\0\0\0"
        self.prefix = b""
        self._streams: set[Stream] = set()
        self._by: dict[str, dict[str, set[Stream]]] = {}
        self._turn = asyncio.Lock()
        self._stopping = asyncio.Event()
        self.away: str | None = None

    @property
    def ready(self) -> bool:
        return self.away is None

    async def start(self) -> None:
        async with reaching():
            found = await self._lanes.find_one({"_id": "epoch"})
        assert found, "the store starts before the feed"
        self._epoch = bytes(found["e"])
        self.offsets = await self._read_marks()
        self.prefix = prefix(self._epoch, datetime.now(UTC))

    async def run(self) -> None:
        """Until `stop`. While the store is away streams stay open and quiet; what they missed comes afterwards."""
        while not self._stopping.is_set():
            try:
                pause = self._pause(await self.tick())
                self.away = None
            except Away as error:
                if self.away is None:
                    log().warning("feed_waits", part=error.part)
                self.away, pause = error.part, self._interval
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    def _pause(self, found: int) -> float:
        if found == CHUNK:
            return 0
        return self._interval * (UNHURRIED if found > MANY else 1)

    async def stop(self) -> None:
        self._stopping.set()
        for stream in list(self._streams):
            stream.end("renew")

    def now(self) -> str:
        """Where this process stands: a page that is read after this has everything before it."""
        return encoded(self.prefix, self.offsets)

    def name_for(self, stream: Stream) -> str:
        return encoded(self.prefix, _with(self.offsets, stream.ahead)) if stream.ahead else self.now()

    def open(self, tenant: str, listen: Listen, since: Vector | None = None) -> Stream:
        return Stream(self, tenant, listen, since)

    # -- streams --------------------------------------------------------------------------------------------------------

    async def knows(self, since: Vector) -> bool:
        """Whether the way back is all there: this database, not too long ago, no lane that we never had."""
        if since.epoch != self._epoch or since.too_old(datetime.now(UTC), self._days):
            return False
        unknown = since.offsets.keys() - self.offsets.keys()
        if not unknown:
            return True
        async with reaching():
            found = await self._lanes.count_documents({"n": {"$in": list(unknown)}, "p": {"$exists": True}})
        return bool(found == len(unknown))

    async def subjects(self, stream: Stream) -> frozenset[str]:
        return await subjects(self._reader, stream.tenant, stream.listen)

    async def register(self, stream: Stream, offsets: Mapping[int, int]) -> dict[int, int]:
        """From now on the stream hears what happens. Answers up to where it must read the past itself. Never within a tick,
        which has decided already whom it reads for; and what it listens to is looked up again here, since a change that
        came before would not be told to it."""
        async with self._turn:
            stream.subjects = await self.subjects(stream)
            stream.ahead = {lane: end for lane, end in offsets.items() if end > self.offsets.get(lane, 0)}
            self._streams.add(stream)
            metrics.STREAMS.inc()
            for subject in stream.subjects:
                self._join(stream, subject)
            return dict(self.offsets)

    def move(self, stream: Stream, wanted: frozenset[str]) -> None:
        """Change what a registered stream listens to."""
        if stream not in self._streams:
            return  # its client left while we looked
        for subject in stream.subjects - wanted:
            self._leave(stream, subject)
        for subject in wanted - stream.subjects:
            self._join(stream, subject)
        stream.subjects = wanted

    def forget(self, stream: Stream) -> None:
        if stream in self._streams:
            self._streams.discard(stream)
            metrics.STREAMS.dec()
            for subject in stream.subjects:
                self._leave(stream, subject)

    def _join(self, stream: Stream, subject: str) -> None:
        self._by.setdefault(stream.tenant, {}).setdefault(subject, set()).add(stream)

    def _leave(self, stream: Stream, subject: str) -> None:
        listeners = self._by[stream.tenant][subject]
        listeners.discard(stream)
        if not listeners:
            del self._by[stream.tenant][subject]

    def _listeners(self, tenant: str, names: Iterable[str]) -> set[Stream]:
        by = self._by.get(tenant, {})
        return set().union(*(by[name] for name in (*names, EVERYTHING) if name in by))

    # -- the loop -------------------------------------------------------------------------------------------------------

    async def tick(self) -> int:
        """One look. How many events it found; with `CHUNK` there may be more."""
        async with self._turn:
            for stream in self._streams:
                stream.shed_if_slow(self.buffer_bytes)
            marks = await self._read_marks()
            moved = {lane: end for lane, end in marks.items() if end > self.offsets.get(lane, 0)}
            tick = await self._read_journal(moved) if moved and self._streams else _Tick(moved)
            heard = [one for one in tick.documents if self._listeners(one["tn"], one["s"])]
            by: dict[int, Item] = {}
            for tenant in {one["tn"] for one in heard}:
                mine = [one for one in heard if one["tn"] == tenant]
                by |= {item.position: item for item in await self.items(tenant, mine)}
            self._fan_out(tick, heard, by, await self._moves(heard))
            return len(tick.documents)

    async def _read_marks(self) -> dict[int, int]:
        """One read: the generation that is live and its marks."""
        async with reaching():
            found = {one["_id"]: one for one in await self._marks.find({}).to_list(None)}
        generation = found["live"]["gen"] if "live" in found else "a"
        self._reader.see(generation)
        names = (name.partition("/") for name in found)
        return {int(lane): int(found[f"{g}/{lane}"]["o"]) for g, slash, lane in names if slash and g == generation}

    async def _read_journal(self, moved: Mapping[int, int]) -> _Tick:
        ranges = [
            {"p": {"$gte": position(lane, self.offsets.get(lane, 0)), "$lt": position(lane, end)}}
            for lane, end in sorted(moved.items())
        ]
        async with reaching():
            rows = self._journal.find({"$or": ranges}).sort("p", ASCENDING).limit(CHUNK).batch_size(CHUNK)
            found = await rows.to_list(None)
        if len(found) < CHUNK:
            return _Tick(dict(moved), found)
        last = found[-1]["p"]
        upto = {lane: end for lane, end in moved.items() if lane < lane_of(last)}
        return _Tick({**upto, lane_of(last): offset_of(last) + 1}, found)

    async def _moves(self, heard: Sequence[Document]) -> dict[Stream, frozenset[str]]:
        """What streams listen to after these events: identifiers went to other customers, conversations were joined."""
        streams = {
            stream
            for one in heard
            if one["kd"] in ("moved", "state")
            for stream in self._listeners(one["tn"], one["s"])
            if stream.listen.customer or stream.listen.conversation
        }
        return {stream: await self.subjects(stream) for stream in streams}

    def _fan_out(
        self, tick: _Tick, heard: Sequence[Document], by: Mapping[int, Item], wanted: Mapping[Stream, frozenset[str]]
    ) -> None:
        """One synchronous pass: a stream sees a whole tick or nothing of it, wherever it is registered in between."""
        self.prefix = prefix(self._epoch, datetime.now(UTC))
        trail = Trail(self.prefix, self.offsets)
        offered: dict[Stream, list[Sent]] = {}
        for one in heard:
            lane, offset = lane_of(one["p"]), offset_of(one["p"])
            trail.move(lane, offset + 1)
            item, sent = by[one["p"]], None
            for stream in self._listeners(one["tn"], one["s"]):
                if stream in wanted and one["kd"] in ("moved", "state"):
                    self.move(stream, wanted[stream])
                if not item.pushes or offset < stream.ahead.get(lane, 0):
                    continue  # the client has read further on another process
                sent = sent or Sent(trail.text(), item)
                own = Sent(encoded(self.prefix, _with(trail.offsets, stream.ahead)), item) if stream.ahead else sent
                offered.setdefault(stream, []).append(own)
        for stream, batch in offered.items():
            stream.offer(batch)
        self.offsets |= tick.upto
        for stream in [stream for stream in self._streams if stream.ahead]:
            stream.ahead = {lane: end for lane, end in stream.ahead.items() if end > self.offsets.get(lane, 0)}

    async def journal(self, stream: Stream, low: int, high: int) -> list[Document]:
        """What the journal holds for a stream between two positions, at most `CATCH_UP`."""
        query: dict[str, Any] = {"tn": stream.tenant, "p": {"$gte": low, "$lt": high}}
        if EVERYTHING not in stream.subjects:
            query["s"] = {"$in": sorted(stream.subjects)}
        async with reaching():
            rows = self._journal.find(query).sort("p", ASCENDING).limit(CATCH_UP).batch_size(CATCH_UP)
            found: list[Document] = await rows.to_list(None)
        return found

    async def items(self, tenant: str, documents: Sequence[Document]) -> list[Item]:
        """Journaled events with what they push: the present state of what they were about."""
        wanted = {bytes(entry) for one in documents for entry in one["e"]}
        present = await self._reader.present(tenant, wanted, {one["d"]["cv"] for one in documents if one["kd"] == "state"})
        made: dict[tuple[str, bytes], Push] = {}
        items = []
        for one in documents:
            pushes = []
            for entry in map(bytes, one["e"]):
                if entry in present.entries:
                    event = "revised" if one["kd"] == "revised" else "entry"
                    pushes.append(made.setdefault((event, entry), Push(event, present.entries[entry])))
                elif entry in present.removed:
                    pushes.append(made.setdefault(("removed", entry), Push("removed", present.removed[entry])))
            if one["kd"] == "state" and (row := present.rows.get(one["d"]["cv"])):
                pushes.append(Push("conversation", row))
            if one["kd"] == "moved":
                pushes.append(Push("customer", _moved(one["d"])))
            items.append(Item(one["p"], tuple(pushes)))
        return items

    # -- what is never kept -----------------------------------------------------------------------------------------------

    def fleeting(self, tenant: str, names: Iterable[str], event: str, view: View) -> None:
        """Push what has no place in the history: nobody who was away hears of it."""
        sent = Sent(None, push=Push(event, view))
        for stream in self._listeners(tenant, names):
            stream.offer([sent])


def _with(offsets: Mapping[int, int], ahead: Mapping[int, int]) -> dict[int, int]:
    return {**offsets, **{lane: max(end, offsets.get(lane, 0)) for lane, end in ahead.items()}}


def _moved(data: Mapping[str, Any]) -> CustomerView:
    return CustomerView(identifier=data["i"], customer_id=data["to"], previous=data["was"], version=data["ver"])
