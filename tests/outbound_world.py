"""A small provider, a router's gate and a mail server that really listen, and outbound workers that really run."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from deploy.local.embedded import free_port
from services.common import topics
from services.common.auth import Keyring
from services.common.cloudevents import Event, Record, UnknownType, decode
from services.common.events import Author, Data, Fact, Part, SendRequested
from services.common.identifiers import Identifier, outbound_id, piece_id
from services.common.kafka import Publisher, View
from services.common.mongo import Mongo
from services.common.run import Process
from services.common.settings import CommonSettings
from services.common.vault import vault
from services.ingest.accounts import Accounts, Wish
from services.ingest.contract import (
    Account,
    Can,
    Channel,
    Check,
    Failed,
    Leg,
    Media,
    Outgoing,
    Rate,
    Registry,
    Request,
    Retry,
    Secret,
    Send,
    Unsigned,
    Webhook,
    bearer,
    each,
    get,
    post,
    registry,
)
from services.ingest.outbound.app import OUTSIDE, build
from services.ingest.outbound.journal import Journal
from services.ingest.outbound.sends import Sending
from services.ingest.outbound.settings import OutboundSettings
from services.ingest.outbound.worker import Outside
from tests.waiting import until

ORIGIN = "https://api.pigeon.example"


class Pigeon(Account):
    """An invented SMS provider with a JSON interface."""

    api_key: Secret = Field(description="Console > API key")


def message(account: Pigeon, out: Outgoing) -> Request:
    body = {"to": out.thread, "text": out.part.text, "ref": out.part.ref, "reference": out.id, "kind": out.part.kind}
    idempotent = "idempotent" in out.context
    return post(f"{ORIGIN}/messages", body, auth=bearer(account.api_key), idempotent=idempotent)


def upload(account: Pigeon, part: Part, content: bytes) -> Request:
    headers = {"authorization": bearer(account.api_key), "content-type": part.media_type or "application/octet-stream"}
    return Request("POST", f"{ORIGIN}/files", headers, content)


def typing(account: Pigeon, out: Outgoing) -> Request:
    return post(f"{ORIGIN}/typing", {"to": out.thread}, auth=bearer(account.api_key))


SEND: Send[Pigeon] = Send(
    {"message": message, "edit": message, "typing": typing},
    sent_id="id",
    error_code="error",
    answers={"opted_out": Failed("opted out", then="stop_contact"), "busy": Retry("busy", 7)},
)
PIGEON: Channel[Pigeon] = Channel(
    name="pigeon",
    title="Pigeon",
    docs="https://docs.pigeon.example",
    account=Pigeon,
    legs={
        "sms": Leg("private", sends=(Can("text", 1600), Can("image", mb=1, caption=100))),
        "slow": Leg("private", sends=(Can("text", 1600),), rates=(Rate(1 / 600, of="thread"),)),
        "wall": Leg("public", sends=(Can("text", 280),)),
    },
    doors=(Webhook(Unsigned("a test")),),
    unpack=each("", kind="type"),
    kinds={},
    send=SEND,
    health=Check(lambda account: get(f"{ORIGIN}/me", auth=bearer(account.api_key))),
)
OWL: Channel[Pigeon] = replace(
    PIGEON, name="owl", title="Owl", health=None, media=Media(lambda _account, ref: get(ref), upload=upload)
)

Behaviour = Literal["lost", "refused connection"] | tuple[int, dict[str, Any]] | tuple[int, dict[str, Any], dict[str, str]]


class Provider:
    """Answers messages as told, else 200 with an id of its own, and keeps what it got. It is the router's gate as well."""

    def __init__(self) -> None:
        self.port = free_port()
        self.messages: list[dict[str, Any]] = []
        self.answers: deque[Behaviour] = deque()
        self.wait: asyncio.Event | None = None
        self.uploads: list[bytes] = []
        self.typing = 0
        self.me = 200
        self.gate: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.asked: list[str] = []
        self.gate_status = 200
        self.tenants: set[str] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def texts(self) -> list[str]:
        return [one["text"] for one in self.messages]

    @property
    def calls(self) -> Counter[str]:
        return Counter(one["reference"] for one in self.messages)

    async def start(self) -> None:
        app = web.Application(client_max_size=10_000_000)
        app.router.add_post("/pigeon/messages", self._message)
        app.router.add_post("/pigeon/files", self._file)
        app.router.add_post("/pigeon/typing", self._typing)
        app.router.add_get("/pigeon/me", self._me)
        app.router.add_post("/v1/gate", self._gate)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def _message(self, request: web.Request) -> web.StreamResponse:
        self.messages.append(await request.json())
        told = self.answers.popleft() if self.answers else (200, {"id": f"p{len(self.messages)}"})
        if self.wait:
            await self.wait.wait()
        if isinstance(told, str):
            assert request.transport
            request.transport.close()
            return web.Response()
        return web.json_response(told[1], status=told[0], headers=told[2] if len(told) == 3 else {})

    async def _file(self, request: web.Request) -> web.Response:
        self.uploads.append(await request.read())
        return web.json_response({"id": f"file-{len(self.uploads)}"})

    async def _typing(self, request: web.Request) -> web.Response:
        self.typing += 1
        return web.json_response({})

    async def _me(self, request: web.Request) -> web.Response:
        return web.json_response({}, status=self.me)

    async def _gate(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body["outbound_id"])
        self.tenants.add(request.headers.get("hilo-tenant", ""))
        if request.headers.get("authorization") != "Bearer service":
            return web.json_response({"code": "key_unknown"}, status=401)
        told = self.gate[body["outbound_id"]]
        allow = {"allow": True, "reason": "ok", "final": False, "retry_after_s": None}
        return web.json_response(told.pop(0) if told else allow, status=self.gate_status)


@dataclass
class Clock:
    """The real time, and what a test has added to it."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def forward(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


@dataclass
class World:
    """Everything a test of the outbound worker needs. `told` is what stands on hilo.events."""

    settings: OutboundSettings
    mongo: Mongo
    publisher: Publisher
    provider: Provider
    channels: Registry
    clock: Clock
    journal: Journal
    told: list[Event[Data]] = field(default_factory=list)
    running: list[tuple[Process, asyncio.Task[None]]] = field(default_factory=list)
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    _view: View | None = None
    _number: int = 0

    async def begin(self) -> None:
        await self.provider.start()
        await self.journal.start()
        keyring = Keyring(self.mongo, vault(self.settings))
        self.keys = {tenant: await keyring.create_tenant(tenant) or "" for tenant in ("acme", "other")}
        self.accounts = Accounts(self.mongo, vault(self.settings), keyring, self.channels)
        await self.accounts.start()
        for channel in self.channels.channels:
            await self.connect(channel, **self.fields.get(channel, {}))
        self._view = View(self.settings, topics.EVENTS, self._read)
        await self._view.start()

    async def connect(self, channel: str, **fields: Any) -> None:
        if issubclass(self.channels.channels[channel].account, Pigeon):
            fields = {"api_key": "key", **fields}
        await self.accounts.put("acme", channel, "main", Wish(fields=fields))

    def _read(self, record: Record) -> None:
        try:
            self.told.append(decode(record))
        except UnknownType:
            return

    async def end(self) -> None:
        for process, _ in self.running:
            process.stopping.set()
        await asyncio.gather(*(task for _, task in self.running))
        if self._view:
            await self._view.stop()
        await self.provider.stop()

    async def worker(self, reached: Callable[[str], None] | None = None) -> Process:
        """One more outbound worker, as a process has it; `reached` is its hook for faults."""
        self._number += 1
        outside = Outside(self.clock, lambda: 0.5, OUTSIDE.token, reached or OUTSIDE.reached)
        process = build(self.settings.model_copy(update={"port": free_port()}), outside=outside, channels=self.channels)
        task = asyncio.create_task(process.run())
        self.running.append((process, task))
        await until(lambda: process.readiness.started or task.done(), what="the worker's start")
        if task.done():
            task.result()
        return process

    async def stop(self, process: Process) -> None:
        task = next(task for one, task in self.running if one is process)
        process.stopping.set()
        await task
        self.running = [one for one in self.running if one[0] is not process]

    def request(self, name: str, *texts: str, thread: str = "+49151", **more: Any) -> Event[SendRequested]:
        party = Identifier("tel", thread, key=f"{thread:k<22}"[:22])
        channel, account = more.pop("channel", "pigeon"), more.pop("account", "main")
        leg, visibility = more.pop("leg", "sms"), more.pop("visibility", "private")
        data = SendRequested(
            outbound_id=outbound_id("c1", name),
            conversation_id="c1",
            leg_key=f"acme/{channel}/{account}/{leg}/{party.key}",
            leg=leg,
            thread=thread,
            party=party,
            visibility=visibility,
            need="channel",
            epoch=0,
            parts=more.pop("parts", tuple(Part("text", text=text) for text in texts)),
            author=Author("agent", "ana", "Ana"),
            **more,
        )
        return Event(f"e-{name}", "acme", data.leg_key, self.clock(), data, channel, account)

    async def ask(self, *events: Event[SendRequested]) -> None:
        await self.publisher.emit(topics.OUTBOUND, events)

    async def say(self, *facts: Fact, channel: str = "pigeon") -> None:
        """Something comes in from the provider: an echo or a receipt."""
        events = [Event(f"in-{id(one)}", "acme", "k", self.clock(), one, channel, "main") for one in facts]
        await self.publisher.emit(topics.EVENTS, events)

    async def send(self, name: str) -> Sending | None:
        return await self.journal.get(outbound_id("c1", name))

    async def state(self, name: str, *states: str) -> Sending:
        """The message once it is in one of these states."""

        async def there() -> Sending | None:
            found = await self.send(name)
            return found if found and found.state in states else None

        found = await until(there, what=f"{name} to be {' or '.join(states)}")
        assert found
        return found

    async def held(self, name: str, hold: str) -> Sending:
        async def there() -> Sending | None:
            found = await self.send(name)
            return found if found and found.hold == hold else None

        found = await until(there, what=f"{name} to be held: {hold}")
        assert found
        return found

    def events(self, name: str, kind: str = "") -> list[Any]:
        """What was told of a message, each event once, in order."""
        found: dict[str, Any] = {}
        for one in self.told:
            data: Any = one.data
            if getattr(data, "outbound_id", None) == outbound_id("c1", name) and kind in data.type:
                found.setdefault(one.id, data)
        return list(found.values())

    async def heard(self, name: str, kind: str, count: int = 1) -> list[Any]:
        return await until(
            lambda: found if len(found := self.events(name, kind)) >= count else [], what=f"{count} {kind} of {name}"
        )


def piece(name: str, n: int = 1) -> str:
    return piece_id(outbound_id("c1", name), n)


def world(
    settings: CommonSettings, mongo: Mongo, publisher: Publisher, folder: Path, channels: Sequence[Channel[Any]], **more: Any
) -> World:
    provider = Provider()
    chosen = OutboundSettings(
        env="test",
        kafka=settings.kafka,
        kafka_prefix=settings.kafka_prefix,
        mongo=settings.mongo,
        mongo_prefix=settings.mongo_prefix,
        host="127.0.0.1",
        service_key="service",
        router_url=provider.url,
        provider_origins={ORIGIN: f"{provider.url}/pigeon"},
        media_dir=folder / "media",
        media_url="https://media.hilo.example",
        **{"outbound_poll_s": 0.05, "outbound_call_s": 5, **more},
    )
    return World(chosen, mongo, publisher, provider, registry(channels), Clock(), Journal(mongo))
