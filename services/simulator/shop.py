"""The shop's own systems: page views, carts and orders, reported to the journey door with a signature."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from services.common.http import Http
from services.simulator import wire
from services.simulator.accounts import ShopAccount


class Shop:
    def __init__(self, account: ShopAccount, http: Http) -> None:
        self._account, self._http = account, http

    async def report(self, *events: dict[str, Any]) -> int:
        """Send a signed batch. The status of the answer."""
        body = json.dumps({"items": list(events)}).encode()
        headers = wire.standard_webhook_headers(body, self._account.secret, f"msg_{uuid.uuid4().hex}", int(time.time()))
        return (await self._http.provider("POST", self._account.webhook, headers, body)).status
