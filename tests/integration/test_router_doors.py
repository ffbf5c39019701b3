"""Who asks the router for what: colleagues at the same moment, the same press twice, keys that may not, other tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.common.auth import Keyring
from services.common.kafka import Publisher
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.vault import DEMO_KEY, Vault
from tests.integration.test_router import appended
from tests.integration.test_router_commands import comment, head_of, leg_of, opened
from tests.integration.test_router_handoff import invited
from tests.routing import Router, running, said

COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("messages", {"leg": "?", "text": "hi", "version": 1}),
    ("stop", {"outbound_id": "x"}),
    ("notes", {"text": "x"}),
    ("close", {"version": 1}),
    ("reopen", {}),
    ("legs", {"channel": "whatsapp", "account": "main", "leg": "chat", "identifier": "x" * 22}),
    ("handoff/invite", {"public": [{"text": "{link}"}]}),
    ("handoff/approve", {}),
    ("handoff/decline", {}),
    ("handoff/close", {}),
    ("offers", {"leg": "?", "parts": [{"text": "{code}"}]}),
    ("take", {}),
    ("assign", {"agent": "eva"}),
    ("accept", {"reservation": "x@1@eva"}),
    ("reject", {"reservation": "x@1@eva"}),
    ("release", {}),
    ("transfer", {"agent": "eva"}),
]


@pytest.fixture
async def router(settings: CommonSettings, publisher: Publisher, mongo: Mongo) -> AsyncIterator[Router]:
    async with running(settings, publisher, mongo) as one:
        yield one


async def key_of(router: Router, tenant: str, *scopes: str, agent: str | None = None) -> dict[str, str]:
    """Headers with a new key."""
    ring = Keyring(router.mongo, Vault(DEMO_KEY))
    await ring.create_tenant(tenant)
    key = await ring.create_key(tenant, agent or "key", frozenset(scopes), agent=agent)
    return {"authorization": f"Bearer {key}"}


async def post(
    router: Router, headers: dict[str, str], conversation: str, verb: str, key: str, body: dict[str, Any]
) -> httpx.Response:
    path = f"/v1/conversations/{conversation}/{verb}"
    return await router.http.post(path, json=body, headers={**headers, "idempotency-key": key})


async def sent(router: Router) -> set[str]:
    """What was asked of the outbound worker, which does each once however often it is told."""
    return {one.outbound_id for one in await router.outbound()}


async def state_of(router: Router, conversation: str) -> tuple[dict[str, Any], int]:
    return await head_of(router, conversation), len(await sent(router))


# -- two colleagues -------------------------------------------------------------------------------------------------------


async def test_of_two_colleagues_who_saw_the_same_message_one_answers(router: Router) -> None:
    conversation, head = await opened(router)
    bob = await key_of(router, "acme", "agent", agent="bob")
    body = {"leg": leg_of(head), "saw": head["legs"][0]["last_message"], "version": head["version"]}
    mine = await router.command(conversation, "messages", "a", **body, text="We look into it")
    his = await post(router, bob, conversation, "messages", "b", {**body, "text": "On my way"})
    again = await router.command(conversation, "messages", "c", **body, text="and tell you today")

    assert (mine.status_code, his.status_code, again.status_code) == (200, 409, 200)
    assert his.json()["code"] == "version_lost"
    assert len(await sent(router)) == 2

    now = (await head_of(router, conversation))["version"]
    seen = {**body, "version": now, "text": "And here is mine"}
    assert (await post(router, bob, conversation, "messages", "b2", seen)).status_code == 200


async def test_at_the_same_moment_too(router: Router) -> None:
    conversation, head = await opened(router)
    keys = [await key_of(router, "acme", "agent", agent=f"agent{n}") for n in range(5)]
    body = {"leg": leg_of(head), "saw": head["legs"][0]["last_message"], "version": head["version"], "text": "me"}
    answers = await asyncio.gather(*(post(router, key, conversation, "messages", f"k{n}", body) for n, key in enumerate(keys)))

    assert sorted(one.status_code for one in answers) == [200, 409, 409, 409, 409]
    assert len(await sent(router)) == 1


async def test_a_note_or_a_fate_of_a_message_is_no_answer_of_a_colleague(router: Router) -> None:
    conversation, head = await opened(router)
    bob = await key_of(router, "acme", "agent", agent="bob")
    body = {"leg": leg_of(head), "saw": head["legs"][0]["last_message"], "version": head["version"], "text": "We look into it"}
    assert (await post(router, bob, conversation, "notes", "n", {"text": "she called"})).status_code == 200
    assert (await head_of(router, conversation))["version"] > head["version"]

    assert (await router.command(conversation, "messages", "a", **body)).status_code == 200


async def test_a_colleagues_invitation_is_an_answer_too(router: Router) -> None:
    conversation, head = await comment(router)
    await invited(router, conversation)
    bob = await key_of(router, "acme", "agent", agent="bob")
    body = {"leg": leg_of(head, "instagram"), "saw": head["legs"][0]["last_message"], "version": head["version"]}
    answer = await post(router, bob, conversation, "messages", "b", {**body, "text": "Sorry about that."})

    assert (answer.status_code, answer.json()["code"]) == (409, "version_lost")


async def test_what_was_seen_is_a_message_of_this_conversation(router: Router) -> None:
    conversation, head = await opened(router)
    answer = await router.command(conversation, "messages", "a", leg=leg_of(head), text="hi", saw="00000000-made-up")

    assert (answer.status_code, answer.json()["code"]) == (409, "version_lost")


# -- the same press twice -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["messages", "handoff/invite", "handoff/close", "notes"])
async def test_the_same_press_ten_times_at_once_is_one(router: Router, verb: str) -> None:
    conversation, head = await comment(router)
    if verb == "handoff/close":
        first = {"leg": leg_of(head, "instagram"), "text": "Sorry.", "version": head["version"]}
        assert (await router.command(conversation, "messages", "before", **first)).status_code == 200
    before = await sent(router)
    bodies: dict[str, dict[str, Any]] = {
        "messages": {"leg": leg_of(head, "instagram"), "text": "Sorry about that.", "version": head["version"]},
        "handoff/invite": {"private": [{"text": "Tell us."}], "public": [{"text": "We wrote."}], "version": head["version"]},
        "handoff/close": {"parts": [{"text": "Settled."}]},
        "notes": {"text": "twice"},
    }
    answers = await asyncio.gather(*(router.command(conversation, verb, "press", **bodies[verb]) for _ in range(10)))
    late = await router.command(conversation, verb, "press", **bodies[verb])
    notes = {one.id for one in await router.events() if one.data.type == "hilo.note.added.v1"}

    good = {one.text for one in (*answers, late) if one.status_code == 200}
    assert len(good) == 1
    assert late.status_code == 200
    assert {one.status_code for one in answers} <= {200, 409, 503}
    assert (len(await sent(router) - before), len(notes)) == ((0, 1) if verb == "notes" else (1, 0))


async def test_a_key_that_was_used_for_another_conversation_is_another_command(router: Router) -> None:
    first, one = await opened(router)
    await router.tell(said("bo", 0))
    (second,) = set((await appended(router, 2)).values()) - {first}
    two = await head_of(router, second)
    answers = [
        await router.command(first, "messages", "same", leg=leg_of(one), text="to ana", version=one["version"]),
        await router.command(second, "messages", "same", leg=leg_of(two), text="to bo", version=two["version"]),
    ]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert {send.party.value for send in await router.outbound() if send.party} == {"ana", "bo"}


# -- who may not ----------------------------------------------------------------------------------------------------------


async def refusals(router: Router, headers: dict[str, str]) -> dict[str, tuple[int, str]]:
    """What every command on a conversation of acme is answered; none of them does anything."""
    conversation, head = await comment(router)
    before = await state_of(router, conversation)
    found: dict[str, tuple[int, str]] = {}
    for verb, body in COMMANDS:
        filled = {**body, "leg": head["legs"][0]["key"]} if body.get("leg") == "?" else body
        answer = await post(router, headers, conversation, verb, "k", filled)
        found[verb] = (answer.status_code, answer.json()["code"])
    assert await state_of(router, conversation) == before
    return found


async def test_another_tenants_conversation_does_not_exist(router: Router) -> None:
    theirs = await key_of(router, "other", "read", "agent", "admin", agent="eva")

    assert await refusals(router, theirs) == {verb: (404, "not_found") for verb, _ in COMMANDS}


async def test_a_key_without_the_scope_does_nothing(router: Router) -> None:
    reader = await key_of(router, "acme", "read", "write", "identity", "ingest", "gate")

    assert await refusals(router, reader) == {verb: (403, "scope_missing") for verb, _ in COMMANDS}


async def test_another_tenant_learns_nothing_by_reading_the_gate_or_an_invitation(router: Router) -> None:
    conversation, _ = await comment(router)
    token, _ = await invited(router, conversation)
    (send,) = await router.outbound()
    theirs = await key_of(router, "other", "read", "agent", "gate")
    read = await router.http.get(f"/v1/conversations/{conversation}", headers=theirs)
    gate = await router.http.post("/v1/gate", json={"outbound_id": send.outbound_id}, headers=theirs)
    page = await router.http.get(f"/v1/offers/{token}", headers=theirs)

    assert (read.status_code, page.status_code) == (404, 404)
    assert (gate.json()["allow"], gate.json()["reason"]) == (False, "unknown")


async def test_the_gate_is_for_who_sends(router: Router) -> None:
    agent = await key_of(router, "acme", "agent", "read", "admin")
    gate = await router.http.post("/v1/gate", json={"outbound_id": "x"}, headers=agent)
    page = await router.http.get("/v1/offers/x", headers=agent)

    assert [(one.status_code, one.json()["code"]) for one in (gate, page)] == [(403, "scope_missing")] * 2


# -- private data, however it is sent -------------------------------------------------------------------------------------


async def test_private_data_is_refused_in_every_form_of_a_public_message(router: Router) -> None:
    conversation, head = await comment(router)
    phone = "612\u200b40\u200b77\u200b82"
    forms: list[dict[str, Any]] = [
        {"text": "call +34 612 40 77 82"},
        {"text": f"call {phone}"},
        {"text": "call ６１２ ４０ ７７ ８２"},
        {"text": "call ❻❶❷ ❹⓿ ❼❼ ❽❷"},
        {"text": "call 6  1  2  4  0  7  7  8  2"},
        {"text": "call 612 40", "parts": [{"text": "77 82"}]},
        {"parts": [{"kind": "image", "ref": "https://acme.example/a.png", "text": "612 40 77 82"}]},
        {"parts": [{"kind": "file", "ref": "https://acme.example/a.pdf", "name": "ana@example.com.pdf"}]},
        {"parts": [{"kind": "link", "text": "here", "ref": "https://wa.me/34612407782"}]},
        {"parts": [{"kind": "link", "text": "here", "ref": "mailto:ana%40example.com"}]},
        {"parts": [{"kind": "buttons", "text": "Choose", "data": {"1": "Call 612 40 77 82"}}]},
        {"parts": [{"kind": "template", "data": {"name": "sorry", "1": "ana@example.com"}}], "action": "template"},
        {"text": "now: 612 40 77 82", "action": "edit", "target": "ours"},
    ]
    for number, form in enumerate(forms):
        body = {"leg": leg_of(head, "instagram"), "version": head["version"], **form}
        answer = await router.command(conversation, "messages", f"k{number}", **body)

        assert (answer.status_code, answer.json()["code"]) == (422, "private_data"), form
    assert await sent(router) == set()


async def test_an_invitation_given_in_private_is_not_repeated_in_public(router: Router) -> None:
    """Its code proves whoever brings it back to be the customer; one that stands in public already proves nothing."""
    conversation, head = await comment(router)
    private = said("ana", 5, "here", channel="instagram", account="page")
    await router.tell(private)
    await appended(router, 2)
    head = await head_of(router, conversation)
    (direct,) = [leg["key"] for leg in head["legs"] if leg["visibility"] == "private"]
    (public,) = [leg["key"] for leg in head["legs"] if leg["visibility"] == "public"]
    given = {"leg": direct, "parts": [{"text": "{link} or {code}"}], "targets": ["whatsapp/main"]}
    assert (await router.command(conversation, "offers", "o", **given)).status_code == 200
    (send,) = await router.outbound()
    link, _, code = str(send.parts[0].text).partition(" or ")

    async def says(key: str, text: str) -> tuple[int, list[tuple[str, str]]]:
        version = (await head_of(router, conversation))["version"]
        answer = await router.command(conversation, "messages", key, leg=public, text=text, version=version)
        return answer.status_code, [(one["kind"], one["text"]) for one in answer.json().get("found", ())]

    assert await says("a", f"Come here: {link}") == (422, [("invitation", link.rpartition("/")[2])])
    assert await says("b", f"Your code: {code.lower()}.") == (422, [("invitation", code.lower())])
    assert (await says("c", f"Your code: {code[0]}\u200b{code[1:]}"))[0] == 422
    assert await says("d", "Your code: HILO-0000-0000, an example") == (200, [])
