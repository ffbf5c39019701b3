"""A platform of our own for the tests of ingest: signed, batched, with a kind that has a bug and one that is ignored."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import httpx
from pydantic import Field

from deploy.local.embedded import free_port
from services.common.auth import Keyring
from services.common.cloudevents import Event, Record, decode
from services.common.events import Data
from services.common.kafka import read_all
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.topics import Topic
from services.common.vault import DEMO_KEY, Vault
from services.ingest.app import build
from services.ingest.contract import (
    Account,
    Channel,
    Facts,
    Fetch,
    Fetched,
    Hmac,
    Identifier,
    Item,
    Leg,
    Node,
    Payload,
    Raw,
    Receipt,
    Received,
    Registry,
    Reply,
    Request,
    Secret,
    Sender,
    Token,
    Typing,
    Webhook,
    each,
    get,
    post,
    tel,
    text,
)
from services.ingest.settings import IngestSettings
from tests.waiting import until


class Pigeon(Account):
    number: str = Field(description="The number")
    api_key: Secret = Field(description="The key that we call with")
    signing_key: Secret = Field(description="The key that they sign with")


class Message(Payload):
    id: str
    sender: str = Field(alias="from")
    text: str
    sent_at: datetime


class Report(Payload):
    id: str
    state: Literal["delivered", "failed"]
    at: datetime


class Crash(Payload):
    id: str


class Named(Payload):
    id: str


def received(account: Pigeon, m: Message) -> Facts:
    yield Received(id=m.id, at=m.sent_at, sender=Sender(tel(m.sender)), parts=(text(m.text),))


def reported(account: Pigeon, r: Report) -> Facts:
    yield Receipt(id=r.id, at=r.at, state=r.state)


def crashed(account: Pigeon, c: Crash) -> Facts:
    yield Received(id=FIELDS["no such key"], at=None, sender=Sender(tel("")), parts=())


def typed(account: Pigeon, c: Crash) -> Facts:
    yield Typing(id=c.id, at=None, sender=Sender(Identifier("pigeon", c.id)))


def named(account: Pigeon, n: Named) -> Facts:
    yield Fetch(n.id, get(f"https://api.pigeon.example/messages/{n.id}", auth=f"Bearer {account.api_key.reveal()}"), "fetched")


def challenge(account: Pigeon, raw: Raw) -> Reply | None:
    return Reply(200, raw.query["challenge"].encode()) if raw.method == "GET" and "challenge" in raw.query else None


def over(raw: Raw) -> bytes:
    return raw.headers.get("x-pigeon-time", "").encode() + b"." + raw.body


def addressed(raw: Raw) -> Iterator[Item]:
    for node in Node(raw.json()).walk("events[]"):
        yield node.item(node.get("type"), to=node.get("to"))


SCHEME = Hmac("x-pigeon-signature", secret="signing_key", over=over, stamp="x-pigeon-time")


def subscribed(account: Pigeon, url: str) -> Request:
    return post("https://api.pigeon.example/hooks", {"url": url}, auth=f"Bearer {account.api_key.reveal()}")


def pigeon(name: str = "pigeon", **more: Any) -> Channel[Pigeon]:
    return Channel(
        name=name,
        title="Pigeon SMS",
        docs="https://docs.pigeon.example",
        account=Pigeon,
        legs={"sms": Leg("private")},
        doors=(
            Webhook(SCHEME, challenge),
            Webhook(Token("x-pigeon-token", secret="api_key"), name="plain"),
            Fetched("fetched"),
        ),
        unpack=more.pop("unpack", each("events[]", kind="type")),
        kinds={"message": received, "report": reported, "crash": crashed, "typing": typed, "named": named},
        ignores={"heartbeat": "sent each minute as a test"},
        setup=subscribed,
        **more,
    )


def channels() -> Registry:
    """A pigeon, its cousin that serves several accounts at one address, and one that could not be loaded."""
    shared = pigeon("flock", address="number", unpack=addressed)
    return Registry({"pigeon": pigeon(), "flock": shared}, {"dodo": "ImportError: extinct"})


FIELDS: Mapping[str, Any] = {"number": "+4930123456", "api_key": "key-of-the-api", "signing_key": "key-that-signs"}


def message(number: int = 1, **changes: Any) -> dict[str, Any]:
    sent = {"type": "message", "id": f"m{number}", "from": "+491511234567", "text": f"¿Qué tal? {number}"}
    return {**sent, "sent_at": "2026-03-01T12:00:00Z", **changes}


def body(*items: Any) -> bytes:
    return json.dumps({"events": list(items)}).encode()


def signed(payload: bytes, key: str = "key-that-signs", *, at: float | None = None) -> dict[str, str]:
    """As the provider signs; written apart from the scheme that checks it."""
    stamp = str(int(time.time() if at is None else at))
    mac = hmac.new(key.encode(), stamp.encode() + b"." + payload, hashlib.sha256).hexdigest()
    return {"x-pigeon-time": stamp, "x-pigeon-signature": mac, "content-type": "application/json"}


async def records(settings: CommonSettings, topic: Topic) -> list[Record]:
    """All there is on a topic now."""
    return [record async for record in read_all(settings, topic)]


async def events(settings: CommonSettings, topic: Topic) -> list[Event[Data]]:
    return [decode(record) for record in await records(settings, topic)]


def header(record: Record, name: str) -> Any:
    """A JSON header of a raw record."""
    return json.loads(dict(record.headers)[name])


def ingest_settings(settings: CommonSettings, **more: Any) -> IngestSettings:
    """Ingest's own settings on the test's broker, store and prefix, with its doors on free ports."""
    common = settings.model_dump() | {
        "port": free_port(),
        "host": "127.0.0.1",
        "smtp_host": "127.0.0.1",
        "smtp_port": free_port(),
        "media_dir": Path(tempfile.gettempdir()) / "hilo-test-media",
    }
    return IngestSettings(**{**common, "kafka_publish_timeout_s": 4, "smtp_workers": 1, **more})


@asynccontextmanager
async def running(settings: IngestSettings, registry: Registry | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """The real process, as `python -m services.ingest` runs it, and a client at its doors."""
    process = build(settings, registry or channels())
    task = asyncio.create_task(process.run())
    try:
        await until(lambda: process.readiness.started or task.done(), what="the start of ingest")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}", timeout=30) as client:
            yield client
    finally:
        process.stopping.set()
        await task


async def tenant(mongo: Mongo, name: str = "acme", *scopes: str) -> dict[str, str]:
    """The headers of a caller of this tenant: with its first admin key, or with a key of these scopes."""
    keyring = Keyring(mongo, Vault(DEMO_KEY))
    first = await keyring.create_tenant(name)
    key = await keyring.create_key(name, "test", frozenset(scopes)) if scopes or first is None else first
    return {"authorization": f"Bearer {key}"}


async def connect(client: httpx.AsyncClient, who: dict[str, str], name: str = "pigeon/main", **fields: Any) -> None:
    """An account, connected over the API."""
    answer = await client.put(f"/v1/accounts/{name}", json={"fields": fields or dict(FIELDS)}, headers=who)
    assert answer.status_code == 200, answer.text
