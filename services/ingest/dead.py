"""Dead letters: found again, mended, replayed or discarded.

The topic hilo.dead is the truth. The collection `dead` is its index, filled by a consumer: where, why and what was decided,
but no bytes; these are read from the topic when somebody looks. A decision is a further record under the letter's id.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from services.common import topics
from services.common.cloudevents import Event, Record, Unreadable, decode, encode
from services.common.errors import Problem, not_found
from services.common.events import Author, Data, DeadDecided, DeadLettered, Fact, Origin
from services.common.identifiers import derived_event_id
from services.common.kafka import DeadLetters, Publisher, read, read_at
from services.common.mongo import ASCENDING, DESCENDING, Document, Mongo, UpdateOne, bulk, reaching
from services.ingest import rawlog
from services.ingest.accounts import AccountBroken, Accounts, Connected
from services.ingest.contract import Item, Outcome, Raw, normalize
from services.ingest.intake import Intake
from services.ingest.settings import IngestSettings

GROUP = "ingest.dead"
KEEP_S = 30 * 24 * 3600
# A message that was set aside for longer is history: it opens nothing and rings nowhere.
FRESH = timedelta(days=1)
BY_NAME = {topic.name: topic for topic in topics.TOPICS}

DeadState = Literal["open", "replayed", "discarded"]
Read = Callable[[Sequence[Connected], Raw], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter with its bytes, and what was decided about it."""

    id: str
    tenant: str
    channel: str
    account: str
    state: DeadState
    data: DeadLettered
    decision: Mapping[str, Any] | None = None

    @property
    def body(self) -> bytes:
        return base64.b64decode(self.data.body)

    @property
    def slice(self) -> rawlog.SetApart | None:
        """What the slice does not say, where this is an item of an input, which can be mended."""
        return rawlog.set_apart(self.data.headers) if self.data.topic == topics.RAW.name else None


@dataclass(frozen=True, slots=True)
class Mended:
    """What a replay puts on the log, or would."""

    records: tuple[Record, ...] = ()
    outcome: Outcome | None = None
    raw: Raw | None = None
    accounts: tuple[Connected, ...] = ()
    origin: Origin = "live"


# -- what is decided without I/O ------------------------------------------------------------------------------------------


def origin_of(received_at: datetime, now: datetime) -> Origin:
    return "live" if now - received_at < FRESH else "replay"


def with_slice(letter: Letter, mended: Any) -> Any:
    """The item's data: as mended, else as it was set aside."""
    return json.loads(letter.body) if mended is None else mended


def whole_body(letter: Letter, mended: Any) -> bytes:
    """The input's body: as mended (a text stands for itself, anything else for its JSON), else as it came."""
    if mended is None:
        return letter.body
    return mended.encode() if isinstance(mended, str) else json.dumps(mended, ensure_ascii=False).encode()


def one_item(accounts: Sequence[Connected], raw: Raw, item: Item, place: int) -> Outcome:
    """The outcome of one item of an input, as it was in its place there."""
    first = accounts[0]
    alone = replace(first.channel, unpack=lambda _: [item])
    outcome = normalize(alone, [one.account for one in accounts], raw, first.tenant_key)
    outcome.events = [replace(event, data=_placed(event.data, place)) for event in outcome.events]
    return outcome


def _placed(data: Fact, place: int) -> Fact:
    return data.model_copy(update={"place": place})


def accepted(outcome: Outcome) -> Outcome:
    """Raises Problem 422 for an outcome that is not worth replaying: still unreadable, or of no use."""
    if outcome.quarantined and not outcome.normalized:
        raise Problem(422, "still_unreadable", outcome.quarantined[0].reason)
    if not outcome.normalized:
        why = outcome.unused[0] if outcome.unused else None
        raise Problem(422, "produces_nothing", f"{why.kind}: {why.reason}" if why else "Nothing comes of it.")
    return outcome


def unchanged(letter: Letter) -> Record:
    """The record as it was, for the topic and partition that it came from."""
    data = letter.data
    if data.topic not in BY_NAME:
        raise Problem(409, "topic_unknown", f"There is no topic {data.topic}.")
    key = data.key.encode() if data.key is not None else None
    return Record(data.topic, key, letter.body, [(n, v.encode()) for n, v in data.headers.items()], data.partition)


# -- the index --------------------------------------------------------------------------------------------------------------


class DeadIndex:
    """The collection: filled from hilo.dead, asked by the API."""

    def __init__(self, settings: IngestSettings, mongo: Mongo, publisher: Publisher) -> None:
        self._settings, self._dead = settings, mongo.database("ingest")["dead"]
        self._poison = DeadLetters(publisher, GROUP)

    async def start(self) -> None:
        async with reaching():
            await self._dead.create_index([("tenant", ASCENDING), ("at", DESCENDING), ("_id", DESCENDING)], name="tenant")
            await self._dead.create_index("at", expireAfterSeconds=KEEP_S, name="expiry")

    async def stop(self) -> None:
        """Nothing is held."""

    async def handle(self, batch: Sequence[Record]) -> None:
        """For the consumer of hilo.dead. Idempotent; raises StoreAway."""
        changes: dict[str, dict[str, Any]] = {}
        for record, event in await read(batch, self._poison, GROUP):
            identifier, change = _change(record, event)
            if identifier:
                changes[identifier] = changes.get(identifier, {}) | change
        await bulk(self._dead, [UpdateOne({"_id": name}, {"$set": change}, upsert=True) for name, change in changes.items()])

    async def decided(self, event: Event[DeadDecided]) -> None:
        """The same as reading the decision back, so that its author sees it at once."""
        async with reaching():
            await self._dead.update_one({"_id": event.data.dead_id}, {"$set": _decision(event.data)})

    async def list(
        self, tenant: str, *, state: str | None, channel: str | None, limit: int, after: str | None
    ) -> tuple[list[Document], str | None]:
        """The newest first, and where to go on."""
        where: Document = {"tenant": tenant, "at": {"$exists": True}}
        if state:
            where["state"] = state if state != "open" else {"$exists": False}
        if channel:
            where["channel"] = channel
        if after:
            at, _, identifier = after.partition("~")
            moment = _moment(at)
            where["$or"] = [{"at": {"$lt": moment}}, {"at": moment, "_id": {"$lt": identifier}}]
        async with reaching():
            found = await self._dead.find(where).sort([("at", DESCENDING), ("_id", DESCENDING)]).to_list(limit + 1)
        more = found[limit - 1] if len(found) > limit else None
        return found[:limit], f"{more['at'].isoformat()}~{more['_id']}" if more else None

    async def letter(self, tenant: str, identifier: str) -> Letter:
        """With its bytes. Raises Problem 404, also for another tenant's, and 410 when the topic has forgotten it."""
        async with reaching():
            found = await self._dead.find_one({"_id": identifier, "tenant": tenant, "at": {"$exists": True}})
        if found is None:
            raise not_found("dead letter")
        record = await read_at(self._settings, topics.DEAD, found["place"]["partition"], found["place"]["offset"])
        data = decode(record).data if record else None
        if not isinstance(data, DeadLettered) or data.dead_id != identifier:
            raise Problem(410, "gone", "The bytes of this dead letter are no longer kept.")
        state, decision = found.get("state", "open"), found.get("decision")
        return Letter(identifier, tenant, found["channel"], found["account"], state, data, decision)


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise Problem(422, "cursor_invalid", "The cursor is none of ours.") from error


def _change(record: Record, event: Event[Data]) -> tuple[str, dict[str, Any]]:
    """Which document a record of hilo.dead changes, and how."""
    match event.data:
        case DeadLettered() as data:
            return data.dead_id, {
                "tenant": event.tenant,
                "channel": event.channel,
                "account": event.account,
                "topic": data.topic,
                "path": data.path,
                "kind": data.kind,
                "reason": data.reason,
                "stage": data.stage,
                "bug": data.bug,
                "at": data.at,
                "place": {"partition": record.partition, "offset": record.offset},
            }
        case DeadDecided() as data:
            return data.dead_id, _decision(data)
    return "", {}


def _decision(data: DeadDecided) -> dict[str, Any]:
    by = {"kind": data.by.kind, "id": data.by.id, "name": data.by.name}
    return {"state": data.decision, "decision": {"decision": data.decision, "by": by, "why": data.why, "at": data.at}}


# -- commands ---------------------------------------------------------------------------------------------------------------


class Mender:
    """Replays and discards. `read` reads a whole input as its door does, in a worker where that is needed."""

    def __init__(self, index: DeadIndex, accounts: Accounts, intake: Intake, publisher: Publisher, read: Read) -> None:
        self._index, self._accounts, self._intake, self._publisher, self._read = index, accounts, intake, publisher, read

    async def replay(
        self, tenant: str, identifier: str, by: Author, *, mended: Any = None, kind: str | None = None, dry_run: bool = False
    ) -> tuple[Letter, Mended]:
        """What was replayed, or would be. A second time is harmless: the same facts have the same ids."""
        letter = await self._index.letter(tenant, identifier)
        done = await self._mended(letter, mended, kind, datetime.now(UTC))
        if dry_run:
            return letter, done
        if done.raw is not None:
            await self._intake.take(done.accounts, done.raw, outcome=done.outcome, origin=done.origin)
        else:
            await self._publisher.publish(done.records)
            if done.outcome and done.outcome.fetches:
                await self._intake.keep_fetches(done.accounts[0], done.outcome.fetches)
        return await self._decide(letter, "replayed", by, ""), done

    async def discard(self, tenant: str, identifier: str, by: Author, why: str) -> Letter:
        return await self._decide(await self._index.letter(tenant, identifier), "discarded", by, why)

    async def _mended(self, letter: Letter, mended: Any, kind: str | None, now: datetime) -> Mended:
        apart = letter.slice
        if apart is None:
            if mended is not None or kind is not None:
                raise Problem(422, "not_mendable", "Only items of an input can be mended; this is republished as it was.")
            return Mended((unchanged(letter),))
        accounts = tuple(await self._sharing(letter))
        if apart.whole:
            raw = self._raw(letter, whole_body(letter, mended))
            outcome = accepted(await self._read(accounts, raw))
            return Mended((), outcome, raw, accounts, origin_of(raw.received_at, now))
        raw = self._raw(letter, b"")
        item = Item(kind or letter.data.kind, with_slice(letter, mended), letter.data.path, apart.to)
        outcome, origin = accepted(one_item(accounts, raw, item, apart.place)), origin_of(raw.received_at, now)
        records = tuple(encode(topics.EVENTS.name, replace(event, origin=origin)) for event in outcome.events)
        return Mended(records, outcome, None, accounts, origin)

    async def _sharing(self, letter: Letter) -> Sequence[Connected]:
        try:
            sharing = await self._accounts.sharing(letter.channel, letter.account)
        except AccountBroken as error:
            raise Problem(409, "account_broken", f"The account cannot be used: {error}") from error
        if not sharing or sharing[0].tenant != letter.tenant:
            raise Problem(409, "account_missing", "The account that this came for is no longer connected.")
        return sharing

    def _raw(self, letter: Letter, body: bytes) -> Raw:
        try:
            return rawlog.raw_of(letter.data.headers, body)
        except Unreadable as error:
            raise Problem(409, "input_unknown", "How this came is no longer readable.") from error

    async def _decide(self, letter: Letter, decision: Any, by: Author, why: str) -> Letter:
        now = datetime.now(UTC)
        data = DeadDecided(dead_id=letter.id, decision=decision, by=by, why=why, at=now)
        event = Event(
            id=derived_event_id(letter.id, data.type, decision, now.isoformat()),
            tenant=letter.tenant,
            key=letter.data.key or letter.id,
            time=now,
            data=data,
            channel=letter.channel,
            account=letter.account,
        )
        await self._publisher.emit(topics.DEAD, [event])
        await self._index.decided(event)
        return replace(letter, state=decision, decision=_decision(data)["decision"])
