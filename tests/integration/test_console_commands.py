"""What an agent does in the console, with the real router behind it: stale forms, colleagues, the same press twice, private
data, keys that may not."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path

import aiohttp
import pytest

from deploy.local.embedded import free_port
from services.common.auth import Keyring
from services.common.kafka import Publisher
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.vault import vault
from services.timeline.app import build
from services.timeline.settings import TimelineSettings
from tests.integration.test_router_commands import comment, head_of, leg_of, opened
from tests.routing import Router, running, said
from tests.waiting import until

HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


@dataclass
class Agent:
    """An agent's browser without its script: pages and forms."""

    url: str
    http: aiohttp.ClientSession

    async def get(self, path: str) -> str:
        async with self.http.get(self.url + path) as answer:
            return await answer.text()

    async def composer(self, conversation: str, wanted: str) -> dict[str, str]:
        """The hidden fields of the composer, once the page shows what is wanted."""

        async def shown() -> str | None:
            page = await self.get(f"/c/{conversation}")
            return page if wanted in page else None

        page = await until(shown, within_s=30, every_s=0.2, what=f"{wanted!r} on the page")
        form = str(page).partition('id="composer"')[2].partition("</form>")[0]
        return {name: unescape(value) for name, value in HIDDEN.findall(form)}

    async def post(self, path: str, form: dict[str, str]) -> tuple[int, str]:
        headers = {"origin": self.url}
        async with self.http.post(self.url + path, data=form, headers=headers, allow_redirects=False) as answer:
            return answer.status, unescape(await answer.text())


@dataclass
class Site:
    url: str
    router: Router
    keyring: Keyring
    open: list[aiohttp.ClientSession] = field(default_factory=list)

    async def agent(self, name: str, *scopes: str, tenant: str = "acme") -> Agent:
        await self.keyring.create_tenant(tenant)
        key = await self.keyring.create_key(tenant, name, frozenset(scopes or ("read", "agent")), agent=name)
        http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.open.append(http)
        one = Agent(self.url, http)
        assert (await one.post("/login", {"key": key}))[0] == 303
        http.cookie_jar.update_cookies({"lang": "en"})
        return one

    async def sent(self) -> list[str]:
        """The texts that were asked of the outbound worker, each message once."""
        found = {one.outbound_id: one for one in await self.router.outbound()}
        return sorted(part.text or "" for one in found.values() for part in one.parts)


@asynccontextmanager
async def served(settings: CommonSettings, mongo: Mongo, publisher: Publisher, media: Path) -> AsyncIterator[Site]:
    async with running(settings, publisher, mongo) as router:
        stated = {**settings.model_dump(), "host": "127.0.0.1", "port": free_port(), "media_dir": media}
        stated |= {"router_url": f"http://127.0.0.1:{router.settings.port}"}
        process = build(TimelineSettings(**stated))
        task = asyncio.create_task(process.run())
        site = Site(f"http://127.0.0.1:{stated['port']}", router, Keyring(mongo, vault(settings)))
        try:
            await until(lambda: process.readiness.started or task.done(), within_s=30)
            yield site
        finally:
            for http in site.open:
                await http.close()
            process.stopping.set()
            await task


@pytest.fixture
async def site(settings: CommonSettings, mongo: Mongo, publisher: Publisher, tmp_path: Path) -> AsyncIterator[Site]:
    async with served(settings, mongo, publisher, tmp_path) as one:
        yield one


def written(form: dict[str, str], leg: str, text: str, **more: str) -> dict[str, str]:
    return {**form, "leg": leg, "shown": leg, "text": text, **more}


def anyway(page: str) -> str:
    found = re.search(r'name="anyway" value="([^"]*)"', page)
    assert found, page
    return found[1]


async def test_a_form_from_before_the_customers_next_message_is_a_conflict_that_can_be_answered_all_the_same(
    site: Site,
) -> None:
    conversation, head = await opened(site.router)
    eva = await site.agent("eva")
    stale = await eva.composer(conversation, "hello")
    await site.router.tell(said("ana", 1, "found it, thanks"))
    await eva.composer(conversation, "found it, thanks")
    status, page = await eva.post(f"/c/{conversation}/send", written(stale, leg_of(head), "It is blue"))

    assert status == 409
    assert "found it, thanks" in page
    assert "It is blue" in page
    assert await site.sent() == []

    again = written({**stale, "key": str(uuid.uuid4())}, leg_of(head), "It is blue", anyway=anyway(page))
    assert (await eva.post(f"/c/{conversation}/send", again))[0] == 303
    assert await site.sent() == ["It is blue"]


async def test_who_answers_after_a_colleague_sees_the_colleagues_answer_first(site: Site) -> None:
    conversation, head = await opened(site.router)
    eva, bob = await site.agent("eva"), await site.agent("bob")
    hers, his = await eva.composer(conversation, "hello"), await bob.composer(conversation, "hello")
    assert (await eva.post(f"/c/{conversation}/send", written(hers, leg_of(head), "It is blue")))[0] == 303
    await bob.composer(conversation, "It is blue")
    status, page = await bob.post(f"/c/{conversation}/send", written(his, leg_of(head), "It is green"))

    assert status == 409
    assert "It is blue" in page
    assert "It is green" in page
    assert await site.sent() == ["It is blue"]

    fresh = await bob.composer(conversation, "It is blue")
    assert (await bob.post(f"/c/{conversation}/send", written(fresh, leg_of(head), "Or green")))[0] == 303
    more = written({**hers, "key": str(uuid.uuid4())}, leg_of(head), "Blue it is")
    assert (await eva.post(f"/c/{conversation}/send", more))[0] == 409


async def test_the_same_press_twice_is_one_message(site: Site) -> None:
    conversation, head = await opened(site.router)
    eva = await site.agent("eva")
    form = written(await eva.composer(conversation, "hello"), leg_of(head), "It is blue")
    answers = await asyncio.gather(*(eva.post(f"/c/{conversation}/send", form) for _ in range(5)))
    late = await eva.post(f"/c/{conversation}/send", form)

    assert {status for status, _ in (*answers, late)} <= {303, 409}
    assert late[0] == 303
    assert await site.sent() == ["It is blue"]


async def test_a_public_answer_is_asked_about_once_and_private_data_is_refused_however_sure_somebody_is(site: Site) -> None:
    conversation, head = await comment(site.router)
    eva, leg = await site.agent("eva"), leg_of(head, "instagram")
    text = "Sorry, Ana. Is it +34 612 40 77 82?"
    form = written(await eva.composer(conversation, "my parcel is late"), leg, text)
    status, asked = await eva.post(f"/c/{conversation}/send", {**form, "sure": ""})
    assert (status, await site.sent()) == (200, [])
    assert text in asked

    status, refused = await eva.post(f"/c/{conversation}/send", {**form, "sure": "1"})
    assert (status, await site.sent()) == (422, [])
    assert "<b>+34 612 40 77 82</b>" in refused
    assert text in refused
    for verb, name in (("invite", "public_text"), ("close-public", "text")):
        status, page = await eva.post(f"/c/{conversation}/{verb}", {**form, name: text, "key": verb})
        assert (status, await site.sent()) == (422, []), verb
        assert "<b>+34 612 40 77 82</b>" in page

    status, cut = await eva.post(f"/c/{conversation}/send", {**form, "do": "cut", "found": "+34 612 40 77 82"})
    assert status == 200
    assert "Sorry, Ana. Is it ?" in cut
    status, _ = await eva.post(f"/c/{conversation}/send", {**form, "text": "Sorry, Ana.", "sure": "1"})
    assert (status, await site.sent()) == (303, ["Sorry, Ana."])


FORGED: list[dict[str, str]] = [
    {"anyway": "9" * 40},
    {"anyway": "x y z"},
    {"anyway": "٣ x"},
    {"version": "-1", "saw": ""},
    {"saw": "x" * 5000, "version": ""},
    {"saw": "made-up"},
    {"leg": "acme/telegram/bot/other/private", "shown": "acme/telegram/bot/other/private"},
    {"leg": "x", "shown": "x"},
    {"key": "k" * 5000},
]


async def test_a_form_that_no_page_of_ours_made_sends_nothing(site: Site) -> None:
    conversation, head = await opened(site.router)
    eva = await site.agent("eva")
    form = written(await eva.composer(conversation, "hello"), leg_of(head), "It is blue")
    for wrong in FORGED:
        status, page = await eva.post(f"/c/{conversation}/send", {**form, "key": str(uuid.uuid4()), **wrong})

        assert 400 <= status < 500, wrong
        assert "It is blue" in page
    assert await site.sent() == []


async def test_who_may_not_answer_or_is_of_another_tenant_does_nothing(site: Site) -> None:
    conversation, head = await opened(site.router)
    reader, stranger = await site.agent("rita", "read"), await site.agent("otto", "read", "agent", tenant="other")
    form = written(await reader.composer(conversation, "hello"), leg_of(head), "It is blue", key="k")
    before = await head_of(site.router, conversation)
    for verb in ("send", "stop", "take", "resolve", "reopen", "invite", "approve", "ask-code", "close-public"):
        filled = {**form, "public_text": "x", "outbound_id": "x"}
        assert (await reader.post(f"/c/{conversation}/{verb}", filled))[0] in (400, 403), verb
        assert (await stranger.post(f"/c/{conversation}/{verb}", filled))[0] == 404, verb

    assert await site.sent() == []
    assert await head_of(site.router, conversation) == before
