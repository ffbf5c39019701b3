"""The journey API through the real process: keys, signatures, batches that come again, and reasons item by item."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from services.common import topics as t
from services.common.events import JourneyStep
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.ingest.channels.journey import CHANNEL
from services.ingest.contract import Registry
from services.ingest.settings import IngestSettings
from tests.ingesting import connect, events, header, ingest_settings, records, running, tenant

SECRET = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


@pytest.fixture
async def own(settings: CommonSettings, topics: None) -> IngestSettings:
    return ingest_settings(settings)


@pytest.fixture
async def api(own: IngestSettings, mongo: Mongo) -> AsyncIterator[httpx.AsyncClient]:
    async with running(own, Registry({"journey": CHANNEL}, {})) as client:
        await connect(
            client, await tenant(mongo, "acme"), "journey/shop", site="shop.example", signing_secret=f"whsec_{SECRET}"
        )
        yield client


@pytest.fixture
async def acme(mongo: Mongo) -> dict[str, str]:
    return await tenant(mongo, "acme", "ingest")


def step(number: int = 1, **changes: Any) -> dict[str, Any]:
    who = [{"scheme": "email", "value": "ana@example.com"}]
    return {"id": f"s{number}", "type": "order.placed", "identities": who, "title": f"Bestellung {number}", **changes}


async def test_a_batch_is_on_the_log_with_the_callers_proof(
    api: httpx.AsyncClient, own: IngestSettings, acme: dict[str, str]
) -> None:
    answer = await api.post("/v1/journey", json={"items": [step(1), step(2)]}, headers={**acme, "hilo-proof": "browser"})
    facts, [raw] = await events(own, t.EVENTS), await records(own, t.RAW)

    assert answer.status_code == 200
    assert answer.json() == {
        "items": 2,
        "normalized": 2,
        "event_ids": [fact.id for fact in facts],
        "quarantined": [],
        "ignored": [],
    }
    assert [fact.data.title for fact in facts if isinstance(fact.data, JourneyStep)] == ["Bestellung 1", "Bestellung 2"]
    assert header(raw, "hilo_input")["headers"]["hilo-proof"] == "signed"
    assert "authorization" not in header(raw, "hilo_input")["headers"]


async def test_the_same_batch_again_is_the_same_events(
    api: httpx.AsyncClient, own: IngestSettings, acme: dict[str, str]
) -> None:
    answers = [await api.post("/v1/journey", json={"items": [step(1)]}, headers=acme) for _ in range(2)]

    assert answers[0].json() == answers[1].json()
    assert len({fact.id for fact in await events(own, t.EVENTS)}) == 1


async def test_a_bad_event_is_named_with_its_reason_and_the_others_go_on(
    api: httpx.AsyncClient, own: IngestSettings, acme: dict[str, str]
) -> None:
    batch = [step(1), step(2, identities=[]), {"id": "s3", "type": "moon.landed", "identities": []}]
    answer = (await api.post("/v1/journey", json={"items": batch}, headers=acme)).json()
    [letter] = await events(own, t.DEAD)

    assert (answer["items"], answer["normalized"]) == (3, 1)
    assert [(one["path"], one["dead_id"]) for one in answer["quarantined"]] == [("items[1]", letter.id)]
    assert answer["ignored"] == [{"kind": "moon.landed", "reason": "unknown kind", "count": 1}]


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"{", "body_invalid"), (orjson.dumps({"items": [step(n) for n in range(501)]}), "too_many_events")],
)
async def test_what_cannot_be_taken_is_422_and_nothing_of_it_is_kept(
    api: httpx.AsyncClient, own: IngestSettings, acme: dict[str, str], content: bytes, code: str
) -> None:
    answer = await api.post("/v1/journey", content=content, headers=acme)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert await records(own, t.RAW) == []


async def test_five_hundred_events_are_one_call(api: httpx.AsyncClient, own: IngestSettings, acme: dict[str, str]) -> None:
    answer = await api.post("/v1/journey", json={"items": [step(n) for n in range(500)]}, headers=acme)

    assert answer.json()["normalized"] == 500
    assert len({fact.id for fact in await events(own, t.EVENTS)}) == 500


def signed(content: bytes, secret: str = SECRET, *, at: float | None = None, name: str = "batch-1") -> dict[str, str]:
    """As the Standard Webhooks page says it, not as our own check computes it."""
    stamp = str(int(time.time() if at is None else at))
    key = base64.b64decode(secret)
    mac = hmac.new(key, b".".join((name.encode(), stamp.encode(), content)), hashlib.sha256).digest()
    return {"webhook-id": name, "webhook-timestamp": stamp, "webhook-signature": f"v1,{base64.b64encode(mac).decode()}"}


async def test_a_server_may_sign_instead_of_having_a_key(api: httpx.AsyncClient, own: IngestSettings) -> None:
    content = orjson.dumps({"items": [step(1)]})
    other = base64.b64encode(b"x" * 32).decode()
    good = signed(content)

    async def status(headers: dict[str, str], account: str = "?account=shop") -> int:
        return (await api.post(f"/v1/journey{account}", content=content, headers=headers)).status_code

    assert await status(good) == 200
    assert await status(good | {"webhook-signature": f"v1,AAAA v1a,xyz {good['webhook-signature']}"}) == 200
    for headers in (
        signed(content, other),
        signed(content, at=time.time() - 400),
        signed(content + b" "),
        good | {"webhook-id": "another"},
        good | {"webhook-signature": "v1,\xe4"},
        good | {"webhook-timestamp": "1" * 30},
        good | {"webhook-timestamp": ""},
    ):
        assert await status({name: value.encode("latin-1") for name, value in headers.items()}) == 401  # type: ignore[misc]
    assert await status(good, "") == 401
    assert await status(good, "?account=nobody") == 401
    assert len(await records(own, t.RAW)) == 2


async def test_a_key_of_another_tenant_does_not_find_the_account(api: httpx.AsyncClient, mongo: Mongo) -> None:
    await tenant(mongo, "globex")
    globex = await tenant(mongo, "globex", "ingest")

    assert (await api.post("/v1/journey?account=shop", json={"items": [step(1)]}, headers=globex)).status_code == 404
    assert (await api.post("/v1/journey", json={"items": [step(1)]}, headers=globex)).status_code == 404
