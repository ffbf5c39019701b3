"""Dead letters through the real process: found, looked at, mended, replayed, republished, discarded."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.common import topics as t
from services.common.cloudevents import Record, encode
from services.common.events import DeadDecided, DeadLettered, MessageReceived
from services.common.kafka import DeadLetters, Publisher
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.ingest.settings import IngestSettings
from tests.ingesting import body, connect, events, ingest_settings, message, records, running, signed, tenant
from tests.waiting import until

BAD = {**message(2), "sent_at": "yesterday"}


@pytest.fixture
async def own(settings: CommonSettings, topics: None) -> IngestSettings:
    return ingest_settings(settings)


@pytest.fixture
async def api(own: IngestSettings, mongo: Mongo) -> AsyncIterator[httpx.AsyncClient]:
    async with running(own) as client:
        admin = await tenant(mongo, "acme")
        await connect(client, admin)
        for name, number in (("flock/north", "N1"), ("flock/south", "S1")):
            await connect(client, admin, name, number=number, api_key="a", signing_key="key-that-signs")
        yield client


@pytest.fixture
async def acme(mongo: Mongo) -> dict[str, str]:
    return await tenant(mongo, "acme", "write")


async def post(api: httpx.AsyncClient, payload: bytes, url: str = "/webhooks/pigeon/main") -> None:
    assert (await api.post(url, content=payload, headers=signed(payload))).status_code == 200


async def letters(api: httpx.AsyncClient, who: dict[str, str], count: int = 1, **query: str) -> list[dict[str, Any]]:
    """The list, once it has so many."""

    async def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await api.get("/v1/dead", params=query, headers=who)).json()["dead"]
        return found if len(found) == count else []

    return await until(listed)


async def test_a_quarantined_item_is_found_with_its_slice(api: httpx.AsyncClient, acme: dict[str, str]) -> None:
    await post(api, body(message(1), BAD))
    [listed] = await letters(api, acme)
    whole = (await api.get(f"/v1/dead/{listed['id']}", headers=acme)).json()

    assert (listed["channel"], listed["path"], listed["kind"], listed["state"]) == ("pigeon", "events[1]", "message", "open")
    assert "sent_at" in listed["reason"]
    assert whole["slice"] == BAD
    assert (whole["mendable"], whole["stage"], whole["bug"]) == (True, "ingest", False)


async def test_a_dry_run_says_what_would_come_of_it_and_does_nothing(
    api: httpx.AsyncClient, own: IngestSettings, acme: dict[str, str]
) -> None:
    await post(api, body(BAD))
    [letter] = await letters(api, acme)
    answer = await api.post(f"/v1/dead/{letter['id']}/replay", json={"slice": message(2), "dry_run": True}, headers=acme)

    assert answer.status_code == 200
    assert [one["data"]["provider_id"] for one in answer.json()["events"]] == ["m2"]
    assert (answer.json()["state"], answer.json()["dry_run"]) == ("open", True)
    assert await events(own, t.EVENTS) == []
    assert len(await records(own, t.DEAD)) == 1


async def test_a_mended_item_becomes_the_fact_it_would_have_been(
    api: httpx.AsyncClient, own: IngestSettings, acme: dict[str, str]
) -> None:
    """The same id, key, place and time of receipt as if it had been right at first."""
    await post(api, body(message(1), message(2)))
    [_, meant] = await events(own, t.EVENTS)
    await post(api, body(message(1), BAD))
    [_, raw] = await records(own, t.RAW)
    [letter] = await letters(api, acme)
    answer = await api.post(f"/v1/dead/{letter['id']}/replay", json={"slice": message(2)}, headers=acme)
    [mended] = (await events(own, t.EVENTS))[3:]

    assert answer.json()["state"] == "replayed"
    assert (mended.id, mended.key, mended.origin) == (meant.id, meant.key, "live")
    assert isinstance(mended.data, MessageReceived)
    assert isinstance(meant.data, MessageReceived)
    received_at = datetime.fromisoformat(raw.attributes["time"])
    assert mended.data == meant.data.model_copy(update={"received_at": received_at})
    [decided] = [event.data for event in await events(own, t.DEAD) if isinstance(event.data, DeadDecided)]
    assert (decided.dead_id, decided.decision) == (letter["id"], "replayed")


async def test_replaying_twice_is_harmless(api: httpx.AsyncClient, own: IngestSettings, acme: dict[str, str]) -> None:
    await post(api, body(BAD))
    [letter] = await letters(api, acme)
    for _ in range(2):
        await api.post(f"/v1/dead/{letter['id']}/replay", json={"slice": message(2)}, headers=acme)

    assert len({event.id for event in await events(own, t.EVENTS)}) == 1
    [same] = await letters(api, acme, state="replayed")
    assert same["decision"]["by"]["kind"] == "system"


async def test_an_item_that_is_still_wrong_stays_open(
    api: httpx.AsyncClient, own: IngestSettings, acme: dict[str, str]
) -> None:
    await post(api, body(BAD))
    [letter] = await letters(api, acme)
    url = f"/v1/dead/{letter['id']}/replay"
    same, other, useless = [
        await api.post(url, json=json, headers=acme)
        for json in ({}, {"slice": {"id": "m2"}}, {"slice": {}, "kind": "heartbeat"})
    ]

    assert [(one.status_code, one.json()["code"]) for one in (same, other, useless)] == [
        (422, "still_unreadable"),
        (422, "still_unreadable"),
        (422, "produces_nothing"),
    ]
    assert await events(own, t.EVENTS) == []
    assert (await letters(api, acme, state="open"))[0]["id"] == letter["id"]


async def test_an_item_without_an_account_is_replayed_once_the_account_is_connected(
    api: httpx.AsyncClient, own: IngestSettings, acme: dict[str, str], mongo: Mongo
) -> None:
    await post(api, body(message(1, to="X9")), "/webhooks/flock/north")
    [letter] = await letters(api, acme)
    assert (await api.post(f"/v1/dead/{letter['id']}/replay", json={}, headers=acme)).status_code == 422
    await connect(api, await tenant(mongo, "acme", "admin"), "flock/west", number="X9", api_key="a", signing_key="b")
    answer = await api.post(f"/v1/dead/{letter['id']}/replay", json={}, headers=acme)
    [fact] = await events(own, t.EVENTS)

    assert answer.status_code == 200
    assert (fact.account, letter["account"]) == ("west", "north")


async def test_an_unreadable_input_is_mended_as_a_whole_and_is_an_input_again(
    api: httpx.AsyncClient, own: IngestSettings, acme: dict[str, str]
) -> None:
    await post(api, body(message(1), message(2))[:-3])
    [letter] = await letters(api, acme)
    mended = body(message(1), message(2)).decode()
    answer = await api.post(f"/v1/dead/{letter['id']}/replay", json={"slice": mended}, headers=acme)
    first, second = sorted(await records(own, t.RAW), key=lambda record: record.offset)

    assert answer.status_code == 200
    assert len(await events(own, t.EVENTS)) == 2
    assert (first.attributes["time"], second.value) == (second.attributes["time"], mended.encode())


async def test_what_was_set_aside_more_than_a_day_ago_comes_back_as_history(
    api: httpx.AsyncClient, own: IngestSettings, acme: dict[str, str], publisher: Publisher
) -> None:
    await post(api, body(BAD))
    [event] = await events(own, t.DEAD)
    assert isinstance(event.data, DeadLettered)
    early = datetime.now(UTC) - timedelta(days=2)
    came = json.loads(event.data.headers["hilo_input"]) | {"received_at": early.isoformat()}
    headers = {**event.data.headers, "hilo_input": json.dumps(came)}
    data = event.data.model_copy(update={"dead_id": "old", "headers": headers, "at": early})
    await publisher.publish([encode(t.DEAD.name, replace(event, id="old", data=data))])
    await letters(api, acme, 2)
    answer = await api.post("/v1/dead/old/replay", json={"slice": message(2)}, headers=acme)

    assert answer.json()["origin"] == "replay"
    [fact] = await events(own, t.EVENTS)
    assert (fact.origin, fact.data.received_at) == ("replay", early)  # type: ignore[attr-defined]


async def test_a_poison_record_is_republished_to_its_topic_as_it_was(
    api: httpx.AsyncClient, own: IngestSettings, acme: dict[str, str], publisher: Publisher
) -> None:
    await post(api, body(message(1)))
    [fact] = await records(own, t.EVENTS)
    junk = Record(t.EVENTS.name, fact.key, b"\xff\x00junk", fact.headers, fact.partition, fact.offset)
    name = await DeadLetters(publisher, "identity").put(junk, "unreadable")
    [letter] = await letters(api, acme)
    whole = (await api.get(f"/v1/dead/{name}", headers=acme)).json()
    refused = await api.post(f"/v1/dead/{name}/replay", json={"slice": {}}, headers=acme)
    answer = await api.post(f"/v1/dead/{name}/replay", json={}, headers=acme)
    back = max(await records(own, t.EVENTS), key=lambda record: record.offset)

    assert letter["id"] == name
    assert (whole["mendable"], base64.b64decode(whole["body"]), whole["slice"], whole["text"]) == (
        False,
        junk.value,
        None,
        None,
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "not_mendable")
    assert (answer.status_code, answer.json()["republished"]) == (200, "hilo.events")
    assert (back.key, back.value, list(back.headers), back.partition) == (
        junk.key,
        junk.value,
        list(junk.headers),
        junk.partition,
    )


async def test_a_discarded_letter_says_who_and_why(api: httpx.AsyncClient, acme: dict[str, str]) -> None:
    await post(api, body(BAD))
    [letter] = await letters(api, acme)
    assert (await api.post(f"/v1/dead/{letter['id']}/discard", json={"why": ""}, headers=acme)).status_code == 422
    answer = await api.post(f"/v1/dead/{letter['id']}/discard", json={"why": "a test message"}, headers=acme)
    whole = (await api.get(f"/v1/dead/{letter['id']}", headers=acme)).json()

    assert answer.json()["state"] == "discarded"
    assert (whole["decision"]["why"], whole["decision"]["by"]["name"]) == ("a test message", "test")
    assert (await api.get("/v1/dead", params={"state": "open"}, headers=acme)).json()["dead"] == []


async def test_another_tenant_finds_none_of_them(api: httpx.AsyncClient, mongo: Mongo, acme: dict[str, str]) -> None:
    await post(api, body(BAD))
    [letter] = await letters(api, acme)
    globex = await tenant(mongo, "globex")
    url = f"/v1/dead/{letter['id']}"

    assert (await api.get("/v1/dead", headers=globex)).json() == {"dead": [], "next": None}
    assert (await api.get(url, headers=globex)).status_code == 404
    assert (await api.post(f"{url}/replay", json={}, headers=globex)).status_code == 404
    assert (await api.post(f"{url}/discard", json={"why": "x"}, headers=globex)).status_code == 404


async def test_pages_are_walked_without_gap_or_repeat(api: httpx.AsyncClient, acme: dict[str, str]) -> None:
    await post(api, body(*({**BAD, "id": f"x{n}"} for n in range(7))))
    await letters(api, acme, 7)
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await api.get("/v1/dead", params={"limit": "3", **after}, headers=acme)).json()
        seen += [one["id"] for one in page["dead"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}

    assert len(seen) == len(set(seen)) == 7
    assert (await api.get("/v1/dead", params={"after": "junk"}, headers=acme)).status_code == 422
