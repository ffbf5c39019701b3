"""The media worker, whole, on a real broker and mongod, with a provider that really listens: what a message refers to is
fetched, kept under its hash and announced once, and nothing is fetched from where it must not be."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import Field

from deploy.local.embedded import free_port
from services.common import topics
from services.common.auth import Keyring
from services.common.cloudevents import Event, decode
from services.common.events import (
    CallRecorded,
    CustomerChanged,
    Data,
    Fact,
    MediaFailed,
    MediaStored,
    MessageReceived,
    MessageSent,
    Part,
)
from services.common.identifiers import Identifier, Sender
from services.common.kafka import Publisher, View
from services.common.media import FileMediaStore, upload_ref
from services.common.mongo import Mongo
from services.common.run import Process
from services.common.settings import CommonSettings
from services.common.vault import vault
from services.ingest.accounts import Accounts, Wish
from services.ingest.contract import (
    Account,
    Can,
    Channel,
    Leg,
    Media,
    Registry,
    Request,
    Secret,
    Unsigned,
    Webhook,
    bearer,
    each,
    get,
    registry,
)
from services.ingest.media.app import build
from services.ingest.media.attachment import Bounds, NoAttachment, extracted
from services.ingest.media.settings import MediaSettings
from tests.outbound_world import Clock
from tests.waiting import until

PNG = b"\x89PNG\r\n\x1a\n" + b"\x07" * 5000
API, CDN = "https://api.pigeon.example", "https://cdn.pigeon.example"


class Pigeon(Account):
    api_key: Secret = Field(description="Console > API key")


def fetch(account: Pigeon, ref: str) -> Request:
    return get(f"{API}/media/{ref}", auth=bearer(account.api_key))


def file_itself(account: Pigeon, ref: str) -> Request:
    return get(ref if ref.startswith("https://") else f"{API}/files/{ref}", auth=bearer(account.api_key))


PIGEON: Channel[Pigeon] = Channel(
    name="pigeon",
    title="Pigeon",
    docs="https://docs.pigeon.example",
    account=Pigeon,
    legs={"sms": Leg("private", sends=(Can("image", mb=0.01),))},
    doors=(Webhook(Unsigned("a test")),),
    unpack=each("", kind="type"),
    kinds={},
    media=Media(fetch, link="url"),
)
OWL = Channel(
    name="owl",
    title="Owl",
    docs="https://docs.pigeon.example",
    account=Pigeon,
    legs={"sms": Leg("private")},
    doors=(Webhook(Unsigned("a test")),),
    unpack=each("", kind="type"),
    kinds={},
    media=Media(file_itself),
)


class Provider:
    """Two origins of one provider: the interface tells where a file is, the other has it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.asked: list[tuple[str, str]] = []
        self.statuses: deque[int] = deque()
        self.links: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        self.canary = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/api/media/{id}", self._media)
        app.router.add_get("/{origin:api|cdn}/files/{id}", self._file)
        app.router.add_route("*", "/{tail:.*}", self._canary)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    def _note(self, request: web.Request) -> None:
        self.asked.append((request.path, request.headers.get("authorization", "")))

    async def _media(self, request: web.Request) -> web.Response:
        self._note(request)
        name = request.match_info["id"]
        return web.json_response({"url": self.links.get(name, f"{CDN}/files/{name}")})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        name = request.match_info["id"]
        if self.statuses and (status := self.statuses.popleft()) != 200:
            return web.Response(status=status)
        if name.startswith("to-"):
            return web.Response(status=302, headers={"location": f"{CDN}/files/{name[3:]}"})
        if name == "broken":
            response = web.StreamResponse(headers={"content-length": "10000"})
            await response.prepare(request)
            await response.write(PNG[:100])
            assert request.transport
            request.transport.close()
            return response
        if name not in self.files:
            return web.Response(status=404)
        return web.Response(body=self.files[name], content_type="text/html")

    async def _canary(self, request: web.Request) -> web.Response:
        self.canary += 1
        return web.Response(body=b"secret")


class World:
    def __init__(self, settings: CommonSettings, mongo: Mongo, publisher: Publisher, folder: Path) -> None:
        self.provider, self.clock = Provider(), Clock()
        origin = f"http://127.0.0.1:{self.provider.port}"
        self.settings = MediaSettings(
            env="test",
            kafka=settings.kafka,
            kafka_prefix=settings.kafka_prefix,
            mongo=settings.mongo,
            mongo_prefix=settings.mongo_prefix,
            host="127.0.0.1",
            port=free_port(),
            provider_origins={API: f"{origin}/api", CDN: f"{origin}/cdn"},
            media_dir=folder / "media",
            media_max_mb=0.005,
            media_poll_s=0.05,
        )
        self.mongo, self.publisher = mongo, publisher
        self.store = FileMediaStore(self.settings.media_dir)
        self.channels: Registry = registry((PIGEON, OWL))
        self.told: list[Event[Data]] = []
        self.numbers = 0

    async def begin(self) -> None:
        await self.provider.start()
        await self.store.start()
        keyring = Keyring(self.mongo, vault(self.settings))
        await keyring.create_tenant("acme")
        accounts = Accounts(self.mongo, vault(self.settings), keyring, self.channels)
        await accounts.start()
        for channel in self.channels.channels:
            await accounts.put("acme", channel, "main", Wish(fields={"api_key": "key"}))
        self.view = View(self.settings, topics.EVENTS, lambda record: self.told.append(decode(record)))
        await self.view.start()
        self.process: Process = build(self.settings, channels=self.channels, clock=self.clock)
        self.running = asyncio.create_task(self.process.run())
        await until(lambda: self.process.readiness.started or self.running.done())

    async def end(self) -> None:
        self.process.stopping.set()
        await self.running
        await self.view.stop()
        await self.provider.stop()

    def received(self, name: str, *parts: Part, who: str = "ana", channel: str = "pigeon") -> Event[Fact]:
        party = Identifier("pigeon", who, "x", key=f"{who:k<22}"[:22])
        data = MessageReceived(
            provider_id=name, party=party, received_at=self.clock(), leg="sms", sender=Sender(party), parts=parts
        )
        return Event(f"e-{name}", "acme", party.key, self.clock(), data, channel, "main")

    async def say(self, *events: Event[Fact]) -> None:
        await self.publisher.emit(topics.EVENTS, events)

    def results(self, name: str) -> list[Any]:
        found = {e.id: e.data for e in self.told if isinstance(e.data, MediaStored | MediaFailed)}
        return [one for one in found.values() if one.provider_id == name]

    async def result(self, name: str) -> Any:
        return (await until(lambda: self.results(name), what=f"media of {name}"))[0]

    def file(self, content: bytes) -> str:
        name = hashlib.sha256(content).hexdigest()[:12]
        self.provider.files[name] = content
        return name


@pytest.fixture
async def w(settings: CommonSettings, mongo: Mongo, publisher: Publisher, tmp_path: Path) -> AsyncIterator[World]:
    one = World(settings, mongo, publisher, tmp_path)
    await one.begin()
    yield one
    await one.end()


async def test_a_file_is_fetched_with_the_account_s_key_kept_by_its_hash_and_announced(w: World) -> None:
    ref = w.file(PNG)
    said = w.received("m1", Part("text", text="look"), Part("image", ref=ref, media_type="text/html", name="añá.png"))
    await w.say(said, said)
    await w.say(said)
    stored = await w.result("m1")
    await w.say(w.received("m2", Part("image", ref=w.file(PNG + b"2"))))
    await w.result("m2")

    assert isinstance(stored, MediaStored)
    assert (stored.sha256, stored.size, stored.media_type) == (hashlib.sha256(PNG).hexdigest(), len(PNG), "image/png")
    assert (stored.part, stored.name, stored.leg) == (1, "añá.png", "sms")
    assert await w.store.load("acme", stored.sha256, 10_000) == PNG
    assert w.provider.asked[:2] == [(f"/api/media/{ref}", "Bearer key"), (f"/cdn/files/{ref}", "Bearer key")]
    assert len(w.provider.asked) == 4

    event = next(one for one in w.told if one.data == stored)

    assert (event.key, event.channel, event.account) == (said.key, "pigeon", "main")


async def test_what_fails_for_now_is_tried_again_and_what_breaks_off_too(w: World) -> None:
    w.provider.statuses.extend([503, 401])
    await w.say(w.received("m1", Part("image", ref=w.file(PNG))), w.received("m2", Part("image", ref="broken")))
    await until(lambda: w.provider.asked.count(("/cdn/files/broken", "Bearer key")) >= 1)
    for _ in range(4):
        w.clock.forward(60)
        await asyncio.sleep(0.2)
    await w.result("m1")

    assert isinstance(await w.result("m1"), MediaStored)

    w.clock.forward(25 * 3600)
    failed = await w.result("m2")

    assert isinstance(failed, MediaFailed)
    assert "gave up after" in failed.reason
    assert w.provider.asked.count(("/cdn/files/broken", "Bearer key")) > 1
    assert not [path for path in w.settings.media_dir.rglob("*") if path.name.startswith(".new")]


async def test_what_is_gone_or_too_large_fails_at_once_and_leaves_nothing(w: World) -> None:
    large = w.file(b"\x89PNG\r\n\x1a\n" + b"\x00" * 20_000)
    await w.say(w.received("m1", Part("image", ref="none")), w.received("m2", Part("image", ref=large)))
    gone, too_large = await w.result("m1"), await w.result("m2")

    assert gone.reason == "the provider answered 404"
    assert too_large.reason == "more than 10000 bytes"
    assert [path for path in w.settings.media_dir.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("channel", ["pigeon", "owl"])
async def test_an_address_inside_our_own_network_is_never_asked(w: World, channel: str) -> None:
    port = w.provider.port
    inside = [f"https://127.0.0.1:{port}/secret", f"http://127.0.0.1:{port}/secret", "https://localhost/secret"]
    refs = [f"r{n}" for n in range(len(inside))]
    w.provider.links.update(zip(refs, inside, strict=True))
    parts = [Part("image", ref=ref) for ref in (refs if channel == "pigeon" else [one for one in inside if "https" in one])]
    await w.say(*(w.received(f"m{n}", part, channel=channel) for n, part in enumerate(parts)))
    for n in range(len(parts)):
        failed = await w.result(f"m{n}")

        assert isinstance(failed, MediaFailed)
        assert "not one to fetch from" in failed.reason

    assert w.provider.canary == 0


async def test_a_redirect_to_another_origin_gets_no_credentials(w: World) -> None:
    ref = w.file(PNG)
    await w.say(w.received("m1", Part("file", ref=f"to-{ref}"), channel="owl"))
    await w.result("m1")

    assert w.provider.asked == [(f"/api/files/to-{ref}", "Bearer key"), (f"/cdn/files/{ref}", "")]


async def test_what_we_have_already_is_announced_without_a_fetch(w: World) -> None:
    stored = await w.store.put("acme", PNG)
    upload = Part("image", ref=upload_ref(stored.sha256), media_type="image/png", name="a.png")
    party = Identifier("pigeon", "ana", "x", key="a" * 22)
    sent = MessageSent(provider_id="p1", party=party, received_at=w.clock(), parts=(upload,), outbound_id="o1")
    lost = Part("image", ref=upload_ref("0" * 64))
    await w.say(w.received("m1", upload), w.received("m2", lost))
    await w.say(Event("e-p1", "acme", party.key, w.clock(), sent, "pigeon", "main"))

    assert (await w.result("m1")).sha256 == (await w.result("p1")).sha256 == stored.sha256
    assert (await w.result("m2")).reason == "the file is not in the media store"
    assert w.provider.asked == []


async def test_a_recording_of_a_call_is_kept_too(w: World) -> None:
    party = Identifier("tel", "+49", key="a" * 22)
    ref = w.file(b"ID3" + b"\x00" * 50)
    call = CallRecorded(provider_id="c1", party=party, received_at=w.clock(), sender=Sender(party), recording=ref)
    await w.say(Event("e-c1", "acme", party.key, w.clock(), call, "owl", "main"))

    assert (await w.result("c1")).media_type == "audio/mpeg"


def mail() -> bytes:
    one = EmailMessage()
    one["From"], one["Subject"] = "ana@example.org", "¡Hola!"
    one.set_content("See the picture.")
    one.add_attachment(PNG, maintype="image", subtype="png", filename="a.png")
    return one.as_bytes()


async def test_an_attachment_is_taken_out_of_the_mail_that_the_door_kept(w: World) -> None:
    kept = await w.store.put("acme", mail(), area="mail")
    await w.say(w.received("m1", Part("image", ref=f"{kept.sha256}/1", name="a.png")))
    await w.say(w.received("m2", Part("image", ref=f"{kept.sha256}/9")), w.received("m3", Part("file", ref=f"{'0' * 64}/1")))

    assert (await w.result("m1")).sha256 == hashlib.sha256(PNG).hexdigest()
    assert (await w.result("m2")).reason == "the mail has no such attachment"
    assert (await w.result("m3")).reason == "the mail is not in the media store any more"


async def test_a_mail_that_takes_too_long_or_too_much_is_given_up() -> None:
    deep = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(2000))
    with pytest.raises(NoAttachment):
        await extracted(deep, 0)
    with pytest.raises(NoAttachment, match="died"):
        await extracted(mail() + b"\n" * 30_000_000, 1, Bounds(memory_bytes=1024))
    with pytest.raises(TimeoutError):
        await extracted(mail(), 1, Bounds(wait_s=0.01))


async def test_a_person_s_files_go_with_the_person_but_not_what_somebody_else_has_too(w: World) -> None:
    own, shared = w.file(PNG), w.file(PNG + b"shared")
    await w.say(w.received("m1", Part("image", ref=own)), w.received("m2", Part("image", ref=shared)))
    await w.say(w.received("m3", Part("image", ref=shared), who="ben"))
    first, second, third = await w.result("m1"), await w.result("m2"), await w.result("m3")
    erased = CustomerChanged(
        type="hilo.customer.erased.v1", customer_id="x", identifiers=(f"{'ana':k<22}",), version=1, at=w.clock()
    )
    await w.publisher.emit(topics.IDENTITY_CHANGES, [Event("ch1", "acme", "x", w.clock(), erased)])

    async def gone() -> bool:
        return await w.store.find("acme", first.sha256) is None

    await until(gone)
    collection = w.mongo.database("ingest")["media"]

    async def forgotten() -> bool:
        return await collection.count_documents({"state": "erased", "sha256": None, "ref": ""}) == 2

    await until(forgotten)

    assert second.sha256 == third.sha256
    assert await w.store.find("acme", third.sha256)
    assert await collection.count_documents({"person": f"{'ana':k<22}"}) == 0


async def test_what_was_stored_and_not_announced_is_announced_by_the_poll_with_the_same_id(w: World) -> None:
    await w.say(w.received("m1", Part("image", ref=w.file(PNG))))
    first = await w.result("m1")
    collection = w.mongo.database("ingest")["media"]

    async def told() -> bool:
        return await collection.count_documents({"told": True, "next_at": None}) == 1

    await until(told)
    await collection.update_one({}, {"$set": {"told": False, "next_at": w.clock()}})  # as a crash before the note leaves it
    copies = await until(lambda: [one for one in w.told if isinstance(one.data, MediaStored)][1:])

    assert copies[0].data == first
    assert len({one.id for one in w.told if isinstance(one.data, MediaStored)}) == 1
    assert len(w.provider.asked) == 2
