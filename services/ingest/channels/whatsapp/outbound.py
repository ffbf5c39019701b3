"""What is sent to WhatsApp, and how its answers are read.

https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.ingest.channels.meta import ANSWERS as META
from services.ingest.channels.meta import GRAPH
from services.ingest.channels.whatsapp.payloads import WhatsApp
from services.ingest.contract import (
    Check,
    Failed,
    Media,
    Outgoing,
    Part,
    Request,
    Response,
    Result,
    Retry,
    Send,
    bearer,
    get,
    post,
    sha256_hex,
)

ANSWERS: dict[object, Result] = META | {
    10: Failed("permission is missing", then="fix_account"),
    80007: Retry("too many calls", 60),
    130429: Retry("too fast", 1),
    130472: Failed("this person is in an experiment and gets no marketing", then="other_leg"),
    130497: Failed("this business may not write to that country", then="other_leg"),
    131000: Retry("something went wrong"),
    131005: Failed("permission is missing", then="fix_account"),
    131008: Failed("a parameter is missing"),
    131009: Failed("a parameter is wrong"),
    131016: Retry("service unavailable"),
    131026: Failed("cannot be delivered", then="other_leg"),
    131031: Failed("account locked", then="fix_account"),
    131047: Failed("more than 24 h since the last message", then="template"),
    131048: Retry("restricted for spam", 3600),
    131050: Failed("opted out", then="stop_contact"),
    131051: Failed("this kind of message is not supported"),
    131053: Failed("the file could not be read"),
    131056: Retry("too fast for this person", 6),
    131057: Retry("account in maintenance", 60),
    131062: Failed("this person cannot be reached by id alone", then="other_leg"),
    132000: Failed("the template has other parameters"),
    132001: Failed("there is no such template"),
    132015: Failed("the template is paused"),
    132016: Failed("the template is disabled"),
    133010: Failed("the number is not registered", then="fix_account"),
}


def call(account: WhatsApp, body: Mapping[str, Any]) -> Request:
    url = f"{GRAPH}/{account.phone_number_id}/messages"
    return post(url, {"messaging_product": "whatsapp", **body}, auth=bearer(account.access_token))


def messages(account: WhatsApp, out: Outgoing, kind: str, content: object) -> Request:
    """People are reached by number or by id, groups by id; what we call the message comes back in every status."""
    if out.leg == "group":
        to = {"recipient_type": "group", "to": out.thread}
    else:
        to = {"recipient_type": "individual", "to" if out.thread.startswith("+") else "recipient": out.thread}
    quote = {"context": {"message_id": out.reply_to}} if out.reply_to else {}
    return call(account, {**to, "type": kind, kind: content, "biz_opaque_callback_data": out.id, **quote})


def message(account: WhatsApp, out: Outgoing) -> Request:
    match out.part.kind:
        case "text":
            return messages(account, out, "text", {"body": out.part.text})
        case "location":
            return messages(account, out, "location", location(out.part))
        case "buttons":
            return messages(account, out, "interactive", interactive(out.part))
    kind = "document" if out.part.kind == "file" else out.part.kind
    return messages(account, out, kind, file(out.part))


def location(part: Part) -> dict[str, object]:
    named = {"name": part.text} if part.text else {}
    return {"latitude": float(part.data["lat"]), "longitude": float(part.data["lon"]), **named}


def file(part: Part) -> dict[str, object]:
    """An id that an upload gave, or an address that the platform fetches."""
    where = "link" if (part.ref or "").startswith("https://") else "id"
    caption = {"caption": part.text} if part.text and part.kind in ("image", "video", "file") else {}
    named = {"filename": part.name} if part.name and part.kind == "file" else {}
    return {where: part.ref, **caption, **named}


def interactive(part: Part) -> dict[str, object]:
    """Up to three choices are buttons, up to ten a list; titles have 20 and 24 characters."""
    body = {"text": part.text or "-"}
    if len(part.data) <= 3:
        buttons = [{"type": "reply", "reply": {"id": key, "title": title[:20]}} for key, title in part.data.items()]
        return {"type": "button", "body": body, "action": {"buttons": buttons}}
    rows = [{"id": key, "title": title[:24]} for key, title in part.data.items()]
    return {"type": "list", "body": body, "action": {"button": (part.name or "…")[:20], "sections": [{"rows": rows}]}}


def template(account: WhatsApp, out: Outgoing) -> Request:
    """`data` holds the language and the parameters of the body: numbered from 1, or by name."""
    given = dict(out.part.data)
    name, language = given.pop("name", out.part.name), given.pop("language", "en")
    numbered = [{"type": "text", "text": given[key]} for key in sorted(filter(str.isdecimal, given), key=int)]
    named = [{"type": "text", "parameter_name": key, "text": given[key]} for key in given if not key.isdecimal()]
    body = [{"type": "body", "parameters": numbered or named}] if given else []
    return messages(account, out, "template", {"name": name, "language": {"code": language}, "components": body})


def reaction(account: WhatsApp, out: Outgoing) -> Request:
    return messages(account, out, "reaction", {"message_id": out.target, "emoji": out.part.text or ""})


def read(account: WhatsApp, out: Outgoing) -> Request:
    return call(account, {"status": "read", "message_id": out.target})


def typing(account: WhatsApp, out: Outgoing) -> Request:
    """Shown for 25 s at most; it also marks the message as read, which an agent who types has done."""
    return call(account, {"status": "read", "message_id": out.target, "typing_indicator": {"type": "text"}})


def upload(account: WhatsApp, part: Part, content: bytes) -> Request:
    """As a form with one file; its border is a hash of the content, which therefore cannot hold it."""
    border, kind = sha256_hex(content), part.media_type or "application/octet-stream"
    fields = {"messaging_product": "whatsapp", "type": kind}
    head = "".join(f'--{border}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items())
    head += f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\nContent-Type: {kind}\r\n\r\n'
    headers = {
        "authorization": bearer(account.access_token),
        "content-type": f"multipart/form-data; boundary={border}",
    }
    body = head.encode() + content + f"\r\n--{border}--\r\n".encode()
    return Request("POST", f"{GRAPH}/{account.phone_number_id}/media", headers, body)


def fetch(account: WhatsApp, ref: str) -> Request:
    return get(f"{GRAPH}/{ref}", auth=bearer(account.access_token))


def named(out: Outgoing, response: Response) -> str | None:
    """Of a message its id; read marks and typing are only confirmed."""
    found = response.get("messages[0].id")
    if found is None and response.get("success") is True:
        return out.target or out.id
    return found if isinstance(found, str) else None


def health(account: WhatsApp) -> Request:
    return get(f"{GRAPH}/{account.phone_number_id}?fields=quality_rating,status", auth=bearer(account.access_token))


SEND: Send[WhatsApp] = Send(
    {"message": message, "template": template, "reaction": reaction, "read": read, "typing": typing},
    sent_id=named,
    error_code="error.code",
    answers=ANSWERS,
)
MEDIA: Media[WhatsApp] = Media(fetch, link="url", upload=upload)
HEALTH: Check[WhatsApp] = Check(health)
