"""Casa Lumbre, the shop of the demo: its accounts, its team, and the same secrets for the stand-ins of the platforms."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from typing import Any

from deploy.local.stack import Ports
from services.simulator.accounts import (
    Accounts,
    ChatAccount,
    InstagramAccount,
    MailAccount,
    ShopAccount,
    TelegramAccount,
    WhatsAppAccount,
)

TENANT = "casa-lumbre"
AGENT_KEY = "demo-agent-ines"
AGENT = "ines"
SITE = "casalumbre.example"
PHONE_NUMBER_ID = "106540352242922"
IG_ID = "17841400008460056"
PORTFOLIO = "bp-casalumbre"
ORDER = "48###"  # the form of its order numbers


@dataclass(frozen=True)
class Secrets:
    """Made anew for every run; both sides get the same."""

    access: str = field(default_factory=lambda: secrets.token_hex(24))
    app: str = field(default_factory=lambda: secrets.token_hex(16))
    verify: str = field(default_factory=lambda: secrets.token_hex(8))
    telegram: str = field(default_factory=lambda: f"7412345678:{secrets.token_hex(17)}")
    webhook: str = field(default_factory=lambda: secrets.token_hex(16))
    identity: str = field(default_factory=lambda: secrets.token_hex(32))
    journey: str = field(default_factory=lambda: "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode())


def connected(ports: Ports, s: Secrets) -> dict[str, dict[str, Any]]:
    """What `PUT /v1/accounts/{channel}/{account}` gets, by channel/account."""
    of = ports.of
    web = f"http://127.0.0.1:{of['ingest']}"
    meta = {"access_token": s.access, "app_secret": s.app, "verify_token": s.verify}
    shared = {"queue": "atencion", "language": "es"}
    return {
        "whatsapp/lumbre": {
            **shared,
            "title": "Casa Lumbre · WhatsApp",
            "fields": {"phone_number_id": PHONE_NUMBER_ID, "portfolio": PORTFOLIO, "number": "+34 910 50 60 70", **meta},
        },
        "instagram/casalumbre": {
            **shared,
            "queue": "redes",
            "title": "@casalumbre",
            "fields": {"ig_id": IG_ID, "username": "casalumbre", **meta},
        },
        "telegram/lumbrebot": {
            **shared,
            "title": "@casalumbre_bot",
            "fields": {"bot": "casalumbre_bot", "token": s.telegram, "webhook_secret": s.webhook},
        },
        "email/hola": {
            **shared,
            "title": "hola@casalumbre.example",
            "fields": {
                "address": "hola@casalumbre.example",
                "smtp_url": f"smtp://127.0.0.1:{of['mailbox']}",
            },
        },
        "webchat/shop": {
            **shared,
            "title": "Casa Lumbre",
            "fields": {"site": SITE, "page": f"{web}/chat/shop", "origins": [web], "identity_secret": s.identity},
        },
        "journey/shop": {**shared, "title": "Tienda", "fields": {"site": SITE, "signing_secret": s.journey}},
    }


def simulated(ports: Ports, s: Secrets) -> Accounts:
    """The same accounts as the platforms know them."""
    of = ports.of
    web = f"http://127.0.0.1:{of['ingest']}"
    hook = f"{web}/webhooks"
    return Accounts(
        whatsapp=(
            WhatsAppAccount(
                id="lumbre",
                webhook=f"{hook}/whatsapp/lumbre",
                phone_number_id=PHONE_NUMBER_ID,
                access_token=s.access,
                app_secret=s.app,
            ),
        ),
        instagram=(
            InstagramAccount(
                id="casalumbre", webhook=f"{hook}/instagram/casalumbre", ig_id=IG_ID, access_token=s.access, app_secret=s.app
            ),
        ),
        telegram=(
            TelegramAccount(
                id="lumbrebot",
                webhook=f"{hook}/telegram/lumbrebot",
                bot="casalumbre_bot",
                token=s.telegram,
                webhook_secret=s.webhook,
            ),
        ),
        email=(MailAccount(id="hola", address="hola@casalumbre.example", smtp=f"127.0.0.1:{of['smtp']}"),),
        webchat=(ChatAccount(id="shop", socket=f"ws://127.0.0.1:{of['ingest']}/chat/shop/socket", origin=web),),
        journey=(ShopAccount(id="shop", webhook=f"{web}/v1/journey?account=shop", secret=s.journey),),
    )


TEAM: dict[str, dict[str, Any]] = {
    "ines": {"name": "Inés Vidal", "languages": ["es", "en"], "queues": ["redes", "atencion"], "capacity": 12},
    "tom": {"name": "Tom Archer", "languages": ["en", "es"], "queues": ["atencion"], "capacity": 8},
}
QUEUES = ("redes", "atencion")
