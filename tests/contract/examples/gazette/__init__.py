"""Gazette (invented): reader's comments, listened to on a stream and read again page by page after every connect."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from pydantic import Field

from services.ingest.contract import (
    Account,
    Can,
    Channel,
    Echoed,
    Edited,
    Facts,
    Identifier,
    Item,
    Leg,
    Moment,
    Node,
    Outgoing,
    Payload,
    Poll,
    Raw,
    Received,
    Request,
    Secret,
    Send,
    Sender,
    Step,
    Stream,
    bearer,
    get,
    post,
    text,
)

API = "https://api.gazette.example/v1"


class Gazette(Account):
    desk: str = Field(description="Gazette > Desk > ID")
    token: Secret = Field(description="Gazette > Desk > Token")


class Comment(Payload):
    id: str
    author: str
    name: str | None = None
    words: str
    under: str | None = None
    written_at: Moment
    edited_at: Moment | None = None


def unpack(raw: Raw) -> Iterable[Item]:
    document = Node(raw.json())
    if raw.door == "stream":
        yield from document.others("cursor")
        return
    yield from (node.item("comment") for node in document.walk("comments[]"))
    yield from document.others("comments", "next")


def commented(account: Gazette, c: Comment) -> Facts:
    thread = c.under or c.id
    if c.author == account.desk:
        yield Echoed(id=c.id, at=c.written_at, thread=thread, parts=(text(c.words),))
        return
    sender = Sender(Identifier("gazette", c.author), name=c.name)
    yield Received(
        id=c.id, at=c.written_at, sender=sender, thread=thread, parts=(text(c.words),), reply_to=c.under, type="post.commented"
    )
    if c.edited_at:
        yield Edited(id=c.id, at=c.edited_at, revision=c.edited_at.isoformat(), parts=(text(c.words),), sender=sender)


def page(account: Gazette, cursor: str | None) -> Request:
    after = f"&after={cursor}" if cursor else ""
    return get(f"{API}/desks/{account.desk}/comments?size=100{after}", auth=bearer(account.token))


def after(cursor: str | None, raw: Raw) -> Step:
    following = Node(raw.json()).get("next")
    return Step(str(following), again=True) if following else Step(cursor)


def connect(account: Gazette, cursor: str | None) -> Request:
    since = f"?cursor={cursor}" if cursor else ""
    return Request(
        "GET", f"{API}/desks/{account.desk}/stream{since}", {"authorization": bearer(account.token)}, transport="sse"
    )


def cursor_of(raw: Raw) -> str | None:
    found = Node(raw.json()).get("cursor")
    return found if isinstance(found, str) else None


def reply(account: Gazette, out: Outgoing) -> Request:
    return post(f"{API}/comments/{out.thread}/replies", {"words": out.part.text, "key": out.id}, auth=bearer(account.token))


PAGES: Poll[Gazette] = Poll(page, after, every=timedelta(minutes=1), cost=1, until_known=True)

CHANNEL = Channel(
    name="gazette",
    title="Gazette",
    docs="https://docs.gazette.example",
    account=Gazette,
    legs={"comment": Leg("public", sends=(Can("text", 10_000),), replies_only=True)},
    doors=(PAGES, Stream(connect, cursor_of)),
    unpack=unpack,
    kinds={"comment": commented},
    send=Send({"message": reply}, sent_id="id"),
)
