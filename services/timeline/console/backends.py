"""What the console asks of the other services, with the signed-in agent's own key: the owner of the state decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.common.errors import Away, ServiceAway
from services.common.http import Answer, Http
from services.common.settings import CommonSettings
from services.timeline.console.panels import icon
from services.timeline.console.places import Address
from services.timeline.console.session import Signed

LEVELS = {"account": 4, "channel": 4, "verified": 4, "asserted": 3, "claimed": 2, "inferred": 1}
ICONS = {"tel": "ch-whatsapp", "webchat": "ch-web", "user": "log-in"}
KNOWN_S = 10
PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Colleague:
    """An agent as the desk knows them."""

    id: str
    name: str
    on: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """An identifier as the side panel shows it. `level`: how sure it is, from 1 to 4."""

    icon: str
    value: str
    level: int
    scheme: str = ""
    name: str = ""


class Backends:
    """A page that only shows is not kept waiting: what does not answer in time is away."""

    def __init__(self, http: Http, settings: CommonSettings) -> None:
        self._http, self._settings = http, settings
        self._agents: dict[str, tuple[float, dict[str, Colleague]]] = {}

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

    async def _look(self, base: str, signed: Signed, path: str) -> dict[str, Any] | None:
        """Something to show. Raises ServiceAway, also for an answer that is no use."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await self._call(base, signed, "GET", path, None, {}, tries=1)
        except TimeoutError as error:
            raise ServiceAway(base) from error
        found = answer.json() if answer.status == 200 else None
        return found if isinstance(found, dict) else None

    async def agents(self, signed: Signed) -> dict[str, Colleague]:
        """By agent id, remembered for a while; what was known before, while the router is away: a page stands without."""
        tenant = signed.principal.tenant
        until, known = self._agents.get(tenant, (0.0, {}))
        if time.monotonic() < until:
            return known
        try:
            found = await self._look(self._settings.router_url, signed, "/v1/agents") or {}
        except Away:
            return known
        known = {one["id"]: Colleague(one["id"], one["name"] or one["id"], one["on"]) for one in found.get("agents", ())}
        self._agents[tenant] = (time.monotonic() + KNOWN_S, known)
        return known

    def forget_agents(self, signed: Signed) -> None:
        """Somebody came or went: asked again with the next page."""
        self._agents.pop(signed.principal.tenant, None)

    async def customer(self, signed: Signed, customer: str) -> dict[str, Any]:
        """The customer as identity answers. Raises ServiceAway."""
        return await self._look(self._settings.identity_url, signed, f"/v1/customers/{customer}") or {}

    async def letter(self, signed: Signed, dead_id: str) -> dict[str, Any] | None:
        """A dead letter as ingest can mend it; None while nobody can. Raises ServiceAway."""
        return await self._look(self._settings.ingest_url, signed, f"/v1/dead/{dead_id}")


def identifiers(customer: Mapping[str, Any]) -> list[Shown]:
    """What is known of a customer, the surest first. Pure."""
    found = [
        Shown(
            ICONS.get(one["scheme"], f"ch-{icon(one['scheme'])}"),
            str(one.get("value") or one["key"][:8]),
            _level(one["key"], str(one["proof"]), customer.get("evidence", ())),
            one["scheme"],
            str(one.get("name") or ""),
        )
        for one in customer.get("identifiers", ())
    ]
    return sorted(found, key=lambda one: -one.level)


def _level(key: str, proof: str, evidence: Any) -> int:
    """Proven by its own channel, or as strong as the best evidence that ties it to the others."""
    ties = [LEVELS.get(str(one["strength"]), 1) for one in evidence if key in (one["a"], one["b"])]
    return max([LEVELS.get(proof, 1), *ties])


def addresses(customer: Mapping[str, Any]) -> list[Address]:
    """The email addresses that are this customer's alone."""
    return [
        Address(one["key"], one["value"])
        for one in customer.get("identifiers", ())
        if one["scheme"] == "email" and one.get("value") and not one.get("shared") and not one.get("never_links")
    ]
