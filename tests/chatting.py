"""A web chat for the tests: the real ingest process with a connected account, and a widget without a browser."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect

from services.common.auth import Keyring
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.vault import vault
from services.ingest.accounts import Accounts, Wish
from services.ingest.channels.email import CHANNEL as EMAIL
from services.ingest.channels.webchat import CHANNEL as WEBCHAT
from services.ingest.contract import Registry
from services.ingest.settings import IngestSettings
from tests.ingesting import ingest_settings

SITE = "https://shop.example"
SECRET = "site-secret-of-more-than-32-bytes-0001"
CHAT = {"site": "shop.example", "page": f"{SITE}/help", "origins": [SITE], "identity_secret": SECRET}
MAIL = {
    "address": "help@shop.example",
    "smtp_url": "smtp://mail.shop.example:587",
    "smtp_password": "unused",
}


def doors() -> Registry:
    return Registry({"webchat": WEBCHAT, "email": EMAIL})


async def connected(mongo: Mongo, settings: CommonSettings, *, tenant: str = "acme") -> Accounts:
    """A tenant with a web chat `shop` and a mailbox `help`."""
    keyring = Keyring(mongo, vault(settings))
    await keyring.create_tenant(tenant)
    accounts = Accounts(mongo, vault(settings), keyring, doors())
    await accounts.start()
    await accounts.put(tenant, "webchat", "shop", Wish(CHAT, title="Casa Lumbre"))
    await accounts.put(tenant, "email", "help", Wish({k: v for k, v in MAIL.items() if k in EMAIL.account.model_fields}))
    return accounts


def chat_settings(settings: CommonSettings, folder: Path, **more: Any) -> IngestSettings:
    return ingest_settings(settings, media_dir=folder, **more)


class Widget:
    """What the widget does on its socket, one step at a time."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.welcome: dict[str, Any] = {}

    async def say(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def hear(self, *types: str) -> dict[str, Any]:
        """The next frame of one of these types; pings are answered."""
        async with asyncio.timeout(20):
            while True:
                frame: dict[str, Any] = json.loads(await self.socket.recv())
                if frame["type"] == "ping":
                    await self.say(type="pong")
                elif not types or frame["type"] in types:
                    return frame


def address(settings: IngestSettings, visitor: str, account: str = "shop", **more: Any) -> str:
    query = urlencode({"visitor": visitor, **more})
    return f"ws://127.0.0.1:{settings.port}/chat/{account}/socket?{query}"


def visitor() -> str:
    return secrets.token_urlsafe(24)


@asynccontextmanager
async def widget(
    settings: IngestSettings, who: str | None = None, *, origin: str = SITE, account: str = "shop", **more: Any
) -> AsyncIterator[Widget]:
    """A widget that was welcomed."""
    url = address(settings, who or visitor(), account, **more)
    async with connect(url, additional_headers={"origin": origin}, ping_interval=None) as socket:
        one = Widget(socket)
        one.welcome = await one.hear("welcome")
        yield one
