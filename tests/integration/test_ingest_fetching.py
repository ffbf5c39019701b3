"""What a notification only names is asked for until it is on the log, by the real process and a provider that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest
from aiohttp import web

from services.common import topics as t
from services.common.events import DeadLettered
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.ingest import fetching
from services.ingest.settings import IngestSettings
from tests.ingesting import body, connect, events, header, ingest_settings, message, records, running, signed, tenant
from tests.waiting import until


@dataclass
class Provider:
    """Answers with the statuses it was told, in order, and then with the message."""

    statuses: list[int] = field(default_factory=list)
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append((request.method, request.path, request.headers.get("authorization", "")))
        await self.hold.wait()
        status = self.statuses.pop(0) if self.statuses else 200
        headers = {"retry-after": "0"} if status in (429, 503) else {}
        return web.Response(status=status, body=body(message(7)) if status == 200 else b"no", headers=headers)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    one = Provider()
    one.hold.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", one.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield one
    one.hold.set()
    await runner.cleanup()


@pytest.fixture
async def own(settings: CommonSettings, topics: None, provider: Provider) -> IngestSettings:
    return ingest_settings(settings, provider_origins={"https://api.pigeon.example": provider.url})


@pytest.fixture
async def acme(mongo: Mongo) -> dict[str, str]:
    return await tenant(mongo, "acme")


async def notify(client: httpx.AsyncClient) -> None:
    payload = body({"type": "named", "id": "7"})
    answer = await client.post("/webhooks/pigeon/main", content=payload, headers=signed(payload))
    assert answer.status_code == 200


async def facts(own: IngestSettings) -> list[str]:
    return [event.data.provider_id for event in await events(own, t.EVENTS)]  # type: ignore[attr-defined]


async def test_what_was_named_is_fetched_and_is_an_input_of_its_own(
    own: IngestSettings, acme: dict[str, str], provider: Provider, mongo: Mongo
) -> None:
    async with running(own) as client:
        await connect(client, acme)
        await notify(client)
        assert await until(lambda: facts(own)) == ["m7"]
        first, second = sorted(await records(own, t.RAW), key=lambda record: record.offset)

        async def done() -> bool:
            return await mongo.database("ingest")["fetches"].count_documents({}) == 0

        await until(done)

    assert provider.seen == [("GET", "/messages/7", "Bearer key-of-the-api")]
    assert header(first, "hilo_verdict") == {"items": 1, "normalized": 1, "fetches": ["7"]}
    assert (header(second, "hilo_input")["door"], header(second, "hilo_input")["headers"]["hilo-fetch"]) == ("fetched", "7")


async def test_a_provider_that_is_not_ready_is_asked_again(
    own: IngestSettings, acme: dict[str, str], provider: Provider
) -> None:
    provider.statuses = [503, 429]
    async with running(own) as client:
        await connect(client, acme)
        await notify(client)
        await until(lambda: facts(own))

    assert len(provider.seen) == 3


async def test_what_is_gone_is_kept_and_set_aside_so_that_it_leaves_a_trace(
    own: IngestSettings, acme: dict[str, str], provider: Provider
) -> None:
    provider.statuses = [404]
    async with running(own) as client:
        await connect(client, acme)
        await notify(client)
        [letter] = await until(lambda: events(own, t.DEAD))

    assert isinstance(letter.data, DeadLettered)
    assert (letter.data.reason, letter.data.kind) == ("fetch failed: answered 404", "fetch")
    assert len(provider.seen) == 1


async def test_a_process_that_dies_while_asking_leaves_the_fetch_to_the_next(
    own: IngestSettings, acme: dict[str, str], provider: Provider, mongo: Mongo
) -> None:
    provider.hold.clear()
    async with running(own.model_copy(update={"drain_s": 0.2})) as client:
        await connect(client, acme)
        await notify(client)
        await until(lambda: provider.seen)
    provider.hold.set()

    assert await facts(own) == []

    kept = mongo.database("ingest")["fetches"]
    assert await kept.count_documents({"tries": 1}) == 1
    document = await kept.find_one({})
    assert document
    assert b"key-of-the-api" not in bytes(document["request"])
    await kept.update_one({}, {"$set": {"due_at": document["due_at"] - fetching.LEASE}})
    async with running(own.model_copy(update={"port": ingest_settings(own).port})):
        assert await until(lambda: facts(own)) == ["m7"]


async def test_the_provider_is_told_where_to_call_us(own: IngestSettings, acme: dict[str, str], provider: Provider) -> None:
    url = "/v1/accounts/pigeon/main/subscribe"
    async with running(own) as client:
        assert (await client.post(url, headers=acme)).status_code == 404
        await connect(client, acme)
        answer = await client.post(url, headers=acme)
        provider.statuses = [403]
        refused = await client.post(url, headers=acme)

    assert answer.json() == {"url": "http://127.0.0.1:8101/webhooks/pigeon/main", "status": 200}
    assert (refused.status_code, refused.json()["code"], refused.json()["status_given"]) == (502, "provider_refused", 403)
    assert provider.seen[0] == ("POST", "/hooks", "Bearer key-of-the-api")
