"""hilo.events in, hilo.customer.events out: every record goes on in order, on its partition, its value untouched, with the
customer that its party belongs to. Map records and changes that the batch caused are out before it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from services.common import metrics, topics
from services.common.cloudevents import Event, Record, UnknownType, Unreadable, decode, resolved
from services.common.errors import Poison
from services.common.events import Data, Fact
from services.common.kafka import DeadLetters, Publisher
from services.identity.announce import Announcer
from services.identity.component import Assigned
from services.identity.evidence import Carried, Profile, carried, micros
from services.identity.linker import Foreign, Linker
from services.identity.linking import View
from services.identity.profiles import Profiles
from services.identity.rules import Rules

GROUP = "identity"
NOBODY = Assigned(None, 0)


@dataclass(frozen=True, slots=True)
class Read:
    """A record, and what it carries; nothing where it passes through as it is."""

    record: Record
    carried: Carried | None


class Passing:
    def __init__(
        self,
        linker: Linker,
        announcer: Announcer,
        profiles: Profiles,
        publisher: Publisher,
        dead: DeadLetters,
        rules: Rules,
    ) -> None:
        self._linker, self._announcer, self._profiles = linker, announcer, profiles
        self._publisher, self._dead, self._rules = publisher, dead, rules

    async def handle(self, batch: Sequence[Record]) -> None:
        """Raises Away; then the same batch may be handled again, and what was published is published again at worst."""
        read = [one for record in batch if (one := await self._read(record))]
        view, read = await self._learn(read)
        await self._remember(read, view)
        await self._announcer.announce(view)
        await self._pass_on(read, [_stamped(one, view) for one in read])
        _measure(read)

    async def _read(self, record: Record) -> Read | None:
        """None for what is no event: it is set aside and does not go on."""
        if record.value is None:
            return Read(record, None)
        try:
            return Read(record, carried(_event(record), self._rules))
        except (Unreadable, Poison) as error:
            await self._dead.put(record, str(error))
            return None

    async def _learn(self, read: list[Read]) -> tuple[View, list[Read]]:
        """The graph once it knows all of it, without the records that name identifiers of another tenant."""
        while True:
            try:
                return await self._linker.learn([one.carried for one in read if one.carried]), read
            except Foreign as error:
                for one in (one for one in read if _is_of(one, error)):
                    await self._dead.put(one.record, str(error))
                read = [one for one in read if not _is_of(one, error)]

    async def _remember(self, read: Sequence[Read], view: View) -> None:
        profiles: dict[str, list[Profile]] = defaultdict(list)
        for one in read:
            if one.carried:
                profiles[one.carried.tenant].extend(one.carried.profiles)
        for tenant, found in profiles.items():
            versions = {p.key: assigned(view, p.key).version for p in found}
            await self._profiles.remember(tenant, found, versions)

    async def _pass_on(self, read: Sequence[Read], records: Sequence[Record]) -> None:
        """A record that the two headers make larger than the broker takes is set aside; its bytes are still on hilo.events,
        at the place that the dead letter names."""
        try:
            await self._publisher.publish(records)
        except Poison:
            for one, record in zip(read, records, strict=True):
                try:
                    await self._publisher.publish([record])
                except Poison as error:
                    await self._publisher.emit(topics.DEAD, [self._dead.event(one.record, str(error), body=b"")])


def _event(record: Record) -> Event[Data]:
    """The event; of a type that is newer than we are, what every fact has."""
    try:
        return decode(record)
    except UnknownType as error:
        metrics.UNKNOWN_TYPES.labels(GROUP, error.name[:80]).inc()
        a = record.attributes
        return Event(a["id"], a["tenant"], a.get("partitionkey", ""), datetime.fromisoformat(a["time"]), _unknown(record))


class _NewFact(Fact):
    """A fact of a type that this version does not know."""

    type: str = ""


def _unknown(record: Record) -> Data:
    try:
        return _NewFact.model_validate_json(record.value or b"")
    except ValidationError:
        return Data(type=record.attributes["type"])


def _is_of(one: Read, error: Foreign) -> bool:
    return one.carried is not None and one.carried.event_id in error.events


def assigned(view: View, key: str) -> Assigned:
    root = view.root(key)
    return root.component.assigned.get(key, NOBODY) if root else NOBODY


def _stamped(one: Read, view: View) -> Record:
    party = one.carried.party if one.carried else None
    found = assigned(view, party) if party else NOBODY
    known = found.customer is not None
    return resolved(one.record, topics.CUSTOMER_EVENTS.name, found.customer, found.version if known else None)


def _measure(read: Sequence[Read]) -> None:
    now = micros(datetime.now(UTC))
    age = metrics.EVENT_AGE.labels("identity")
    for one in read:
        if one.carried:
            age.observe(max(0, now - one.carried.at) / 1_000_000)
