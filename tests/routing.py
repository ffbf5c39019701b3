"""A whole router process against real parts, and what happens around it: events of customers, map records, commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from deploy.local.embedded import free_port
from services.common import topics as t
from services.common.auth import Keyring
from services.common.cloudevents import Event, Record, decode, resolved
from services.common.cloudevents import encode as encoded
from services.common.events import (
    AccountDescribed,
    ChannelDeclared,
    ConversationEvent,
    Data,
    Head,
    IdentityMapped,
    LegDeclared,
    MessageAppended,
    MessageReceived,
    Part,
    PostCommented,
    SendRequested,
)
from services.common.identifiers import Evidence, Identifier, Proof, Sender, Visibility, event_id
from services.common.kafka import Publisher, read_all
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.vault import DEMO_KEY, Vault
from services.router.app import build
from services.router.settings import RouterSettings
from tests.waiting import until

NOW = datetime.now(UTC).replace(microsecond=0)


def who(name: str, scheme: str = "telegram") -> Identifier:
    return Identifier(scheme, name, key=name.ljust(22, "-"))


def said(
    name: str,
    number: int,
    text: str = "hello",
    *,
    channel: str = "telegram",
    account: str = "bot",
    customer: str | None = None,
    version: int = 1,
    visibility: Visibility = "private",
    thread: str = "",
    leg: str = "chat",
    at: datetime | None = None,
    proof: Proof = "channel",
    also: tuple[Evidence, ...] = (),
    origin: str = "live",
) -> Record:
    """A record of hilo.customer.events as identity passes it on."""
    party = who(name, channel)
    provider = f"{name}-{number}"
    model = PostCommented if visibility == "public" else MessageReceived
    data = model(
        provider_id=provider,
        party=party,
        at=at or NOW + timedelta(seconds=number),
        received_at=at or NOW + timedelta(seconds=number),
        leg=leg,
        thread=thread,
        visibility=visibility,
        sender=Sender(party, name.title(), also, proof),
        parts=(Part("text", text),),
        context={"chat": name},
    )
    identifier = event_id("acme", channel, account, provider, "said")
    event: Event[Data] = Event(identifier, "acme", party.key, NOW, data, channel, account, origin=origin)  # type: ignore[arg-type]
    return resolved(encoded(t.CUSTOMER_EVENTS.name, event), t.CUSTOMER_EVENTS.name, customer or f"cust-{name}", version)


def fact(data: Data, name: str, *, channel: str = "telegram", account: str = "bot", unique: str = "1") -> Record:
    event = Event(event_id("acme", channel, account, unique, data.type), "acme", who(name).key, NOW, data, channel, account)
    return resolved(encoded(t.CUSTOMER_EVENTS.name, event), t.CUSTOMER_EVENTS.name, f"cust-{name}", 1)


def mapped(name: str, customer: str, version: int, channel: str = "telegram") -> Record:
    key = who(name, channel).key
    data = IdentityMapped(identifier=key, customer_id=customer, version=version)
    return encoded(t.IDENTITY_MAP.name, Event(f"map-{key}-{version}", "acme", key, NOW, data))


CHANNELS = (
    ChannelDeclared(name="telegram", title="Telegram", legs={"chat": LegDeclared(visibility="private")}),
    ChannelDeclared(
        name="whatsapp", title="WhatsApp", legs={"chat": LegDeclared(visibility="private", window_s=86_400, outside="template")}
    ),
    ChannelDeclared(
        name="instagram",
        title="Instagram",
        legs={"comments": LegDeclared(visibility="public"), "chat": LegDeclared(visibility="private", window_s=86_400)},
        handoffs=({"public": "comments", "private": "chat", "within_s": 604_800.0},),
    ),
)


def declarations() -> list[Record]:
    accounts = [
        AccountDescribed(tenant="acme", channel="telegram", account="bot", title="Acme bot", language="en"),
        AccountDescribed(
            tenant="acme", channel="whatsapp", account="main", title="Acme", invite="https://wa.me/34600000000?text={code}"
        ),
        AccountDescribed(tenant="acme", channel="instagram", account="page", title="Acme page", contact=("+34 900 123 456",)),
    ]
    keyed: list[tuple[str, Data]] = [(one.name, one) for one in CHANNELS]
    keyed += [(f"acme/{one.channel}/{one.account}", one) for one in accounts]
    return [encoded(t.CHANNELS.name, Event(key, "acme", key, NOW, data)) for key, data in keyed]


class Router:
    """The running process and what its tests look at."""

    def __init__(self, settings: RouterSettings, publisher: Publisher, mongo: Mongo, key: str) -> None:
        self.settings, self.publisher, self.mongo, self.key = settings, publisher, mongo, key
        self.process = build(settings)
        self._running: asyncio.Task[None] | None = None
        self.http: httpx.AsyncClient

    async def start(self) -> None:
        self._running = asyncio.create_task(self.process.run())
        transport = httpx.ASGITransport(app=self.process.app)  # type: ignore[arg-type]
        headers = {"authorization": f"Bearer {self.key}"}
        self.http = httpx.AsyncClient(transport=transport, base_url="http://router", headers=headers)
        await until(self._ready, what="the router is ready")

    def _ready(self) -> bool:
        if self._running and self._running.done():
            self._running.result()
        return not self.process.readiness.missing()

    async def stop(self) -> None:
        await self.http.aclose()
        self.process.stopping.set()
        if self._running:
            await self._running

    async def tell(self, *records: Record) -> None:
        await self.publisher.publish(records)

    async def command(self, conversation: str, verb: str, key: str, **body: Any) -> httpx.Response:
        path = f"/v1/conversations/{conversation}/{verb}"
        return await self.http.post(path, json=body, headers={"idempotency-key": key})

    # -- what it told

    async def events(self) -> list[Event[Data]]:
        return [decode(record) async for record in read_all(self.settings, t.CONVERSATION_EVENTS)]

    async def outbound(self) -> list[SendRequested]:
        found = [decode(record).data async for record in read_all(self.settings, t.OUTBOUND)]
        return [one for one in found if isinstance(one, SendRequested)]

    async def heads(self) -> dict[str, Head]:
        """The newest head of every conversation; fails on a gap in the numbers."""
        heads: dict[str, Head] = {}
        for event in await self.events():
            if isinstance(event.data, ConversationEvent):
                last = heads[event.data.conversation_id].seq if event.data.conversation_id in heads else 0
                assert event.data.seq <= last + 1, "a subscriber would see a gap"
                if event.data.seq == last + 1:
                    heads[event.data.conversation_id] = event.data.head
        return heads

    async def appended(self) -> dict[str, str]:
        """Entry to conversation, as a subscriber that drops what it has seen knows it."""
        found = [event.data for event in await self.events()]
        return {one.entry_id: one.conversation_id for one in found if isinstance(one, MessageAppended)}

    async def open_heads(self) -> dict[str, Head]:
        return {key: one for key, one in (await self.heads()).items() if one.state == "open"}


@asynccontextmanager
async def running(settings: CommonSettings, publisher: Publisher, mongo: Mongo, **more: Any) -> AsyncIterator[Router]:
    keyring = Keyring(mongo, Vault(DEMO_KEY))
    if await keyring.create_tenant("acme"):
        await publisher.publish(declarations())
    key = await keyring.create_key("acme", "test", frozenset(("read", "agent", "gate", "admin")), agent="eva")
    values = {**settings.model_dump(), "poll_s": 0.1, "stop_s": 0.3, "host": "127.0.0.1", "port": free_port(), **more}
    router = Router(RouterSettings(**values), publisher, mongo, key)
    await router.start()
    try:
        yield router
    finally:
        await router.stop()


__all__ = ["Router", "fact", "mapped", "replace", "running", "said", "who"]
