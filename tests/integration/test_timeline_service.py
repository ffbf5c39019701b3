"""The whole service over Kafka and HTTP: what goes into the log comes out of the API and the stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fastapi import Request

from deploy.local.embedded import EmbeddedBroker, free_port
from services.common import topics as t
from services.common.auth import Auth, Keyring, Principal
from services.common.cloudevents import Event, Record, encode
from services.common.errors import Problem
from services.common.events import Data, MessageEdited, Part, ParticipantTyping
from services.common.identifiers import Identifier, keyed
from services.common.kafka import Publisher, create_topics
from services.common.media import FileMediaStore, MediaLinks
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.vault import vault
from services.timeline.access import Access
from services.timeline.app import build
from services.timeline.settings import TimelineSettings
from tests.histories import appended, changed, entry, event, fact, mapped, queued, said, sender, sent, who
from tests.timeline_parts import topic_of
from tests.waiting import until

TOPIC = {topic.name: topic for topic in t.TOPICS}
PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 64


async def publish(publisher: Publisher, *data: Data | Event[Data]) -> None:
    for one in data:
        whole = one if isinstance(one, Event) else event(one)
        await publisher.emit(TOPIC[topic_of(whole.data)], [whole])


@dataclass
class Service:
    """A running process and a client with a key."""

    url: str
    key: str
    settings: TimelineSettings
    http: aiohttp.ClientSession

    async def get(self, path: str, *, key: str | None = None, **headers: str) -> tuple[int, Any]:
        sent = {"authorization": f"Bearer {key or self.key}", **headers}
        async with self.http.get(self.url + path, headers={k: v for k, v in sent.items() if v}) as answer:
            return answer.status, json.loads(await answer.text() or "null")

    async def found(self, path: str) -> bool:
        return (await self.get(path))[0] == 200

    async def items(self, path: str) -> list[dict[str, Any]]:
        status, body = await self.get(path)
        found: list[dict[str, Any]] = body["items"] if status == 200 else []
        return found


def settings_of(settings: CommonSettings, tmp_path: Path, **more: Any) -> TimelineSettings:
    stated = {**settings.model_dump(), "host": "127.0.0.1", "port": free_port(), "media_dir": tmp_path, **more}
    return TimelineSettings(**stated)


@asynccontextmanager
async def serving(settings: TimelineSettings, mongo: Mongo) -> AsyncIterator[Service]:
    process = build(settings)
    task = asyncio.create_task(process.run())
    keyring = Keyring(mongo, vault(settings))
    await keyring.create_tenant("acme")
    key = await keyring.create_key("acme", "test", frozenset(("read",)))
    try:
        await until(lambda: process.readiness.started or task.done(), within_s=30)
        async with aiohttp.ClientSession() as http:
            yield Service(f"http://127.0.0.1:{settings.port}", key, settings, http)
    finally:
        process.stopping.set()
        await task


@dataclass
class Line:
    """A client of `/v1/stream` as a browser is one: it keeps the last id and comes back with it."""

    service: Service
    query: str
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    last: str = ""
    lines: list[str] = field(default_factory=list)

    async def run(self) -> None:
        headers = {"authorization": f"Bearer {self.service.key}", **({"last-event-id": self.last} if self.last else {})}
        name, data = "", ""
        async with self.service.http.get(f"{self.service.url}/v1/stream?{self.query}", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.content_type == "text/event-stream"
            async for raw in answer.content:
                line = raw.decode().rstrip("\n")
                self.lines.append(line)
                kind, _, value = line.partition(": ")
                if kind == "id":
                    self.last = value
                elif kind == "event":
                    name = value
                elif kind == "data":
                    data = value
                elif not line and data:
                    self.events.append((name, json.loads(data)))
                    name, data = "", ""

    @property
    def texts(self) -> list[str]:
        return [view["text"] for _, view in self.events if view.get("text")]


def told(line: Line, count: int) -> bool:
    return len(line.texts) == count


@asynccontextmanager
async def listening(line: Line) -> AsyncIterator[Line]:
    task = asyncio.create_task(line.run())
    try:
        await until(lambda: line.last or task.done())
        if task.done():
            task.result()
        yield line
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, aiohttp.ClientError):
            await task


@pytest.fixture
async def service(settings: CommonSettings, publisher: Publisher, mongo: Mongo, tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(settings_of(settings, tmp_path), mongo) as one:
        yield one


async def test_what_is_said_anywhere_is_one_history_and_a_stream_goes_on_where_the_page_ends(
    service: Service, publisher: Publisher
) -> None:
    await publish(publisher, mapped("ana", "c1"), mapped("ana-mail", "c1"), said("m1", "en público", 1), changed("v1", 1))
    await until(lambda: service.items("/v1/customers/c1/timeline"))
    _, page = await service.get("/v1/customers/c1/timeline")
    await publish(publisher, said("m2", "por correo", 2, "ana-mail"), appended("v1", "m1"))
    async with listening(Line(service, f"customer=c1&since={page['live']}")) as line:
        await until(lambda: "por correo" in line.texts)
        await publish(publisher, queued("v1", 2, "o1", "lo arreglamos", 3), sent("p1", "lo arreglamos", 4, outbound_id="o1"))
        await until(lambda: any(view.get("status") == "sent" for _, view in line.events))
    status, page = await service.get("/v1/customers/c1/timeline?limit=3")
    thread = await service.items("/v1/conversations/v1/entries")
    rows = await service.items("/v1/conversations?view=open")

    assert status == 200
    assert [one["text"] for one in page["items"]] == ["lo arreglamos", "por correo", "en público"]
    assert [(one["kind"], one["text"]) for one in thread] == [
        ("message", "lo arreglamos"),
        ("message", "en público"),
        ("conversation", None),
    ]
    assert (rows[0]["id"], rows[0]["last"]["text"], rows[0]["head"]["queue"]) == ("v1", "lo arreglamos", "support")
    assert ("removed", thread[0]["id"]) not in [(name, view.get("id")) for name, view in line.events]
    _, older = await service.get(f"/v1/customers/c1/timeline?before={page['older']}")
    assert [one["kind"] for one in older["items"]] == ["conversation"]
    assert older["older"] is None


async def test_clients_that_are_cut_and_come_back_to_either_process_miss_nothing_and_get_nothing_twice(
    settings: CommonSettings, publisher: Publisher, mongo: Mongo, tmp_path: Path
) -> None:
    first, second = settings_of(settings, tmp_path), settings_of(settings, tmp_path, timeline_project=False)
    names = [f"i{n}" for n in range(5)]
    async with serving(first, mongo) as one, serving(second, mongo) as two:
        await publish(publisher, *(mapped(name, f"c-{name}") for name in names))
        lines = [Line((one, two)[n % 2], f"customer=c-{name}") for n, name in enumerate(names)] + [Line(two, "tenant=1")]
        done = asyncio.Event()

        async def come_and_go(line: Line, number: int) -> None:
            while not done.is_set():
                async with listening(line):
                    with suppress(TimeoutError):
                        await asyncio.wait_for(done.wait(), 0.1 + number % 3 * 0.07)
                line.service = two if line.service is one else one

        going = [asyncio.create_task(come_and_go(line, number)) for number, line in enumerate(lines)]
        await until(lambda: all(line.last for line in lines))
        for number in range(60):
            await publish(publisher, said(f"m{number}", f"t{number}", number, names[number % 5]))
            if number % 7 == 0:
                edit = fact(
                    MessageEdited, f"m{number}", number, customer=None, revision="1", parts=(Part("text", f"e{number}"),)
                )
                await publish(publisher, event(edit, key=who(names[number % 5]).key))
        wanted = [sorted(f"t{n}" for n in range(60) if n % 5 == place) for place in range(5)] + [
            sorted(f"t{n}" for n in range(60))
        ]

        def complete() -> bool:
            seen = ({view["id"] for name, view in line.events if name in ("entry", "revised")} for line in lines)
            return all(len(ids) == len(texts) for ids, texts in zip(seen, wanted, strict=True))

        await until(complete, within_s=60)
        done.set()
        await asyncio.gather(*going)
        for line, texts in zip(lines, wanted, strict=True):
            entries = [view for name, view in line.events if name == "entry"]
            assert len([view["id"] for view in entries]) == len({view["id"] for view in entries}) == len(texts)
        final = {view["id"]: view["text"] for name, view in lines[-1].events if name in ("entry", "revised")}
        assert final[entry("m7")] == "e7"


async def test_a_shout_of_bad_requests_gets_clear_answers(service: Service, mongo: Mongo) -> None:
    keyring = Keyring(mongo, vault(service.settings))
    ingest = await keyring.create_key("acme", "door", frozenset(("ingest",)))
    cases: Sequence[tuple[str, int, str]] = (
        ("/v1/customers/c1/timeline?before=junk", 422, "cursor_invalid"),
        (f"/v1/customers/c1/timeline?before={'A' * 42}", 422, "cursor_invalid"),
        ("/v1/customers/c1/timeline?limit=0", 422, "body_invalid"),
        ("/v1/customers/nobody/timeline", 404, "not_found"),
        ("/v1/conversations/nothing", 404, "not_found"),
        ("/v1/conversations/nothing/entries", 404, "not_found"),
        ("/v1/entries/nothing", 404, "not_found"),
        ("/v1/dead/nothing", 404, "not_found"),
        ("/v1/conversations?view=mine", 422, "agent_missing"),
        ("/v1/stream", 422, "subject_missing"),
        ("/v1/stream?tenant=1&since=junk", 422, "event_id_invalid"),
        ("/v1/lookup?scheme=tel&value=12", 422, "not_an_identifier"),
        ("/v1/lookup?scheme=tel&value=%2B491511234567", 404, "not_found"),
        ("/v1/media/" + "a" * 64, 404, "not_found"),
        ("/v1/media/..%2F..%2Fetc", 404, "http"),
    )
    for path, status, code in cases:
        found, body = await service.get(path)
        assert (found, body["code"]) == (status, code), path
    assert (await service.get("/v1/channels", key="wrong"))[0] == 401
    assert (await service.get("/v1/channels", key=ingest))[1]["code"] == "scope_missing"
    status, body = await service.get("/openapi.json")
    assert status == 200
    assert "/v1/stream" in body["paths"]


async def test_another_tenant_sees_and_hears_nothing(service: Service, publisher: Publisher, mongo: Mongo) -> None:
    keyring = Keyring(mongo, vault(service.settings))
    await keyring.create_tenant("other")
    theirs = await keyring.create_key("other", "test", frozenset(("read",)))
    other = Service(service.url, theirs, service.settings, service.http)
    async with listening(Line(other, "tenant=1")) as line, listening(Line(service, "tenant=1")) as ours:
        await publish(publisher, mapped("ana", "c1"), said("m1", "privado"), changed("v1", 1))
        await until(lambda: "privado" in ours.texts)
        await until(lambda: any(name == "conversation" for name, _ in ours.events))
        before = len(line.lines)
        await publish(publisher, event(said("mx", "de otros"), tenant="other"))
        await until(lambda: line.texts)
        assert before <= len(line.lines)
    assert line.texts == ["de otros"]
    for path in ("/v1/customers/c1/timeline", "/v1/conversations/v1", f"/v1/entries/{entry('m1')}"):
        assert (await other.get(path))[0] == 404


async def test_a_person_is_found_by_what_they_are_known_by(service: Service, publisher: Publisher, mongo: Mongo) -> None:
    tenant_key = await Keyring(mongo, vault(service.settings)).tenant_key("acme")
    phone = keyed(tenant_key, Identifier("tel", "+49 151 1234567"))
    record = mapped("ana", "c1").model_copy(update={"identifier": phone.key})
    await publish(publisher, event(record, key=phone.key))

    async def found() -> Any:
        status, body = await service.get("/v1/lookup?scheme=tel&value=%2B49%20151%201234567")
        return body if status == 200 else None

    assert await until(found) == {"customer_id": "c1", "key": phone.key}


async def test_who_types_is_heard_and_not_kept(service: Service, publisher: Publisher) -> None:
    await publish(publisher, mapped("ana", "c1"))
    await until(partial(service.found, "/v1/customers/c1/timeline"))
    async with listening(Line(service, "customer=c1")) as line:

        async def typed() -> bool:
            typing = fact(ParticipantTyping, "", sender=sender("ana"), received_at=datetime.now(UTC))
            await publisher.emit(t.LIVE, [event(typing, key=who("ana").key)])
            return any(name == "typing" for name, _ in line.events)

        await until(typed, every_s=0.2)
    heard = [view for name, view in line.events if name == "typing"]

    assert (heard[0]["name"], heard[0]["party"]) == ("Ana", who("ana").key)


async def test_what_is_no_event_is_set_aside_and_shown_as_a_dead_letter(service: Service, publisher: Publisher) -> None:
    good = encode(t.CUSTOMER_EVENTS.name, event(said("m1", "bien")))
    await publisher.publish([Record(good.topic, good.key, b"\xff junk", good.headers)])
    await publish(publisher, mapped("ana", "c1"), said("m2", "después"))
    letters = await until(lambda: service.items("/v1/dead"))
    entries = await until(lambda: service.items("/v1/customers/c1/timeline"))
    _, whole = await service.get(f"/v1/dead/{letters[0]['dead_id']}")

    assert [one["text"] for one in entries] == ["después"]
    assert (letters[0]["stage"], letters[0]["topic"], letters[0]["state"]) == ("timeline", "hilo.customer.events", "open")
    assert whole["body"] == "/yBqdW5r"


async def test_media_are_served_to_readers_and_under_signed_addresses(service: Service, tmp_path: Path) -> None:
    store, links = FileMediaStore(tmp_path), MediaLinks(service.settings, service.url)
    picture, page = await store.put("acme", PNG), await store.put("acme", b"<html><script>alert(1)</script>")
    auth = {"authorization": f"Bearer {service.key}"}
    async with service.http.get(f"{service.url}/v1/media/{picture.sha256}", headers=auth) as answer:
        assert (answer.status, answer.content_type, await answer.read()) == (200, "image/png", PNG)
        assert "content-disposition" not in answer.headers
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    async with service.http.get(f"{service.url}/v1/media/{page.sha256}", headers=auth) as answer:
        assert answer.content_type == "text/plain"
        assert answer.headers["content-disposition"].startswith("attachment")
    async with service.http.get(f"{service.url}/v1/media/{picture.sha256}", headers={**auth, "range": "bytes=1-3"}) as answer:
        assert (answer.status, await answer.read()) == (206, b"PNG")
        assert answer.headers["content-range"] == f"bytes 1-3/{len(PNG)}"
    now = datetime.now(UTC)
    good = links.url("acme", picture.sha256, now, timedelta(minutes=5))
    for url, status in (
        (good, 200),
        (good[:-1] + ("0" if good[-1] != "0" else "1"), 404),
        (links.url("acme", picture.sha256, now, timedelta(seconds=-5)), 404),
    ):
        async with service.http.get(url) as answer:
            assert answer.status == status
    async with service.http.get(f"{service.url}/v1/media/{picture.sha256}") as answer:
        assert answer.status == 401


async def test_a_broker_that_forgot_everything_is_a_new_log_and_open_clients_go_on(
    mongo: Mongo, mongo_settings: CommonSettings, tmp_path: Path
) -> None:
    """The embedded broker keeps nothing: after it offsets begin at 0 again, far behind what every client has read."""
    texts: list[str] = []
    last = ""
    for round_ in range(2):
        broker = EmbeddedBroker(tmp_path / f"broker{round_}")
        broker.start()
        settings = settings_of(mongo_settings, tmp_path / "media", kafka=broker.servers)
        await create_topics(settings)
        publisher = Publisher(settings)
        async with serving(settings, mongo) as service:
            line = Line(service, "tenant=1", last=last)
            async with listening(line):
                many = [said(f"r{round_}m{n}", f"ronda {round_} {n}", n) for n in range(20 - 15 * round_)]
                await publish(publisher, *many)
                await until(partial(told, line, len(many)))
            texts += line.texts
            last = line.last
        await publisher.stop()
        broker.stop()
    lanes = await mongo.database("timeline")["lanes"].count_documents({"t": "hilo.customer.events"})

    assert texts == [f"ronda 0 {n}" for n in range(20)] + [f"ronda 1 {n}" for n in range(5)]
    assert lanes == 2


async def test_a_browsers_cookie_is_a_credential_through_its_port(mongo: Mongo, mongo_settings: CommonSettings) -> None:
    async def session(request: Request) -> Principal | None:
        return Principal("acme", frozenset(("agent",))) if request.cookies.get("hilo") == "signed" else None

    access = Access(Auth(Keyring(mongo, vault(mongo_settings)), mongo_settings), session)
    check = access.requires("read", "agent")

    def request(**headers: str) -> Request:
        return Request({"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]})

    assert (await check(request(cookie="hilo=signed"))).tenant == "acme"
    for other in (request(cookie="hilo=forged"), request(), request(cookie="hilo=signed", authorization="Bearer wrong")):
        with pytest.raises(Problem, match="401"):
            await check(other)
    with pytest.raises(Problem, match="403"):
        await access.requires("write")(request(cookie="hilo=signed"))
