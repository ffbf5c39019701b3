"""What is sent to Telegram, and how its answers are read.

https://core.telegram.org/bots/api#available-methods
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from services.common.events import PartKind
from services.ingest.channels.telegram.payloads import Telegram
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
    get,
    post,
)

API = "https://api.telegram.org"
UPDATES = ["message", "edited_message", "message_reaction", "callback_query", "my_chat_member"]

FILES: Mapping[PartKind, tuple[str, str]] = {
    "image": ("sendPhoto", "photo"),
    "video": ("sendVideo", "video"),
    "audio": ("sendAudio", "audio"),
    "file": ("sendDocument", "document"),
    "sticker": ("sendSticker", "sticker"),
}


def call(account: Telegram, method: str, **body: object) -> Request:
    return post(f"{API}/bot{account.token.reveal()}/{method}", body)


def number(message_id: str | None) -> int:
    """Of `chat:number`, the number."""
    return int((message_id or "").rpartition(":")[2])


def place(out: Outgoing) -> dict[str, object]:
    """`chat` or `chat:topic`, and the message that is answered."""
    chat, _, topic = out.thread.partition(":")
    within = {"message_thread_id": int(topic)} if topic else {}
    if out.reply_to is None:
        return {"chat_id": chat, **within}
    reply = {"message_id": number(out.reply_to), "allow_sending_without_reply": True}
    return {"chat_id": chat, **within, "reply_parameters": reply}


def message(account: Telegram, out: Outgoing) -> Request:
    part = out.part
    if part.kind in FILES:
        method, field = FILES[part.kind]
        caption = {"caption": part.text} if part.text and part.kind != "sticker" else {}
        return call(account, method, **place(out), **{field: part.ref}, **caption)
    if part.kind == "location":
        where = {"latitude": float(part.data["lat"]), "longitude": float(part.data["lon"])}
        return call(account, "sendLocation", **place(out), **where)
    return call(account, "sendMessage", **place(out), text=part.text, **keyboard(part))


def keyboard(part: Part) -> dict[str, object]:
    """One button a line, so that long titles are readable."""
    if part.kind != "buttons":
        return {}
    rows = [[{"text": title, "callback_data": key}] for key, title in part.data.items()]
    return {"reply_markup": {"inline_keyboard": rows}}


def edit(account: Telegram, out: Outgoing) -> Request:
    return call(account, "editMessageText", **target(out), text=out.part.text)


def delete(account: Telegram, out: Outgoing) -> Request:
    return call(account, "deleteMessage", **target(out))


def reaction(account: Telegram, out: Outgoing) -> Request:
    emoji = [{"type": "emoji", "emoji": out.part.text}] if out.part.text else []
    return call(account, "setMessageReaction", **target(out), reaction=emoji)


def target(out: Outgoing) -> dict[str, object]:
    return {"chat_id": out.thread.partition(":")[0], "message_id": number(out.target)}


def typing(account: Telegram, out: Outgoing) -> Request:
    return call(account, "sendChatAction", **place(out), action="typing")


def named(out: Outgoing, response: Response) -> str | None:
    """Of a message its id, as incoming ones have it; of the rest the platform only says that it was done."""
    chat, found = out.thread.partition(":")[0], response.get("result.message_id")
    if found is None and response.get("result") is True:
        return out.target or out.id
    return f"{chat}:{found}" if found else None


def fetch(account: Telegram, ref: str) -> Request:
    return get(f"{API}/bot{account.token.reveal()}/getFile?file_id={quote(ref, safe='')}")


def link(account: Telegram, response: Response) -> str | None:
    path = response.get("result.file_path")
    return f"{API}/file/bot{account.token.reveal()}/{quote(path)}" if isinstance(path, str) and path else None


def wait(response: Response) -> float | None:
    seconds = response.get("parameters.retry_after")
    return float(seconds) if isinstance(seconds, int | float) else None


def setup(account: Telegram, url: str) -> Request:
    return call(account, "setWebhook", url=url, secret_token=account.webhook_secret.reveal(), allowed_updates=UPDATES)


ANSWERS: dict[object, Result] = {
    400: Failed("refused"),
    401: Failed("the token is wrong", then="fix_account"),
    403: Failed("blocked by the user", then="other_leg"),
    404: Failed("the token is wrong", then="fix_account"),
    409: Failed("webhook and polling conflict", then="fix_account"),
    429: Retry("too fast"),
}
SEND: Send[Telegram] = Send(
    {"message": message, "edit": edit, "delete": delete, "reaction": reaction, "typing": typing},
    sent_id=named,
    error_code="error_code",
    answers=ANSWERS,
    wait=wait,
)
MEDIA: Media[Telegram] = Media(fetch, link=link)
HEALTH: Check[Telegram] = Check(lambda account: call(account, "getMe"))
