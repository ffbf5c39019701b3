"""The console in a real browser, over the whole of Hilo with simulated platforms: the main paths of an agent's day."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, ViewportSize, async_playwright, expect

from deploy.local import casa
from tests.console_shop import Shop, opened
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
DESKTOP, PHONE = ViewportSize(width=1440, height=900), ViewportSize(width=390, height=844)
Open = Callable[..., Awaitable[Page]]
numbers = itertools.count(1)
expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    async with opened(tmp_path_factory.mktemp("shop")) as one:
        yield one


@pytest.fixture(scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        one = await playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield one
        await one.close()


@pytest.fixture
def expected() -> set[str]:
    """What the browser may complain of in this test: refusals that the test provokes."""
    return set()


@pytest.fixture
async def page(shop: Shop, browser: Browser, expected: set[str]) -> AsyncIterator[Open]:
    """Signed-in pages. In the end the browser must have had nothing to complain of, the content policy above all."""
    complaints: list[str] = []
    contexts = []

    async def open_(
        path: str = "/inbox?view=open",
        size: ViewportSize = DESKTOP,
        lang: str = "es-ES",
        theme: Any = "light",
        *,
        script: bool = True,
    ) -> Page:
        context = await browser.new_context(
            viewport=size, locale=lang, color_scheme=theme, timezone_id="Europe/Madrid", java_script_enabled=script
        )
        contexts.append(context)
        one = await context.new_page()
        one.set_default_timeout(30_000)
        one.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        one.on("pageerror", lambda error: complaints.append(str(error)))
        await one.goto(f"{shop.url}{path}")
        await one.locator("button[type=submit]").click()
        await one.wait_for_url(lambda url: "/login" not in url)
        return one

    yield open_
    for context in contexts:
        await context.close()
    assert [one for one in complaints if not any(allowed in one for allowed in expected)] == []


def someone() -> tuple[int, str]:
    """A customer that no other test knows."""
    number = 80_000 + next(numbers)
    return number, f"Persona {number}"


async def talk(shop: Shop, text: str) -> tuple[str, int, str]:
    """A private conversation that has just begun: its id, and who writes."""
    user, name = someone()
    shop.telegram(user, name, f"{text} {user}")
    return await shop.conversation(f"{text} {user}"), user, name


async def complaint(shop: Shop, text: str) -> tuple[str, str]:
    user, _ = someone()
    shop.comment(str(user), f"cliente.{user}", f"{text} {user}")
    conversation = await shop.conversation(f"{text} {user}")
    await shop.head(conversation, lambda head: head["handoff"] and head["assignee"])
    return conversation, str(user)


def composer(page: Page) -> Any:
    return page.locator("#composer")


async def write(page: Page, text: str) -> None:
    await page.locator("#draft").fill(text)
    await page.keyboard.press("Control+Enter")


# -- the way in, and the panes ------------------------------------------------------------------------------------------


async def test_a_wrong_key_is_told_so_and_the_right_one_leads_where_one_wanted_to_go(shop: Shop, browser: Browser) -> None:
    context = await browser.new_context(locale="en-GB")
    one = await context.new_page()
    await one.goto(f"{shop.url}/operations/dead")
    await one.get_by_label("Access key").fill("nobody")
    await one.get_by_role("button", name="Sign in").click()
    await expect(one.get_by_role("alert")).to_contain_text("unknown or was revoked")
    await one.get_by_label("Access key").fill(casa.AGENT_KEY)
    await one.get_by_role("button", name="Sign in").click()
    await expect(one.get_by_role("heading", name="Dead letters")).to_be_visible()
    assert one.url.endswith("/operations/dead")
    await context.close()


async def test_a_desktop_shows_three_panes_and_a_phone_one_per_address(shop: Shop, page: Open) -> None:
    conversation, _, name = await talk(shop, "¿Abrís hoy?")
    wide = await page(f"/c/{conversation}?view=open")
    for pane in ("list", "main", "side"):
        await expect(wide.locator(f".shell > .{pane}")).to_be_visible()
    await expect(wide.get_by_role("heading", level=1)).to_have_text(name)

    phone = await page("/inbox?view=open", size=PHONE)
    await expect(phone.locator(".shell > .list")).to_be_visible()
    await expect(phone.locator(".shell > .main")).to_be_hidden()
    await expect(phone.get_by_role("navigation", name="Secciones")).to_be_visible()
    await phone.locator(f"#row-{conversation}").click()
    await expect(phone.locator(".shell > .main")).to_be_visible()
    await expect(phone.locator(".shell > .list")).to_be_hidden()
    await expect(phone.get_by_role("navigation", name="Secciones")).to_be_hidden()
    await expect(composer(phone)).to_be_visible()
    await phone.get_by_role("link", name="Detalles").click()
    await expect(phone.locator(".shell > .side")).to_be_visible()
    assert "/details" in phone.url
    await phone.go_back()
    await expect(composer(phone)).to_be_visible()
    width = await phone.evaluate("document.documentElement.scrollWidth")
    assert width == PHONE["width"], "nothing is wider than the screen"


async def test_language_and_theme_are_right_from_the_first_paint(shop: Shop, page: Open) -> None:
    one = await page("/inbox?view=open", theme="light")
    assert await one.evaluate("document.documentElement.lang") == "es"
    await one.get_by_role("button", name="Tema").click()
    await one.get_by_role("link", name="English").click()
    await expect(one.get_by_role("heading", name="Inbox")).to_be_visible()
    answer = await one.request.get(f"{shop.url}/inbox")
    assert '<html lang="en" data-theme="dark"' in await answer.text()
    assert await one.evaluate("getComputedStyle(document.body).color") == "rgb(243, 239, 231)"


# -- writing ------------------------------------------------------------------------------------------------------------


async def test_a_private_answer_goes_where_its_button_says_and_shows_what_became_of_it(shop: Shop, page: Open) -> None:
    conversation, user, _ = await talk(shop, "¿Cuándo llega?")
    one = await page(f"/c/{conversation}?view=open")
    await expect(composer(one).get_by_role("button", name="Enviar por Telegram")).to_be_visible()
    await write(one, f"Llega el jueves {user}")
    bubble = one.get_by_role("log").locator("article.us", has_text=f"Llega el jueves {user}")
    await expect(bubble).to_have_count(1)
    await expect(bubble.locator(".st")).to_have_text("Enviado")
    await expect(one.locator("#draft")).to_have_value("")
    await expect(bubble).to_have_count(1)


async def test_publishing_is_asked_about_twice_and_can_be_stopped(shop: Shop, page: Open) -> None:
    conversation, user = await complaint(shop, "Nadie contesta")
    one = await page(f"/c/{conversation}?view=open")
    await expect(one.locator(".composer.public .box")).to_be_visible()
    await write(one, f"Lo sentimos {user}")
    await expect(composer(one).get_by_role("button", name="¿Publicar? Lo leerá cualquiera")).to_be_visible()
    await expect(one.locator("article.us")).to_have_count(0)
    await one.keyboard.press("Control+Enter")
    bubble = one.locator("article.us", has_text=f"Lo sentimos {user}")
    await bubble.get_by_role("button", name="Detener").click()
    await expect(bubble).to_contain_text("Detenido antes de salir")
    head = await shop.head(conversation, lambda head: head["legs"])
    assert head["legs"][0]["last_sent_at"] is None


async def test_without_javascript_the_server_asks_before_it_publishes(shop: Shop, page: Open) -> None:
    conversation, user = await complaint(shop, "Sin respuesta")
    one = await page(f"/c/{conversation}?view=open", script=False)
    await one.locator("#draft").fill(f"Lo miramos {user}")
    await composer(one).get_by_role("button", name="Publicar en Instagram").click()
    await expect(one.get_by_role("alert")).to_contain_text("¿Publicar? Lo leerá cualquiera")
    await expect(one.locator("#draft")).to_have_value(f"Lo miramos {user}")
    assert (await shop.read(f"/v1/conversations/{conversation}/entries?journey=false"))["items"][0]["direction"] != "out"
    await composer(one).get_by_role("button", name="¿Publicar?").click()
    await expect(one.locator("article.us", has_text=f"Lo miramos {user}")).to_have_count(1)


async def test_private_data_is_refused_in_public_with_what_was_found_and_moves_to_private_as_a_draft(
    shop: Shop, page: Open, expected: set[str]
) -> None:
    expected.add("422")
    conversation, user = await complaint(shop, "Mi pedido no llega")
    one = await page(f"/c/{conversation}?view=open")
    text = f"¿Es el {user}? Tu teléfono es 612 40 77 82"
    await write(one, text)
    await one.keyboard.press("Control+Enter")
    alert = one.get_by_role("alert").filter(has_text="Esto no puede ir en público")
    await expect(alert).to_contain_text("612 40 77 82")
    await expect(alert).to_contain_text("teléfono")
    await expect(one.locator("#draft")).to_be_focused()
    await expect(one.locator("#draft")).to_have_value(text)
    await alert.get_by_role("button", name="Quitar esos datos").click()
    await expect(one.locator("#draft")).to_have_value(f"¿Es el {user}? Tu teléfono es ")

    await write(one, text)
    await one.keyboard.press("Control+Enter")
    await alert.get_by_role("button", name="Pasarlo a privado").click()
    await expect(one.get_by_label("Mensaje privado")).to_have_value(text)
    await expect(one.locator("article.us")).to_have_count(0)


async def test_an_invitation_writes_in_private_first_and_then_in_public(shop: Shop, page: Open) -> None:
    conversation, user = await complaint(shop, "Se ha roto")
    one = await page(f"/c/{conversation}?view=open")
    await expect(one.locator("#panel .state")).to_contain_text("Queja pública sin responder")
    await one.locator("#invite > summary").click()
    await one.get_by_label("Mensaje privado").fill(f"Hola, seguimos aquí o donde prefieras {user}: {{link}}")
    await one.get_by_label("Respuesta pública").fill("Sentimos lo ocurrido. Te acabamos de escribir por privado. — Inés")
    await one.get_by_role("button", name="Escribir en privado y publicar").click()
    await expect(one.locator("#panel .state")).to_contain_text("Invitada, a la espera", timeout=60_000)
    await expect(one.locator(".knot")).to_contain_text("Pasa a privado")
    private = one.locator(".leg:not(.public) article.us", has_text=f"donde prefieras {user}")
    await expect(private.get_by_role("link")).to_have_attribute("rel", "noopener noreferrer nofollow")
    await expect(one.locator(".leg.public article.us", has_text="Te acabamos de escribir")).to_have_count(1)
    await expect(one.locator("#panel")).to_contain_text("El enlace vale")


async def test_who_was_faster_is_shown_beside_the_draft_which_is_never_lost(shop: Shop, page: Open, expected: set[str]) -> None:
    expected.add("409")
    conversation, user, name = await talk(shop, "¿Hay tallas?")
    one = await page(f"/c/{conversation}?view=open")
    await one.route("**/legs*", lambda route: route.fulfill(status=204))  # this page hears of nothing
    shop.telegram(user, name, f"Ya la tengo, gracias {user}")
    await shop.conversation(f"Ya la tengo, gracias {user}")
    await write(one, f"Sí, todas {user}")
    conflict = one.get_by_role("alert").filter(has_text="Alguien se adelantó")
    await expect(conflict).to_contain_text(f"Ya la tengo, gracias {user}")
    await expect(one.locator("#draft")).to_have_value(f"Sí, todas {user}")
    await one.unroute("**/legs*")
    await conflict.get_by_role("button", name="Enviarlo igualmente").click()
    await expect(one.locator("article.us", has_text=f"Sí, todas {user}")).to_have_count(1)
    await expect(one.locator("#draft")).to_have_value("")


async def test_drafts_are_kept_for_each_leg_and_come_back_after_a_reload(shop: Shop, page: Open) -> None:
    conversation, _, _ = await talk(shop, "Una duda")
    one = await page(f"/c/{conversation}?view=open")
    await one.locator("#draft").fill("para ella")
    await one.locator("#composer label", has_text="Nota del equipo").click()
    await expect(one.locator("#draft")).to_have_value("")
    await one.locator("#draft").fill("para el equipo")
    await one.reload()
    await expect(one.locator("#draft")).to_have_value("para ella")
    await one.keyboard.press("Escape")
    await one.keyboard.press("2")
    await expect(one.locator("#draft")).to_have_value("para el equipo")
    await expect(one.locator("#draft")).to_be_focused()
    await expect(composer(one).get_by_role("button", name="Guardar nota")).to_be_visible()


async def test_a_note_stays_in_the_house_and_a_case_is_taken_resolved_and_reopened(shop: Shop, page: Open) -> None:
    conversation, user, _ = await talk(shop, "Gracias por todo")
    one = await page(f"/c/{conversation}?view=open")
    await one.keyboard.press("a")  # where the desk has not given it already
    await expect(one.locator("#bar .tag")).to_have_text("Inés Vidal")
    await one.locator("#composer label", has_text="Nota del equipo").click()
    await write(one, f"Es clienta antigua {user}")
    await expect(one.locator("aside.note", has_text=f"Es clienta antigua {user}")).to_have_count(1)
    await one.locator("#draft").press("Escape")
    await one.keyboard.press("e")
    await expect(one.get_by_role("button", name="Reabrir")).to_be_visible()
    await expect(composer(one)).to_contain_text("Caso cerrado; reábrelo")
    await one.get_by_role("button", name="Reabrir").click()
    await expect(composer(one).get_by_role("button", name="Enviar por Telegram")).to_be_visible()
    assert [one for one in shop.simulator.sends.taken if f"antigua {user}" in str(one)] == []


async def test_the_composer_closes_and_opens_with_the_case_whoever_does_it(shop: Shop, page: Open) -> None:
    """Also when the page that came after one's own press was read before the timeline had it."""
    conversation, user, _ = await talk(shop, "Otra cosa")
    one, other = await page(f"/c/{conversation}?view=open"), await page(f"/c/{conversation}?view=open")
    await one.locator("#draft").fill(f"a medias {user}")
    await other.get_by_role("button", name="Resolver").click()
    await expect(other.get_by_role("button", name="Reabrir")).to_be_visible()
    await expect(composer(one)).to_contain_text("Caso cerrado; reábrelo")
    await other.get_by_role("button", name="Reabrir").click()
    await expect(composer(one).get_by_role("button", name="Enviar por Telegram")).to_be_visible()
    await expect(one.locator("#draft")).to_have_value(f"a medias {user}")


async def test_a_case_is_resolved_after_messages_that_changed_nothing_else(shop: Shop, page: Open) -> None:
    """A message raises the version without a state event, so the head's version is behind; what was seen is named instead."""
    conversation, user, name = await talk(shop, "Tengo una duda")
    shop.telegram(int(user), name, f"Ya la resolví yo {user}")
    one = await page(f"/c/{conversation}?view=open")
    await expect(one.locator("#legs article.m", has_text=f"Ya la resolví yo {user}")).to_have_count(1)
    await one.keyboard.press("e")
    await expect(one.get_by_role("button", name="Reabrir")).to_be_visible()


async def test_the_first_mail_goes_to_an_address_that_is_proven_to_be_theirs(shop: Shop, page: Open) -> None:
    user, name = someone()
    phone, email = f"346120{user}", f"persona{user}@correo.example"
    await shop.ordered(phone, email)
    shop.whatsapp(phone, name, f"¿Y la reposición? {user}")
    conversation = await shop.conversation(f"¿Y la reposición? {user}")

    async def known() -> object:
        return await shop.read(f"/v1/lookup?scheme=email&value={email}")

    await until(known, within_s=60, what="the address on the timeline")
    one = await page(f"/c/{conversation}?view=open")
    choice = one.locator("#composer label", has_text=email)

    async def offered() -> bool:
        if await choice.count():
            return True
        await one.reload()
        return False

    await until(offered, within_s=60, every_s=0.5, what="the address as a place")
    await choice.click()
    await write(one, f"Sale hoy y llega el jueves {user}")
    await expect(one.locator("article.us.mail", has_text=f"Sale hoy y llega el jueves {user}")).to_have_count(1, timeout=60_000)
    await shop.head(conversation, lambda head: any(leg["channel"] == "email" for leg in head["legs"]))


# -- live ---------------------------------------------------------------------------------------------------------------


async def test_new_messages_are_followed_at_the_end_and_counted_when_the_reader_is_elsewhere(shop: Shop, page: Open) -> None:
    conversation, user, name = await talk(shop, "Empiezo")
    for number in range(14):
        shop.telegram(user, name, f"línea {number} {user}")
    await shop.conversation(f"línea 13 {user}")
    one = await page(f"/c/{conversation}?view=open", size=ViewportSize(width=1440, height=640))
    log = one.get_by_role("log")
    await expect(log.locator("article")).to_have_count(15)
    shop.telegram(user, name, f"al final {user}")
    await expect(log.locator("article", has_text=f"al final {user}")).to_be_in_viewport()

    await log.evaluate("log => { log.scrollTop = 0; }")
    shop.telegram(user, name, f"otra {user}")
    await expect(one.get_by_role("button", name="1 nuevos")).to_be_visible()
    shop.telegram(user, name, f"y otra {user}")
    await expect(one.get_by_role("button", name="2 nuevos")).to_be_visible()
    assert await log.evaluate("log => log.scrollTop") == 0
    await one.get_by_role("button", name="2 nuevos").click()
    await expect(log.locator("article", has_text=f"y otra {user}")).to_be_in_viewport()
    await expect(one.locator("[data-do=newest]")).to_be_hidden()


async def test_rows_do_not_move_under_the_pointer(shop: Shop, page: Open) -> None:
    first, user, name = await talk(shop, "primera")
    second, _, _ = await talk(shop, "segunda")
    one = await page("/inbox?view=open")

    async def order() -> list[str]:
        rows: list[str] = await one.locator(".conv").evaluate_all("rows => rows.map(row => row.dataset.id)")
        return [row for row in rows if row in (first, second)]

    await expect(one.locator(f"#row-{first}")).to_be_visible()
    assert await order() == [second, first]
    await one.locator(f"#row-{second}").hover()
    shop.telegram(user, name, f"sigo aquí {user}")
    await expect(one.locator(f"#row-{first}")).to_contain_text(f"sigo aquí {user}")
    assert await order() == [second, first]
    await one.mouse.move(1200, 500)
    await until(lambda: _sorted(order, [first, second]), within_s=30, what="the list in its new order")


async def _sorted(order: Callable[[], Awaitable[list[str]]], wanted: list[str]) -> bool:
    return await order() == wanted


async def test_typed_words_and_focus_survive_what_comes_in(shop: Shop, page: Open) -> None:
    conversation, user, name = await talk(shop, "hola")
    one = await page(f"/c/{conversation}?view=open")
    await one.locator("#draft").press_sequentially("estoy escri")
    shop.telegram(user, name, f"¿sigues ahí? {user}")
    await expect(one.locator("article", has_text=f"¿sigues ahí? {user}")).to_be_visible()
    await one.keyboard.type("biendo")
    await expect(one.locator("#draft")).to_have_value("estoy escribiendo")
    await expect(one.locator("#draft")).to_be_focused()


async def test_a_page_comes_back_by_itself_after_the_service_was_restarted(shop: Shop, page: Open, expected: set[str]) -> None:
    expected |= {"ERR_", "503", "sse", "SSE", "fetch"}
    conversation, user, name = await talk(shop, "antes del corte")
    one = await page(f"/c/{conversation}?view=open")
    await expect(one.locator("#live")).to_have_text("En vivo")
    back = await shop.restart_timeline()
    await expect(one.locator("#live")).to_contain_text("Sin conexión")
    await expect(one.locator("#offline")).to_contain_text("no sale nada hasta que vuelva")
    shop.telegram(user, name, f"mientras no estabais {user}")
    await back()
    await expect(one.locator("#live")).to_have_text("En vivo", timeout=60_000)
    await expect(one.locator("article", has_text=f"mientras no estabais {user}")).to_be_visible(timeout=60_000)
    await expect(one.locator("#offline")).to_be_hidden()


# -- dead letters -------------------------------------------------------------------------------------------------------


async def test_a_dead_letter_is_mended_tried_and_replayed(shop: Shop, page: Open) -> None:
    user, _ = someone()
    shop.broken_comment(f"¿Hacéis envíos? {user}")

    async def waiting() -> bool:
        found = (await shop.read("/v1/dead") or {}).get("items", [])
        return any("from.id" in one["reason"] for one in found)

    await until(waiting, within_s=60, what="the dead letter on the timeline")
    one = await page("/operations/dead", lang="en-GB")
    await one.locator(".dead a", has_text="from.id").first.click()
    copy = one.get_by_label("A copy to mend")
    await one.get_by_role("button", name="Dry run").click()
    await expect(one.get_by_role("alert")).to_contain_text("Still not understood")
    text = await copy.input_value()
    await copy.fill("{")
    await one.get_by_role("button", name="Dry run").click()
    await expect(one.get_by_role("alert")).to_contain_text("not valid JSON")
    await expect(copy).to_have_value("{")
    await copy.fill(text.replace('"username"', f'"id": "{user}",\n"username"'))
    await one.get_by_role("button", name="Dry run").click()
    await expect(one.locator("#outcome")).to_contain_text("Would give 1 facts. Nothing was sent.")
    await expect(one.locator("#outcome")).to_contain_text("post.commented")
    await one.get_by_role("button", name="Replay", exact=True).click()
    await expect(one.locator("#outcome")).to_contain_text("Replayed: 1 facts")
    await shop.conversation(f"¿Hacéis envíos? {user}")


async def test_a_dead_letter_is_discarded_only_with_a_reason(shop: Shop, page: Open) -> None:
    user, _ = someone()
    shop.broken_comment(f"nada {user}")

    async def letter() -> str | None:
        found = (await shop.read("/v1/dead") or {}).get("items", [])
        return next((one["dead_id"] for one in found if one["state"] == "open"), None)

    name = await until(letter, within_s=60, what="an open dead letter")
    one = await page(f"/operations/dead/{name}")
    await one.get_by_role("button", name="Descartar").click()
    await expect(one.get_by_role("alert")).to_contain_text("Di por qué la descartas")
    await one.get_by_label("Motivo para descartarla").fill("una prueba")
    await one.get_by_role("button", name="Descartar").click()
    await expect(one.locator("#outcome")).to_contain_text("Descartada")
    await one.reload()
    await expect(one.locator("article.panel")).to_contain_text("una prueba")


# -- hostile content, and everybody can use it --------------------------------------------------------------------------

HOSTILE = (
    "<script>window.hacked=1</script>",
    "<img src=x onerror='window.hacked=1'>",
    '"><svg onload=window.hacked=1>',
    "{{ 7*7 }}{% raw %}",
    'javascript:window.hacked=1 https://shop.example/?a="><script>window.hacked=1</script>',
    "</textarea><script>window.hacked=1</script>",
    "' hx-get='/logout' hx-trigger='load' x='",
    "\u202etxt.exe\u2066 \u0000 &lt;b&gt; &amp;",
)


async def test_hostile_names_and_texts_are_shown_as_they_are_and_do_nothing(shop: Shop, page: Open) -> None:
    user, _ = someone()
    for number, text in enumerate(HOSTILE):
        shop.telegram(user, HOSTILE[number % 3][:60], text)
    shop.telegram(user, HOSTILE[0], f"fin {user}")
    conversation = await shop.conversation(f"fin {user}")
    one = await page(f"/c/{conversation}?view=open")
    await expect(one.get_by_role("log").locator("article")).to_have_count(len(HOSTILE) + 1)
    for text in HOSTILE[:3]:
        await expect(one.get_by_role("log")).to_contain_text(text)
    await expect(one.get_by_role("heading", level=1)).to_contain_text("<script>")
    assert await one.evaluate("window.hacked") is None
    assert await one.locator(".thread script, .thread img, .thread svg[onload], .thread [hx-get]").count() == 0
    links = await one.locator("article a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert all(link.startswith(("https://", "http://")) for link in links)
    await one.goto(f"{shop.url}/inbox?view=open")
    assert await one.evaluate("window.hacked") is None


NAMELESS = """() => [...document.querySelectorAll('a, button, input:not([type=hidden]), textarea, summary, [role=log], [role=group], dialog[open]')]
  .filter(one => one.checkVisibility())
  .filter(one => !(one.getAttribute('aria-label') || one.getAttribute('aria-labelledby') || one.innerText?.trim()
    || one.labels?.length || one.title || one.placeholder))
  .map(one => one.outerHTML.slice(0, 200))"""
SMALL = """() => [...document.querySelectorAll('a.btn, button, .conv, .views a, .dest label')]
  .filter(one => one.checkVisibility() && !one.classList.contains('link'))
  .filter(one => one.getBoundingClientRect().height < 24)
  .map(one => one.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize(
    ("size", "theme", "lang"), [(DESKTOP, "light", "es-ES"), (DESKTOP, "dark", "en-GB"), (PHONE, "dark", "es-ES")]
)
async def test_every_control_has_a_name_and_is_large_enough(
    shop: Shop, page: Open, size: ViewportSize, theme: str, lang: str
) -> None:
    conversation, _ = await complaint(shop, "accesible")
    private, _, _ = await talk(shop, "accesible")
    one = await page("/inbox?view=open", size=size, theme=theme, lang=lang)
    for path in (
        "/inbox?view=open",
        f"/c/{conversation}?view=open",
        f"/c/{private}/details?view=open",
        "/operations/dead",
        "/login",
    ):
        await one.goto(shop.url + path)
        assert await one.evaluate(NAMELESS) == [], path
        assert await one.evaluate(SMALL) == [], path
        if axe := os.environ.get("HILO_AXE"):
            assert await violations(one, axe) == [], path


async def violations(page: Page, axe: str) -> list[str]:
    """What axe-core (its `axe.min.js`, wherever HILO_AXE says) finds on a page."""
    await page.evaluate(Path(axe).read_text())
    found = await page.evaluate(
        "axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']})"
    )
    return [
        f"{one['id']}: {node['html'][:150]} {node['failureSummary'][:150]}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


async def test_the_thread_is_a_log_of_articles_that_begin_with_author_and_time(shop: Shop, page: Open) -> None:
    conversation, _, name = await talk(shop, "artículo")
    one = await page(f"/c/{conversation}?view=open")
    log = one.get_by_role("log", name=f"Conversación con {name}")
    await expect(log.get_by_role("group", name="Privado, Telegram")).to_be_visible()
    article = log.get_by_role("article").first
    assert (await article.inner_text()).startswith(name)
    await expect(article.locator("time")).to_have_attribute("datetime", re.compile(r"^\d{4}-"))
    await one.keyboard.press("Shift+?")
    await expect(one.get_by_role("dialog", name="Teclas")).to_be_visible()
    await one.get_by_label("Teclas de una letra").uncheck()
    await one.get_by_role("button", name="Cerrar", exact=True).click()
    await one.keyboard.press("r")
    await expect(one.locator("#draft")).not_to_be_focused()
    await one.reload()
    await one.keyboard.press("r")
    await expect(one.locator("#draft")).not_to_be_focused()


async def test_presence_is_said_and_given_with_one_press(shop: Shop, page: Open) -> None:
    one = await page("/inbox?view=open")
    me = one.get_by_role("button", name="Inés")
    await expect(me).to_have_attribute("aria-pressed", "true")
    await me.click()
    await expect(me).to_have_attribute("aria-pressed", "false")
    await me.click()
    await expect(me).to_have_attribute("aria-pressed", "true")
