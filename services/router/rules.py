"""What tenants say about their own data, in memory: read at the start and then every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from services.common.errors import Away
from services.common.logs import log
from services.common.tenants import PublicRules, Tenants

RulesOf = Callable[[str], PublicRules]


class RuleBook:
    """A part of the process: it does not start before it knows the rules, and keeps what it knew while the store is away."""

    def __init__(self, tenants: Tenants, refresh_s: float = 2) -> None:
        self._tenants, self._refresh = tenants, refresh_s
        self._rules: Mapping[str, PublicRules] = {}

    def of(self, tenant: str) -> PublicRules:
        return self._rules.get(tenant, PublicRules())

    async def start(self) -> None:
        self._rules = await self._tenants.all_rules()

    async def stop(self) -> None:
        return None

    async def follow(self) -> None:
        while True:
            await asyncio.sleep(self._refresh)
            try:
                await self.start()
            except Away as error:
                log().warning("away", part=error.part, reason=str(error))
