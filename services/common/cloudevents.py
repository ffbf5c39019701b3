"""CloudEvents 1.0 on Kafka, binary mode: attributes in `ce_*` headers, the data as JSON in the value.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
A consumer can route by headers without reading the value; identity passes a value on untouched and only adds headers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Generic, TypeVar

from pydantic import ValidationError

from services.common.events import BY_TYPE, Data, Origin

D_co = TypeVar("D_co", bound=Data, covariant=True)
Headers = Sequence[tuple[str, bytes]]


class Unreadable(ValueError):
    """A record that is no event of ours: it is set aside with this reason."""


class UnknownType(Exception):
    """An event of a type that this version does not know: counted and passed over, since producers deploy first."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True, slots=True)
class Event(Generic[D_co]):
    """An event with its attributes. `key` is the Kafka key and the `partitionkey` attribute; `customer_id` and
    `identity_version` are there once identity has seen it."""

    id: str
    tenant: str
    key: str
    time: datetime
    data: D_co
    channel: str = ""
    account: str = ""
    origin: Origin = "live"
    traceparent: str | None = None
    customer_id: str | None = None
    identity_version: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What a Kafka record is, in either direction. `partition` and `offset` are set on what was read."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None
    offset: int = -1
    timestamp_ms: int | None = None
    _attributes: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def attributes(self) -> dict[str, str]:
        """The CloudEvents attributes, read once; a header that is not UTF-8 raises Unreadable."""
        if not self._attributes and self.headers:
            try:
                self._attributes.update({name[3:]: value.decode() for name, value in self.headers if name[:3] == "ce_"})
            except UnicodeDecodeError as error:
                raise Unreadable("a header is not UTF-8") from error
        return self._attributes


Header = tuple[str, bytes]
SPEC: Header = ("ce_specversion", b"1.0")
JSON: Header = ("content-type", b"application/json")


@lru_cache(maxsize=4096)
def _constant(tenant: str, channel: str, account: str, name: str, origin: str) -> tuple[Sequence[Header], ...]:
    """The headers that most events of an account share: what it is, whose it is, and where it is from."""
    source = "/".join(filter(None, ("/hilo", tenant, channel, account)))
    whose = [("ce_tenant", tenant), ("ce_channel", channel), ("ce_account", account)]
    return (
        (("ce_source", source.encode()), ("ce_type", name.encode())),
        tuple((name, value.encode()) for name, value in whose if value or name == "ce_tenant"),
        (("ce_origin", origin.encode()),),
    )


def encode(topic: str, event: Event[Data]) -> Record:
    """The event as a record for `topic`. Fields that have their default are left out of the value."""
    what, whose, origin = _constant(event.tenant, event.channel, event.account, event.data.type, event.origin)
    time = event.time.astimezone(UTC).isoformat().replace("+00:00", "Z")
    key = event.key.encode()
    headers = [
        *(SPEC, ("ce_id", event.id.encode()), *what, ("ce_time", time.encode())),
        *(*whose, ("ce_partitionkey", key), *origin),
    ]
    if event.traceparent is not None:
        headers.append(("ce_traceparent", event.traceparent.encode()))
    if event.customer_id is not None:
        headers.append(("ce_customerid", event.customer_id.encode()))
    if event.identity_version is not None:
        headers.append(("ce_identityversion", str(event.identity_version).encode()))
    headers.append(JSON)
    value = event.data.__pydantic_serializer__.to_json(event.data, exclude_defaults=True)
    return Record(topic, key, value, headers)


def resolved(record: Record, topic: str, customer_id: str | None, version: int | None) -> Record:
    """The same event, value untouched, with the customer that identity found."""
    added = [("ce_customerid", customer_id), ("ce_identityversion", None if version is None else str(version))]
    headers = [*record.headers, *((name, value.encode()) for name, value in added if value is not None)]
    return Record(topic, record.key, record.value, headers, partition=record.partition, timestamp_ms=record.timestamp_ms)


def type_of(headers: Headers) -> bytes:
    """The type of an event, by its headers as they stand in the record; empty for what is no event."""
    for name, value in headers:
        if name == "ce_type":
            return value
    return b""


def decode(record: Record) -> Event[Data]:
    """Raise Unreadable for what is no event, UnknownType for one that is newer than we are."""
    a = record.attributes
    try:
        name, tenant, time = a["type"], a["tenant"], datetime.fromisoformat(a["time"])
        event_id, version = a["id"], a.get("identityversion")
    except (KeyError, ValueError) as error:
        raise Unreadable(f"not a CloudEvent of Hilo: {error}") from error
    model = BY_TYPE.get(name)
    if model is None:
        raise UnknownType(name)
    try:
        data: Data = model.__pydantic_validator__.validate_json(record.value or b"")
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise Unreadable(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return Event(
        id=event_id,
        tenant=tenant,
        key=a.get("partitionkey", ""),
        time=time,
        data=data,
        channel=a.get("channel", ""),
        account=a.get("account", ""),
        origin=_origin(a.get("origin", "live")),
        traceparent=a.get("traceparent"),
        customer_id=a.get("customerid"),
        identity_version=int(version) if version and version.isdigit() else None,
    )


def _origin(name: str) -> Origin:
    """An origin that we do not know opens no conversation and sends nothing, as a replay."""
    match name:
        case "live" | "backfill" | "replay":
            return name
    return "replay"
