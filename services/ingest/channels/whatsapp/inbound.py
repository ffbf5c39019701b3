"""What WhatsApp's items mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypedDict

from services.ingest.channels.whatsapp.outbound import ANSWERS
from services.ingest.channels.whatsapp.payloads import (
    Card,
    Contact,
    Content,
    Echo,
    Edit,
    Envelope,
    File,
    Flow,
    Interactive,
    Message,
    Notice,
    Order,
    Place,
    Reaction,
    Revoke,
    Status,
    System,
    WhatsApp,
)
from services.ingest.contract import (
    Deleted,
    Echoed,
    Edited,
    Evidence,
    Facts,
    Failed,
    Handler,
    Healed,
    Identifier,
    Ignored,
    Linked,
    Part,
    PartKind,
    Reacted,
    Receipt,
    Received,
    Referred,
    Sender,
    Strength,
    tel,
    text,
)

NOBODY = Contact()

# -- who --------------------------------------------------------------------------------------------------------------


def user(account: WhatsApp, user_id: str | None, phone: str | None) -> Identifier | None:
    """The id within our portfolio, else the phone number: people with a username show only the former."""
    if user_id:
        return Identifier("whatsapp", user_id, account.portfolio)
    return tel(f"+{phone.lstrip('+')}") if phone else None


def sender_of(account: WhatsApp, m: Envelope) -> Sender:
    contact = next((c for c in m.around.contacts if c.is_of(m.from_user_id, m.phone)), NOBODY)
    phone, user_id = m.phone or contact.wa_id, m.from_user_id or contact.user_id
    who, number = user(account, user_id, phone), user(account, None, phone)
    if who is None:
        raise ValueError("neither a phone nor a user id")
    also = (Evidence(number, "verified", "whatsapp-phone"),) if number and number != who else ()
    return Sender(who, name=contact.profile.name, also=also)


# -- what -------------------------------------------------------------------------------------------------------------


def file(kind: PartKind) -> Callable[[File], Iterable[Part]]:
    return lambda f: [Part(kind, text=f.caption, ref=f.id, media_type=f.mime_type, name=f.filename)]


def place(p: Place) -> Iterable[Part]:
    yield Part("location", text=p.name or p.address, data={"lat": str(p.latitude), "lon": str(p.longitude)})


def cards(found: tuple[Card, ...]) -> Iterable[Part]:
    """Somebody's card, often somebody else's: it is content, never evidence about the sender."""
    for card in found:
        told = {"tel": [p.phone for p in card.phones], "email": [m.email for m in card.emails]}
        data = {name: ", ".join(filter(None, values)) for name, values in told.items()}
        yield Part("contact", text=card.name.formatted_name, data={name: value for name, value in data.items() if value})


def choice(i: Interactive) -> Iterable[Part]:
    if picked := i.button_reply or i.list_reply:
        yield Part("choice", text=picked.title, ref=picked.id)
    elif i.nfm_reply:
        yield Part("choice", text=i.nfm_reply.body, name=i.nfm_reply.name, data=answers(i.nfm_reply))
    else:
        yield Part("unsupported", name=i.type or "interactive")


def answers(flow: Flow) -> Mapping[str, str]:
    """What was filled into a form; its token is the platform's business."""
    try:
        found = json.loads(flow.response_json)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items() if key != "flow_token"}


def order(o: Order) -> Iterable[Part]:
    lines = [
        f"{p.quantity:g} x {p.product_retailer_id}" + (f", {p.item_price:g} {p.currency}" if p.item_price else "")
        for p in o.product_items
    ]
    yield Part("text", text="\n".join(filter(None, (o.text, *lines))), name="order", data={"catalog": o.catalog_id})


# The field that holds the content, and how it is read; the first one that is there.
READ: Mapping[str, Callable[..., Iterable[Part]]] = {
    "text": lambda t: [text(t.body)],
    "image": file("image"),
    "audio": file("audio"),
    "video": file("video"),
    "document": file("file"),
    "sticker": file("sticker"),
    "location": place,
    "contacts": cards,
    "interactive": choice,
    "button": lambda b: [Part("choice", text=b.text, ref=b.payload)],
    "order": order,
}


def parts_of(m: Content) -> tuple[Part, ...]:
    content = getattr(m, m.type, None) if m.type in READ else None
    return tuple(READ[m.type](content)) if content else (Part("unsupported", name=m.type),)


# -- items ------------------------------------------------------------------------------------------------------------


class Where(TypedDict):
    leg: str
    thread: str


def where(m: Envelope) -> Where:
    """A group is read by everybody in it, so it is public; there an answer goes to all."""
    return {"leg": "group", "thread": m.group_id} if m.group_id else {"leg": "chat", "thread": ""}


def received(account: WhatsApp, m: Message) -> Facts:
    sender = sender_of(account, m)
    if m.referral and (ref := m.referral.ctwa_clid or m.referral.source_id):
        yield Referred(id=m.id, at=m.timestamp, sender=sender, ref=f"ad:{ref}", **where(m))
    yield Received(
        id=m.id,
        at=m.timestamp,
        sender=sender,
        parts=parts_of(m),
        reply_to=m.context.id,
        **where(m),
    )


def reacted(account: WhatsApp, m: Reaction) -> Facts:
    sender, r = sender_of(account, m), m.reaction
    yield Reacted(id=r.message_id, at=m.timestamp, sender=sender, emoji=r.emoji, revision=m.id, **where(m))


def edited(account: WhatsApp, m: Edit) -> Facts:
    sender = sender_of(account, m)
    parts = parts_of(m.edit.message) if m.edit.message else ()
    yield Edited(id=m.edit.original_message_id, at=m.timestamp, revision=m.id, parts=parts, sender=sender, **where(m))


def revoked(account: WhatsApp, m: Revoke) -> Facts:
    sender = sender_of(account, m)
    yield Deleted(id=m.revoke.original_message_id, at=m.timestamp, sender=sender, **where(m))


def changed(account: WhatsApp, m: System) -> Facts:
    """A new number makes a new user id, so the platform tells both. The old number is weaker evidence than the old id:
    numbers are given to strangers after a while, ids are not."""
    new = user(account, m.system.user_id, m.system.wa_id)
    old_id, old_number = user(account, m.system.previous_user_id or m.from_user_id, None), user(account, None, m.phone)
    number = user(account, None, m.system.wa_id)
    known: Mapping[str, tuple[Identifier | None, Strength]] = {
        "whatsapp-changed-id": (old_id, "verified"),
        "whatsapp-phone": (number, "verified"),
        "whatsapp-changed-number": (old_number, "asserted"),
    }
    also = tuple(Evidence(who, how, rule) for rule, (who, how) in known.items() if who and who != new)
    if new is None or not also:
        yield Ignored(f"a system message of type '{m.system.type}' that links nobody")
        return
    yield Linked(id=m.id, at=m.timestamp, sender=Sender(new, also=also))


def echoed(account: WhatsApp, m: Echo) -> Facts:
    contact = next((c for c in m.around.contacts if c.is_of(m.to_user_id, m.to)), NOBODY)
    party = user(account, m.to_user_id or contact.user_id, m.to)
    yield Echoed(id=m.id, at=m.timestamp, party=party, leg="chat", parts=parts_of(m), reply_to=m.context.id)


def status(account: WhatsApp, s: Status) -> Facts:
    state: Literal["sent", "delivered", "read", "failed"] = "read" if s.status == "played" else s.status
    problem = s.errors[0] if s.errors else None
    meant = ANSWERS.get(problem.code) if problem else None
    in_group = s.recipient_type == "group"
    yield Receipt(
        id=s.id,
        at=s.timestamp,
        party=None if in_group else user(account, s.recipient_user_id, s.recipient_id),
        leg="group" if in_group else "chat",
        state=state,
        correlation=s.biz_opaque_callback_data,
        reason=f"{problem.code} {problem.title}".strip() if problem else None,
        then=meant.then if isinstance(meant, Failed) else "nothing",
    )


# What Meta says of an account, and what it means for us; the rest is counted.
NOTICES: Mapping[str, Literal["ok", "warning", "broken"]] = {
    "VERIFIED_ACCOUNT": "ok",
    "UNFLAGGED": "ok",
    "ACCOUNT_RESTRICTION": "warning",
    "ACCOUNT_VIOLATION": "warning",
    "FLAGGED": "warning",
    "DISABLED_UPDATE": "broken",
    "ACCOUNT_DELETED": "broken",
}


def noticed(account: WhatsApp, n: Notice) -> Facts:
    if state := NOTICES.get(n.event):
        yield Healed(id=f"notice:{n.around.id}:{n.event}:{n.around.time}", at=None, state=state, reason=n.event)
    else:
        yield Ignored(f"account notice {n.event[:40]}")


KINDS: Mapping[str, Handler[WhatsApp]] = {
    **dict.fromkeys((*READ, "unsupported"), received),
    "reaction": reacted,
    "edit": edited,
    "revoke": revoked,
    "system": changed,
    "echo": echoed,
    **dict.fromkeys(("status.sent", "status.delivered", "status.read", "status.played", "status.failed"), status),
    "account_update": noticed,
    "phone_number_quality_update": noticed,
}
IGNORES = {
    "request_welcome": "somebody opened the chat and has not written yet",
    "user_preferences.user_preferences": "a choice about marketing, which Hilo does not send",
    "messages.errors": "an error of the platform without a message",
}
