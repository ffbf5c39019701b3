"""What the console asks of the other services, with the signed-in agent's own key: the owner of the state decides."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.common.errors import Away
from services.common.http import Answer, Http
from services.common.settings import CommonSettings
from services.timeline.console.panels import icon
from services.timeline.console.session import Signed

LEVELS = {"verified": 4, "account": 4, "channel": 4, "asserted": 3, "claimed": 2, "inferred": 1, "none": 1}
CHANNEL_OF = {"tel": "whatsapp", "webchat": "web", "user": "web"}


@dataclass(frozen=True, slots=True)
class Shown:
    """An identifier as the side panel shows it."""

    icon: str
    value: str
    level: int


class Backends:
    def __init__(self, http: Http, settings: CommonSettings) -> None:
        self._http, self._settings = http, settings
        self._agents: dict[str, tuple[float, dict[str, str]]] = {}

    async def router(self, signed: Signed, method: str, path: str, body: Any = None, *, key: str | None = None) -> Answer:
        """Raises ServiceAway. `key` makes a command idempotent; only then is it tried again."""
        headers = {"idempotency-key": key} if key else {}
        return await self._call(self._settings.router_url, signed, method, path, body, headers, tries=3 if key else 1)

    async def ingest(self, signed: Signed, method: str, path: str, body: Any = None) -> Answer:
        return await self._call(self._settings.ingest_url, signed, method, path, body, {}, tries=1)

    async def _call(
        self, base: str, signed: Signed, method: str, path: str, body: Any, headers: Mapping[str, str], *, tries: int
    ) -> Answer:
        return await self._http.service(
            method, base + path, signed.principal.tenant, body, credential=signed.key, headers=headers, tries=tries
        )

    async def agents(self, signed: Signed) -> dict[str, str]:
        """Names by agent id, remembered for a while; empty while the router is away, since a page stands without them."""
        tenant = signed.principal.tenant
        until, known = self._agents.get(tenant, (0.0, {}))
        if time.monotonic() < until:
            return known
        try:
            answer = await self.router(signed, "GET", "/v1/agents")
        except Away:
            return known
        found = answer.json() if answer.status == 200 else None
        rows = found.get("agents", []) if isinstance(found, dict) else found or []
        names = {str(one.get("id") or one.get("agent")): str(one.get("name") or one.get("id")) for one in rows}
        self._agents[tenant] = (time.monotonic() + 15, names)
        return names

    async def identifiers(self, signed: Signed, customer: str) -> list[Shown]:
        """A customer's identifiers with how sure they are. Raises ServiceAway."""
        url = f"{self._settings.identity_url}/v1/customers/{customer}"
        answer = await self._http.service("GET", url, signed.principal.tenant, credential=signed.key)
        found = answer.json() if answer.status == 200 else None
        if not isinstance(found, dict):
            return []
        return [
            Shown(
                icon(CHANNEL_OF.get(one["scheme"], one["scheme"])),
                str(one.get("value") or one["key"][:8]),
                LEVELS.get(str(one.get("proof") or one.get("strength") or "none"), 1),
            )
            for one in found.get("identifiers", [])
        ]
