"""What is read of WhatsApp's webhooks, and how a batch falls into items.

https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from services.ingest.contract import Account, Item, Moment, Node, Payload, Raw, Secret


class WhatsApp(Account):
    phone_number_id: str = Field(description="WhatsApp > API setup > Phone number ID")
    number: str = Field(description="The phone number itself, as +49 30 123456; public answers and links name it")
    portfolio: str = Field(description="Business settings > Business portfolio ID: the scope of user ids")
    access_token: Secret = Field(description="Business settings > System users > Token with whatsapp_business_messaging")
    app_secret: Secret = Field(description="App settings > Basic > App secret")
    verify_token: Secret = Field(description="Any text; typed again in the webhook form of the app")


class Profile(Payload):
    name: str | None = None
    username: str | None = None


class Contact(Payload):
    """At least one of the two ids; the phone is absent for people with a username."""

    wa_id: str | None = None
    user_id: str | None = None
    profile: Profile = Profile()

    def is_of(self, user_id: str | None, phone: str | None) -> bool:
        """By an id that is present: an absent one equals nobody's."""
        return bool((user_id and self.user_id == user_id) or (phone and self.wa_id == phone))


class Around(Payload):
    contacts: tuple[Contact, ...] = ()


class Quote(Payload):
    id: str | None = None


class Text(Payload):
    body: str


class File(Payload):
    id: str
    mime_type: str | None = None
    filename: str | None = None
    caption: str | None = None


class Place(Payload):
    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None


class Choice(Payload):
    id: str
    title: str
    description: str | None = None


class Flow(Payload):
    name: str = "flow"
    body: str = ""
    response_json: str = "{}"


class Interactive(Payload):
    type: str = ""
    button_reply: Choice | None = None
    list_reply: Choice | None = None
    nfm_reply: Flow | None = None


class Button(Payload):
    text: str
    payload: str = ""


class Name(Payload):
    formatted_name: str = ""


class Phone(Payload):
    phone: str | None = None


class Mailbox(Payload):
    email: str | None = None


class Card(Payload):
    name: Name = Name()
    phones: tuple[Phone, ...] = ()
    emails: tuple[Mailbox, ...] = ()


class Product(Payload):
    product_retailer_id: str
    quantity: float = 1
    item_price: float | None = None
    currency: str = ""


class Order(Payload):
    catalog_id: str = ""
    text: str | None = None
    product_items: tuple[Product, ...] = ()


class Advert(Payload):
    """Where somebody came from who began at an advertisement."""

    source_id: str | None = None
    ctwa_clid: str | None = None


class Problem(Payload):
    code: int
    title: str = ""


class Content(Payload):
    type: str
    text: Text | None = None
    image: File | None = None
    audio: File | None = None
    video: File | None = None
    document: File | None = None
    sticker: File | None = None
    location: Place | None = None
    contacts: tuple[Card, ...] = ()
    interactive: Interactive | None = None
    button: Button | None = None
    order: Order | None = None


class Envelope(Payload):
    """Who wrote: a phone number, an id within our portfolio, or both; in a group, which."""

    id: str
    timestamp: Moment
    phone: str | None = Field(None, alias="from")
    from_user_id: str | None = None
    group_id: str | None = None
    context: Quote = Quote()
    around: Around


class Message(Envelope, Content):
    referral: Advert | None = None


class Emoji(Payload):
    message_id: str
    emoji: str = ""


class Reaction(Envelope):
    reaction: Emoji


class Revision(Payload):
    original_message_id: str
    message: Content | None = None


class Edit(Envelope):
    edit: Revision


class Revoke(Envelope):
    revoke: Revision


class Changed(Payload):
    """A user's phone number or id is another one from now on."""

    type: str
    wa_id: str | None = None
    user_id: str | None = None
    previous_user_id: str | None = None


class System(Envelope):
    system: Changed


class Echo(Content):
    """What a colleague wrote in the WhatsApp Business app."""

    id: str
    timestamp: Moment
    to: str | None = None
    to_user_id: str | None = None
    context: Quote = Quote()
    around: Around


class Status(Payload):
    id: str
    status: Literal["sent", "delivered", "read", "played", "failed"]
    timestamp: Moment
    recipient_id: str | None = None
    recipient_user_id: str | None = None
    recipient_type: str = "individual"
    biz_opaque_callback_data: str | None = None
    errors: tuple[Problem, ...] = ()


class Batch(Payload):
    id: str
    time: int | None = None


class Notice(Payload):
    """What Meta tells of the account itself."""

    event: str
    around: Batch


# What a message can be. Of a type that is none of these only the name is known, and it is shown with that.
MESSAGES = frozenset("text image audio video document sticker location contacts interactive button order unsupported".split())
KNOWN = MESSAGES | {"reaction", "edit", "revoke", "system", "request_welcome"}
IN_VALUE = ("messaging_product", "metadata", "contacts", "messages", "statuses", "message_echoes")


def unpack(raw: Raw) -> Iterable[Item]:
    for entry in Node(raw.json()).walk("entry[]"):
        batch = {"id": entry.get("id"), "time": entry.get("time")}
        for change in entry.walk("changes[]"):
            field = change.get("field")
            if change.get("value.metadata") is None and field != "messages":
                yield from _notice(change, field, batch)
            else:
                for value in change.walk("value"):
                    yield from _talk(value, str(field))
        yield from entry.others("id", "time", "changes", prefix="entry.")


def _notice(change: Node, field: object, batch: dict[str, object]) -> Iterable[Item]:
    for value in change.walk("value"):
        yield value.item(field if isinstance(field, str) else None, around=batch)


def _talk(value: Node, field: str) -> Iterable[Item]:
    """What is said on one of our numbers, which `metadata` names."""
    to, around = value.get("metadata.phone_number_id"), {"contacts": value.get("contacts") or []}
    for message in value.walk("messages[]"):
        name = message.get("type")
        known = name in KNOWN if isinstance(name, str) else True
        yield message.item(name if known else "unsupported", around=around, to=to)
    yield from value.each("statuses[]", kind="status", prefix="status.", to=to)
    for echo in value.walk("message_echoes[]"):
        yield echo.item("echo", around=around, to=to)
    yield from value.others(*IN_VALUE, prefix=f"{field}.", to=to)
