"""What agents do over HTTP, and what the gate says right before a message leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.common.events import ConsentGiven, ConsentWithdrawn, MessageFailed, MessageSent
from services.common.identifiers import Evidence, Sender, outbound_id
from services.common.kafka import Publisher
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from tests.integration.test_router import appended
from tests.routing import NOW, Router, fact, mapped, running, said, who
from tests.waiting import until


@pytest.fixture
async def router(settings: CommonSettings, publisher: Publisher, mongo: Mongo) -> AsyncIterator[Router]:
    async with running(settings, publisher, mongo) as one:
        yield one


async def opened(router: Router, *records: Any) -> tuple[str, dict[str, Any]]:
    """(conversation, its head over the API) after these records."""
    await router.tell(*(records or (said("ana", 0),)))
    (conversation,) = set((await appended(router, len(records) or 1)).values())
    return conversation, await head_of(router, conversation)


async def head_of(router: Router, conversation: str) -> dict[str, Any]:
    head: dict[str, Any] = (await router.http.get(f"/v1/conversations/{conversation}")).json()["head"]
    return head


async def gate(router: Router, outbound: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await router.http.post("/v1/gate", json={"outbound_id": outbound})).json()
    return answer


def leg_of(head: dict[str, Any], channel: str = "telegram") -> str:
    (key,) = [leg["key"] for leg in head["legs"] if leg["channel"] == channel and leg["held"]]
    return str(key)


async def reply(router: Router, conversation: str, head: dict[str, Any], key: str = "k1", **more: Any) -> dict[str, Any]:
    body = {"leg": leg_of(head), "text": "we look into it", "version": head["version"], **more}
    answer = await router.command(conversation, "messages", key, **body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_an_answer_is_queued_once_and_the_customer_waits_no_more(router: Router) -> None:
    conversation, head = await opened(router)
    first = await reply(router, conversation, head)
    again = await reply(router, conversation, head)

    assert again == first
    assert first["outbound_id"] == outbound_id(conversation, "k1")
    (send,) = await router.outbound()
    assert (send.outbound_id, send.leg, send.thread, send.context) == (first["outbound_id"], "chat", "", {"chat": "ana"})
    assert send.party
    assert (send.party.value, send.party.key, send.author.id, send.need) == ("ana", who("ana").key, "eva", "channel")
    assert (await head_of(router, conversation))["sla"].get("waiting_since") is None
    assert (await gate(router, first["outbound_id"])) == {"allow": True, "reason": "ok", "final": False, "retry_after_s": None}


async def test_who_names_a_version_that_is_gone_gets_what_is_there_now(router: Router) -> None:
    conversation, head = await opened(router)
    await router.tell(said("ana", 1))
    await appended(router, 2)
    answer = await router.command(conversation, "messages", "k1", leg=leg_of(head), text="late", version=head["version"])

    assert answer.status_code == 409
    assert answer.json()["code"] == "version_lost"
    assert answer.json()["current"]["version"] > head["version"]
    assert await router.outbound() == []


async def test_who_names_the_last_message_they_saw_is_refused_after_a_newer_one_only(router: Router) -> None:
    conversation, head = await opened(router)
    seen = head["legs"][0]["last_message"]
    await router.tell(said("ana", 1))
    await appended(router, 2)
    late = await router.command(conversation, "close", "k1", saw=seen)
    newest = (await head_of(router, conversation))["legs"][0]["last_message"]
    right = await router.command(conversation, "close", "k2", saw=newest)

    assert (late.status_code, right.status_code) == (409, 200)


async def test_of_many_answers_to_one_version_one_goes(router: Router) -> None:
    conversation, head = await opened(router)
    body = {"leg": leg_of(head), "text": "me", "version": head["version"]}
    answers = await asyncio.gather(*(router.command(conversation, "messages", f"k{n}", **body) for n in range(8)))

    assert sorted(one.status_code for one in answers) == [200] + [409] * 7
    assert len(await router.outbound()) == 1


@pytest.mark.parametrize(
    ("verb", "body", "code"),
    [
        ("messages", {"leg": "acme/x", "text": "hi", "version": 1}, 422),
        ("messages", {"leg": "acme/x", "version": 1}, 422),
        ("close", {}, 422),
        ("notes", {"text": ""}, 422),
        ("stop", {"outbound_id": "nothing"}, 409),
        ("legs", {"channel": "whatsapp", "account": "main", "leg": "chat", "identifier": "x" * 22}, 409),
    ],
)
async def test_what_cannot_be_done_is_said_clearly(router: Router, verb: str, body: dict[str, Any], code: int) -> None:
    conversation, head = await opened(router)
    if "version" in body:
        body = {**body, "version": head["version"]}
    answer = await router.command(conversation, verb, "k1", **body)

    assert answer.status_code == code
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"]


async def test_a_command_needs_its_key_and_a_conversation_of_the_tenant(router: Router) -> None:
    conversation, _ = await opened(router)
    without = await router.http.post(f"/v1/conversations/{conversation}/notes", json={"text": "x"})
    unknown = await router.command("00000000-0000-0000-0000-000000000000", "notes", "k", text="x")
    nobody = await router.http.get(f"/v1/conversations/{conversation}", headers={"authorization": ""})

    assert (without.status_code, unknown.status_code, nobody.status_code) == (422, 404, 401)


async def test_a_note_goes_to_the_team_and_never_out(router: Router) -> None:
    conversation, _ = await opened(router)
    answer = await router.command(conversation, "notes", "k1", text="ask Berta")
    notes = [event.data for event in await router.events() if event.data.type == "hilo.note.added.v1"]

    assert answer.status_code == 200
    assert [(note.text, note.by.id) for note in notes] == [("ask Berta", "eva")]  # type: ignore[attr-defined]
    assert await router.outbound() == []


async def comment(router: Router, text: str = "my parcel is late") -> tuple[str, dict[str, Any]]:
    record = said("ana", 0, text, channel="instagram", account="page", visibility="public", thread="post1", leg="comments")
    return await opened(router, record)


async def test_private_data_is_refused_in_public_with_where_it_stands(router: Router) -> None:
    email = Evidence(who("ana@example.com", "email"), "claimed", "profile")
    record = said("ana", 0, channel="instagram", account="page", visibility="public", thread="p", leg="comments", also=(email,))
    conversation, head = await opened(router, record)
    text = "Write to ana@example.com or call +34 612 345 678"
    answer = await router.command(
        conversation, "messages", "k1", leg=leg_of(head, "instagram"), text=text, version=head["version"]
    )
    ours = await router.command(
        conversation, "messages", "k2", leg=leg_of(head, "instagram"), text="Call +34 900 123 456", version=head["version"]
    )

    assert answer.status_code == 422
    assert [(one["kind"], text[one["start"] : one["end"]]) for one in answer.json()["found"]] == [
        ("email", "ana@example.com"),
        ("phone", "+34 612 345 678"),
    ]
    assert ours.status_code == 200, ours.text
    assert len(await router.outbound()) == 1


async def test_a_public_answer_waits_and_can_be_stopped(router: Router) -> None:
    conversation, head = await comment(router)
    answer = await router.command(
        conversation, "messages", "k1", leg=leg_of(head, "instagram"), text="sorry", version=head["version"]
    )
    outbound = answer.json()["outbound_id"]
    early = await gate(router, outbound)

    assert (early["allow"], early["reason"], early["final"]) == (False, "too_early", False)
    assert 0 < early["retry_after_s"] <= 0.3

    stopped = await router.command(conversation, "stop", "k2", outbound_id=outbound)
    after = await gate(router, outbound)
    assert stopped.status_code == 200, stopped.text
    assert (after["allow"], after["reason"], after["final"]) == (False, "stopped", True)
    assert (await head_of(router, conversation))["sla"]["waiting_since"]


async def test_a_public_answer_may_go_after_its_wait(router: Router) -> None:
    conversation, head = await comment(router)
    answer = await router.command(
        conversation, "messages", "k1", leg=leg_of(head, "instagram"), text="sorry", version=head["version"]
    )

    async def allowed() -> bool:
        return bool((await gate(router, answer.json()["outbound_id"]))["allow"])

    await until(allowed, every_s=0.1)


async def test_a_message_that_was_sent_leaves_the_gate_and_one_that_failed_makes_the_customer_wait_again(
    router: Router,
) -> None:
    conversation, head = await opened(router)
    first = await reply(router, conversation, head)
    sent = MessageSent(
        provider_id="tg-1", party=who("ana"), received_at=NOW, at=NOW, leg="chat", outbound_id=first["outbound_id"]
    )
    await router.tell(fact(sent, "ana", unique="sent"))

    async def gone() -> bool:
        return bool((await gate(router, first["outbound_id"]))["reason"] == "unknown")

    await until(gone, every_s=0.1)
    assert list((await appended(router, 2)).values()) == [conversation] * 2

    await router.tell(said("ana", 5))
    await appended(router, 3)
    second = await reply(router, conversation, await head_of(router, conversation), "k2")
    assert (await head_of(router, conversation))["sla"].get("waiting_since") is None
    failed = MessageFailed(provider_id="", party=who("ana"), received_at=NOW, outbound_id=second["outbound_id"], reason="x")
    await router.tell(fact(failed, "ana", unique="failed"))

    async def waits() -> bool:
        return bool((await head_of(router, conversation))["sla"].get("waiting_since"))

    await until(waits, every_s=0.1)


async def test_who_took_their_consent_back_is_not_written_to(router: Router) -> None:
    conversation, head = await opened(router)
    queued = await reply(router, conversation, head)
    sender = Sender(who("ana"))
    withdrawn = ConsentWithdrawn(provider_id="c1", party=who("ana"), received_at=NOW, at=NOW, sender=sender)
    await router.tell(fact(withdrawn, "ana", unique="stop"))

    async def refused() -> bool:
        return bool((await gate(router, queued["outbound_id"]))["reason"] == "consent_withdrawn")

    await until(refused, every_s=0.1)
    answer = await router.command(
        conversation, "messages", "k2", leg=leg_of(head), text="x", version=(await head_of(router, conversation))["version"]
    )
    assert answer.json()["code"] == "consent_withdrawn"

    given = ConsentGiven(provider_id="c2", party=who("ana"), received_at=NOW, at=NOW + timedelta(seconds=1), sender=sender)
    await router.tell(fact(withdrawn, "ana", unique="stop"), fact(given, "ana", unique="start"))

    async def allowed() -> bool:
        return bool((await gate(router, queued["outbound_id"]))["allow"])

    await until(allowed, every_s=0.1)


async def test_outside_the_providers_window_only_a_template_may_go(router: Router) -> None:
    old = NOW - timedelta(days=2)
    conversation, head = await opened(router, said("ana", 0, channel="whatsapp", account="main", at=old))
    body = {"leg": leg_of(head, "whatsapp"), "version": head["version"]}
    free = await router.command(conversation, "messages", "k1", text="hello", **body)
    template = await router.command(
        conversation, "messages", "k2", parts=[{"kind": "template", "name": "hello"}], action="template", **body
    )

    assert (free.status_code, free.json()["code"], free.json()["instead"]) == (422, "window_closed", "template")
    assert template.status_code == 200, template.text
    assert (await gate(router, template.json()["outbound_id"]))["allow"]


async def test_we_write_first_to_a_proven_identifier_only(router: Router) -> None:
    also = Evidence(who("346", "whatsapp"), "verified", "signed")
    conversation, head = await opened(router, said("ana", 0, also=(also,)))
    body = {"channel": "whatsapp", "account": "main", "leg": "chat", "identifier": who("346", "whatsapp").key}
    unproven = await router.command(conversation, "legs", "k1", **body)
    assert (unproven.status_code, unproven.json()["code"]) == (409, "unproven")

    await router.tell(mapped("346", "cust-ana", 2, "whatsapp"), mapped("ana", "cust-ana", 2))

    async def proven() -> bool:
        return (await router.command(conversation, "legs", "k2", **body)).status_code == 200

    await until(proven, every_s=0.2)
    head = await head_of(router, conversation)
    assert {leg["channel"] for leg in head["legs"]} == {"telegram", "whatsapp"}
    answer = await router.command(
        conversation,
        "messages",
        "k3",
        leg=leg_of(head, "whatsapp"),
        parts=[{"kind": "template", "name": "hello"}],
        action="template",
        version=head["version"],
    )
    assert answer.status_code == 200, answer.text
    (send,) = await router.outbound()
    assert send.party
    assert send.party.value == "346"


async def test_a_joined_conversation_says_where_it_went_and_its_sends_go_by_the_survivor(router: Router) -> None:
    await router.tell(said("ana", 0))
    (winner,) = set((await appended(router, 1)).values())
    await router.tell(said("ben", 1, channel="whatsapp", account="main"))
    (loser,) = set((await appended(router, 2)).values()) - {winner}
    head = await head_of(router, loser)
    queued = await router.command(loser, "messages", "k1", leg=leg_of(head, "whatsapp"), text="hello", version=head["version"])
    await router.tell(mapped("ben", "cust-ana", 2, "whatsapp"))

    async def joined() -> bool:
        return bool((await head_of(router, loser))["state"] == "joined")

    await until(joined, every_s=0.1)
    answer = await router.command(loser, "notes", "k2", text="x")
    assert (answer.status_code, answer.json()["joined_into"]) == (409, winner)
    assert (await gate(router, queued.json()["outbound_id"]))["allow"]


async def test_a_reopened_conversation_goes_on_unless_there_is_another(router: Router) -> None:
    conversation, head = await opened(router)
    await router.command(conversation, "close", "k1", version=head["version"])
    again = await router.command(conversation, "reopen", "k2")
    assert (again.status_code, again.json()["state"]) == (200, "open")

    head = await head_of(router, conversation)
    await router.command(conversation, "close", "k3", version=head["version"])
    await router.tell(said("ana", 1))
    await appended(router, 2)
    refused = await router.command(conversation, "reopen", "k4")
    assert (refused.status_code, refused.json()["code"]) == (409, "has_open")


async def test_an_echo_from_the_providers_app_ends_the_wait(router: Router) -> None:
    conversation, _ = await opened(router)
    echo = MessageSent(provider_id="native", party=who("ana"), received_at=NOW + timedelta(seconds=9), leg="chat", echo=True)
    await router.tell(fact(echo, "ana", unique="echo"))

    async def answered() -> bool:
        return (await head_of(router, conversation))["sla"].get("waiting_since") is None

    await until(answered, every_s=0.1)
    assert len(await appended(router, 2)) == 2
