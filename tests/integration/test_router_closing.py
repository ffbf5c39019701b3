"""The end of a case: what closing does to invitations, the last public word after it, and what still comes then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.common import topics as t
from services.common.cloudevents import decode
from services.common.events import IdentityAsserted, MessageSent, ReferralFollowed
from services.common.kafka import Publisher, read_all
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from tests.integration.test_router import appended
from tests.integration.test_router_commands import comment, gate, head_of
from tests.integration.test_router_handoff import fate_of, handoff, invited, sends
from tests.routing import NOW, Router, fact, running, said, who
from tests.waiting import until

LAST_WORD = "Settled with Ana in private."


@pytest.fixture
async def router(settings: CommonSettings, publisher: Publisher, mongo: Mongo) -> AsyncIterator[Router]:
    async with running(settings, publisher, mongo) as one:
        yield one


async def closed(router: Router, conversation: str) -> dict[str, Any]:
    async def reached() -> dict[str, Any] | None:
        head = await head_of(router, conversation)
        return head if head["state"] == "closed" else None

    return dict(await until(reached, every_s=0.1, what="the case is closed") or {})


async def ended(router: Router, conversation: str) -> None:
    """Closed by somebody who looks again when a message came in between: it raises the version without a new head."""
    version = (await head_of(router, conversation))["version"]
    answer = await router.command(conversation, "close", "close", version=version)
    while answer.status_code == 409 and answer.json()["code"] == "version_lost":
        version = answer.json()["current"]["version"]
        answer = await router.command(conversation, "close", f"close-{version}", version=version)
    assert answer.status_code == 200, answer.text


async def resolved(router: Router) -> str:
    """A case that was settled in private and closed."""
    conversation, _ = await comment(router)
    private = said("ana", 5, "it is about my order", channel="instagram", account="page")
    await router.tell(private)
    await handoff(router, conversation, "proven")
    await ended(router, conversation)
    await handoff(router, conversation, "resolved")
    return conversation


async def test_a_closed_case_is_closed_in_public_afterwards_and_stays_closed(router: Router) -> None:
    conversation = await resolved(router)
    answer = await router.command(conversation, "handoff/close", "k1", parts=[{"text": LAST_WORD}])
    again = await router.command(conversation, "handoff/close", "k1", parts=[{"text": LAST_WORD}])
    assert answer.status_code == 200, answer.text
    assert again.json() == answer.json()
    (send,) = await sends(router, 1)
    assert (send.visibility, send.reply_to, [part.text for part in send.parts]) == ("public", "ana-0", [LAST_WORD])

    async def allowed() -> bool:
        return bool((await gate(router, send.outbound_id))["allow"])

    await until(allowed, every_s=0.1, what="the moment in which it can be stopped is over")
    await router.tell(fate_of(send, MessageSent))
    head = await handoff(router, conversation, "public_closed")

    assert head["state"] == "closed"
    assert len(await router.outbound()) == 1


async def test_it_is_closed_in_public_without_a_word_too(router: Router) -> None:
    conversation = await resolved(router)
    answer = await router.command(conversation, "handoff/close", "k1")

    assert answer.status_code == 200, answer.text
    assert (await handoff(router, conversation, "public_closed"))["handoff"]["reason"] == "closed_silently"
    assert await router.outbound() == []


async def test_nothing_else_of_a_handoff_is_done_on_a_closed_case(router: Router) -> None:
    conversation = await resolved(router)
    leg = (await head_of(router, conversation))["legs"][1]["key"]
    answers = [
        await router.command(conversation, "handoff/invite", "i", public=[{"text": "{link}"}], targets=["whatsapp/main"]),
        await router.command(conversation, "handoff/approve", "a"),
        await router.command(conversation, "handoff/decline", "d"),
        await router.command(conversation, "offers", "o", leg=leg, parts=[{"text": "{code}"}], targets=["whatsapp/main"]),
    ]

    assert [(one.status_code, one.json()["code"]) for one in answers] == [(409, "closed")] * 4
    assert all(one.json()["current"]["state"] == "closed" for one in answers)


async def test_where_the_public_thread_went_on_the_old_case_says_nothing_more_there(router: Router) -> None:
    conversation = await resolved(router)
    again = said(
        "ana", 9, "still broken", channel="instagram", account="page", visibility="public", thread="post1", leg="comments"
    )
    await router.tell(again)
    assert len(set((await appended(router, 3)).values())) == 2
    answer = await router.command(conversation, "handoff/close", "k1", parts=[{"text": LAST_WORD}])

    assert (answer.status_code, answer.json()["code"]) == (409, "leg_elsewhere")
    assert await router.outbound() == []


async def test_our_word_in_the_providers_own_app_after_the_end_opens_nothing(router: Router) -> None:
    conversation = await resolved(router)
    ours = MessageSent(
        provider_id="ours",
        party=who("ana", "instagram"),
        received_at=NOW,
        leg="comments",
        thread="post1",
        visibility="public",
    )
    echo = fact(ours, "ana", channel="instagram", account="page", unique="ours")
    await router.tell(echo, echo)

    assert set((await appended(router, 3)).values()) == {conversation}
    assert (await head_of(router, conversation))["state"] == "closed"
    assert set(await router.heads()) == {conversation}


async def test_closing_a_case_ends_its_invitation_and_a_code_that_still_comes_is_a_case_of_its_own(router: Router) -> None:
    conversation, _ = await comment(router)
    token, code = await invited(router, conversation)
    await ended(router, conversation)
    page = (await router.http.get(f"/v1/offers/{token}")).json()
    tap = ReferralFollowed(provider_id="tap", received_at=NOW, ref=f"offer:{page['offer_id']}")
    await router.tell(fact(tap, "nobody", channel="instagram", account="page", unique="tap"))
    await router.tell(said("346", 0, f"hello {code}", channel="whatsapp", account="main", customer="cust-346"))
    found = await appended(router, 3)
    head = await head_of(router, conversation)

    assert page["state"] == "expired"
    assert (head["state"], head["handoff"]["state"], head["handoff"]["reason"]) == ("closed", "expired", "closed_first")
    assert [leg["channel"] for leg in head["legs"]] == ["instagram"]
    (other,) = set(found.values()) - {conversation}
    other_head = await head_of(router, other)
    assert (other_head["state"], other_head["customer_id"], len(other_head["legs"])) == ("open", "cust-346", 1)
    proofs = [decode(record).data async for record in read_all(router.settings, t.EVENTS)]
    assert not any(isinstance(one, IdentityAsserted) for one in proofs)


async def test_closing_ends_an_invitation_given_on_a_private_leg_too(router: Router) -> None:
    await router.tell(said("ana", 0))
    (conversation,) = set((await appended(router, 1)).values())
    head = await head_of(router, conversation)
    body = {"leg": head["legs"][0]["key"], "parts": [{"text": "{link}"}], "targets": ["whatsapp/main"]}
    assert (await router.command(conversation, "offers", "k1", **body)).status_code == 200
    (send,) = await sends(router, 1)
    token = str(send.parts[0].text).rpartition("/")[2]
    assert (await router.http.get(f"/v1/offers/{token}")).json()["state"] == "open"
    await ended(router, conversation)

    assert (await router.http.get(f"/v1/offers/{token}")).json()["state"] == "expired"


async def test_closing_takes_back_what_of_an_invitation_has_not_left(router: Router) -> None:
    conversation, _ = await comment(router)
    body = {"private": [{"text": "Tell us here."}], "public": [{"text": "We have just written to you."}]}
    assert (await router.command(conversation, "handoff/invite", "k1", **body)).status_code == 200
    (send,) = await sends(router, 1)
    await ended(router, conversation)

    assert (await gate(router, send.outbound_id))["reason"] == "stopped"
    await router.tell(fate_of(send, MessageSent))  # it had left already: nothing follows in public all the same
    head = await head_of(router, conversation)
    assert (head["state"], head["handoff"]["state"]) == ("closed", "expired")
    assert len(await router.outbound()) == 1


async def test_silence_closes_a_case_but_not_while_its_invitation_stands(
    settings: CommonSettings, publisher: Publisher, mongo: Mongo
) -> None:
    async with running(settings, publisher, mongo, close_after_h=0.5 / 3600) as router:
        conversation, _ = await comment(router)
        _, code = await invited(router, conversation)
        await router.tell(said("bo", 0))
        (other,) = set((await appended(router, 3)).values()) - {conversation}
        head = await head_of(router, other)
        body = {"leg": head["legs"][0]["key"], "text": "there you are", "saw": head["legs"][0]["last_message"]}
        assert (await router.command(other, "messages", "k1", **body)).status_code == 200
        await closed(router, other)  # it was silent for less long
        assert (await head_of(router, conversation))["state"] == "open"

        await router.tell(said("346", 0, code, channel="whatsapp", account="main", customer="cust-346"))
        found = await appended(router, 4)

        assert set(found.values()) == {conversation, other}
        assert (await head_of(router, conversation))["handoff"]["state"] == "claimed"
