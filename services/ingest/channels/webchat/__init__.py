"""Web chat: our own widget on a WebSocket. Frames are JSON; who is at the other end is proven once, when it connects.

A visitor is known by a secret that its browser keeps: only its hash is an identifier, since identifiers are shown to
agents and the secret opens the thread. Somebody whom the site has logged in comes with a JWT of the site and is known by
the site's own id for them, in a thread of their own: after a logout the browser does not show it any more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlencode

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import Field

from services.ingest.contract import (
    Account,
    Can,
    Channel,
    Deleted,
    Edited,
    Evidence,
    Facts,
    Identifier,
    Ignored,
    Item,
    Leg,
    Node,
    Outgoing,
    Part,
    Payload,
    Rate,
    Raw,
    Receipt,
    Received,
    Referred,
    Refused,
    Reply,
    Request,
    Secret,
    Send,
    Sender,
    Session,
    Strength,
    Typing,
    sha256_hex,
    tel,
    text,
)

CLAIMS = jwt.JWTClaimsRegistry  # its checks take the time of the request, so that admission stays a pure function


class WebChat(Account):
    site: str = Field(description="Name of your site, e.g. shop.example: its visitors and users are known within it")
    page: str = Field(description="Address of a page that shows the widget; handoff links lead there", pattern=r"^https?://")
    origins: tuple[str, ...] = Field(description="Sites that may show the widget, e.g. https://shop.example")
    identity_secret: Secret = Field(description="Shared with your site, which signs who is logged in (JWT, HS256)")


class Who(Payload):
    """What `admit` proved about this session: the headers of each of its frames."""

    thread: str
    visitor: str
    user: str | None = None
    name: str | None = None
    email: str | None = None
    email_verified: str = ""
    phone: str | None = None
    phone_verified: str = ""
    ref: str | None = Field(None, max_length=256)


class Frame(Payload):
    around: Who


class File(Payload):
    """Something that was uploaded to us before; `ref` names it by its content."""

    ref: str = Field(pattern=r"^upload:[0-9a-f]{64}$")
    media_type: str = Field(max_length=100)
    name: str | None = Field(None, max_length=255)
    size: int | None = Field(None, ge=0)


class Numbered(Frame):
    """`id` is the widget's own, so that a frame which is sent again after a lost connection is the same message."""

    id: str = Field(min_length=1, max_length=64)


class Message(Numbered):
    text: str = Field("", max_length=4000)
    file: File | None = None
    reply_to: str | None = Field(None, max_length=128)


class Edit(Numbered):
    text: str = Field(min_length=1, max_length=4000)
    revision: int = Field(ge=1)


class Chosen(Numbered):
    button: str = Field(min_length=1, max_length=128)
    title: str = Field(min_length=1, max_length=200)
    reply_to: str | None = Field(None, max_length=128)


class Seen(Numbered):
    """`id` is the piece that came or was shown."""


# -- who connects -----------------------------------------------------------------------------------------------------


def admit(account: WebChat, raw: Raw) -> Mapping[str, str]:
    """Who it is: `thread`, `visitor`, and what the token says. A bad token is refused, never taken as anonymous."""
    if raw.headers.get("origin") not in account.origins:
        raise Refused("this origin is not allowed")
    secret = raw.query.get("visitor", "")
    if not 22 <= len(secret) <= 128:
        raise Refused("visitor must be a random text of 22 to 128 characters")
    visitor = sha256_hex(f"{account.site}\0{secret}".encode())[:32]
    who = {"thread": visitor, "visitor": visitor}
    if ref := raw.query.get("ref"):
        who["ref"] = ref[:256]
    if token := raw.query.get("token"):
        who |= signed(account, token, raw)
    return who


def signed(account: WebChat, token: str, raw: Raw) -> dict[str, str]:
    """What the site says of the one who is logged in. The thread is a hash: ids of users may be addresses."""
    claims = verified(account, token, int(raw.received_at.timestamp()))
    user = str(claims["sub"])
    told = {
        "user": user,
        "thread": sha256_hex(f"{account.site}\0user\0{user}".encode())[:32],
        "name": claims.get("name"),
        "email": claims.get("email"),
        "email_verified": "yes" if claims.get("email_verified") is True else None,
        "phone": claims.get("phone_number"),
        "phone_verified": "yes" if claims.get("phone_number_verified") is True else None,
    }
    return {name: value for name, value in told.items() if isinstance(value, str) and value}


def verified(account: WebChat, token: str, now: int) -> dict[str, object]:
    """The claims, if any value of the secret signed them. The algorithm is ours to choose, never the token's."""
    registry = CLAIMS(now=lambda: now, leeway=30, sub={"essential": True}, exp={"essential": True})
    for key in account.identity_secret.all():
        try:
            claims = jwt.decode(token, OctKey.import_key(key), algorithms=["HS256"]).claims
        except (JoseError, ValueError):
            continue
        try:
            registry.validate(claims)
        except (JoseError, ValueError) as error:
            raise Refused("the identity token has expired or lacks sub or exp") from error
        if not isinstance(claims["sub"], str | int) or not 1 <= len(str(claims["sub"])) <= 255:
            raise Refused("the identity token's sub must be a text of 1 to 255 characters")
        return claims
    raise Refused("the identity token is not signed with the identity secret")


# -- what they say ----------------------------------------------------------------------------------------------------


def unpack(raw: Raw) -> list[Item]:
    frame = Node(raw.json())
    return [frame.item(frame.get("type"), around=dict(raw.headers))]


def sender_of(account: WebChat, who: Who) -> Sender:
    """Anonymous: the visitor, whose secret is the proof. Logged in: the user, as the site says with its signature."""
    visitor = Identifier("webchat", who.visitor, account.site)
    if who.user is None:
        return Sender(visitor)
    also = [Evidence(visitor, "asserted", "signed-session")]
    if who.email:
        also.append(Evidence(Identifier("email", who.email), _strength(who.email_verified), "signed-email"))
    if who.phone:
        also.append(Evidence(tel(who.phone), _strength(who.phone_verified), "signed-phone"))
    return Sender(Identifier("user", who.user, account.site), name=who.name, also=tuple(also), proof="account")


def _strength(confirmed: str) -> Strength:
    """An address that the site has not confirmed is what somebody typed into a form."""
    return "asserted" if confirmed else "claimed"


def referral(account: WebChat, who: Who) -> Facts:
    """The link that led here. Every message of the session repeats it, under one id: the first one counts."""
    if who.ref:
        yield Referred(
            id=f"{who.thread}:ref:{who.ref}", at=None, sender=sender_of(account, who), ref=who.ref, thread=who.thread
        )


def started(account: WebChat, f: Frame) -> Facts:
    yield from referral(account, f.around)
    yield Ignored("a session without a link")


def received(account: WebChat, m: Message) -> Facts:
    """The browser's clock is not believed: a message is as old as its receipt."""
    files = (_file(m.file),) if m.file else ()
    parts = (*files, *((text(m.text),) if m.text.strip() else ()))
    if not parts:
        yield Ignored("an empty message")
        return
    yield from referral(account, m.around)
    yield _said(account, m, parts, m.reply_to)


def chosen(account: WebChat, c: Chosen) -> Facts:
    yield _said(account, c, (Part("choice", text=c.title, ref=c.button),), c.reply_to)


def _said(account: WebChat, m: Numbered, parts: tuple[Part, ...], reply_to: str | None) -> Received:
    return Received(
        id=f"{m.around.thread}:{m.id}",
        at=None,
        thread=m.around.thread,
        sender=sender_of(account, m.around),
        parts=parts,
        reply_to=reply_to,
    )


def _file(f: File) -> Part:
    kind = f.media_type.split("/")[0]
    known = {"image": "image", "video": "video", "audio": "audio"}
    return Part(known.get(kind, "file"), ref=f.ref, media_type=f.media_type, name=f.name, size=f.size)  # type: ignore[arg-type]


def edited(account: WebChat, e: Edit) -> Facts:
    sender, thread = sender_of(account, e.around), e.around.thread
    yield Edited(id=f"{thread}:{e.id}", at=None, thread=thread, revision=str(e.revision), parts=(text(e.text),), sender=sender)


def deleted(account: WebChat, d: Seen) -> Facts:
    thread = d.around.thread
    yield Deleted(id=f"{thread}:{d.id}", at=None, thread=thread, sender=sender_of(account, d.around))


def delivered(account: WebChat, s: Seen) -> Facts:
    """The widget has everything up to this piece."""
    yield _receipt(account, s, "delivered")


def seen(account: WebChat, s: Seen) -> Facts:
    """Everything up to the piece that was shown."""
    yield _receipt(account, s, "read")


def _receipt(account: WebChat, s: Seen, state: Literal["delivered", "read"]) -> Receipt:
    who = sender_of(account, s.around).id
    return Receipt(id=s.id, at=None, party=who, thread=s.around.thread, state=state, correlation=s.id, up_to=True)


def typing(account: WebChat, f: Frame) -> Facts:
    yield Typing(id=f"{f.around.thread}:typing", at=None, thread=f.around.thread, sender=sender_of(account, f.around))


def accepted(account: WebChat, raw: Raw) -> Reply:
    """Tells the widget that its message is safe: sent once it is on the log."""
    frame = Node(raw.json())
    told = {"type": "accepted", "id": frame.get("id")} if frame.get("type") != "typing" else None
    return Reply(body=json.dumps(told).encode() if told else b"", media_type="application/json")


# -- what we say ------------------------------------------------------------------------------------------------------


def frame(account: WebChat, out: Outgoing) -> Request:
    part = out.part
    body = {
        "type": out.action,
        "id": out.id,
        "kind": part.kind,
        "text": part.text,
        "ref": part.ref,
        "media_type": part.media_type,
        "name": part.name,
        "buttons": [{"id": key, "title": title} for key, title in part.data.items()] if part.kind == "buttons" else None,
        "target": out.target,
        "reply_to": out.reply_to,
    }
    told = json.dumps({name: value for name, value in body.items() if value is not None})
    return Request("SEND", f"session:{account.id}/{out.thread}", body=told.encode(), transport="session", idempotent=True)


def invite(account: WebChat, code: str) -> str:
    return f"{account.page}{'&' if '?' in account.page else '?'}{urlencode({'ref': code})}"


CHANNEL = Channel(
    name="webchat",
    title="Web chat",
    docs="docs/channels.md#web-chat",
    account=WebChat,
    legs={
        "chat": Leg(
            "private",
            sends=(
                Can("text", 4000),
                Can("image", caption=1024),
                Can("video", caption=1024),
                Can("audio", caption=1024),
                Can("file", caption=1024),
                Can("buttons", 4000, choices=10),
            ),
            rates=(Rate(20, of="thread"),),
        )
    },
    doors=(Session(admit, reply=accepted),),
    unpack=unpack,
    kinds={
        "start": started,
        "message": received,
        "choice": chosen,
        "edit": edited,
        "delete": deleted,
        "delivered": delivered,
        "read": seen,
        "typing": typing,
    },
    ignores={"ping": "keeps the connection open"},
    send=Send(dict.fromkeys(("message", "edit", "delete", "typing", "reaction"), frame), sent_id=lambda out, _: out.id),
    invite=invite,
    contact=lambda account: (account.page,),
    shown=("type", "revision", "media_type", "size"),
)
