"""Telegram Bot API: a shared token in a header proves the sender and not the body, so the webhook's address should be kept
to Telegram's networks where that is possible. No receipts; edits and reactions; groups are public.

https://core.telegram.org/bots/api
"""

from __future__ import annotations

from services.ingest.channels.telegram.inbound import IGNORES, KINDS
from services.ingest.channels.telegram.outbound import HEALTH, MEDIA, SEND, setup
from services.ingest.channels.telegram.payloads import Telegram, unpack
from services.ingest.contract import Can, Channel, Leg, Rate, Token, Webhook

# Files are fetched from our address; Telegram takes pictures up to 5 MB and others up to 20 MB like that.
SENDS = (
    Can("text", 4096, "utf16"),
    Can("image", unit="utf16", mb=5, caption=1024),
    Can("video", unit="utf16", mb=20, caption=1024),
    Can("audio", unit="utf16", mb=20, caption=1024),
    Can("file", unit="utf16", mb=20, caption=1024),
    Can("sticker", mb=0.5),
    Can("location"),
    Can("buttons", 4096, "utf16", choices=20),
)


def invite(account: Telegram, code: str) -> str:
    return f"https://t.me/{account.bot}?start={code}"


CHANNEL = Channel(
    name="telegram",
    title="Telegram",
    docs="https://core.telegram.org/bots/api",
    account=Telegram,
    legs={
        "chat": Leg("private", sends=SENDS, rates=(Rate(30), Rate(1, of="thread")), replies_only=True),
        "group": Leg("public", sends=SENDS, rates=(Rate(30), Rate(1 / 3, of="thread")), replies_only=True),
    },
    doors=(Webhook(Token("x-telegram-bot-api-secret-token", secret="webhook_secret")),),  # a field's name
    unpack=unpack,
    kinds=KINDS,
    ignores=IGNORES,
    send=SEND,
    media=MEDIA,
    health=HEALTH,
    setup=setup,
    invite=invite,
    contact=lambda account: (f"@{account.bot}",),
    shown=("update_id", "message_id", "date", "edit_date", "type", "mime_type", "file_size", "status"),
)
