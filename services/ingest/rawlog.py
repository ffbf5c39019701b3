"""What hilo.raw keeps: an input's exact bytes as the record's value, and in its headers how it came and what became of it.

A record is written with its facts in one go and read back for repair, replay and the ledger, so both directions stand here.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, lru_cache
from typing import Any
from urllib.parse import urlencode

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from services.common import topics
from services.common.cloudevents import Record, Unreadable
from services.common.events import Origin
from services.common.identifiers import dead_id, input_id
from services.ingest.contract import Account, Item, Outcome, Quarantined, Raw, Secret
from services.ingest.stored import secret_fields

TYPE = "hilo.input.received.v1"
INPUT, VERDICT, ITEM = "hilo_input", "hilo_verdict", "hilo_item"
SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"})
MASK = "***"


class Came(BaseModel):
    """How an input came, without its body. Values that are secrets are masked."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    door: str
    method: str = "POST"
    url: str = ""
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    received_at: datetime


class SetAside(BaseModel):
    """One quarantined item: its dead letter's id follows from the raw record's place and this path."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    path: str
    kind: str
    reason: str


class Passed(BaseModel):
    """Items that are of no use, by kind and reason."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    kind: str
    reason: str
    count: int = 1


class Verdict(BaseModel):
    """What became of an input. It balances: items = normalized + quarantined + ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    items: int
    normalized: int
    event_ids: tuple[str, ...] = ()
    fetches: tuple[str, ...] = ()
    quarantined: tuple[SetAside, ...] = ()
    ignored: tuple[Passed, ...] = ()

    @property
    def ignored_count(self) -> int:
        return sum(one.count for one in self.ignored)

    @property
    def whole(self) -> SetAside | None:
        """Why the input was set aside as a whole, by its door or because it could not be read; None if it was not."""
        return self.quarantined[0] if self.items == 1 and self.quarantined and not self.quarantined[0].path else None

    @property
    def balances(self) -> bool:
        return self.items == self.normalized + len(self.quarantined) + self.ignored_count


@dataclass(frozen=True, slots=True)
class Logged:
    """A record of hilo.raw, read back."""

    tenant: str
    channel: str
    account: str
    origin: Origin
    raw: Raw
    verdict: Verdict
    record: Record = field(repr=False)

    @property
    def dead_ids(self) -> dict[str, str]:
        """The dead letter of every quarantined item, by path."""
        place = (topics.RAW.name, self.record.partition or 0, self.record.offset)
        return {one.path: dead_id(*place, one.path) for one in self.verdict.quarantined}


# -- writing ------------------------------------------------------------------------------------------------------------


def secrets_of(account: Account) -> frozenset[str]:
    """Every value of every secret of an account."""
    fields = [getattr(account, name) for name in _secret_fields(type(account))]
    return frozenset([value for one in fields if isinstance(one, Secret) for value in one.all()])


_secret_fields = cache(secret_fields)


def came(raw: Raw, secrets: Collection[str]) -> dict[str, Any]:
    """How the input came, in the shape of Came. A header or query value that is or contains a secret of the account stands
    masked: the log is read by more people than may sign."""
    headers, query, url = dict(raw.headers), dict(raw.query), raw.url
    everything = "\n".join((*headers.values(), *query.values(), url))  # nearly always without any secret: looked at once
    if found := [secret for secret in secrets if secret in everything]:
        headers, query = _masked(headers, found), _masked(query, found)
        url = f"{url.partition('?')[0]}?{urlencode(query, safe='*')}" if query else url
        url = MASK if any(secret in url for secret in found) else url
    if not SECRET_HEADERS.isdisjoint(headers):
        headers |= dict.fromkeys(SECRET_HEADERS & headers.keys(), MASK)
    how = {"door": raw.door, "method": raw.method, "url": url, "headers": headers, "query": query}
    return {**how, "received_at": raw.received_at.isoformat()}


def _masked(values: dict[str, str], secrets: Collection[str]) -> dict[str, str]:
    for secret in secrets:
        values = {name: MASK if secret in value else value for name, value in values.items()}
    return values


def plain(text: str, limit: int) -> str:
    """Text from an untrusted document as a header may hold it: half a surrogate pair would be no UTF-8."""
    return text[:limit].encode(errors="replace").decode()


def paths(quarantined: Sequence[Quarantined]) -> list[str]:
    """A path of its own for every quarantined item: where two have the same, the later ones are numbered, since the dead
    letter's id goes by it."""
    seen: dict[str, int] = {}
    found = []
    for path in (plain(one.path, 500) for one in quarantined):
        seen[path] = seen.get(path, 0) + 1
        found.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
    return found


def verdict(outcome: Outcome) -> Verdict:
    return Verdict.model_validate(_verdict(outcome))


def _verdict(outcome: Outcome) -> dict[str, Any]:
    """In the shape of Verdict, without what is empty: most inputs are one item that became one event."""
    found: dict[str, Any] = {"items": outcome.items, "normalized": outcome.normalized}
    if outcome.events:
        found["event_ids"] = [event.id for event in outcome.events]
    if outcome.fetches:
        found["fetches"] = [plain(fetch.id, 2000) for fetch in outcome.fetches]
    if outcome.quarantined:
        found["quarantined"] = [
            {"path": path, "kind": plain(one.kind, 200), "reason": plain(one.reason, 300)}
            for path, one in zip(paths(outcome.quarantined), outcome.quarantined, strict=True)
        ]
    if outcome.unused:
        passed = Counter((plain(one.kind, 200), plain(one.reason, 300)) for one in outcome.unused)
        found["ignored"] = [
            {"kind": kind, "reason": reason, **({"count": count} if count > 1 else {})}
            for (kind, reason), count in passed.items()
        ]
    return found


@lru_cache(maxsize=4096)
def _constant(tenant: str, channel: str, account: str, origin: str) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    """The key of an account's inputs, and the headers that they share."""
    key = f"{tenant}/{channel}/{account}"
    attributes = {
        "ce_specversion": "1.0",
        "ce_source": f"/hilo/{key}",
        "ce_type": TYPE,
        "ce_tenant": tenant,
        "ce_channel": channel,
        "ce_account": account,
        "ce_partitionkey": key,
        "ce_origin": origin,
    }
    return key.encode(), tuple((name, value.encode()) for name, value in attributes.items())


def record(channel: str, account: Account, raw: Raw, outcome: Outcome, origin: Origin = "live") -> Record:
    """The input as hilo.raw keeps it."""
    key, constant = _constant(account.tenant, channel, account.id, origin)
    how = came(raw, secrets_of(account))
    received = how["received_at"]
    identifier = input_id(account.tenant, channel, account.id, raw.door, received, hashlib.sha256(raw.body).hexdigest())
    headers = [
        *constant,
        ("ce_id", identifier.encode()),
        ("ce_time", received.replace("+00:00", "Z").encode()),
        ("content-type", raw.headers.get("content-type", "application/octet-stream").encode()),
        (INPUT, orjson.dumps(how)),
        (VERDICT, orjson.dumps(_verdict(outcome))),
    ]
    return Record(topics.RAW.name, key, raw.body, headers)


def slice_of(quarantined: Quarantined) -> bytes:
    """What the dead letter holds: the item's slice as JSON, or the whole body as it came."""
    data = quarantined.slice
    return data if isinstance(data, bytes) else json.dumps(data).encode()


class SetApart(BaseModel):
    """What a quarantined item's slice does not say: its place in the input and whom it was for, or that it is the whole."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    place: int = 0
    to: str | None = None
    whole: bool = False


def letter_of(written: Record, item: Item | None, place: int) -> Record:
    """The record that a quarantined item's dead letter is made from: without the verdict, which may be long, and with what
    the slice does not say. Without an item it is the whole input."""
    told = SetApart(place=place, to=item.to and plain(item.to, 2000), whole=False) if item else SetApart(whole=True)
    headers = [(name, value) for name, value in written.headers if name != VERDICT]
    headers.append((ITEM, told.model_dump_json(exclude_defaults=True).encode()))
    return Record(written.topic, written.key, written.value, headers, written.partition, written.offset)


# -- reading back ---------------------------------------------------------------------------------------------------------


def logged(found: Record) -> Logged:
    """Raises Unreadable for what is no record of hilo.raw."""
    headers = {name: value.decode(errors="replace") for name, value in found.headers}
    attributes = found.attributes
    try:
        judged = Verdict.model_validate_json(headers[VERDICT])
        return Logged(
            tenant=attributes["tenant"],
            channel=attributes["channel"],
            account=attributes["account"],
            origin=_origin(attributes.get("origin", "live")),
            raw=raw_of(headers, found.value or b""),
            verdict=judged,
            record=found,
        )
    except KeyError as error:
        raise Unreadable(f"not an input: {error} is missing") from error
    except ValidationError as error:
        raise Unreadable("not an input: its verdict cannot be read") from error


def raw_of(headers: Mapping[str, str], body: bytes) -> Raw:
    """The input again, with the time when it was first received. Raises Unreadable."""
    try:
        how = Came.model_validate_json(headers.get(INPUT, ""))
    except ValidationError as error:
        raise Unreadable("not an input: how it came cannot be read") from error
    return Raw(body, how.headers, how.query, how.method, how.url, how.received_at, how.door)


def set_apart(headers: Mapping[str, str]) -> SetApart | None:
    """What the headers of a dead letter say of its slice; None if it is no item of an input."""
    return SetApart.model_validate_json(headers[ITEM]) if ITEM in headers else None


def _origin(name: str) -> Origin:
    match name:
        case "live" | "backfill" | "replay":
            return name
    return "replay"
