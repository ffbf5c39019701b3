"""The chat widget in a real browser: on our page, on a shop of somebody else, offline, twice, and against hostile texts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import pytest
import uvicorn
from playwright.async_api import Browser, BrowserContext, Locator, Page, async_playwright, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from deploy.local.embedded import free_port
from services.common import topics as t
from services.common.events import MessageDelivered, MessageRead, MessageReceived, ReferralFollowed
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.ingest.accounts import Accounts, Wish
from services.ingest.chat_out import ChatOut
from services.ingest.settings import IngestSettings
from tests.chatting import CHAT, chat_settings, connected, doors
from tests.ingesting import events, running
from tests.waiting import until

pytestmark = pytest.mark.browser
Opened = Callable[..., Awaitable[Page]]


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        one = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield one
        await one.close()


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    one = await browser.new_context(locale="es-ES")
    yield one
    await one.close()


@pytest.fixture
async def chat(settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path) -> AsyncIterator[IngestSettings]:
    await connected(mongo, settings)
    one = chat_settings(settings, tmp_path)
    async with running(one, doors()):
        yield one


@pytest.fixture
def out(mongo: Mongo) -> ChatOut:
    return ChatOut(mongo)


def url(chat: IngestSettings, query: str = "") -> str:
    return f"http://127.0.0.1:{chat.port}/chat/shop{query}"


async def opened(context: BrowserContext, address: str) -> tuple[Page, list[str]]:
    """The page, with the widget connected, and what its console complained of."""
    complaints: list[str] = []
    page = await context.new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(address)
    return page, complaints


def log_of(page: Page) -> Locator:
    return page.get_by_role("log")


async def write(page: Page, text: str) -> None:
    await page.get_by_label("Tu mensaje").fill(text)
    await page.keyboard.press("Enter")


async def online(page: Page) -> None:
    await expect(page.get_by_text("Te contestamos aquí mismo")).to_be_visible(timeout=20_000)


async def thread_of(settings: CommonSettings, count: int = 1) -> str:
    """The visitor's thread, once so many messages are on the log."""
    found = await until(lambda: _said(settings, count), what=f"{count} messages on hilo.events")
    return str(found[-1].thread)


async def _said(settings: CommonSettings, count: int) -> list[MessageReceived]:
    found = [e.data for e in await events(settings, t.EVENTS) if isinstance(e.data, MessageReceived)]
    return found if len(found) >= count else []


async def answer(out: ChatOut, thread: str, number: int, **frame: Any) -> None:
    body = {"type": "message", "id": f"p{number}", "kind": "text", "text": f"Respuesta {number}", **frame}
    await out.append("acme", "shop", thread, f"p{number}", body)


async def test_a_conversation_in_the_browser_from_the_first_word_to_the_receipts(
    chat: IngestSettings, settings: CommonSettings, context: BrowserContext, out: ChatOut
) -> None:
    page, complaints = await opened(context, url(chat))
    await online(page)
    await write(page, "¿Tenéis la talla M?")
    await expect(page.locator('article[data-state="sent"]')).to_have_count(1)
    thread = await thread_of(settings)
    await answer(out, thread, 1)
    await answer(out, thread, 2, text="Más en https://shop.example/tallas, cuando quieras.")
    await expect(log_of(page).get_by_text("Respuesta 1")).to_be_visible()
    await expect(log_of(page).get_by_role("link", name="https://shop.example/tallas")).to_have_attribute(
        "rel", "noopener noreferrer nofollow"
    )

    async def receipts() -> bool:
        found = [e.data for e in await events(settings, t.EVENTS)]
        newest = {type(one): one.provider_id for one in found if isinstance(one, MessageDelivered | MessageRead)}
        return newest == {MessageDelivered: "p2", MessageRead: "p2"}

    await until(receipts, what="delivered and read of the newest message")
    assert complaints == []  # the policy of the page forbids nothing that the widget does


async def test_after_a_reload_the_conversation_is_there_and_goes_on(
    chat: IngestSettings, settings: CommonSettings, context: BrowserContext, out: ChatOut
) -> None:
    page, _ = await opened(context, url(chat))
    await online(page)
    await write(page, "uno")
    thread = await thread_of(settings)
    await answer(out, thread, 1)
    await expect(log_of(page).get_by_text("Respuesta 1")).to_be_visible()
    await page.close()
    await answer(out, thread, 2)
    page, _ = await opened(context, url(chat))
    await expect(log_of(page).get_by_text("Respuesta 2")).to_be_visible(timeout=20_000)
    await write(page, "dos")
    await thread_of(settings, 2)

    await expect(log_of(page).locator("article")).to_have_text(_contains("uno", "Respuesta 1", "Respuesta 2", "dos"))
    assert {one.thread for one in await _said(settings, 2)} == {thread}


def _contains(*texts: str) -> list[Any]:
    return [re.compile(re.escape(text)) for text in texts]


async def test_what_is_written_while_the_server_is_gone_is_kept_through_a_reload_and_sent_once(
    settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path, context: BrowserContext
) -> None:
    await connected(mongo, settings)
    chat = chat_settings(settings, tmp_path)
    async with running(chat, doors()):
        page, _ = await opened(context, url(chat))
        await online(page)
        await write(page, "antes")
        await thread_of(settings)
    await expect(page.get_by_text("Sin conexión; lo que escribas se guarda")).to_be_visible()
    await write(page, "durante")
    await write(page, "y después")
    await expect(page.locator('article[data-state="waiting"]')).to_have_count(2)
    async with running(chat, doors()):
        await page.reload()
        await expect(page.locator('article[data-state="sent"]')).to_have_count(3, timeout=40_000)
        found = {one.provider_id: one.parts[0].text for one in await _said(settings, 3)}

    assert list(found.values()) == ["antes", "durante", "y después"]  # sent again, it would be the same message


async def test_texts_of_others_are_shown_and_never_run(
    chat: IngestSettings, settings: CommonSettings, context: BrowserContext, out: ChatOut
) -> None:
    hostile = [
        '<img src=x onerror="window.pwned=1">',
        "<script>window.pwned=1</script>",
        'javascript:window.pwned=1 https://x.example/"onmouseover="window.pwned=1',
        "](javascript:window.pwned=1)",
    ]
    page, _ = await opened(context, url(chat))
    await online(page)
    await write(page, hostile[0])
    thread = await thread_of(settings)
    for number, text in enumerate(hostile, 1):
        await answer(out, thread, number, text=text, name=text, media_type="application/pdf", ref="javascript:window.pwned=1")
        await expect(log_of(page).locator("article.them").nth(number - 1)).to_contain_text(text)

    hrefs = await log_of(page).locator("a").evaluate_all("all => all.map(a => a.protocol)")
    assert await page.evaluate("window.pwned") is None
    assert set(hrefs) <= {"https:"}
    assert await log_of(page).locator("img, script").count() == 0


async def test_choices_files_edits_deletions_typing_and_the_way_elsewhere(
    chat: IngestSettings, settings: CommonSettings, context: BrowserContext, out: ChatOut
) -> None:
    page, complaints = await opened(context, url(chat))
    await online(page)
    await write(page, "hola")
    thread = await thread_of(settings)
    await answer(
        out,
        thread,
        1,
        kind="buttons",
        text="¿Cuál?",
        buttons=[{"id": "m", "title": "Talla M"}, {"id": "l", "title": "Talla L"}],
    )
    await page.get_by_role("button", name="Talla L").click()
    await thread_of(settings, 2)
    await expect(page.get_by_role("button", name="Talla M")).to_be_disabled()
    png = b"\x89PNG\r\n\x1a\n" + b"\x00" * 64
    await page.locator("input[type=file]").set_input_files({"name": "hervidor.png", "mimeType": "image/png", "buffer": png})
    await thread_of(settings, 3)
    found = await _said(settings, 3)
    await out.append("acme", "shop", thread, "e", {"type": "edit", "id": "e", "target": "p1", "text": "¿Cuál te gusta?"})
    await expect(log_of(page).get_by_text("¿Cuál te gusta?")).to_be_visible()
    await out.append("acme", "shop", thread, "d", {"type": "delete", "id": "d", "target": "p1"})
    await expect(log_of(page).get_by_text("Mensaje borrado")).to_be_visible()
    await out.append("acme", "shop", thread, "t", {"type": "typing"})
    await expect(page.get_by_label("Casa Lumbre está escribiendo")).to_be_visible()
    await expect(page.get_by_text("¿Te tienes que ir?")).to_be_hidden()
    await answer(out, thread, 2, text=f"Si lo prefieres por otro sitio: {chat.public_url}/go/{'a' * 40}")

    await expect(page.get_by_role("link", name="Sigue en otro sitio")).to_have_attribute(
        "href", f"{chat.public_url}/go/{'a' * 40}"
    )
    assert [(part.kind, part.text, part.ref) for part in found[1].parts] == [("choice", "Talla L", "l")]
    assert [(part.kind, part.name) for part in found[2].parts] == [("image", "hervidor.png")]
    assert complaints == []


async def test_a_message_that_is_refused_is_said_so_and_can_be_removed(
    chat: IngestSettings, settings: CommonSettings, context: BrowserContext
) -> None:
    page, _ = await opened(context, url(chat))
    await online(page)
    await page.locator("input[type=file]").set_input_files(
        {"name": "x.exe", "mimeType": "image/png", "buffer": b"MZ\x90\x00" * 300}
    )
    await expect(page.get_by_text("Pesa demasiado o no es un tipo de archivo que podamos abrir.")).to_be_visible()
    await page.get_by_role("button", name="Quitar").click()
    await expect(log_of(page).locator("article")).to_have_count(0)


async def test_by_keyboard_and_by_names_the_chat_opens_closes_and_gives_the_focus_back(
    chat: IngestSettings, context: BrowserContext
) -> None:
    page, _ = await opened(context, url(chat))
    dialog = page.get_by_role("dialog", name="Chat con Casa Lumbre")
    await expect(dialog).to_be_visible()
    await expect(page.get_by_label("Tu mensaje")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    launcher = page.get_by_role("button", name="Abrir el chat")
    await expect(launcher).to_be_focused()
    await expect(launcher).to_have_attribute("aria-expanded", "false")
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_visible()

    unnamed = await page.evaluate(
        """() => [...document.getElementById('hilo-chat').shadowRoot.querySelectorAll('button,textarea,input,a,[role]')]
            .filter(e => !e.hidden && !(e.getAttribute('aria-label') || e.textContent.trim())).map(e => e.outerHTML)"""
    )
    assert unnamed == []


async def test_it_is_dark_where_the_visitor_wishes_and_speaks_their_language(chat: IngestSettings, browser: Browser) -> None:
    grounds = {}
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        context = await browser.new_context(locale="en-GB", color_scheme=scheme)
        page, _ = await opened(context, url(chat))
        await expect(page.get_by_label("Your message")).to_be_visible()
        await expect(page.get_by_text("We answer you right here")).to_be_visible(timeout=20_000)
        grounds[scheme] = await page.get_by_role("dialog").evaluate("e => getComputedStyle(e).backgroundColor")
        await context.close()

    assert grounds == {"light": "rgb(244, 241, 234)", "dark": "rgb(19, 18, 17)"}


async def test_two_tabs_of_a_new_visitor_are_one_visitor(
    chat: IngestSettings, settings: CommonSettings, context: BrowserContext
) -> None:
    pages = await asyncio.gather(*(opened(context, url(chat)) for _ in range(2)))
    for page, _ in pages:
        await online(page)
    for number, (page, _) in enumerate(pages):
        await page.bring_to_front()
        await write(page, f"desde {number}")
    await thread_of(settings, 2)
    for page, _ in pages:
        await expect(log_of(page).locator('article[data-state="sent"]')).to_have_count(2)
    await pages[0][0].reload()
    await expect(log_of(pages[0][0]).locator("article")).to_have_text(_contains("desde 0", "desde 1"))

    assert len({one.thread for one in await _said(settings, 2)}) == 1


async def test_a_handoff_link_opens_the_chat_and_is_told_with_the_first_connection(
    chat: IngestSettings, settings: CommonSettings, context: BrowserContext
) -> None:
    page, _ = await opened(context, url(chat, "?ref=HILO-7KQ2-M4T9"))
    await online(page)

    async def referred() -> list[str]:
        return [e.data.ref for e in await events(settings, t.EVENTS) if isinstance(e.data, ReferralFollowed)]

    assert await until(referred) == ["HILO-7KQ2-M4T9"]


# -- on somebody else's site ----------------------------------------------------------------------------------------------

SHOP = """<!doctype html><html lang="es"><head><style>
* { color: red !important; font-size: 40px !important; display: block; } button, textarea { visibility: hidden; }
</style></head><body><h1>Tienda</h1><script src="%s/widget.js" defer></script></body></html>"""


@asynccontextmanager
async def shop(chat: IngestSettings) -> AsyncIterator[str]:
    """A site of its own origin, with styles that would break anything, and a policy that allows only what it must."""

    async def page(request: Request) -> HTMLResponse:
        hilo = f"http://127.0.0.1:{chat.port}"
        policy = f"default-src 'none'; style-src 'unsafe-inline' {hilo}; script-src {hilo}; connect-src {hilo} ws://127.0.0.1:{chat.port}; img-src blob:"
        return HTMLResponse(SHOP % url(chat), headers={"content-security-policy": policy})

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=[Route("/", page)]), port=port, log_config=None, lifespan="off"))
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await task


async def test_on_an_allowed_site_it_works_in_a_world_of_its_own_and_elsewhere_it_does_not(
    settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path, context: BrowserContext
) -> None:
    accounts: Accounts = await connected(mongo, settings)
    chat = chat_settings(settings, tmp_path)
    async with running(chat, doors()), shop(chat) as site, shop(chat) as stranger:
        await accounts.put("acme", "webchat", "shop", Wish({**CHAT, "origins": [site]}))
        page, complaints = await opened(context, site)
        await page.get_by_role("button", name="Abrir el chat").click()

        async def admitted() -> bool:
            return await page.get_by_text("Te contestamos aquí mismo").count() == 1

        await until(admitted, within_s=30, what="the process to learn of the new origin")
        await write(page, "desde la tienda")
        await expect(page.locator('article[data-state="sent"]')).to_have_count(1)
        style = await page.locator("article.me p").evaluate("e => [getComputedStyle(e).fontSize, getComputedStyle(e).color]")
        other, _ = await opened(context, stranger)
        await other.get_by_role("button", name="Abrir el chat").click()
        await write(other, "desde fuera")
        await expect(other.locator('article[data-state="waiting"]')).to_have_count(1)
        await expect(other.get_by_text("Sin conexión; lo que escribas se guarda")).to_be_visible()
        said = await _said(settings, 1)

    assert style == ["15px", "rgb(255, 255, 255)"]
    assert [one.parts[0].text for one in said] == ["desde la tienda"]
    assert [one for one in complaints if "Content Security Policy" in one] == []
