"""What each platform puts on the wire, after its public documentation: bodies and signatures as pure functions.

WhatsApp, Instagram: https://developers.facebook.com/docs/graph-api/webhooks/getting-started (X-Hub-Signature-256)
Telegram: https://core.telegram.org/bots/api#setwebhook (secret token header)
Orders of the shop: https://www.standardwebhooks.com (webhook-id, -timestamp, -signature)
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any

Body = dict[str, Any]


def as_meta_writes(document: Body) -> bytes:
    """Meta escapes what is not ASCII and the slash, and signs the result: a body that is parsed and written again fails."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True).replace("/", "\\/").encode()


def meta_headers(body: bytes, app_secret: str) -> dict[str, str]:
    mac = hmac.new(app_secret.encode(), body, hashlib.sha256).hexdigest()
    return {"content-type": "application/json", "x-hub-signature-256": f"sha256={mac}"}


def standard_webhook_headers(body: bytes, secret: str, message_id: str, at: int) -> dict[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{message_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }


# -- WhatsApp ---------------------------------------------------------------------------------------------------------


def whatsapp_contact(name: str, phone: str | None, user_id: str | None) -> Body:
    return {
        "profile": {"name": name},
        **({"wa_id": phone} if phone else {}),
        **({"user_id": user_id} if user_id else {}),
    }


def whatsapp_message(message_id: str, at: int, phone: str | None, user_id: str | None, content: Body) -> Body:
    """`content` is the type and its object: {"type": "text", "text": {"body": ...}}."""
    who = {**({"from": phone} if phone else {}), **({"from_user_id": user_id} if user_id else {})}
    return {"id": message_id, "timestamp": str(at), **who, **content}


def whatsapp_value(phone_number_id: str, contacts: Sequence[Body] = (), **lists: Sequence[Body]) -> Body:
    """One change: `messages=[...]` with their contacts, or `statuses=[...]`."""
    metadata = {"display_phone_number": phone_number_id[-6:], "phone_number_id": phone_number_id}
    shown = {"contacts": list(contacts)} if contacts else {}
    return {
        "messaging_product": "whatsapp",
        "metadata": metadata,
        **shown,
        **{name: list(all_) for name, all_ in lists.items()},
    }


def whatsapp_body(values: Sequence[Body]) -> Body:
    changes = [{"field": "messages", "value": value} for value in values]
    return {"object": "whatsapp_business_account", "entry": [{"id": "waba-1", "changes": changes}]}


def whatsapp_status(
    message_id: str, state: str, at: int, recipient: str, reference: str | None, error: Body | None = None
) -> Body:
    return {
        "id": message_id,
        "status": state,
        "timestamp": str(at),
        **({"recipient_id": recipient[1:]} if recipient.startswith("+") else {"recipient_user_id": recipient}),
        **({"biz_opaque_callback_data": reference} if reference else {}),
        **({"errors": [error]} if error else {}),
    }


# -- Instagram --------------------------------------------------------------------------------------------------------


def instagram_comment(comment_id: str, author: str, username: str, text: str, media: str, parent: str | None = None) -> Body:
    value: Body = {"id": comment_id, "from": {"id": author, "username": username}, "text": text, "media": {"id": media}}
    return {"field": "comments", "value": {**value, **({"parent_id": parent} if parent else {})}}


def instagram_direct(sender: str, recipient: str, at_ms: int, **content: Body) -> Body:
    """`message={"mid": ..., "text": ...}`, `read={...}`, `reaction={...}`, `referral={...}`."""
    return {"sender": {"id": sender}, "recipient": {"id": recipient}, "timestamp": at_ms, **content}


def instagram_body(ig_id: str, at: int, changes: Sequence[Body] = (), messaging: Sequence[Body] = ()) -> Body:
    entry: Body = {"id": ig_id, "time": at}
    if changes:
        entry["changes"] = list(changes)
    if messaging:
        entry["messaging"] = list(messaging)
    return {"object": "instagram", "entry": [entry]}


# -- Telegram ---------------------------------------------------------------------------------------------------------


def telegram_message(number: int, at: int, user: int, name: str, content: Body, chat: Body | None = None) -> Body:
    return {
        "message_id": number,
        "date": at,
        "from": {"id": user, "is_bot": False, "first_name": name},
        "chat": chat or {"id": user, "type": "private", "first_name": name},
        **content,
    }


def telegram_body(update_id: int, kind: str, content: Body) -> bytes:
    return json.dumps({"update_id": update_id, kind: content}, ensure_ascii=False).encode()


def telegram_headers(secret: str) -> dict[str, str]:
    return {"content-type": "application/json", "x-telegram-bot-api-secret-token": secret}
