"""The one path for every door: input to facts, raw record and facts on the log, and only then back to whoever asked.

`take` returning means that the raw record, every fact and every dead letter of it are acknowledged by the broker. Until then
nothing may be answered that lets the provider forget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from services.common import metrics, topics
from services.common.cloudevents import Event, Record, encode
from services.common.errors import BrokerAway
from services.common.events import Data, DeadLettered, Origin
from services.common.kafka import DeadLetters, Place, Publisher
from services.common.logs import log
from services.ingest import rawlog
from services.ingest.accounts import Connected
from services.ingest.contract import Channel, Fetch, Item, Outcome, Quarantined, Raw, Unreadable, normalize

# An input with more items is set aside whole: each would be a record of its own, and reading them would hold up the others.
MAX_ITEMS = 2_000
SMALL = 3 * MAX_ITEMS  # bytes that cannot hold so many: an item is `{}` and a comma at least
# A fact that the topic would not take is never sent; half of the rest is room for headers that identity adds.
MAX_FACT = (topics.EVENTS.max_bytes or topics.MB) - 64 * 1024
GROWTH = 16  # a character may become six when it is escaped, and a channel may tell a text twice
MAX_LIVE = 100

KeepFetches = Callable[[Connected, Sequence[Fetch]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an input that is on the log: where its raw record stands and what is in it. `dead_ids` are those of the
    outcome's quarantined items, in their order."""

    place: Place
    outcome: Outcome
    dead_ids: tuple[str, ...] = ()

    @property
    def event_ids(self) -> list[str]:
        return [event.id for event in self.outcome.events]


# -- what is decided without I/O ------------------------------------------------------------------------------------------


def bounded(channel: Channel[Any]) -> Channel[Any]:
    """The channel, with an unpack that refuses an input of too many items before it has built them all."""

    def unpack(raw: Raw) -> list[Item]:
        items = list(islice(channel.unpack(raw), MAX_ITEMS + 1))
        if len(items) > MAX_ITEMS:
            raise Unreadable(f"more than {MAX_ITEMS} items in one input")
        return items

    return replace(channel, unpack=unpack)


def read(accounts: Sequence[Connected], raw: Raw) -> Outcome:
    """The outcome of an input for the accounts that share its door, the first of which owns the address."""
    first = accounts[0]
    channel = first.channel if len(raw.body) < SMALL else bounded(first.channel)
    outcome = normalize(channel, [one.account for one in accounts], raw, first.tenant_key)
    if len(raw.body) > MAX_FACT // GROWTH and any(_size(event) > MAX_FACT for event in outcome.events):
        return aside(raw, f"a fact in it is larger than {MAX_FACT} bytes")
    return outcome


def _size(event: Event[Data]) -> int:
    return len(encode(topics.EVENTS.name, event).value or b"")


def aside(raw: Raw, reason: str, kind: str = "?") -> Outcome:
    """An input that is kept whole and quarantined: for what a door itself refuses to read, such as a mail over its limits."""
    return Outcome(items=1, quarantined=[Quarantined("", kind, reason, raw.body)])


def addressed(channel: Channel[Any], raw: Raw, quarantined: Sequence[Quarantined]) -> list[tuple[Item | None, int]]:
    """The items that were quarantined, with their places; None for an input that could not be unpacked."""
    if all(isinstance(one.slice, bytes) for one in quarantined):
        return [(None, 0)] * len(quarantined)
    items = iter(enumerate(bounded(channel).unpack(raw)))
    found: list[tuple[Item | None, int]] = []
    for one in quarantined:  # in the order of the items: the next one with this path and kind
        same = ((item, place) for place, item in items if (item.path, item.kind) == (one.path, one.kind))
        found.append(next(same, (None, 0)))
    return found


def letters_of(
    dead: DeadLetters, channel: Channel[Any], raw: Raw, written: Record, quarantined: Sequence[Quarantined]
) -> list[Event[DeadLettered]]:
    """A dead letter for every quarantined item of the raw record `written`, whose place is known."""
    letters = []
    places = addressed(channel, raw, quarantined)
    for one, path, (item, place) in zip(quarantined, rawlog.paths(quarantined), places, strict=True):
        record, body = rawlog.letter_of(written, item, place), rawlog.slice_of(one)
        reason, kind = rawlog.plain(one.reason, 500), rawlog.plain(one.kind, 200)
        letters.append(dead.event(record, reason, path=path, kind=kind, bug=one.bug, body=body))
    return letters


# -- the path -------------------------------------------------------------------------------------------------------------


class Intake:
    """Takes inputs of any door. `keep_fetches` keeps what a channel wants asked for, durably, before the input is answered."""

    def __init__(self, publisher: Publisher, keep_fetches: KeepFetches) -> None:
        self._publisher, self.keep_fetches = publisher, keep_fetches
        self._dead = DeadLetters(publisher, "ingest")
        self._live: set[asyncio.Task[None]] = set()

    async def take(
        self, accounts: Sequence[Connected], raw: Raw, *, outcome: Outcome | None = None, origin: Origin = "live"
    ) -> Taken:
        """Returns once everything is acknowledged. Raises Away: then some of it may be on the log, and taking the same
        input again is harmless. Raises Poison for an input that is larger than the broker takes. `outcome` is for a door
        that has read the input itself."""
        first = accounts[0]
        outcome = read(accounts, raw) if outcome is None else outcome
        events = outcome.events if origin == "live" else [replace(event, origin=origin) for event in outcome.events]
        facts = [encode(topics.EVENTS.name, event) for event in events]
        record = rawlog.record(first.channel.name, first.account, raw, outcome, origin)
        place, *_ = await self._publisher.publish([record, *facts])
        dead_ids: tuple[str, ...] = ()
        if outcome.quarantined:
            written = replace(record, partition=place.partition, offset=place.offset)
            dead_ids = await self._set_aside(first.channel, raw, written, outcome)
        if outcome.fetches:
            await self.keep_fetches(first, outcome.fetches)
        self._say_live(outcome)
        _count(first.channel.name, raw, outcome)
        return Taken(place, outcome, dead_ids)

    async def _set_aside(self, channel: Channel[Any], raw: Raw, written: Record, outcome: Outcome) -> tuple[str, ...]:
        letters = letters_of(self._dead, channel, raw, written, outcome.quarantined)
        await self._publisher.emit(topics.DEAD, letters)
        for one, letter in zip(outcome.quarantined, letters, strict=True):
            metrics.DEAD.labels("ingest").inc()
            shown = {"channel": channel.name, "kind": one.kind[:80], "dead_id": letter.id}
            if one.bug:
                metrics.CHANNEL_BUGS.labels(channel.name).inc()
                log().error("channel_bug", **shown)
            else:
                log().warning("quarantined", **shown)
        return tuple(letter.id for letter in letters)

    def _say_live(self, outcome: Outcome) -> None:
        """Typing is shown or lost; nobody waits for it, and while the broker is away there is nobody to show it to."""
        if outcome.live and not self._publisher.away and len(self._live) < MAX_LIVE:
            task = asyncio.create_task(self._publish_live(outcome.live))
            self._live.add(task)
            task.add_done_callback(self._live.discard)

    async def _publish_live(self, events: Sequence[Event[Data]]) -> None:
        with suppress(BrokerAway):
            await self._publisher.emit(topics.LIVE, events)

    async def start(self) -> None:
        """Nothing to wait for: the publisher connects by itself."""

    async def stop(self) -> None:
        if self._live:
            await asyncio.wait(set(self._live), timeout=2)


def _count(channel: str, raw: Raw, outcome: Outcome) -> None:
    metrics.child(metrics.INPUTS, channel, raw.door, "taken").inc()
    if outcome.normalized:
        metrics.child(metrics.ITEMS, channel, "normalized").inc(outcome.normalized)
    if outcome.quarantined:
        metrics.child(metrics.ITEMS, channel, "quarantined").inc(len(outcome.quarantined))
    if outcome.unused:
        metrics.child(metrics.ITEMS, channel, "ignored").inc(len(outcome.unused))
    if unknown := [one.kind for one in outcome.unused if not one.known]:
        metrics.UNKNOWN_KINDS.labels(channel).inc(len(unknown))
        log().info("unknown_kinds", channel=channel, count=len(unknown), kind=unknown[0][:80])
