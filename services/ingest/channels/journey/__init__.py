"""The journey: what somebody did on the site, in the shop and in the stores, before and between their messages.

Posted to our own API. The header `hilo-proof` comes from the door and not from the caller: `signed` for the site's server
(an ingest key or a signature), `browser` for a publishable key that everybody can read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from services.ingest.contract import (
    JSON,
    Account,
    Channel,
    Evidence,
    Facts,
    Identifier,
    Item,
    Moment,
    Node,
    Payload,
    Posted,
    Raw,
    Secret,
    Sender,
    Stepped,
)
from services.ingest.contract.facts import StepType


class Journey(Account):
    site: str = Field(description="Name of your site, e.g. shop.example: its visitors and users are known within it")
    signing_secret: Secret | None = Field(
        None, description="For a server that signs after Standard Webhooks instead of using an API key, as whsec_..."
    )


def plain(value: JSON) -> JSON:
    """Values of `data` as text: numbers and words as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


Plain = Annotated[str, BeforeValidator(plain), Field(max_length=2000)]


class Named(Payload):
    scheme: str = Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")
    value: str = Field(min_length=1, max_length=512)
    scope: str | None = Field(None, max_length=200)


class Proven(Payload):
    proof: Literal["signed", "browser"]


class Step(Payload):
    id: str = Field(min_length=1, max_length=200)
    type: StepType
    at: Moment | None = None
    identities: tuple[Named, ...] = Field(min_length=1, max_length=10)
    title: str = Field("", max_length=500)
    url: str | None = Field(None, max_length=2000, pattern=r"^https?://")
    data: dict[Annotated[str, Field(pattern=r"^[\w .-]{1,100}$")], Plain] = Field(default={}, max_length=50)
    around: Proven


def unpack(raw: Raw) -> Iterable[Item]:
    """One step, a list of them, or an object with a list of `items`. Without the door's word nobody is believed."""
    document = Node(raw.json())
    around = {"proof": raw.headers.get("hilo-proof", "browser")}
    if isinstance(document.value, list):
        yield from document.each("[]", kind="type", around=around)
    elif document.get("items") is None:
        yield document.item(document.get("type"), around=around)
    else:
        yield from document.each("items[]", kind="type", around=around)
        yield from document.others("items")


WORLDWIDE = ("tel", "email", "telegram")


def identifier(account: Journey, named: Named) -> Identifier:
    """Numbers and addresses are the same everywhere; ids of users and visitors are the site's."""
    if named.scheme in WORLDWIDE:
        return Identifier(named.scheme, named.value)
    return Identifier(named.scheme, named.value, named.scope or account.site)


def stepped(account: Journey, s: Step) -> Facts:
    """A shop's server knows whom it sells to; a browser only says so. What a browser says has ids of its own, else it could
    be first with the id of an order that is still to come. The type belongs to the id: an order is placed and shipped."""
    signed = s.around.proof == "signed"
    first, *more = (identifier(account, named) for named in s.identities)
    told = signed and s.type.startswith("order.")
    also = tuple(Evidence(one, "asserted" if told else "claimed", "signed-order" if told else "journey") for one in more)
    yield Stepped(
        id=f"{s.around.proof}:{s.type}:{s.id}",
        at=s.at,
        type=s.type,
        sender=Sender(first, also=also, proof="channel" if signed else "claimed"),
        title=s.title,
        url=s.url,
        data=s.data,
    )


KINDS: tuple[StepType, ...] = (
    "page.viewed",
    "faq.viewed",
    "cart.changed",
    "cart.abandoned",
    "order.placed",
    "order.shipped",
    "order.delivered",
    "order.returned",
    "visit.recorded",
    "bot.conversed",
)

CHANNEL = Channel(
    name="journey",
    title="Journey",
    docs="docs/channels.md#journey",
    account=Journey,
    legs={},
    doors=(Posted(),),
    unpack=unpack,
    kinds=dict.fromkeys(KINDS, stepped),
    shown=("type", "at", "scheme"),
)
