"""What is sent to Instagram, and how its answers are read.

https://developers.facebook.com/documentation/instagram-platform/instagram-api-with-instagram-login/messaging-api
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from services.ingest.channels.instagram.payloads import Instagram
from services.ingest.channels.meta import ANSWERS as META
from services.ingest.channels.meta import VERSION
from services.ingest.contract import (
    Check,
    Failed,
    Media,
    Outgoing,
    Part,
    Renew,
    Request,
    Response,
    Result,
    Send,
    bearer,
    get,
    post,
)

GRAPH = f"https://graph.instagram.com/{VERSION}"
FIELDS = "comments,live_comments,mentions,messages,message_edit,message_reactions,messaging_seen,messaging_postbacks,messaging_referral"


def direct(account: Instagram, body: Mapping[str, object]) -> Request:
    return post(f"{GRAPH}/{account.ig_id}/messages", body, auth=bearer(account.access_token))


def message(account: Instagram, out: Outgoing) -> Request:
    match out.leg:
        case "comment":
            return post(
                f"{GRAPH}/{quote(out.thread, safe='')}/replies", {"message": out.part.text}, auth=bearer(account.access_token)
            )
        case "mention":
            where = "media_id" if out.context.get("media") else "comment_id"
            told = {where: out.thread, "message": out.part.text}
            return post(f"{GRAPH}/{account.ig_id}/mentions", told, auth=bearer(account.access_token))
    # The private reply to a comment: once, to whoever wrote it.
    recipient = {"comment_id": out.opens} if out.opens else {"id": out.thread}
    return direct(account, {"recipient": recipient, "message": content(out.part)})


def content(part: Part) -> dict[str, object]:
    if part.kind == "buttons":
        replies = [{"content_type": "text", "title": title[:20], "payload": key} for key, title in part.data.items()]
        return {"text": part.text, "quick_replies": replies}
    if part.kind == "text":
        return {"text": part.text}
    return {"attachment": {"type": part.kind, "payload": {"url": part.ref}}}


def action(account: Instagram, out: Outgoing, name: str, **payload: object) -> Request:
    return direct(
        account, {"recipient": {"id": out.thread}, "sender_action": name, **({"payload": payload} if payload else {})}
    )


def reaction(account: Instagram, out: Outgoing) -> Request:
    if not out.part.text:
        return action(account, out, "unreact", message_id=out.target)
    return action(account, out, "react", message_id=out.target, reaction=out.part.text)


def typing(account: Instagram, out: Outgoing) -> Request:
    return action(account, out, "typing_on")


def read(account: Instagram, out: Outgoing) -> Request:
    return action(account, out, "mark_seen")


def named(out: Outgoing, response: Response) -> str | None:
    """Of a message or comment its id; of the rest the platform only says to whom it was done."""
    found = response.get("message_id") or response.get("id")
    if not found and out.action in ("reaction", "typing", "read") and response.get("recipient_id"):
        return out.target or out.id
    return found if isinstance(found, str) else None


def fetch(account: Instagram, ref: str) -> Request:
    """Files have addresses that are signed for a while; our token is none of their business."""
    return get(ref)


def setup(account: Instagram, url: str) -> Request:
    subscribe = f"{GRAPH}/{account.ig_id}/subscribed_apps?subscribed_fields={FIELDS}"
    return post(subscribe, {}, auth=bearer(account.access_token))


def health(account: Instagram) -> Request:
    return get(f"{GRAPH}/me?fields=user_id,username", auth=bearer(account.access_token))


def renewal(account: Instagram) -> Request:
    origin = GRAPH.rpartition("/")[0]
    return get(f"{origin}/refresh_access_token?grant_type=ig_refresh_token", auth=bearer(account.access_token))


ANSWERS: dict[object, Result] = META | {
    10: Failed("more than 24 h since the last message", then="other_leg"),
    100: Failed("refused"),
    551: Failed("this person is not available", then="other_leg"),
    10900: Failed("this comment has its private reply already", then="other_leg"),
    2018278: Failed("more than 24 h since the last message", then="other_leg"),
}
SEND: Send[Instagram] = Send(
    {"message": message, "reaction": reaction, "typing": typing, "read": read},
    sent_id=named,
    error_code="error.code",
    answers=ANSWERS,
)
MEDIA: Media[Instagram] = Media(fetch)
HEALTH: Check[Instagram] = Check(health)
RENEW: Renew[Instagram] = Renew(renewal, into="access_token")
