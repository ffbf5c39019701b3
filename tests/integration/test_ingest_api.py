"""Channels and accounts over HTTP, through the real process: forms, secrets that are never shown, tenants and scopes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.common import topics as t
from services.common.cloudevents import decode
from services.common.events import AccountDescribed, ChannelDeclared
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.ingest.settings import IngestSettings
from tests.ingesting import FIELDS, body, connect, ingest_settings, message, records, running, signed, tenant

MAIN = "/v1/accounts/pigeon/main"


@pytest.fixture
async def own(settings: CommonSettings, topics: None) -> IngestSettings:
    return ingest_settings(settings, public_url="https://hooks.example.com/")


@pytest.fixture
async def api(own: IngestSettings, mongo: Mongo) -> AsyncIterator[httpx.AsyncClient]:
    async with running(own) as client:
        yield client


@pytest.fixture
async def acme(mongo: Mongo) -> dict[str, str]:
    return await tenant(mongo, "acme")


async def newest(own: IngestSettings, key: str) -> Any:
    """What hilo.channels says under this key, as a compacted topic is read."""
    found = [decode(record) for record in await records(own, t.CHANNELS) if record.key == key.encode()]
    return found[-1].data if found else None


async def test_channels_are_listed_with_their_forms_and_broken_ones_with_why(
    api: httpx.AsyncClient, acme: dict[str, str]
) -> None:
    answer = (await api.get("/v1/channels", headers=acme)).json()
    [flock, pigeon] = answer["channels"]

    assert (flock["name"], pigeon["name"]) == ("flock", "pigeon")
    assert pigeon["form"]["required"] == ["number", "api_key", "signing_key"]
    assert pigeon["form"]["properties"]["signing_key"]["writeOnly"] is True
    assert {"name": "plain", "kind": "webhook"} in pigeon["doors"]
    assert answer["broken"] == [{"name": "dodo", "why": "ImportError: extinct"}]
    assert (await api.get("/v1/channels/pigeon", headers=acme)).json() == pigeon
    assert (await api.get("/v1/channels/dodo", headers=acme)).status_code == 404


async def test_declarations_and_accounts_are_announced(
    api: httpx.AsyncClient, own: IngestSettings, acme: dict[str, str]
) -> None:
    declared = await newest(own, "pigeon")
    assert isinstance(declared, ChannelDeclared)
    assert declared.legs["sms"].visibility == "private"

    wish = {"fields": dict(FIELDS), "title": "Main", "queue": "sales", "language": "de", "hours": {"mon": ["9", "17"]}}
    assert (await api.put(MAIN, json=wish, headers=acme)).status_code == 200
    described = await newest(own, "acme/pigeon/main")
    assert described == AccountDescribed(
        tenant="acme", channel="pigeon", account="main", title="Main", queue="sales", language="de", hours={"mon": ["9", "17"]}
    )
    assert not [record for record in await records(own, t.CHANNELS) if b"key-that-signs" in (record.value or b"")]

    await api.delete(MAIN, headers=acme)
    assert (await newest(own, "acme/pigeon/main")).state == "removed"


async def test_everything_is_announced_again_at_every_start(own: IngestSettings, mongo: Mongo, acme: dict[str, str]) -> None:
    async with running(own) as client:
        await connect(client, acme)
    before = len(await records(own, t.CHANNELS))
    async with running(own.model_copy(update={"port": ingest_settings(own).port})):
        found = (await records(own, t.CHANNELS))[before:]

    assert {(record.key or b"").decode() for record in found} == {"pigeon", "flock", "acme/pigeon/main"}


async def test_an_account_is_connected_shown_changed_and_removed(api: httpx.AsyncClient, acme: dict[str, str]) -> None:
    created = await api.put(MAIN, json={"fields": dict(FIELDS), "title": "Main"}, headers=acme)
    shown = created.json()

    assert (shown["channel"], shown["id"], shown["version"], shown["state"]) == ("pigeon", "main", 1, "active")
    assert shown["fields"] == {"number": "+4930123456"}
    assert shown["secrets"] == {"api_key": 1, "signing_key": 1}
    assert shown["webhooks"] == [
        {"door": "webhook", "url": "https://hooks.example.com/webhooks/pigeon/main"},
        {"door": "plain", "url": "https://hooks.example.com/webhooks/pigeon/main/plain"},
    ]
    assert (await api.get(MAIN, headers=acme)).json() == shown
    assert (await api.get("/v1/accounts", headers=acme)).json() == {"accounts": [shown]}

    paused = await api.put(MAIN, json={"state": "paused", "version": 1}, headers=acme)
    assert (paused.json()["state"], paused.json()["version"]) == ("paused", 2)
    late = await api.put(MAIN, json={"title": "x", "version": 1}, headers=acme)
    assert (late.status_code, late.json()["code"], late.json()["current"]) == (409, "version_lost", {"version": 2})

    assert (await api.delete(MAIN, headers=acme)).status_code == 200
    assert (await api.get(MAIN, headers=acme)).status_code == 404


async def test_what_comes_to_a_paused_account_is_taken_and_to_a_removed_one_is_not(
    api: httpx.AsyncClient, acme: dict[str, str]
) -> None:
    async def webhook() -> int:
        payload = body(message(1))
        return (await api.post("/webhooks/pigeon/main", content=payload, headers=signed(payload))).status_code

    await connect(api, acme)
    assert await webhook() == 200
    await api.put(MAIN, json={"state": "paused"}, headers=acme)
    assert await webhook() == 200
    await api.delete(MAIN, headers=acme)
    assert await webhook() == 404


async def test_no_answer_ever_shows_a_secret(api: httpx.AsyncClient, acme: dict[str, str]) -> None:
    answers = [
        await api.put(MAIN, json={"fields": dict(FIELDS)}, headers=acme),
        await api.post(f"{MAIN}/rotate", json={"secret": "api_key", "add": "hush-second"}, headers=acme),
        await api.put(MAIN, json={"fields": {"number": ["hush-not-a-number"], "api_key": "hush-third"}}, headers=acme),
        await api.put(MAIN, json={"fields": {"signing_key": "hush-fourth", "unknown": "hush"}}, headers=acme),
        await api.get("/v1/accounts", headers=acme),
        await api.delete(MAIN, headers=acme),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 422, 422, 200, 200]
    for answer in answers:
        assert not [word for word in ("hush", "key-of-the-api", "key-that-signs") if word in answer.text]


async def test_a_secret_is_rotated_in_two_steps(api: httpx.AsyncClient, acme: dict[str, str]) -> None:
    await connect(api, acme)

    async def rotate(**how: Any) -> httpx.Response:
        return await api.post(f"{MAIN}/rotate", json={"secret": "signing_key", **how}, headers=acme)

    assert (await rotate(add="second")).json()["secrets"]["signing_key"] == 2
    assert (await rotate(add="second")).json()["secrets"]["signing_key"] == 2
    assert (await rotate(retire=True)).json()["secrets"]["signing_key"] == 1
    assert (await rotate()).status_code == 422
    payload = body(message(1))
    assert (await api.post("/webhooks/pigeon/main", content=payload, headers=signed(payload))).status_code == 401
    assert (await api.post("/webhooks/pigeon/main", content=payload, headers=signed(payload, "second"))).status_code == 200


async def test_another_tenant_sees_nothing_and_takes_nothing(
    api: httpx.AsyncClient, mongo: Mongo, acme: dict[str, str]
) -> None:
    await connect(api, acme)
    globex = await tenant(mongo, "globex")
    taken = await api.put(MAIN, json={"fields": dict(FIELDS)}, headers=globex)

    assert (taken.status_code, taken.json()["code"]) == (409, "account_taken")
    assert (await api.get("/v1/accounts", headers=globex)).json() == {"accounts": []}
    assert (await api.get(MAIN, headers=globex)).status_code == 404
    assert (await api.delete(MAIN, headers=globex)).status_code == 404
    assert (await api.post(f"{MAIN}/rotate", json={"secret": "api_key", "add": "x"}, headers=globex)).status_code == 404


async def test_every_route_asks_for_a_key_and_its_scope(api: httpx.AsyncClient, mongo: Mongo, acme: dict[str, str]) -> None:
    reader, gate = await tenant(mongo, "acme", "read"), await tenant(mongo, "acme", "gate")
    routes = [
        ("GET", "/v1/channels", {}, 200),
        ("GET", "/v1/accounts", {}, 200),
        ("GET", "/v1/dead", {}, 200),
        ("PUT", MAIN, {"fields": dict(FIELDS)}, 403),
        ("POST", f"{MAIN}/rotate", {"secret": "api_key", "add": "x"}, 403),
        ("DELETE", MAIN, {}, 403),
        ("POST", "/v1/dead/x/replay", {}, 403),
        ("POST", "/v1/dead/x/discard", {"why": "y"}, 403),
        ("POST", "/v1/journey", {"items": []}, 403),
    ]
    for method, path, json, for_reader in routes:
        none = await api.request(method, path, json=json)
        assert (none.status_code, none.headers["content-type"]) == (401, "application/problem+json"), path
        assert (await api.request(method, path, json=json, headers=gate)).status_code == 403, path
        assert (await api.request(method, path, json=json, headers=reader)).status_code == for_reader, path


@pytest.mark.parametrize(
    ("path", "json", "status", "code"),
    [
        ("/v1/accounts/raven/main", {}, 404, "not_found"),
        ("/v1/accounts/dodo/main", {}, 409, "channel_broken"),
        ("/v1/accounts/pigeon/Main%20Street", {"fields": {}}, 422, "account_id_invalid"),
        (MAIN, {"fields": {}, "colour": "red"}, 422, "body_invalid"),
        (MAIN, {"fields": {}}, 422, "account_invalid"),
    ],
)
async def test_what_is_wrong_is_said_with_a_code(
    api: httpx.AsyncClient, acme: dict[str, str], path: str, json: dict[str, Any], status: int, code: str
) -> None:
    answer = await api.put(path, json=json, headers=acme)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_openapi_document_names_every_route(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()

    assert {
        "/v1/channels",
        "/v1/channels/{name}",
        "/v1/accounts",
        "/v1/accounts/{channel}/{account}",
        "/v1/accounts/{channel}/{account}/rotate",
        "/v1/dead",
        "/v1/dead/{dead_id}",
        "/v1/dead/{dead_id}/replay",
        "/v1/dead/{dead_id}/discard",
        "/v1/journey",
    } <= document["paths"].keys()
    assert all(one.get("description") for path in document["paths"].values() for one in path.values())
