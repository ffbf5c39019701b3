"""Lanes: the numbers under which the partitions of the log stand in positions and cursors.

A lane is one partition of one log. A topic that was deleted and made again, or a broker that forgot everything, counts from
offset 0 again: under the same number its events would lie behind every reader. The client library does not tell a topic's
id, so a lane is recognised by the first record that was handled on it: id, time and offset. A second lane for the same log
does no harm, since an event is journaled once, so doubt makes a new lane.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from services.common.cloudevents import Record, Unreadable
from services.common.mongo import Collection, DuplicateKeyError, reaching
from services.timeline.order import id_bytes

LIMIT = 2**16
SHIFT = 48
Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Print:
    """By which a record is recognised. Producers stamp records, so a second delivery has the same."""

    offset: int
    stamp: int
    event: bytes

    @property
    def text(self) -> str:
        return f"{self.offset}.{self.stamp}.{self.event.hex()}"


@dataclass(frozen=True, slots=True)
class Lane:
    """`end` is the offset after the last one handled, as far as this process knows."""

    number: int
    first: Print
    end: int


def position(lane: int, offset: int) -> int:
    return lane << SHIFT | offset


def lane_of(position: int) -> int:
    return position >> SHIFT


def offset_of(position: int) -> int:
    return position & (1 << SHIFT) - 1


def print_of(record: Record) -> Print:
    try:
        name = record.attributes.get("id", "")
    except Unreadable:
        name = ""
    return Print(record.offset, record.timestamp_ms or 0, id_bytes(name))


def same_log(lane: Lane, prints: Sequence[Print], journaled: Mapping[int, bytes]) -> bool:
    """Whether these records, the lowest first, can belong to the lane's log. `journaled` is which event is known to stand
    at an offset of the lane."""
    if prints[0].offset < lane.first.offset:
        return False  # a log's beginning only moves up
    if any(one.offset == lane.first.offset and one != lane.first for one in prints):
        return False
    return all(journaled.get(one.offset, one.event) == one.event for one in prints)


class Lanes:
    """Allots numbers in the collection `lanes`; `journal` says what is known to stand where."""

    def __init__(self, lanes: Collection, journal: Collection, marks: Collection, generation: str) -> None:
        self._lanes, self._journal, self._marks, self._generation = lanes, journal, marks, generation
        self._known: dict[Partition, Lane] = {}

    async def epoch(self) -> bytes:
        """Four bytes that name this database: a cursor of another, or of one that was restored empty, is no good here."""
        async with reaching():
            await self._lanes.update_one({"_id": "epoch"}, {"$setOnInsert": {"e": os.urandom(4), "n": 0}}, upsert=True)
            found = await self._lanes.find_one({"_id": "epoch"})
        assert found
        return bytes(found["e"])

    async def of(self, records: Iterable[Record]) -> dict[Partition, int]:
        """The lane of each partition that these records come from."""
        by: dict[Partition, list[Record]] = {}
        for record in records:
            assert record.partition is not None
            by.setdefault((record.topic, record.partition), []).append(record)
        found: dict[Partition, int] = {}
        for partition, own in by.items():
            own.sort(key=lambda one: one.offset)
            found[partition] = (await self._lane(partition, own)).number
        return found

    async def _lane(self, partition: Partition, records: Sequence[Record]) -> Lane:
        """Forward in the lane in hand nothing needs to be asked; whoever goes back is looked at."""
        lane = self._known.get(partition)
        if lane is None or not await self._goes_on(lane, records):
            lane = await self._newest(partition)
        if lane is None or not await self._goes_on(lane, records):
            lane = await self._made(partition, print_of(records[0]))
        self._known[partition] = replace(lane, end=max(lane.end, records[-1].offset + 1))
        return lane

    async def _goes_on(self, lane: Lane, records: Sequence[Record]) -> bool:
        return records[0].offset >= lane.end or await self._belongs(lane, [print_of(one) for one in records])

    async def _belongs(self, lane: Lane, prints: Sequence[Print]) -> bool:
        low, high = position(lane.number, prints[0].offset), position(lane.number, prints[-1].offset)
        async with reaching():
            found = await self._journal.find({"p": {"$gte": low, "$lte": high}}, {"p": 1}).to_list(None)
        return same_log(lane, prints, {offset_of(one["p"]): bytes(one["_id"]) for one in found})

    async def _newest(self, partition: Partition) -> Lane | None:
        topic, number = partition
        async with reaching():
            found = await self._lanes.find_one({"t": topic, "p": number}, sort=[("n", -1)])
            if found is None:
                return None
            mark = await self._marks.find_one({"_id": f"{self._generation}/{found['n']}"})
        first = Print(found["first"]["o"], found["first"]["at"], bytes(found["first"]["e"]))
        return Lane(found["n"], first, mark["o"] if mark else 0)

    async def _made(self, partition: Partition, first: Print) -> Lane:
        """Two processes that meet a new log at once make one lane: its `_id` is the log's first record."""
        topic, number = partition
        name = f"{topic}/{number}/{first.text}"
        async with reaching():
            known = await self._lanes.find_one({"_id": name})
            if known is None:
                counter = await self._lanes.find_one_and_update(
                    {"_id": "epoch"}, {"$inc": {"n": 1}}, return_document=True, projection={"n": 1}
                )
                lane = counter["n"]
                if lane >= LIMIT:
                    raise RuntimeError("all numbers for lanes are used; rebuild the timeline in a new database")
                marker = {"o": first.offset, "at": first.stamp, "e": first.event}
                try:
                    await self._lanes.insert_one({"_id": name, "t": topic, "p": number, "n": lane, "first": marker})
                    return Lane(lane, first, first.offset)
                except DuplicateKeyError:
                    known = await self._lanes.find_one({"_id": name})
        assert known
        return Lane(known["n"], first, first.offset)
