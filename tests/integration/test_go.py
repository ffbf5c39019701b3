"""Handoff links: looking changes nothing, a tap is one fact, and nobody learns by guessing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.local.embedded import free_port
from services.common import topics as t
from services.common.errors import BrokerAway
from services.common.events import ReferralFollowed
from services.common.kafka import Publisher
from services.common.settings import CommonSettings
from services.ingest.settings import IngestSettings
from tests.chatting import chat_settings, doors
from tests.ingesting import events, header, records, running
from tests.waiting import until

TOKEN, CLAIMED, EXPIRED, USED, UNKNOWN, TWO, SPANISH = (letter * 40 for letter in "abcdefg")
WHATSAPP = {"channel": "whatsapp", "title": "WhatsApp", "url": "https://wa.me/49301234?text=HILO-7KQ2-M4T9"}
CHAT = {"channel": "webchat", "title": "Chat <b>", "url": "https://shop.example/help?ref=HILO-7KQ2-M4T9"}
KEY = "service-key-of-the-tests"


def offer(name: str, **changes: Any) -> dict[str, Any]:
    expires = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    told = {"tenant": "acme", "offer_id": name, "state": "open", "expires_at": expires, "title": "Casa Lumbre"}
    return {**told, "language": "es", "links": [WHATSAPP], **changes}


OFFERS = {
    TOKEN: offer("o1"),
    CLAIMED: offer("o2", state="claimed"),
    EXPIRED: offer("o3", expires_at="2026-01-01T00:00:00Z"),
    USED: offer("o4", state="used"),
    TWO: offer("o5", links=[WHATSAPP, CHAT, {"channel": "x", "title": "Evil", "url": "javascript:alert(1)"}]),
    SPANISH: offer("o6", title=""),
}


@dataclass
class Router:
    """The router's answer about offers, over HTTP, and what it was asked."""

    port: int
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    answer: Response | None = None

    async def offers(self, request: Request) -> Response:
        token = request.path_params["token"]
        self.asked.append((request.method, token, request.headers["authorization"]))
        if self.answer:
            return self.answer
        return JSONResponse(OFFERS[token]) if token in OFFERS else JSONResponse({"code": "not_found"}, 404)


@asynccontextmanager
async def served(router: Router) -> AsyncIterator[None]:
    app = Starlette(routes=[Route("/v1/offers/{token}", router.offers)])
    server = uvicorn.Server(uvicorn.Config(app, port=router.port, log_config=None, lifespan="off"))
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield
    server.should_exit = True
    await task


def _no_signals() -> Any:
    from contextlib import nullcontext

    return nullcontext()


@pytest.fixture
async def router() -> AsyncIterator[Router]:
    one = Router(free_port())
    async with served(one):
        yield one


@pytest.fixture
def go(settings: CommonSettings, tmp_path: Path, router: Router) -> IngestSettings:
    return chat_settings(settings, tmp_path, router_url=f"http://127.0.0.1:{router.port}", service_key=KEY, go_tries_per_min=5)


@pytest.fixture
async def client(go: IngestSettings, topics: None) -> AsyncIterator[httpx.AsyncClient]:
    async with running(go, doors()) as one:
        yield one


async def taps(settings: CommonSettings) -> list[tuple[str, ReferralFollowed]]:
    return [(e.id, e.data) for e in await events(settings, t.EVENTS) if isinstance(e.data, ReferralFollowed)]


async def test_looking_shows_where_it_goes_on_and_changes_nothing(
    client: httpx.AsyncClient, settings: CommonSettings, router: Router
) -> None:
    page = await client.get(f"/go/{TOKEN}", headers={"accept-language": "en-GB,en;q=0.9,es;q=0.5"})
    for agent in ("WhatsApp/2.23", "facebookexternalhit/1.1", "Slackbot-LinkExpanding 1.0"):
        for method in ("GET", "HEAD"):
            assert (await client.request(method, f"/go/{TOKEN}", headers={"user-agent": agent})).status_code == 200

    assert page.status_code == 200
    assert "Go on in WhatsApp" in page.text
    assert "Casa Lumbre" in page.text
    assert 'lang="en"' in page.text
    assert "HILO-7KQ2" not in page.text  # the code is for whoever taps
    assert (page.headers["x-robots-tag"], page.headers["referrer-policy"]) == ("noindex, nofollow", "no-referrer")
    assert page.headers["cache-control"] == "no-store"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; form-action 'self' https://wa.me;")
    assert await records(settings, t.RAW) == []
    assert {method for method, _, _ in router.asked} == {"GET"}
    assert {key for _, _, key in router.asked} == {f"Bearer {KEY}"}


async def test_the_language_is_the_browsers_else_the_conversations(client: httpx.AsyncClient) -> None:
    spanish = await client.get(f"/go/{SPANISH}", headers={"accept-language": "de-DE, fr"})
    english = await client.get(f"/go/{SPANISH}", headers={"accept-language": "es;q=0.2, en;q=0.7"})

    assert 'lang="es"' in spanish.text
    assert 'lang="en"' in english.text


async def test_a_tap_is_one_fact_however_often_and_goes_on_to_the_link(
    client: httpx.AsyncClient, settings: CommonSettings
) -> None:
    answers = [await client.post(f"/go/{TOKEN}", data={"to": "whatsapp"}) for _ in range(3)]
    found, raw = await taps(settings), await records(settings, t.RAW)

    assert [(one.status_code, one.headers["location"]) for one in answers] == [(303, WHATSAPP["url"])] * 3
    assert len({event_id for event_id, _ in found}) == 1
    assert next((tap.ref, tap.provider_id, tap.sender, tap.party) for _, tap in found) == ("offer:o1", "offer:o1", None, None)
    assert header(raw[0], "hilo_verdict")["event_ids"] == [found[0][0]]
    assert dict(raw[0].headers)["ce_channel"] == b"go"


async def test_one_of_several_links_is_chosen_and_no_other(client: httpx.AsyncClient, settings: CommonSettings) -> None:
    page = await client.get(f"/go/{TWO}")
    chosen = await client.post(f"/go/{TWO}", data={"to": "webchat"})
    wrong = [
        await client.post(f"/go/{TWO}", data=data)
        for data in ({}, {"to": "x"}, {"to": "y" * 5000}, {"url": "https://e.example"})
    ]

    assert "Chat &lt;b&gt;" in page.text
    assert "Evil" not in page.text
    assert (chosen.status_code, chosen.headers["location"]) == (303, CHAT["url"])
    assert [one.status_code for one in wrong] == [200] * 4  # the page again, and nothing was tapped
    assert len(await taps(settings)) == 1


async def test_a_claimed_offer_is_still_shown_and_one_that_is_over_is_not(
    client: httpx.AsyncClient, settings: CommonSettings
) -> None:
    statuses = {}
    for name, token in (("claimed", CLAIMED), ("expired", EXPIRED), ("used", USED), ("unknown", UNKNOWN)):
        statuses[name] = [
            (await client.request(how, f"/go/{token}", data={"to": "whatsapp"})).status_code for how in ("GET", "POST")
        ]

    assert statuses == {"claimed": [200, 303], "expired": [410, 410], "used": [410, 410], "unknown": [404, 404]}
    assert [tap.ref for _, tap in await taps(settings)] == ["offer:o2"]


async def test_guesses_are_bounded_and_what_is_no_token_is_not_even_asked(client: httpx.AsyncClient, router: Router) -> None:
    junk = [(await client.get(f"/go/{token}")).status_code for token in ("x", "ñ" * 40, "..%2f..%2fv1", "a" * 65)]
    asked = len(router.asked)
    last = [(await client.get(f"/go/{UNKNOWN}")) for _ in range(4)][-1]
    known = await client.get(f"/go/{TOKEN}")

    assert junk == [404] * 4
    assert asked == 0
    assert (last.status_code, last.headers["retry-after"]) == (429, "60")
    assert known.status_code == 429  # who guesses waits, also for what they know


async def test_an_address_that_nobody_of_ours_vouches_for_hides_no_guesses(client: httpx.AsyncClient, router: Router) -> None:
    """X-Forwarded-For is believed as far as the settings say, also from a peer on this machine."""
    answers = [await client.get(f"/go/{UNKNOWN}", headers={"x-forwarded-for": f"203.0.113.{n}"}) for n in range(6)]

    assert answers[-1].status_code == 429


async def test_a_router_that_is_away_or_talks_nonsense_is_a_page_that_says_to_try_again(
    client: httpx.AsyncClient, settings: CommonSettings, router: Router
) -> None:
    answers: list[Response] = [
        Response(status_code=500),
        Response(b"nonsense"),
        JSONResponse({"offer_id": "x"}),
        Response(status_code=403),
    ]
    for answer in answers:
        router.answer = answer
        for how in ("GET", "POST"):
            found = await client.request(how, f"/go/{TOKEN}", data={"to": "whatsapp"})
            assert (found.status_code, found.headers["retry-after"]) == (503, "5")
    assert await taps(settings) == []


async def test_while_the_broker_is_away_nobody_is_sent_on(
    client: httpx.AsyncClient, settings: CommonSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise BrokerAway("test")

    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "publish", away)
        assert (await client.post(f"/go/{TOKEN}", data={"to": "whatsapp"})).status_code == 503
    assert (await client.post(f"/go/{TOKEN}", data={"to": "whatsapp"})).status_code == 303
    assert len(await taps(settings)) == 1
