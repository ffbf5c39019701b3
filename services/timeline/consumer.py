"""The projector: a batch of the log becomes entries, then journal, then marks; only then does the commit follow.

Every step may be repeated, by this process or by a zombie that still thinks it owns the partition: what is written is the
same. Nothing is skipped, since a mark passes an offset only when everything up to it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from services.common import metrics, topics
from services.common.cloudevents import Event, Record
from services.common.events import ConversationEvent, Data, Fact, IdentityMapped, MessageAppended
from services.common.kafka import DeadLetters, read
from services.timeline import cases, entries, surroundings
from services.timeline.binding import bind
from services.timeline.entries import Projected
from services.timeline.facets import Change, folded
from services.timeline.lanes import position
from services.timeline.order import NOWHERE, id_bytes
from services.timeline.stores import PLACE, Journaled, TimelineStore

TOPICS = (topics.CUSTOMER_EVENTS, topics.CONVERSATION_EVENTS, topics.IDENTITY_MAP, topics.DEAD, topics.CHANNELS)
STAGE = "timeline"
SPOKEN = frozenset(("message", "comment", "mention", "review", "call", "note"))


@dataclass(slots=True)
class Placed:
    """An event with its position and what it does to entries."""

    position: int
    event: Event[Data]
    projected: Projected


@dataclass(slots=True)
class Place:
    """Where an entry belongs: whose history, which conversation, where in the order."""

    identifiers: tuple[str, ...]
    conversation: str | None
    kind: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Notice:
    """What a client is told of an event: a new entry, or one that changed; a customer's identifiers; a conversation's state.
    Who hears of it beside those who see its entries: `subjects`, and the listeners of `conversation`. `data` is what the live
    feed must know beyond entries."""

    kind: str
    subjects: Sequence[str] = ()
    conversation: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


NEW, REVISED = Notice("new"), Notice("revised")


@dataclass(slots=True)
class Shown:
    """What became of the entries of a batch: which ones stand for which, and where they belong."""

    instead: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    more: dict[int, list[bytes]] = field(default_factory=dict)
    places: dict[bytes, Place] = field(default_factory=dict)

    def of(self, placed: Placed) -> list[bytes]:
        """The entries that this event shows, each once; what has no base yet is shown by the event that brings it."""
        named = [*placed.projected.shown, *self.more.get(placed.position, ())]
        found = [entry for one in named for entry in self.instead.get(one, (one,))]
        return [entry for entry in dict.fromkeys(found) if entry in self.places]


def project(event: Event[Data]) -> Projected:
    match event.data:
        case Fact():
            return entries.project(event)  # type: ignore[arg-type]  # the match has narrowed the data
        case ConversationEvent():
            return cases.project(event)  # type: ignore[arg-type]
        case MessageAppended():
            return cases.appended(event)  # type: ignore[arg-type]
    return Projected()


class Projector:
    """Handles the batches of the group `timeline`. Returning means that everything is durable."""

    def __init__(self, store: TimelineStore, dead: DeadLetters, group: str = STAGE) -> None:
        self._store, self._dead, self._group = store, dead, group

    async def handle(self, records: Sequence[Record]) -> None:
        lanes = await self._store.lanes.of(records)
        events = await read(records, self._dead, self._group)
        by: dict[str, list[Placed]] = {}
        for record, event in events:
            assert record.partition is not None
            at = position(lanes[record.topic, record.partition], record.offset)
            by.setdefault(event.tenant, []).append(Placed(at, event, project(event)))
        items = [item for tenant, batch in by.items() for item in await self._tenant(tenant, batch)]
        await self._store.journal(first_of_each(items))
        await self._store.raise_marks(ends_of(records, lanes))
        _measure(event for _, event in events)

    async def _tenant(self, tenant: str, batch: Sequence[Placed]) -> list[Journaled]:
        """Write all of one tenant's events, then say who should hear of them."""
        changes = folded(change for one in batch for change in one.projected.changes)
        fresh = await self._store.write(tenant, changes.values())
        await surroundings.write(self._store, tenant, ((one.position, one.event) for one in batch))
        shown = Shown(await self._bind(tenant, changes.values()))
        for one in batch:
            if mark := one.projected.watermark:
                covered = await self._store.mark_receipt(tenant, mark.channel, mark.account, mark.party, mark.state, mark.ms)
                shown.more[one.position] = covered
        named = {entry for one in batch for entry in (*one.projected.shown, *shown.more.get(one.position, ()))}
        wanted = {entry for one in named for entry in shown.instead.get(one, (one,))}
        alone = fresh & wanted - {entry for entries in shown.instead.values() for entry in entries}
        known = {entry: place for entry in alone if (place := place_of(changes[entry].facets))}
        shown.places = known | await self._places(tenant, wanted - known.keys())
        if await self._erase(tenant, shown.places):
            shown.places = await self._places(tenant, wanted)
        rows = surroundings.conversations((one.event.data for one in batch), _spoken(shown.places))
        await self._store.conversations(tenant, rows)
        return await self._journaled(tenant, batch, shown)

    async def _bind(self, tenant: str, changes: Iterable[Change]) -> dict[bytes, tuple[bytes, ...]]:
        """Pass on what waits on documents that this batch touched; answer which entries they stand for."""
        waiting = await self._store.documents(tenant, [change.entry for change in changes if change.bind])
        bound = bind(waiting)
        if bound.passed:
            await self._store.write(tenant, folded(bound.passed).values())
        if bound.wiped:
            await self._store.write(tenant, bound.wiped)
        return dict(bound.shown)

    async def _erase(self, tenant: str, places: dict[bytes, Place]) -> bool:
        """Erase again what was written after its identifier was erased; whether there was any. The map's record and the
        event may come in any order: each side looks for the other after it has written."""
        by: dict[str, list[bytes]] = {}
        for entry, place in places.items():
            for identifier in place.identifiers:
                by.setdefault(identifier, []).append(entry)
        erased = await self._store.erased(tenant, by) if by else {}
        for identifier, number in erased.items():
            await self._store.erase(tenant, identifier, number, by[identifier])
        return bool(erased)

    async def _places(self, tenant: str, wanted: Iterable[bytes]) -> dict[bytes, Place]:
        found = await self._store.documents(tenant, wanted, PLACE)
        return {bytes(one["_id"]): place for one in found if (place := place_of(one))}

    async def _journaled(self, tenant: str, batch: Sequence[Placed], shown: Shown) -> list[Journaled]:
        notices = [notice(one) for one in batch]
        named = {place.conversation for place in shown.places.values() if place.conversation}
        named |= {one.conversation for one in notices if one.conversation}
        listeners = await self._store.listeners(tenant, named)
        items = []
        for one, told in zip(batch, notices, strict=True):
            seen = shown.of(one)
            subjects = [subject for entry in seen for subject in _of_place(shown.places[entry], listeners)]
            subjects += (*told.subjects, *listeners.get(told.conversation or "", ()))
            if subjects or one.projected.changes:
                # Also what nobody can see yet: a second delivery would find somebody, and journal it behind the marks.
                every = tuple(dict.fromkeys(subjects))
                items.append(Journaled(id_bytes(one.event.id), tenant, one.position, every, tuple(seen), told.kind, told.data))
        return items


def place_of(document: Mapping[str, Any]) -> Place | None:
    """None for what has no base yet: a receipt before its message."""
    if "b" not in document:
        return None
    whose = document["b"].get("i")
    identifiers = tuple(whose) if isinstance(whose, list) else (whose,) if whose else ()
    conversation = document["cv"]["id"] if "cv" in document else None
    return Place(identifiers, conversation, document["b"]["kd"], bytes(document.get("k", NOWHERE)))


def notice(placed: Placed) -> Notice:
    match placed.event.data:
        case ConversationEvent() as data:
            subjects = [f"v:{data.conversation_id}", f"i:{data.anchor}"]
            if data.head.customer_id:
                subjects.append(f"c:{data.head.customer_id}")
            return Notice("state", subjects, data.conversation_id, {"cv": data.conversation_id})
        case IdentityMapped() as data:
            subjects = [f"i:{data.identifier}", f"m:{data.identifier}"]
            subjects += [f"c:{one}" for one in (data.customer_id, data.previous) if one]
            moved = {"i": data.identifier, "to": data.customer_id, "was": data.previous, "ver": data.version}
            return Notice("moved", subjects, data=moved)
    return NEW if any(change.new for change in placed.projected.changes) else REVISED


def _of_place(place: Place, listeners: dict[str, tuple[str, ...]]) -> list[str]:
    found = [f"i:{identifier}" for identifier in place.identifiers]
    if place.conversation:
        found += [f"v:{place.conversation}", *listeners.get(place.conversation, ())]
    return found


def first_of_each(items: Iterable[Journaled]) -> list[Journaled]:
    """A doubled record in one batch is journaled where it stood first."""
    found: dict[bytes, Journaled] = {}
    for item in items:
        known = found.get(item.id)
        if known is None or item.position < known.position:
            found[item.id] = item
    return list(found.values())


def ends_of(records: Iterable[Record], lanes: dict[tuple[str, int], int]) -> dict[int, int]:
    ends: dict[int, int] = {}
    for record in records:
        assert record.partition is not None
        lane = lanes[record.topic, record.partition]
        ends[lane] = max(ends.get(lane, 0), record.offset + 1)
    return ends


def _spoken(places: dict[bytes, Place]) -> list[tuple[str, bytes, bytes]]:
    return [
        (place.conversation, place.key, entry)
        for entry, place in places.items()
        if place.conversation and place.kind in SPOKEN and place.key != NOWHERE
    ]


def _measure(events: Iterable[Event[Data]]) -> None:
    now, clock = datetime.now(UTC), metrics.EVENT_AGE.labels(STAGE)
    for event in events:
        if isinstance(event.data, Fact) and event.origin == "live":
            clock.observe(max(0.0, (now - event.data.received_at).total_seconds()))


__all__ = ["TOPICS", "Projector", "first_of_each"]
