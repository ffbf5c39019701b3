"""What is read of Instagram's webhooks, and how a batch falls into items.

https://developers.facebook.com/documentation/instagram-platform/webhooks/examples
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from services.ingest.contract import JSON, Account, Item, Moment, Node, Payload, Raw, Secret


class Instagram(Account):
    ig_id: str = Field(description="Instagram > API setup: the id of the professional account")
    username: str = Field(description="Name of that account, without @", pattern=r"^[A-Za-z0-9._]{1,30}$")
    access_token: Secret = Field(description="Instagram > API setup > Generate token")
    app_secret: Secret = Field(description="App settings > Basic > Instagram app secret")
    verify_token: Secret = Field(description="Any text; typed again in the webhook form of the app")


class Person(Payload):
    id: str
    username: str | None = None
    self_ig_scoped_id: str | None = None


class Around(Payload):
    time: Moment


class Media(Payload):
    id: str


class Comment(Payload):
    id: str
    author: Person = Field(alias="from")
    text: str = ""
    media: Media
    parent_id: str | None = None


class Commented(Payload):
    value: Comment
    around: Around


class Named(Payload):
    """Somebody named us under another's post, or in the text of their own: only where is told."""

    media_id: str = Field(pattern=r"^[0-9_]{1,40}$")
    comment_id: str | None = Field(None, pattern=r"^[0-9_]{1,40}$")


class Naming(Payload):
    value: Named


class Mention(Payload):
    """What the platform tells when asked for it."""

    id: str
    text: str = ""
    caption: str = ""
    timestamp: Moment
    username: str
    author: Person | None = Field(None, alias="from")


class File(Payload):
    url: str | None = None
    title: str | None = None


class Attachment(Payload):
    type: str
    payload: File = File()


class Story(Payload):
    id: str | None = None
    url: str | None = None


class Quoted(Payload):
    mid: str | None = None
    story: Story | None = None


class Picked(Payload):
    payload: str


class Link(Payload):
    """Which link led here: one of ours with `ref`, or an advertisement."""

    ref: str | None = None
    ad_id: str | None = None

    @property
    def told(self) -> str | None:
        return self.ref or (f"ad:{self.ad_id}" if self.ad_id else None)


class Body(Payload):
    mid: str
    text: str | None = None
    attachments: tuple[Attachment, ...] = ()
    quick_reply: Picked | None = None
    referral: Link | None = None
    reply_to: Quoted = Quoted()
    is_echo: bool = False
    is_deleted: bool = False
    is_unsupported: bool = False


class Messaging(Payload):
    sender: Person
    recipient: Person
    timestamp: Moment


class Direct(Messaging):
    message: Body


class Emoji(Payload):
    mid: str
    action: str
    emoji: str = ""
    reaction: str = ""


class Reaction(Messaging):
    reaction: Emoji


class Seen(Payload):
    mid: str


class Read(Messaging):
    read: Seen


class Referral(Messaging):
    referral: Link


class Tap(Payload):
    mid: str
    title: str = ""
    payload: str = ""
    referral: Link | None = None


class Postback(Messaging):
    postback: Tap


class Revised(Payload):
    mid: str
    text: str
    num_edit: int


class Edit(Messaging):
    message_edit: Revised


# The key that is there says what kind it is; a tap may bring a referral along, so the order matters.
SHAPES = ("message", "message_edit", "reaction", "read", "postback", "referral")
AROUND = frozenset(Messaging.model_fields)
MESSAGING = frozenset("messages message_edit message_reactions messaging_seen messaging_postbacks messaging_referral".split())


def unpack(raw: Raw) -> Iterable[Item]:
    document = Node(raw.json())
    if raw.door == "mention":
        yield from document.others("id")
        return
    for entry in document.walk("entry[]"):
        to = entry.get("id")
        for change in entry.walk("changes[]"):
            if change.get("field") in MESSAGING:  # the same as `messaging`, as some app set-ups write it
                for value in change.walk("value"):
                    yield _messaging(value, to)
            else:
                yield change.item(change.get("field"), around={"time": entry.get("time")}, to=to)
        for messaging in entry.walk("messaging[]"):
            yield _messaging(messaging, to)
        for waiting in entry.walk("standby[]"):
            yield waiting.item("standby", to=to)
        yield from entry.others("id", "time", "changes", "messaging", "standby", to=to)


def _messaging(node: Node, to: JSON) -> Item:
    for name in SHAPES:
        if node.get(name) is not None:
            return node.item(name, to=to)
    others = (name for name in node.value if name not in AROUND) if isinstance(node.value, dict) else iter(())
    return node.item(next(others, None), to=to)
