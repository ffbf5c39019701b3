"""Takes the README's pictures from a running demo whose story is over: the inbox with Marta's conversation, in both themes.

make demo                                          in one terminal, until the story is done
python -m deploy.local.pictures [docs/img]         in another; PORT= as for the demo
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page, async_playwright

from deploy.local import casa
from deploy.local.stack import ROOT

SIZE = (1600, 1080)
WHO = "Marta Ruiz"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
Theme = Literal["light", "dark"]


async def take(url: str, folder: Path) -> list[Path]:
    """The pictures that were written."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=[*QUIET])
        try:
            return [await _picture(browser, url, folder, theme) for theme in ("light", "dark")]
        finally:
            await browser.close()


async def _picture(browser: Browser, url: str, folder: Path, theme: Theme) -> Path:
    width, height = SIZE
    context = await browser.new_context(
        viewport={"width": width, "height": height}, locale="es-ES", timezone_id="Europe/Madrid", color_scheme=theme
    )
    page = await context.new_page()
    await page.goto(f"{url}/login")
    await page.get_by_label("Clave de acceso").fill(casa.AGENT_KEY)
    await page.get_by_role("button", name="Entrar").click()
    href = await _conversation(url, page)
    await page.goto(f"{url}{href.partition('?')[0]}?view=mine")
    await page.locator("#ids .ids").wait_for()
    await page.locator(".thread").evaluate("thread => { thread.scrollTop = 0; }")
    await page.evaluate("document.fonts.ready")
    path = folder / f"inbox-{theme}.png"
    await page.screenshot(path=path)
    await context.close()
    return path


async def _conversation(url: str, page: Page) -> str:
    """Where her conversation is, open or closed. Raises SystemExit where there is none: the story has not been played."""
    for view in ("closed", "mine", "queue"):
        await page.goto(f"{url}/inbox?view={view}")
        row = page.locator(".conv", has_text=WHO).first
        if await row.count():
            return str(await row.get_attribute("href"))
    raise SystemExit(f"There is no conversation with {WHO}: run the demo and wait until its story is done.")


def main(words: list[str]) -> int:
    folder = Path(words[0]) if words else ROOT / "docs" / "img"
    folder.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{os.environ.get('PORT') or 8104}"
    for path in asyncio.run(take(url, folder)):
        print(f"{path}  {path.stat().st_size // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
