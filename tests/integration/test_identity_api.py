"""Identity's API, the whole process on a real mongod and broker: who is this, why, and what agents may say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest

from deploy.local.embedded import free_port
from services.common import topics as t
from services.common.auth import Keyring
from services.common.events import CustomerChanged
from services.common.identifiers import Identifier, keyed
from services.common.kafka import Publisher
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.vault import DEMO_KEY, Vault
from services.identity.app import build
from services.identity.settings import IdentitySettings
from tests.integration.test_identity_consumer import Clock, changes, newest_map, passed, says
from tests.waiting import until

Json = dict[str, Any]


@dataclass
class Api:
    """A caller with a key, on a running identity process, and the events of a tenant."""

    base: str
    http: aiohttp.ClientSession
    keyring: Keyring
    publisher: Publisher
    settings: CommonSettings
    clock: Clock
    key: str = ""
    sent: int = 0

    async def get(self, path: str, *, status: int = 200, **query: str) -> Any:
        async with self.http.get(self.base + path, params=query, headers=self._headers()) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    async def post(self, path: str, body: Json, *, status: int = 200) -> Any:
        async with self.http.post(self.base + path, json=body, headers=self._headers()) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    async def having(self, *scopes: str, tenant: str = "acme") -> Api:
        key = await self.keyring.create_key(tenant, "test", frozenset(scopes), agent="ana" if "agent" in scopes else None)
        return replace(self, key=key)

    async def identifier(self, scheme: str, value: str, scope: str = "") -> Identifier:
        return keyed(await self.keyring.tenant_key("acme"), Identifier(scheme, value, scope))

    async def tell(self, *events: Any) -> None:
        """Returns once identity has passed them on."""
        self.sent += len(events)
        await self.publisher.emit(t.EVENTS, events)
        await passed(self.settings, self.sent)


@pytest.fixture
async def api(settings: CommonSettings, mongo: Mongo, publisher: Publisher) -> AsyncIterator[Api]:
    keyring = Keyring(mongo, Vault(DEMO_KEY))
    key = await keyring.create_tenant("acme")
    await keyring.create_tenant("other")
    given = {**settings.model_dump(), "port": free_port(), "host": "127.0.0.1"}
    process = build(IdentitySettings(**given))
    running = asyncio.create_task(process.run())
    await until(lambda: process.readiness.started and not process.readiness.missing())
    async with aiohttp.ClientSession() as http:
        base = f"http://127.0.0.1:{process.port}"
        yield Api(base, http, keyring, publisher, settings, Clock(), key or "")
    process.stopping.set()
    await running


async def test_an_identifier_is_found_by_its_value_in_whatever_form(api: Api) -> None:
    tel = await api.identifier("tel", "+49 151 1234567")
    await api.tell(api.clock.said(tel))
    found = await api.post("/v1/identify", {"scheme": "tel", "value": "0151 1234567", "region": "DE"})

    assert found == {"key": tel.key, "customer_id": found["customer_id"], "version": 1}
    assert found["customer_id"]
    assert (await api.post("/v1/identify", {"scheme": "tel", "value": "+4915199"}))["customer_id"] is None
    assert (await api.post("/v1/identify", {"scheme": "tel", "value": "Ana"}, status=422))["code"] == "not_an_identifier"


async def test_a_customer_shows_its_identifiers_and_evidence_and_values_only_to_who_may_see_them(api: Api) -> None:
    chat, tel = await api.identifier("whatsapp", "DE.81", "p1"), await api.identifier("tel", "+491511234567")
    email = await api.identifier("email", "ana@ejemplo.es")
    await api.tell(api.clock.said(chat, says(tel), says(email, "claimed", "typed")))
    agent, reader = await api.having("agent"), await api.having("read")
    shown = await agent.get(f"/v1/customers/{chat.key}")
    masked = await reader.get(f"/v1/customers/{shown['customer_id']}")

    assert [(one["scheme"], one["scope"], one["value"], one["name"], one["proof"]) for one in shown["identifiers"]] in (
        [("whatsapp", "p1", "DE.81", "Ana", "channel"), ("tel", "", "+491511234567", None, "channel")],
        [("tel", "", "+491511234567", None, "channel"), ("whatsapp", "p1", "DE.81", "Ana", "channel")],
    )
    assert [(one["rule"], one["strength"], one["event_ids"]) for one in shown["evidence"]] == [("channel", "verified", ["e1"])]
    assert [(one["rule"], one["strength"]) for one in shown["suggestions"]] == [("typed", "claimed")]
    assert {one["value"] for one in masked["identifiers"]} == {"…", "+4…67"}


async def test_why_names_the_weakest_link_and_why_not_the_guard(api: Api) -> None:
    chat, tel = await api.identifier("telegram", "7"), await api.identifier("tel", "+491511234567")
    email, other = await api.identifier("email", "ana@ejemplo.es"), await api.identifier("telegram", "8")
    await api.tell(
        api.clock.said(chat, says(tel)),
        api.clock.ordered(email, says(tel, "asserted", "order")),
        api.clock.said(other, says(tel), says(email, "claimed", "typed")),
    )
    why = await api.get("/v1/why", a=chat.key, b=email.key)
    why_not = await api.get("/v1/why_not", a=chat.key, b=other.key)

    assert why["same"] is True
    assert [(link["rule"], link["event_ids"]) for link in why["path"]] == [("channel", ["e1"]), ("order", ["e2"])]
    assert why["weakest"] == 1
    assert {(one["guard"], one["about"]) for one in why_not["obstacles"]} == {("per_scope", "telegram"), ("only_claimed", "")}
    nothing = await api.get("/v1/why", a=chat.key, b=other.key)
    assert nothing == {"same": False, "path": [], "weakest": None}


async def test_an_agent_merges_and_splits_and_both_get_their_old_ids_back(api: Api) -> None:
    one, two = await api.identifier("telegram", "7"), await api.identifier("email", "ana@ejemplo.es")
    await api.tell(api.clock.said(one), api.clock.said(two))
    agent = await api.having("agent")
    old, lost = [(await agent.get(f"/v1/customers/{i.key}"))["customer_id"] for i in (one, two)]
    merged = await agent.post("/v1/merge", {"a": old, "b": lost, "why": "same invoice"})
    present = await agent.get(f"/v1/customers/{lost}")

    assert merged == {"same": True, "customer_a": old, "customer_b": old, "obstacles": []}
    assert (present["customer_id"], present["merged_from"]) == (old, [lost])
    assert [(e["rule"], e["actor"], e["why"]) for e in present["evidence"]] == [("agent.same", "ana", "same invoice")]

    split = await agent.post("/v1/split", {"a": one.key, "b": two.key, "why": "a couple"})
    await api.tell(api.clock.said(one, says(two)))

    assert (split["same"], split["customer_a"], split["customer_b"]) == (False, old, lost)
    assert [o["guard"] for o in (await agent.get("/v1/why_not", a=old, b=lost))["obstacles"]][:1] == ["apart"]
    kept = await newest_map(api.settings)
    assert (kept[one.key].customer_id, kept[two.key].customer_id) == (old, lost)
    told = [(change.type, change.by.id if change.by else None) for change in await changes(api.settings)]
    assert told[-2:] == [("hilo.customer.merged.v1", "ana"), ("hilo.customer.split.v1", "ana")]


async def test_an_erased_customer_leaves_no_value_and_a_replay_brings_nothing_back(api: Api, mongo: Mongo) -> None:
    chat, tel = await api.identifier("whatsapp", "DE.81", "p1"), await api.identifier("tel", "+491511234567")
    first = api.clock.said(chat, says(tel))
    await api.tell(first)
    customer = (await api.get(f"/v1/customers/{chat.key}"))["customer_id"]
    erased = await api.post("/v1/erase", {"customer_id": customer})
    await api.tell(first)
    kept = await newest_map(api.settings)
    values = await mongo.database("identity")["values"].find().to_list(None)

    assert sorted(erased["identifiers"]) == sorted([chat.key, tel.key])
    assert {(kept[one.key].erased, kept[one.key].customer_id) for one in (chat, tel)} == {(True, None)}
    assert {one["sealed"] for one in values} == {None}
    assert (await api.get(f"/v1/customers/{customer}", status=410))["code"] == "erased"
    assert (await passed(api.settings, 2))[-1].customer_id is None
    told = [change for change in await changes(api.settings) if change.type == "hilo.customer.erased.v1"]
    assert [(change.customer_id, sorted(change.identifiers)) for change in told] == [(customer, sorted(erased["identifiers"]))]
    assert isinstance(told[0], CustomerChanged)


async def test_whoever_comes_again_after_an_erasure_begins_anew(api: Api) -> None:
    chat = await api.identifier("telegram", "7")
    await api.tell(api.clock.said(chat))
    customer = (await api.get(f"/v1/customers/{chat.key}"))["customer_id"]
    await api.post("/v1/erase", {"customer_id": customer})
    later = api.clock.said(chat)
    await api.tell(replace(later, data=later.data.model_copy(update={"received_at": later.time.replace(year=2999)})))
    again = await api.get(f"/v1/customers/{chat.key}")

    assert [one["value"] for one in again["identifiers"]] == ["7"]
    assert (await newest_map(api.settings))[chat.key].erased is False


async def test_another_tenant_sees_nothing_and_who_has_no_scope_may_not_ask(api: Api) -> None:
    chat = await api.identifier("telegram", "7")
    await api.tell(api.clock.said(chat))
    customer = (await api.get(f"/v1/customers/{chat.key}"))["customer_id"]
    other = await api.having("agent", "identity", "read", tenant="other")
    ingest, reader = await api.having("ingest"), await api.having("read")

    for reference in (customer, chat.key, "nobody"):
        await other.get(f"/v1/customers/{reference}", status=404)
    await other.get("/v1/why", a=customer, b=chat.key, status=404)
    await other.post("/v1/erase", {"customer_id": customer}, status=404)
    await other.post("/v1/merge", {"a": customer, "b": chat.key, "why": "x"}, status=404)
    assert (await other.post("/v1/identify", {"scheme": "telegram", "value": "7"}))["customer_id"] is None
    await ingest.get(f"/v1/customers/{customer}", status=403)
    await reader.post("/v1/merge", {"a": customer, "b": chat.key, "why": "x"}, status=403)
    await reader.get(f"/v1/customers/{customer}/export", status=403)
    assert (await api.get(f"/v1/customers/{customer}/export"))["identifiers"][0]["value"] == "7"
