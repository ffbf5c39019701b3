"""The console's pages over HTTP: who may see them, under which policy, and what a hostile request gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from deploy.local.embedded import free_port
from services.common import topics as t
from services.common.auth import Keyring
from services.common.cloudevents import Event
from services.common.events import ConversationAssigned, Data, DeadLettered
from services.common.kafka import Publisher
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.vault import vault
from services.timeline.app import build
from services.timeline.console.answers import CONTENT_SECURITY
from services.timeline.settings import TimelineSettings
from tests.histories import appended, changed, event, name_of, said, stated
from tests.timeline_parts import topic_of
from tests.waiting import until

TOPIC = {topic.name: topic for topic in t.TOPICS}
SCOPES = frozenset(("read", "agent", "write"))


@dataclass
class Site:
    """A running timeline, and a browser's requests to it."""

    url: str
    keyring: Keyring
    http: aiohttp.ClientSession
    key: str

    async def sign_in(self, key: str | None = None, **headers: str) -> aiohttp.ClientResponse:
        return await self.post("/login", {"key": key or self.key}, **headers)

    async def get(self, path: str, **headers: str) -> tuple[aiohttp.ClientResponse, str]:
        async with self.http.get(self.url + path, headers=headers, allow_redirects=False) as answer:
            return answer, await answer.text()

    async def post(self, path: str, form: dict[str, str], **headers: str) -> aiohttp.ClientResponse:
        sent = {"origin": self.url, **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with self.http.post(self.url + path, data=form, headers=sent, allow_redirects=False) as answer:
            await answer.read()
            return answer


async def publish(publisher: Publisher, *data: Data | Event[Data]) -> None:
    for one in data:
        whole = one if isinstance(one, Event) else event(one)
        topic = t.DEAD if isinstance(whole.data, DeadLettered) else TOPIC[topic_of(whole.data)]
        await publisher.emit(topic, [whole])


@pytest.fixture
async def site(settings: CommonSettings, mongo: Mongo, publisher: Publisher, tmp_path: Path) -> AsyncIterator[Site]:
    stated = {**settings.model_dump(), "host": "127.0.0.1", "port": free_port(), "media_dir": tmp_path}
    stated |= {name: f"http://127.0.0.1:{free_port()}" for name in ("router_url", "identity_url", "ingest_url")}
    process = build(TimelineSettings(**stated))
    task = asyncio.create_task(process.run())
    keyring = Keyring(mongo, vault(settings))
    for tenant in ("acme", "other"):
        await keyring.create_tenant(tenant)
    key = await keyring.create_key("acme", "Lena", SCOPES, agent="lena")
    try:
        await until(lambda: process.readiness.started or task.done(), within_s=30)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            yield Site(f"http://127.0.0.1:{stated['port']}", keyring, http, key)
    finally:
        process.stopping.set()
        await task


async def seen(site: Site, path: str, wanted: str) -> str:
    async def found() -> str | None:
        answer, body = await site.get(path)
        return body if answer.status == 200 and wanted in body else None

    return str(await until(found, within_s=30, what=f"{wanted!r} on {path}"))


DEAD = DeadLettered(
    dead_id=name_of("dead"), topic="hilo.raw", partition=0, offset=1, reason="<b>broken</b>", stage="ingest", at="2026-11-01T09:00:00Z"
)  # fmt: skip


async def test_every_page_carries_the_policy_and_none_is_kept(site: Site, publisher: Publisher) -> None:
    await publish(publisher, said("m1", "hola"), changed("c-1", 1), appended("c-1", "m1"), DEAD)
    await site.sign_in()
    await seen(site, "/c/c-1", "hola")
    await seen(site, "/operations/dead", "broken")

    for path in ("/login", "/inbox", "/inbox/rows", "/inbox/views", "/c/c-1", "/c/c-1/details", "/c/c-1/legs", "/c/c-1/bar",
                 "/c/c-1/panel", "/c/c-1/queue", "/c/c-1/ids", "/operations/dead", f"/operations/dead/{DEAD.dead_id}", "/c/none"):  # fmt: skip
        answer, body = await site.get(path)
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY, path
        assert answer.headers["cache-control"] == "no-store", path
        assert " style=" not in body, path
        assert "<script>" not in body, path
        assert " onclick=" not in body, path


async def test_who_is_not_signed_in_is_led_to_the_entrance_and_back(site: Site) -> None:
    page, _ = await site.get("/c/c-1?view=mine")
    fragment, _ = await site.get("/c/c-1/legs", **{"hx-request": "true"})
    command = await site.post("/c/c-1/take", {})

    assert (page.status, page.headers["location"]) == (303, "/login?to=%2Fc%2Fc-1%3Fview%3Dmine")
    assert (fragment.status, fragment.headers["hx-redirect"]) == (401, "/login")
    assert (command.status, command.headers["location"]) == (303, "/login")


async def test_the_cookie_is_sealed_and_only_for_our_own_pages(site: Site) -> None:
    answer = await site.sign_in()

    cookie = answer.headers["set-cookie"]
    assert (answer.status, answer.headers["location"]) == (303, "/inbox?view=queue")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert site.key not in cookie


async def test_a_wrong_key_and_a_forged_cookie_open_nothing(site: Site) -> None:
    assert (await site.sign_in("nobody")).status == 401
    for forged in ("", "x", "AAAA", site.key):
        site.http.cookie_jar.update_cookies({"hilo_session": forged})
        answer, _ = await site.get("/inbox")
        assert answer.status == 303, forged


async def test_a_revoked_key_ends_its_sessions(site: Site) -> None:
    key = await site.keyring.create_key("acme", "Tom", SCOPES, agent="tom")
    await site.sign_in(key)
    assert (await site.get("/inbox"))[0].status == 200
    found = next(one for one in await site.keyring.keys("acme") if one["name"] == "Tom")
    await site.keyring.revoke("acme", found["_id"][:12])

    async def out() -> bool:
        return (await site.get("/inbox"))[0].status == 303

    await until(out, within_s=20, what="the session ends")


async def test_a_key_that_may_neither_read_nor_answer_cannot_sign_in(site: Site) -> None:
    key = await site.keyring.create_key("acme", "worker", frozenset(("ingest",)))

    assert (await site.sign_in(key)).status == 401


async def test_another_tenants_conversation_does_not_exist(site: Site, publisher: Publisher) -> None:
    await publish(publisher, said("m1", "secreto"), changed("c-1", 1), appended("c-1", "m1"), DEAD)
    await site.sign_in()
    await seen(site, "/c/c-1", "secreto")
    await seen(site, f"/operations/dead/{DEAD.dead_id}", "broken")

    stranger = await site.keyring.create_key("other", "Eve", SCOPES, agent="eve")
    await site.sign_in(stranger)
    for path in ("/c/c-1", "/c/c-1/details", "/c/c-1/legs", f"/operations/dead/{DEAD.dead_id}"):
        answer, body = await site.get(path)
        assert answer.status == 404, path
        assert "secreto" not in body
    assert "secreto" not in (await site.get("/inbox?view=open"))[1]
    assert "secreto" not in (await site.get("/c/c-1/ids"))[1]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "https://evil.example", "sec_fetch_site": "cross-site"},
    ],
)
@pytest.mark.parametrize("path", ["/login", "/logout", "/presence", "/c/c-1/send", "/c/c-1/resolve", "/operations/dead/x"])
async def test_nothing_is_done_for_a_page_of_somebody_else(site: Site, headers: dict[str, str], path: str) -> None:
    await site.sign_in()

    answer = await site.post(path, {"key": site.key, "text": "hola", "leg": "note"}, **headers)

    assert answer.status == 403


@pytest.mark.parametrize(
    "back",
    ["//evil.example", "/\\evil.example", "https://evil.example", "/%09/evil.example", "/\t/evil", "javascript:1", "@evil", ""],
)
async def test_nobody_is_led_away_from_here(site: Site, back: str) -> None:
    async with site.http.get(f"{site.url}/lang/es", params={"back": back}, allow_redirects=False) as chosen:
        where = chosen.headers["location"]
    signed = await site.post("/login", {"key": site.key, "to": back})

    for found in (where, signed.headers["location"]):
        assert found.startswith("/")
        assert not found.startswith(("//", "/\\"))
        assert "evil" not in found.partition("?")[0].split("/")[1]


async def test_own_paths_are_gone_back_to(site: Site) -> None:
    answer, _ = await site.get("/lang/en?back=/c/c-1%3Fview%3Dmine")

    assert (answer.status, answer.headers["location"]) == (303, "/c/c-1?view=mine")


HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}", "' hx-get='/logout' x='")


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_words_stand_in_a_page_only_escaped(site: Site, publisher: Publisher, text: str) -> None:
    await publish(publisher, said("m1", f"{text} fin"), changed("c-1", 1), appended("c-1", "m1"))
    await site.sign_in()
    body = await seen(site, "/c/c-1", "fin")
    rows = await seen(site, "/inbox?view=open", "fin")

    for page in (body, rows):
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert " hx-get='/logout'" not in page
        assert "49 fin" not in page


async def test_a_page_stands_while_the_other_services_are_away_and_a_command_keeps_what_was_typed(
    site: Site, publisher: Publisher
) -> None:
    await publish(publisher, said("m1", "hola"), changed("c-1", 1), appended("c-1", "m1"))
    await site.sign_in()
    await seen(site, "/c/c-1", "hola")
    assert "The identity service does not answer" in (await site.get("/c/c-1/ids"))[1]

    form = {"text": "mi borrador", "leg": "note", "key": "k1"}
    async with site.http.post(f"{site.url}/c/c-1/send", data=form, headers={"origin": site.url}) as answer:
        body = await answer.text()
    assert answer.status == 503
    assert "mi borrador" in body
    assert "a service does not answer" in body


async def test_unreadable_addresses_and_cursors_break_nothing(site: Site, publisher: Publisher) -> None:
    await publish(publisher, said("m1", "hola"), changed("c-1", 1), appended("c-1", "m1"))
    await site.sign_in()
    await seen(site, "/c/c-1", "hola")

    for path in ("/inbox?view=nothing", "/inbox?view=customer", "/inbox?from=x", "/c/c-1?before=%00", "/inbox/rows?keep=,,x",
                 "/operations/dead?from=zz", "/c/c-1?leg=nowhere&again=none"):  # fmt: skip
        assert (await site.get(path))[0].status == 200, path
    async with site.http.get(f"{site.url}/console/stream?since=x") as stream:
        assert (stream.status, stream.content_type) == (200, "text/event-stream")
        assert await stream.content.readline() == b"retry: 1000\n"


async def test_notes_and_states_stand_on_the_page_with_their_reasons(site: Site, publisher: Publisher) -> None:
    given = stated(
        ConversationAssigned, "c-1", 2, 5,
        type="hilo.conversation.assigned.v1", agent="lena", reservation="r", why="by=auto rule=sticky load=1/4",
        with_head={"agent": "lena"},
    )  # fmt: skip
    await publish(publisher, said("m1", "hola"), changed("c-1", 1), appended("c-1", "m1"), given)
    await site.sign_in()
    site.http.cookie_jar.update_cookies({"lang": "es"})

    body = await seen(site, "/c/c-1", "Asignada a lena")

    assert "Ya la llevaba antes; llevaba 1 de 4" in body
