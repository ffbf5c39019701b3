"""What a channel says happened. The core adds tenant, channel, account, visibility, keys and the deterministic id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from services.common.events import Part
from services.common.identifiers import Identifier, Sender
from services.ingest.contract.sending import Request

ReceivedType = Literal["message.received", "post.commented", "post.mentioned", "review.posted", "review.updated"]
StepType = Literal[
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
]


def tel(number: str) -> Identifier:
    """A phone number; the core writes it as E.164, and what is none becomes a quarantined item."""
    return Identifier("tel", number)


def text(value: str) -> Part:
    return Part("text", text=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Base of everything a handler may yield.

    `id` is the provider's id of the message, call or post it is about, unique within the account over all fact types:
    prefix the chat where the provider repeats ids. `at` is None where the provider tells no time. `party` is the
    customer's side, also when we wrote; the sender, unless said otherwise. `thread` is where an answer goes: the party,
    unless said otherwise; on a public leg it must be said. `leg` is needed only where the channel has several.
    `sequence` is the provider's own order within a thread."""

    id: str
    at: datetime | None
    party: Identifier | None = None
    thread: str = ""
    leg: str = ""
    sequence: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Received(Fact):
    """Somebody wrote to us. `context` is what only this channel understands and needs to answer; see Outgoing.context.
    `revision` tells two updates of one review apart; what is said once has none."""

    sender: Sender
    parts: tuple[Part, ...]
    reply_to: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    type: ReceivedType = "message.received"
    revision: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Echoed(Fact):
    """We wrote: through the API (`correlation` is the id we gave the send) or in the provider's own app. `party` is the
    customer we wrote to; it may be absent on public legs only, where the provider does not tell whom we answered."""

    parts: tuple[Part, ...]
    reply_to: str | None = None
    correlation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt(Fact):
    """One of our messages came further. Receipts may come before the message and in any order. `up_to` is a watermark:
    every message of the thread until this one, or until `at`."""

    state: Literal["sent", "delivered", "read", "failed"]
    correlation: str | None = None
    reason: str | None = None
    then: Literal["nothing", "template", "other_leg", "fix_account", "stop_contact"] = "nothing"
    up_to: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited(Fact):
    revision: str
    parts: tuple[Part, ...]
    sender: Sender | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted(Fact):
    sender: Sender | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reacted(Fact):
    """`id` is the message reacted to; an empty emoji takes the reaction back. `revision` contains the provider's id of
    this change, since the same person may add, take back and add again."""

    sender: Sender
    emoji: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Referred(Fact):
    """A deep link of ours was followed by this sender."""

    sender: Sender
    ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Called(Fact):
    state: Literal["started", "ended", "recorded"]
    sender: Sender
    direction: Literal["inbound", "outbound"] = "inbound"
    duration: timedelta | None = None
    recording: str | None = None
    outcome: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consented(Fact):
    """The person began to follow us, or blocked us, or said STOP: whether we may write at all."""

    sender: Sender
    state: Literal["given", "withdrawn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked(Fact):
    """The platform proves that a sender is also somebody else: a login, an account link, a changed number."""

    sender: Sender


@dataclass(frozen=True, slots=True, kw_only=True)
class Typing(Fact):
    """The sender is typing: shown live, never kept."""

    sender: Sender


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped(Fact):
    """A step of the journey that is no message."""

    type: StepType
    sender: Sender
    title: str = ""
    url: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Healed(Fact):
    """The provider told us something about our account."""

    state: Literal["ok", "warning", "broken"]
    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """Seen, understood, and of no use. A value, so that it is counted and hides no neighbour."""

    reason: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """The notification names a thing without its content: ask for it, and put the answer through the `Fetched` door."""

    id: str
    request: Request
    door: str


Facts = Iterable[Fact | Ignored | Fetch]
