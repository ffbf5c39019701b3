"""Raw input to events, for every door: the pure middle of ingest. Replay, repair and tests are the same call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from services.common import events
from services.common.cloudevents import Event
from services.common.identifiers import (
    Evidence,
    Identifier,
    NotAnIdentifier,
    Sender,
    entry_id,
    event_id,
    keyed,
)
from services.ingest.contract.account import Account
from services.ingest.contract.channel import Channel, model_of
from services.ingest.contract.facts import Fact, Fetch, Ignored, Typing
from services.ingest.contract.inputs import Item, Raw, Unreadable
from services.ingest.contract.wire import Shape, shape

FactEvent = Event[events.Fact]
TenantKey = bytes | Callable[[str], bytes]

EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Quarantined:
    """One item that could not be read, with its slice of the input: what an operator mends and replays. A `bug` is the
    channel's own: kept and replayed as well, but it alarms."""

    path: str
    kind: str
    reason: str
    slice: Any

    @property
    def bug(self) -> bool:
        return self.reason.startswith("bug:")


@dataclass(frozen=True)
class Unused:
    """Counted, not dropped: an unknown kind, or one that the channel ignores with a reason."""

    kind: str
    reason: str
    known: bool


@dataclass
class Outcome:
    """What became of one raw input. It balances: items = normalized + quarantined + unused; a fetch counts as normalized,
    and its answer is a raw input of its own. `live` is for hilo.live and is never kept."""

    items: int = 0
    normalized: int = 0
    events: list[FactEvent] = field(default_factory=list)
    live: list[FactEvent] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)
    fetches: list[Fetch] = field(default_factory=list)

    @property
    def balances(self) -> bool:
        return self.items == self.normalized + len(self.quarantined) + len(self.unused)


def normalize(channel: Channel[Any], accounts: Sequence[Account], raw: Raw, tenant_key: TenantKey) -> Outcome:
    """The same input and accounts give the same outcome, but for `received_at`. `accounts` are those that share the door;
    the first owns its URL. `tenant_key` is the key that names a tenant's identifiers, or how to find it."""
    outcome = Outcome()
    try:
        items = list(channel.unpack(raw))
    except Exception as error:
        outcome.items = 1
        outcome.quarantined.append(Quarantined("", "?", _reason(error), raw.body))
        return outcome
    if not items:  # providers test a webhook with an empty list; the ledger counts it all the same
        outcome.items = 1
        outcome.unused.append(Unused("empty", "nothing in it", known=True))
    reading = _Reading(channel, accounts, raw, tenant_key, outcome)
    for place, item in enumerate(items):
        outcome.items += 1
        reading.item(item, place)
    return outcome


@dataclass(slots=True)
class _Reading:
    """Items on their way into the outcome, one by one."""

    channel: Channel[Any]
    accounts: Sequence[Account]
    raw: Raw
    tenant_key: TenantKey
    outcome: Outcome

    def item(self, item: Item, place: int) -> None:
        account = self.accounts[0] if item.to is None else find(self.channel, self.accounts, item.to)
        if item.broken:
            self._quarantine(item, item.broken)
        elif account is None:
            self._quarantine(item, f"no account with {self.channel.address} '{item.to}'")
        elif item.kind in self.channel.ignores:
            self._unused(item, self.channel.ignores[item.kind])
        elif item.kind not in self.channel.kinds:
            self._unused(item, "unknown kind", known=False)
        else:
            self._handle(account, item, place)

    def _handle(self, account: Account, item: Item, place: int) -> None:
        handler = self.channel.kinds[item.kind]
        kept: list[FactEvent] = []
        live: list[FactEvent] = []
        fetches: list[Fetch] = []
        ignored: list[str] = []
        try:
            payload = model_of(self.channel.name, item.kind, handler).__pydantic_validator__.validate_python(item.data)
            key = self.tenant_key(account.tenant) if callable(self.tenant_key) else self.tenant_key
            for fact in handler(account, payload):
                if isinstance(fact, Fact):
                    event = complete(self.channel, account, fact, key, self.raw.received_at, place)
                    (live if isinstance(fact, Typing) else kept).append(event)
                elif isinstance(fact, Fetch):
                    fetches.append(fact)
                elif isinstance(fact, Ignored):
                    ignored.append(fact.reason)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            return self._quarantine(item, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        except Exception as error:
            return self._quarantine(item, _reason(error))
        if not kept and not live and not fetches:
            return self._unused(item, ignored[0] if ignored else "handler yielded nothing")
        self.outcome.normalized += 1
        self.outcome.events += kept
        self.outcome.live += live
        self.outcome.fetches += fetches
        return None

    def _quarantine(self, item: Item, reason: str) -> None:
        self.outcome.quarantined.append(Quarantined(item.path, item.kind, reason, item.data))

    def _unused(self, item: Item, reason: str, *, known: bool = True) -> None:
        self.outcome.unused.append(Unused(item.kind, reason, known))


def _reason(error: Exception) -> str:
    """Data that cannot be read, or a bug in the channel: both are kept and can be replayed, only the second alarms."""
    return str(error) if isinstance(error, Unreadable | ValueError | OverflowError) else f"bug: {error!r}"


def find(channel: Channel[Any], accounts: Sequence[Account], address: str) -> Account | None:
    if channel.address is not None:
        for account in accounts:
            if str(getattr(account, channel.address)) == address:
                return account
    return None


def complete(
    channel: Channel[Any], account: Account, fact: Fact, key: bytes, received_at: datetime, place: int = 0
) -> FactEvent:
    """Add what only the core may decide: identity of the event, party, leg, thread, visibility, and the key that keeps order."""
    said = shape(fact)
    sender = _sender(said.sender, key, account.region)
    party = keyed(key, fact.party, account.region) if fact.party else (sender.id if sender else None)
    told = {
        "provider_id": _text(fact.id),
        "party": party,
        "at": _moment(fact.at),
        "received_at": received_at,
        "place": place,
        "sequence": fact.sequence,
        **_placed(channel, fact, said, party),
        **said.fields,
    }
    if sender:
        told["sender"] = sender
    data = said.model.__pydantic_validator__.validate_python(told)
    _check_names(said)
    names = (account.tenant, channel.name, account.id, fact.id)
    return Event(
        id=event_id(*names, events.short(data.type), said.revision),
        tenant=account.tenant,
        key=party.key if party else entry_id(*names),
        time=data.at or received_at,
        data=data,
        channel=channel.name,
        account=account.id,
    )


def _sender(sender: Sender | None, key: bytes, region: str | None) -> Sender | None:
    """The sender with keys. Who wrote must be an identifier; what they are said to be also is dropped if it is none."""
    if sender is None:
        return None
    also: list[Evidence] = []
    for evidence in sender.also:
        try:
            also.append(Evidence(keyed(key, evidence.identifier, region), evidence.strength, evidence.rule))
        except NotAnIdentifier:
            continue
    return Sender(keyed(key, sender.id, region), sender.name, tuple(also), sender.proof)


def _placed(channel: Channel[Any], fact: Fact, said: Shape, party: Identifier | None) -> dict[str, Any]:
    """Leg, thread and visibility, each from the declaration where the fact does not say it."""
    leg = fact.leg or (next(iter(channel.legs)) if len(channel.legs) == 1 else "")
    if not leg and said.needs_leg and channel.legs:
        raise ValueError(f"{type(fact).__name__} needs leg=, one of {', '.join(channel.legs)}")
    if leg and leg not in channel.legs:
        raise ValueError(f"leg '{leg}' is not declared; legs are {', '.join(channel.legs)}")
    visibility = channel.legs[leg].visibility if leg else None
    if said.needs_leg and visibility == "public" and not fact.thread:
        raise ValueError(f"{type(fact).__name__} on the public leg '{leg}' needs thread=, the post it stands under")
    if said.needs_leg and visibility != "public" and party is None:
        raise ValueError(f"{type(fact).__name__} needs party=, the customer's side")
    thread = fact.thread or (party.value if party and leg else "")
    return {"leg": leg, "thread": thread, "visibility": visibility}


def _check_names(said: Shape) -> None:
    """Names in data become field names of documents, which hold no NUL."""
    for mapping in (said.fields.get("data"), said.fields.get("context"), *(part.data for part in said.fields.get("parts", ()))):
        if mapping and any("\0" in name for name in mapping):
            raise ValueError("a name in data holds NUL")


def _text(provider_id: str) -> str:
    if "\0" in provider_id or len(provider_id) > 2000:
        raise ValueError("an id has up to 2000 characters and no NUL")
    return provider_id


def _moment(at: datetime | None) -> datetime | None:
    """The provider's time in UTC. A time that cannot be one would order a history wrongly for ever."""
    if at is None:
        return None
    if at.tzinfo is None:
        raise ValueError("a time without zone; providers' times are UTC unless they say otherwise")
    moment = at.astimezone(UTC)
    if not EARLIEST < moment < LATEST:
        raise ValueError("a time before 1990 or after 2200")
    return moment
