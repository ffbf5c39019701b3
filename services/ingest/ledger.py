"""The ledger: whether everything that was accepted is on the log. It reads the topics, not the counters.

Each raw record says which events, dead letters and ignored items came of it. Every one of these ids must be on hilo.events or
hilo.dead. What is missing (a process died between two acknowledgements, and the provider never came again) can be repaired:
the same input through the same normalizing gives the same ids.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from services.common import topics
from services.common.auth import Keyring
from services.common.cloudevents import Event, Record, Unreadable, encode
from services.common.events import Data
from services.common.kafka import DeadLetters, Publisher, read_all
from services.common.mongo import Mongo
from services.common.vault import vault
from services.ingest import rawlog
from services.ingest.accounts import AccountBroken, Accounts, Connected
from services.ingest.contract import Registry
from services.ingest.dead import origin_of
from services.ingest.directory import find_channels
from services.ingest.intake import aside as set_aside
from services.ingest.intake import letters_of, read
from services.ingest.rawlog import Logged
from services.ingest.settings import IngestSettings

# An input so young may still be on its way: its raw record is acknowledged before its last fact.
IN_FLIGHT = timedelta(seconds=30)


@dataclass(slots=True)
class Balance:
    """What became of the items of one channel. It balances: accepted = normalized + quarantined + ignored."""

    inputs: int = 0
    accepted: int = 0
    normalized: int = 0
    quarantined: int = 0
    ignored: int = 0

    @property
    def balances(self) -> bool:
        return self.accepted == self.normalized + self.quarantined + self.ignored

    def add(self, verdict: rawlog.Verdict) -> None:
        self.inputs += 1
        self.accepted += verdict.items
        self.normalized += verdict.normalized
        self.quarantined += len(verdict.quarantined)
        self.ignored += verdict.ignored_count


@dataclass(frozen=True, slots=True)
class Missing:
    """An id that a verdict names and that is on no topic. `repaired` says what was done, or why nothing could be."""

    id: str
    kind: str
    tenant: str
    channel: str
    account: str
    partition: int
    offset: int
    received_at: datetime
    repaired: str = ""


@dataclass(slots=True)
class LedgerReport:
    """What the topics say. `in_flight` are ids of inputs so young that they may still be written; they are not missing."""

    channels: dict[tuple[str, str], Balance] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    in_flight: int = 0
    unreadable: int = 0
    unbalanced: list[str] = field(default_factory=list)
    unanswered: int = 0

    @property
    def ok(self) -> bool:
        left = [one for one in self.missing if one.repaired != "repaired"]
        return not left and not self.unreadable and not self.unbalanced


Chosen = Callable[[str, str], bool]


async def check(
    settings: IngestSettings,
    tenant: str | None = None,
    channel: str | None = None,
    *,
    repair: bool = False,
    registry: Registry | None = None,
    now: datetime | None = None,
) -> LedgerReport:
    """Raises BrokerAway, and with `repair` StoreAway. `registry` is for tests."""
    moment = now or datetime.now(UTC)

    def chosen(of_tenant: str, of_channel: str) -> bool:
        return tenant in (None, of_tenant) and channel in (None, of_channel)

    report = LedgerReport()
    wanted = await _wanted(settings, chosen, report)
    await _strike(settings, wanted, topics.EVENTS)
    await _strike(settings, wanted, topics.DEAD)
    for missing in wanted.values():
        if moment - missing.received_at < IN_FLIGHT:
            report.in_flight += 1
        else:
            report.missing.append(missing)
    if repair and report.missing:
        report.missing = await _repair(settings, report.missing, registry or find_channels(settings), moment)
    report.missing.sort(key=lambda one: (one.received_at, one.partition, one.offset, one.id))
    return report


async def _wanted(settings: IngestSettings, chosen: Chosen, report: LedgerReport) -> dict[str, Missing]:
    """Every id that a verdict names."""
    wanted: dict[str, Missing] = {}
    fetches: set[str] = set()
    async for record in read_all(settings, topics.RAW):
        try:
            one = rawlog.logged(record)
        except Unreadable:
            report.unreadable += 1
            continue
        if not chosen(one.tenant, one.channel):
            continue
        report.channels.setdefault((one.tenant, one.channel), Balance()).add(one.verdict)
        if not one.verdict.balances:
            report.unbalanced.append(f"{record.partition}/{record.offset}")
        wanted.update((name, _missing(one, name, "event")) for name in one.verdict.event_ids)
        wanted.update((name, _missing(one, name, "dead letter")) for name in one.dead_ids.values())
        fetches |= set(one.verdict.fetches)
        fetches.discard(one.raw.headers.get("hilo-fetch", ""))
    report.unanswered = len(fetches)
    return wanted


def _missing(one: Logged, id: str, kind: str) -> Missing:
    place = (one.record.partition or 0, one.record.offset)
    return Missing(id, kind, one.tenant, one.channel, one.account, *place, one.raw.received_at)


async def _strike(settings: IngestSettings, wanted: dict[str, Missing], topic: topics.Topic) -> None:
    """Take out what is on the topic. It is read after hilo.raw, so it holds all that was acknowledged with it."""
    async for record in read_all(settings, topic):
        try:
            wanted.pop(record.attributes.get("id", ""), None)
        except Unreadable:
            continue


# -- repair ---------------------------------------------------------------------------------------------------------------


async def _repair(settings: IngestSettings, missing: Sequence[Missing], registry: Registry, now: datetime) -> list[Missing]:
    """Read the inputs again and put on the log what is missing of them, and nothing else."""
    seal, mongo, publisher = vault(settings), Mongo(settings), Publisher(settings)
    accounts = Accounts(mongo, seal, Keyring(mongo, seal), registry)
    try:
        await accounts.start()
        return await _put_back(settings, missing, accounts, publisher, now)
    finally:
        await publisher.stop()
        await mongo.stop()


async def _put_back(
    settings: IngestSettings, missing: Sequence[Missing], accounts: Accounts, publisher: Publisher, now: datetime
) -> list[Missing]:
    places: dict[tuple[int, int], list[Missing]] = {}
    for one in missing:
        places.setdefault((one.partition, one.offset), []).append(one)
    done: list[Missing] = []
    async for record in read_all(settings, topics.RAW):
        theirs = places.pop((record.partition or 0, record.offset), None)
        if theirs is None:
            continue
        try:
            events = await _again(rawlog.logged(record), accounts, publisher)
        except AccountBroken as error:
            done += [replace(one, repaired=str(error)) for one in theirs]
            continue
        await publisher.publish(_records(events, {one.id for one in theirs}, origin_of_input(record, now)))
        found = {event.id for event in events}
        done += [replace(one, repaired="repaired" if one.id in found else "no longer comes of this input") for one in theirs]
    return done + [replace(one, repaired="its input is no longer kept") for left in places.values() for one in left]


def origin_of_input(record: Record, now: datetime) -> Callable[[Event[Data]], Event[Data]]:
    """What is put back late is history: it is shown, and nobody is called for it."""
    one = rawlog.logged(record)
    origin = one.origin if one.origin != "live" else origin_of(one.raw.received_at, now)
    return lambda event: replace(event, origin=origin)


async def _again(one: Logged, accounts: Accounts, publisher: Publisher) -> list[Event[Data]]:
    """All that comes of the input. Raises AccountBroken where its account is not there any more."""
    sharing: Sequence[Connected] = await accounts.sharing(one.channel, one.account)
    if not sharing or sharing[0].tenant != one.tenant:
        raise AccountBroken("its account is no longer connected")
    aside = one.verdict.whole
    outcome = read(sharing, one.raw) if aside is None else set_aside(one.raw, aside.reason, aside.kind)
    letters = letters_of(DeadLetters(publisher, "ingest"), sharing[0].channel, one.raw, one.record, outcome.quarantined)
    return [*outcome.events, *letters]


def _records(
    events: Iterable[Event[Data]], wanted: Collection[str], placed: Callable[[Event[Data]], Event[Data]]
) -> list[Record]:
    return [
        encode(_topic(event), event if _topic(event) == topics.DEAD.name else placed(event))
        for event in events
        if event.id in wanted
    ]


def _topic(event: Event[Data]) -> str:
    return topics.DEAD.name if event.data.type == "hilo.record.dead.v1" else topics.EVENTS.name


# -- for reading ------------------------------------------------------------------------------------------------------------


def render(report: LedgerReport) -> str:
    """The report as a person reads it."""
    columns = ("tenant", "channel", "inputs", "accepted", "normalized", "quarantined", "ignored", "")
    rows = [
        (*key, str(b.inputs), str(b.accepted), str(b.normalized), str(b.quarantined), str(b.ignored), "" if b.balances else "!")
        for key, b in sorted(report.channels.items())
    ]
    widths = [max(len(row[n]) for row in (columns, *rows)) for n in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (columns, *rows)]
    for one in report.missing:
        where = f"{one.tenant}/{one.channel}/{one.account} at {one.partition}/{one.offset}"
        lines.append(f"missing: {one.kind} {one.id} of {where}{': ' + one.repaired if one.repaired else ''}")
    lines += [f"does not balance: the input at {place}" for place in report.unbalanced]
    if report.unreadable:
        lines.append(f"{report.unreadable} records of hilo.raw cannot be read")
    if report.in_flight:
        lines.append(f"{report.in_flight} ids of inputs of the last {IN_FLIGHT.seconds} s are not there yet")
    if report.unanswered:
        lines.append(f"{report.unanswered} fetches are not answered yet")
    lines.append("balanced" if report.ok else "NOT balanced")
    return "\n".join(lines)
