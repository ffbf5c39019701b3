"""From a public comment to a private talk, through the whole router: the platform's private reply first, links, codes, proof."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.common import topics as t
from services.common.cloudevents import decode
from services.common.events import (
    IdentityAsserted,
    MessageDeleted,
    MessageFailed,
    MessageSent,
    ReferralFollowed,
    SendRequested,
)
from services.common.kafka import Publisher, read_all
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from tests.integration.test_router import appended
from tests.integration.test_router_commands import comment, gate, head_of
from tests.routing import NOW, Router, fact, running, said, who
from tests.waiting import until

LINK = "http://127.0.0.1:8101/go/"


@pytest.fixture
async def router(settings: CommonSettings, publisher: Publisher, mongo: Mongo) -> AsyncIterator[Router]:
    async with running(settings, publisher, mongo) as one:
        yield one


async def handoff(router: Router, conversation: str, state: str) -> dict[str, Any]:
    async def reached() -> dict[str, Any] | None:
        head = await head_of(router, conversation)
        return head if (head.get("handoff") or {}).get("state") == state else None

    found = await until(reached, every_s=0.1, what=f"handoff {state}")
    return dict(found or {})


async def sends(router: Router, count: int) -> list[SendRequested]:
    async def enough() -> list[SendRequested] | None:
        found = await router.outbound()
        return found if len(found) >= count else None

    found = await until(enough, every_s=0.1, what=f"{count} sends")
    assert found
    return found


def fate_of(send: SendRequested, model: type[MessageSent | MessageFailed], **more: Any) -> Any:
    data = model(
        provider_id=f"p-{send.outbound_id}",
        party=who("ana", "instagram"),
        received_at=NOW,
        leg=send.leg,
        thread=send.thread,
        visibility=send.visibility,
        outbound_id=send.outbound_id,
        **more,
    )
    return fact(data, "ana", channel="instagram", account="page", unique=send.outbound_id)


async def test_the_public_reply_follows_only_after_the_private_one_was_accepted(router: Router) -> None:
    conversation, _ = await comment(router)
    answer = await router.command(
        conversation,
        "handoff/invite",
        "k1",
        private=[{"text": "Tell us here."}],
        public=[{"text": "We have just written to you."}],
    )
    assert answer.status_code == 200, answer.text
    (first,) = await sends(router, 1)
    assert (first.visibility, first.leg, first.opens) == ("private", "chat", "ana-0")
    assert (await gate(router, first.outbound_id))["allow"]

    await router.tell(fate_of(first, MessageSent))
    await handoff(router, conversation, "offered")
    (second,) = [one for one in await sends(router, 2) if one.outbound_id != first.outbound_id]
    assert (second.visibility, second.leg, second.reply_to) == ("public", "comments", "ana-0")

    await router.tell(said("ana", 5, "here I am", channel="instagram", account="page"))
    head = await handoff(router, conversation, "proven")
    assert set((await appended(router, 2)).values()) == {conversation}
    assert [leg["visibility"] for leg in head["legs"]] == ["public", "private"]


async def test_a_private_reply_that_is_refused_takes_the_public_one_with_it(router: Router) -> None:
    conversation, _ = await comment(router)
    await router.command(
        conversation, "handoff/invite", "k1", private=[{"text": "Tell us here."}], public=[{"text": "We have written."}]
    )
    (first,) = await sends(router, 1)
    await router.tell(fate_of(first, MessageFailed, reason="closed"))

    await handoff(router, conversation, "rejected_by_platform")
    assert len(await router.outbound()) == 1


async def invited(router: Router, conversation: str) -> tuple[str, str]:
    """(token, code) of a link that was published under the comment."""
    answer = await router.command(
        conversation,
        "handoff/invite",
        "k1",
        public=[{"text": "Please come here: {link}"}],
        targets=["whatsapp/main"],
    )
    assert answer.status_code == 200, answer.text
    (send,) = await sends(router, 1)
    (text,) = [part.text for part in send.parts]
    found = re.search(re.escape(LINK) + r"(\S+)", text or "")
    assert found
    await router.tell(fate_of(send, MessageSent))
    await handoff(router, conversation, "offered")
    page = (await router.http.get(f"/v1/offers/{found[1]}")).json()
    return found[1], page["code"]


async def test_the_page_behind_a_link_shows_the_ways_in_and_reading_it_changes_nothing(router: Router) -> None:
    conversation, _ = await comment(router)
    token, code = await invited(router, conversation)
    pages = [(await router.http.get(f"/v1/offers/{token}")).json() for _ in range(2)]

    assert pages[0] == pages[1]
    assert (pages[0]["state"], pages[0]["title"]) == ("open", "Acme page")
    assert pages[0]["links"] == [{"channel": "whatsapp", "title": "Acme", "url": f"https://wa.me/34600000000?text={code}"}]
    assert (await router.http.get(f"/v1/offers/{token[1:]}x")).status_code == 404


async def test_a_tap_claims_and_the_first_message_with_the_code_attaches_its_leg_without_proof(router: Router) -> None:
    conversation, _ = await comment(router)
    token, code = await invited(router, conversation)
    page = (await router.http.get(f"/v1/offers/{token}")).json()
    tap = ReferralFollowed(provider_id="tap", received_at=NOW, ref=f"offer:{page['offer_id']}")
    await router.tell(fact(tap, "nobody", channel="instagram", account="page", unique="tap"))
    await handoff(router, conversation, "claimed")

    written = said("346", 0, f"hello {code.lower()}", channel="whatsapp", account="main", customer="cust-346")
    await router.tell(written, written)
    await appended(router, 3)
    head = await head_of(router, conversation)
    (leg,) = [one for one in head["legs"] if one["channel"] == "whatsapp"]

    assert (leg["via"], leg["proof"], leg["held"]) == ("token", "claimed", True)
    assert (await router.http.get(f"/v1/offers/{token}")).json()["state"] == "used"
    assert set((await router.appended()).values()) == {conversation}

    await router.tell(said("999", 0, code, channel="whatsapp", account="main", customer="cust-999"))
    assert len(set((await appended(router, 4)).values())) == 2


async def test_a_code_given_on_a_private_leg_proves_who_brings_it_elsewhere(router: Router) -> None:
    await router.tell(said("ana", 0))
    (conversation,) = set((await appended(router, 1)).values())
    head = await head_of(router, conversation)
    answer = await router.command(
        conversation,
        "offers",
        "k1",
        leg=head["legs"][0]["key"],
        parts=[{"text": "Bring {code}"}],
        targets=["whatsapp/main"],
    )
    assert answer.status_code == 200, answer.text
    (send,) = await sends(router, 1)
    (text,) = [part.text or "" for part in send.parts]
    code = text.removeprefix("Bring ")
    await router.tell(said("346", 0, code, channel="whatsapp", account="main", customer="cust-346"))
    assert set((await appended(router, 2)).values()) == {conversation}

    head = await head_of(router, conversation)
    assert [(leg["channel"], leg["proof"], leg["held"]) for leg in head["legs"]] == [
        ("telegram", "channel", True),
        ("whatsapp", "channel", True),
    ]
    proofs = [decode(record) async for record in read_all(router.settings, t.EVENTS)]
    (proof,) = [one for one in proofs if isinstance(one.data, IdentityAsserted)]
    assert isinstance(proof.data, IdentityAsserted)
    assert {proof.data.sender.id.value, proof.data.sender.also[0].identifier.value} == {"ana", "346"}
    assert proof.key == proof.data.sender.id.key


async def test_a_deleted_post_ends_the_handoff(router: Router) -> None:
    conversation, _ = await comment(router)
    deleted = MessageDeleted(
        provider_id="ana-0",
        party=who("ana", "instagram"),
        received_at=NOW,
        leg="comments",
        thread="post1",
        visibility="public",
    )
    await router.tell(fact(deleted, "ana", channel="instagram", account="page", unique="deleted"))

    await handoff(router, conversation, "author_deleted")


async def test_an_invitation_that_names_the_version_it_saw_is_no_conflict_with_the_leg_it_brings(router: Router) -> None:
    conversation, head = await comment(router)
    body = {"private": [{"text": "Tell us here."}], "public": [{"text": "We have written to you."}]}
    answer = await router.command(conversation, "handoff/invite", "k1", **body, version=head["version"])
    again = await router.command(conversation, "handoff/invite", "k1", **body, version=head["version"])

    assert answer.status_code == 200, answer.text
    assert again.json() == answer.json()
    assert len(await sends(router, 1)) == 1


@pytest.mark.parametrize("verb", ["invite", "approve"])
async def test_an_invitation_on_a_version_that_is_gone_brings_no_leg(router: Router, verb: str) -> None:
    conversation, head = await comment(router)
    if verb == "approve":
        draft = {"private": [{"text": "Tell us here."}], "public": [{"text": "We have written."}], "approval": True}
        assert (await router.command(conversation, "handoff/invite", "draft", **draft)).status_code == 200
    more = said(
        "ana", 1, "and nobody?", channel="instagram", account="page", visibility="public", thread="post1", leg="comments"
    )
    await router.tell(more)
    await appended(router, 2)
    before = await head_of(router, conversation)
    body = {"private": [{"text": "Tell us here."}]} if verb == "invite" else {}
    answer = await router.command(conversation, f"handoff/{verb}", "k1", **body, version=head["version"])
    after = await head_of(router, conversation)

    assert (answer.status_code, answer.json()["code"]) == (409, "version_lost")
    assert (after["version"], len(after["legs"])) == (before["version"], len(before["legs"]))
