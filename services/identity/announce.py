"""Tells others what the graph decided: map records and changes, from the outboxes of roots, so that a crash after a
compare-and-set loses neither.

Records of one identifier may be published by several processes, and a compacted topic keeps the last. So nobody publishes
without an entry of its own in the outbox, and takes it out only where the root is still as it was when it was read: had
somebody changed it meanwhile, their newer record may stand before ours, and we publish again what holds now. Whoever dies in
between leaves the entry, and the sweep publishes what holds then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from services.common import metrics, topics
from services.common.cloudevents import Event, Record, encode
from services.common.errors import Away, StoreAway
from services.common.events import Author, CustomerChanged, EvidenceCited, IdentityMapped, short
from services.common.identifiers import derived_event_id
from services.common.logs import log
from services.identity.component import Edge
from services.identity.evidence import moment
from services.identity.linker import Linker, jitter
from services.identity.linking import View
from services.identity.nodes import Entry, Graph, Node, Taken
from services.identity.resolve import Change

ATTEMPTS = 30
OLD_US = 60 * 1_000_000  # longer than any send that is still under way
SWEEP_EVERY_S = 5.0
SWEEP_MANY = 200


class Publishes(Protocol):
    async def publish(self, records: Sequence[Record]) -> object: ...


class Forgets(Protocol):
    async def forget(self, tenant: str, keys: Sequence[str], at: int) -> None: ...


class Announcer:
    def __init__(
        self,
        graph: Graph,
        linker: Linker,
        publisher: Publishes,
        profiles: Forgets,
        now: Callable[[], int],
        pause: Callable[[int], Awaitable[None]] = jitter,
    ) -> None:
        self._graph, self._linker, self._publisher, self._profiles = graph, linker, publisher, profiles
        self._now, self._pause = now, pause
        self._stopping = asyncio.Event()

    async def announce(self, view: View) -> None:
        """Publish what is ours in the outboxes of these roots. Returns once it is acknowledged and taken out; raises Away,
        after which the entries are still there."""
        told: set[str] = set()
        for attempt in range(ATTEMPTS):
            roots = [root for root in roots_of(view) if self._mine(root)]
            if not roots:
                return
            await self._forget(roots)
            records = {event.id: encode(topic.name, event) for root in roots for topic, event in self._due(root)}
            await self._publish([record for name, record in records.items() if name not in told])
            told |= records.keys()
            if await self._graph.take([self._done(root) for root in roots]):
                return
            await self._pause(attempt)
            view = await self._linker.look({key for root in roots for key in _keys(self._mine(root), root)})
        raise StoreAway("the identity graph changes too fast to be announced")

    async def _publish(self, records: Sequence[Record]) -> None:
        await self._publisher.publish(records)
        for record in records:
            if record.topic == topics.IDENTITY_CHANGES.name:
                metrics.IDENTITY.labels(short(record.attributes["type"])).inc()

    def _mine(self, root: Node) -> list[Entry]:
        return [entry for entry in root.outbox if entry.worker == self._linker.worker]

    async def _forget(self, roots: Iterable[Node]) -> None:
        """Nobody is told of an erasure before the values are gone."""
        for root in roots:
            for change in (change for entry in self._mine(root) for change in entry.changes if change.kind == "erased"):
                await self._profiles.forget(root.tenant, change.identifiers, change.cause.at)

    def _due(self, root: Node) -> Iterable[tuple[topics.Topic, Event[IdentityMapped] | Event[CustomerChanged]]]:
        entries = self._mine(root)
        for key in sorted({key for entry in entries for key in entry.keys}):
            yield topics.IDENTITY_MAP, mapped(root, key)
        for change in dict.fromkeys(change for entry in entries for change in entry.changes):
            yield topics.IDENTITY_CHANGES, changed(root.tenant, change)

    def _done(self, root: Node) -> Taken:
        """Ours, and those of others that ours stand for, once their writers have had their time."""
        ours = self._mine(root)
        stood_for = {name for entry in ours for name in entry.stands_for}
        old = [e.id for e in root.outbox if e.id in stood_for and e.written < self._now() - OLD_US]
        return Taken(root.key, root.tenant, root.v, (*(entry.id for entry in ours), *old))

    # -- what dead writers left -----------------------------------------------------------------------------------------

    async def sweep(self) -> int:
        """Publish entries whose writers did not. The number of nodes that had some."""
        keys = await self._graph.waiting(self._now() - OLD_US, SWEEP_MANY)
        if keys:
            await self.announce(await self._linker.learn((), keys))
        return len(keys)

    async def run(self) -> None:
        while not self._stopping.is_set():
            try:
                if count := await self.sweep():
                    log().info("swept", count=count)
            except Away as error:
                log().warning("away", part=error.part, reason=str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), SWEEP_EVERY_S)

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self._stopping.set()


def roots_of(view: View) -> list[Node]:
    return list({root.key: root for root in view.roots.values()}.values())


def _keys(entries: Iterable[Entry], root: Node) -> set[str]:
    return {root.key, *(key for entry in entries for key in entry.keys)}


def mapped(root: Node, key: str) -> Event[IdentityMapped]:
    """The map record of an identifier, as the root has it."""
    assigned, member = root.component.assigned[key], root.component.members[key]
    data = IdentityMapped(
        identifier=key,
        customer_id=assigned.customer,
        version=assigned.version,
        previous=assigned.previous,
        erased=assigned.customer is None and member.erased > 0,
    )
    time = moment(max(member.first_seen or 0, member.erased))
    return Event(derived_event_id(key, "identity.map", assigned.version), root.tenant, key, time, data)


def changed(tenant: str, change: Change) -> Event[CustomerChanged]:
    at = moment(change.cause.at)
    data = CustomerChanged(
        type=f"hilo.customer.{change.kind}.v1",
        customer_id=change.customer_id,
        others=change.others,
        identifiers=change.identifiers,
        version=change.cause.version,
        at=at,
        cause=tuple(cited(edge) for edge in change.evidence),
        by=Author(kind="agent", id=change.cause.actor) if change.cause.actor else None,
    )
    identifier = derived_event_id(change.customer_id, change.kind, change.cause.version, *change.identifiers)
    return Event(identifier, tenant, change.customer_id, at, data)


def cited(edge: Edge) -> EvidenceCited:
    events = tuple(event for _, event in edge.events)
    return EvidenceCited(a=edge.a, b=edge.b, rule=edge.rule, strength=edge.strength, event_ids=events)
