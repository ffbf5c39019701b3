"""Who is signed in: the agent's own key, sealed in a cookie. The server keeps no sessions, and a revoked key ends them all."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Literal, cast
from zoneinfo import ZoneInfo

from starlette.requests import Request

from services.common.auth import Keyring, Principal
from services.common.vault import Unsealable, Vault

COOKIE = "hilo_session"
PLACE = "console/session"
Language = Literal["es", "en"]
Theme = Literal["light", "dark"]
UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed-in agent and what their browser prefers. `key` is the credential that commands are given with."""

    principal: Principal
    key: str
    lang: Language = "en"
    theme: Theme | None = None
    zone: ZoneInfo = UTC
    keys_off: bool = False


class Sessions:
    def __init__(self, keyring: Keyring, vault: Vault) -> None:
        self._keyring, self._vault = keyring, vault

    def sealed(self, key: str) -> str:
        """The cookie's value for a key."""
        return base64.urlsafe_b64encode(self._vault.seal(PLACE, key.encode())).decode()

    async def principal(self, request: Request) -> Principal | None:
        """Whose cookie a request carries: for media and other reads that the console's pages refer to."""
        found = await self.signed(request.cookies, "")
        return found.principal if found else None

    async def signed(self, cookies: dict[str, str], accept_language: str) -> Signed | None:
        """None where nobody is signed in, or where the key has been revoked or has expired."""
        try:
            key = self._vault.open(PLACE, base64.urlsafe_b64decode(cookies.get(COOKIE, ""))).decode()
        except (Unsealable, ValueError, UnicodeDecodeError):
            return None
        principal = await self._keyring.principal(key)
        if principal is None or not (principal.may("agent") or principal.may("read")):
            return None
        off = cookies.get("keys") == "off"
        return Signed(principal, key, language(cookies, accept_language), theme(cookies), zone(cookies), off)


def language(cookies: dict[str, str], accept_language: str) -> Language:
    """What was chosen, else what the browser asks for first."""
    chosen = cookies.get("lang") or accept_language.strip()[:2].lower()
    return "es" if chosen == "es" else "en"


def theme(cookies: dict[str, str]) -> Theme | None:
    chosen = cookies.get("theme")
    return cast(Theme, chosen) if chosen in ("light", "dark") else None


def zone(cookies: dict[str, str]) -> ZoneInfo:
    """The browser's time zone, which its script puts into a cookie; UTC before that."""
    try:
        return ZoneInfo(cookies.get("tz", "UTC")[:64].replace("%2F", "/"))
    except (KeyError, ValueError, OSError):
        return UTC
