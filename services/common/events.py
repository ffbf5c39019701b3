"""The wire contract: what happened, as frozen models. One union, tagged on `type`; a name ends in the version of its shape.

Within a version changes are additive. Producers fill every field they know; consumers ignore fields they do not know and
count types they do not know. Schemas under docs/events are generated from here, and a test fails when they drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from services.common.identifiers import Identifier, Proof, Sender, Strength, Visibility

PartKind = Literal[
    "text",
    "image",
    "audio",
    "video",
    "file",
    "location",
    "contact",
    "sticker",
    "buttons",
    "choice",
    "template",
    "link",
    "unsupported",
]
Action = Literal["message", "template", "edit", "delete", "reaction", "typing", "read"]
Origin = Literal["live", "backfill", "replay"]


@dataclass(frozen=True, slots=True)
class Part:
    """One typed piece of a message. Media carries the provider's reference; the media worker stores a copy later and
    `media.stored` says where. `unsupported` keeps the provider's own name for what it was in `name`."""

    kind: PartKind
    text: str | None = None
    ref: str | None = None
    media_type: str | None = None
    name: str | None = None
    size: int | None = None
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Author:
    """Who caused something on our side."""

    kind: Literal["agent", "bot", "rule", "system", "customer"]
    id: str = ""
    name: str | None = None


class Data(BaseModel):
    """Base of every event's data. `type` is also the CloudEvents type."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    type: str


# -- facts: what a channel, a worker or another system tells (hilo.events, hilo.customer.events) ------------------------


class Fact(Data):
    """`provider_id` names the message, call or post it is about, unique within the account over all kinds. `party` is the
    customer's side, also when we wrote; absent where the provider does not tell it. `at` is the provider's time, absent
    where there is none. `received_at` is when ingest first got it, in microseconds, and `place` its place in that input:
    together they order what the provider stamps alike. `sequence` is the provider's own order within a thread."""

    provider_id: str
    party: Identifier | None = None
    at: datetime | None = None
    received_at: datetime
    place: int = 0
    sequence: int | None = None
    leg: str = ""
    thread: str = ""
    visibility: Visibility | None = None


class Said(Fact):
    """Somebody wrote to us. `context` is opaque to all but the channel, which gets it back to answer."""

    sender: Sender
    parts: tuple[Part, ...]
    reply_to: str | None = None
    context: Mapping[str, str] = Field(default_factory=dict)


class MessageReceived(Said):
    """Somebody wrote to us, where one writes to somebody."""

    type: Literal["hilo.message.received.v1"] = "hilo.message.received.v1"


class PostCommented(Said):
    """Somebody wrote under a post of ours."""

    type: Literal["hilo.post.commented.v1"] = "hilo.post.commented.v1"


class PostMentioned(Said):
    """Somebody named us in a post or comment of theirs."""

    type: Literal["hilo.post.mentioned.v1"] = "hilo.post.mentioned.v1"


class ReviewPosted(Said):
    """Somebody wrote a review of us."""

    type: Literal["hilo.review.posted.v1"] = "hilo.review.posted.v1"


class ReviewUpdated(Said):
    """Somebody changed their review of us."""

    type: Literal["hilo.review.updated.v1"] = "hilo.review.updated.v1"


class MessageSent(Fact):
    """We wrote: by our own API (then `outbound_id` is ours) or in the provider's own app (an echo). `correlation` is the
    piece id that the provider gives back; its bare confirmation that a message left has no parts and is no echo."""

    type: Literal["hilo.message.sent.v1"] = "hilo.message.sent.v1"
    parts: tuple[Part, ...] = ()
    reply_to: str | None = None
    outbound_id: str | None = None
    piece: int = 1
    pieces: int = 1
    author: Author | None = None
    echo: bool = False
    correlation: str | None = None


class Delivery(Fact):
    """What became of a message of ours. `provider_id` is empty until the provider has named it; `correlation` is the
    piece id that the provider gives back."""

    outbound_id: str | None = None
    correlation: str | None = None
    piece: int = 1
    pieces: int = 1
    attempt: int = 0
    reason: str | None = None


class MessageDelivered(Delivery):
    """A message of ours arrived. `up_to`: and all before it in its thread."""

    type: Literal["hilo.message.delivered.v1"] = "hilo.message.delivered.v1"
    up_to: bool = False


class MessageRead(Delivery):
    """A message of ours was read. `up_to`: and all before it in its thread."""

    type: Literal["hilo.message.read.v1"] = "hilo.message.read.v1"
    up_to: bool = False


class MessageRetrying(Delivery):
    """It has not left, and will be tried again."""

    type: Literal["hilo.message.retrying.v1"] = "hilo.message.retrying.v1"
    next_try_at: datetime | None = None


class MessageUnknown(Delivery):
    """It may or may not have been sent; a reconciler or a receipt will tell."""

    type: Literal["hilo.message.unknown.v1"] = "hilo.message.unknown.v1"


class MessageRefused(Delivery):
    """Our own gate said no right before the call; nothing was sent."""

    type: Literal["hilo.message.refused.v1"] = "hilo.message.refused.v1"


class MessageFailed(Delivery):
    """It will never arrive like this. `then` says what may work instead."""

    type: Literal["hilo.message.failed.v1"] = "hilo.message.failed.v1"
    then: Literal["nothing", "template", "other_leg", "fix_account", "stop_contact"] = "nothing"


class MessageEdited(Fact):
    """A message has other parts now; `revision` tells two edits of one message apart."""

    type: Literal["hilo.message.edited.v1"] = "hilo.message.edited.v1"
    revision: str
    parts: tuple[Part, ...]
    sender: Sender | None = None


class MessageDeleted(Fact):
    """A message was taken back. It beats every text of it, whichever comes first."""

    type: Literal["hilo.message.deleted.v1"] = "hilo.message.deleted.v1"
    sender: Sender | None = None


class Reaction(Fact):
    """Somebody reacted to a message; `revision` tells two reactions to one message apart."""

    sender: Sender
    emoji: str = ""
    revision: str = ""


class ReactionAdded(Reaction):
    """Somebody reacted to a message."""

    type: Literal["hilo.reaction.added.v1"] = "hilo.reaction.added.v1"


class ReactionRemoved(Reaction):
    """Somebody took a reaction back."""

    type: Literal["hilo.reaction.removed.v1"] = "hilo.reaction.removed.v1"


class MediaStored(Fact):
    """Our copy of a part: `sha256` is its content hash under the tenant's prefix."""

    type: Literal["hilo.media.stored.v1"] = "hilo.media.stored.v1"
    part: int
    sha256: str
    media_type: str
    size: int
    name: str | None = None


class MediaFailed(Fact):
    """A part of a message cannot be had; the timeline shows it without its file."""

    type: Literal["hilo.media.failed.v1"] = "hilo.media.failed.v1"
    part: int
    reason: str


class ReferralFollowed(Fact):
    """A deep link of ours was followed: by a known sender, or, without a party, by somebody who tapped it."""

    type: Literal["hilo.referral.followed.v1"] = "hilo.referral.followed.v1"
    sender: Sender | None = None
    ref: str


class Call(Fact):
    """A call with a customer."""

    sender: Sender
    direction: Literal["inbound", "outbound"] = "inbound"
    duration_s: float | None = None
    recording: str | None = None
    outcome: str = ""


class CallStarted(Call):
    """A call began."""

    type: Literal["hilo.call.started.v1"] = "hilo.call.started.v1"


class CallEnded(Call):
    """A call ended."""

    type: Literal["hilo.call.ended.v1"] = "hilo.call.ended.v1"


class CallRecorded(Call):
    """There is a recording of a call."""

    type: Literal["hilo.call.recorded.v1"] = "hilo.call.recorded.v1"


class ParticipantTyping(Fact):
    """On hilo.live only; never kept."""

    type: Literal["hilo.participant.typing.v1"] = "hilo.participant.typing.v1"
    sender: Sender | None = None


class IdentityAsserted(Fact):
    """Evidence without a message: a login, an account link, a verified form, a handoff that was proven."""

    type: Literal["hilo.identity.asserted.v1"] = "hilo.identity.asserted.v1"
    sender: Sender
    conversation_id: str | None = None


class ConsentGiven(Fact):
    """We may write to this sender: followed us, unblocked us, agreed."""

    type: Literal["hilo.consent.given.v1"] = "hilo.consent.given.v1"
    sender: Sender


class ConsentWithdrawn(Fact):
    """We may not write to this sender any more: blocked us, said STOP."""

    type: Literal["hilo.consent.withdrawn.v1"] = "hilo.consent.withdrawn.v1"
    sender: Sender


class AccountHealth(Fact):
    """Something about our own account: a token that expired, a quota that runs low, all well again."""

    type: Literal["hilo.account.health.v1"] = "hilo.account.health.v1"
    state: Literal["ok", "warning", "broken"]
    reason: str = ""


JourneyType = Literal[
    "hilo.page.viewed.v1",
    "hilo.faq.viewed.v1",
    "hilo.cart.changed.v1",
    "hilo.cart.abandoned.v1",
    "hilo.order.placed.v1",
    "hilo.order.shipped.v1",
    "hilo.order.delivered.v1",
    "hilo.order.returned.v1",
    "hilo.visit.recorded.v1",
    "hilo.bot.conversed.v1",
]


class JourneyStep(Fact):
    """A step of the journey that is no message: the history of a customer starts before the first word."""

    type: JourneyType
    sender: Sender
    title: str = ""
    url: str | None = None
    data: Mapping[str, str] = Field(default_factory=dict)


# -- identity ---------------------------------------------------------------------------------------------------------


class IdentityMapped(Data):
    """hilo.identity.map: this identifier belongs to this customer. Apply only if `version` is larger than yours."""

    type: Literal["hilo.identity.mapped.v1"] = "hilo.identity.mapped.v1"
    identifier: str
    customer_id: str | None = None
    version: int
    previous: str | None = None
    erased: bool = False


class EvidenceCited(BaseModel):
    """One piece of evidence, named by its ends, rule and source event."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    a: str
    b: str
    rule: str
    strength: Strength
    event_ids: tuple[str, ...] = ()


class CustomerChanged(Data):
    """hilo.identity.changes. `identifiers` are the keys that moved; `cause` is the evidence that did it."""

    type: Literal[
        "hilo.customer.created.v1",
        "hilo.customer.merged.v1",
        "hilo.customer.split.v1",
        "hilo.customer.renamed.v1",
        "hilo.customer.shared.v1",
        "hilo.customer.erased.v1",
    ]
    customer_id: str
    others: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()
    version: int
    at: datetime
    cause: tuple[EvidenceCited, ...] = ()
    by: Author | None = None


# -- conversations ----------------------------------------------------------------------------------------------------

HandoffState = Literal[
    "detected",
    "triaged",
    "drafted",
    "approved",
    "public_replied",
    "offered",
    "claimed",
    "proven",
    "private_active",
    "resolved",
    "public_closed",
    "declined",
    "expired",
    "rejected_by_platform",
    "author_deleted",
    "reverted_public",
]


class LegHead(BaseModel):
    """A leg as everybody may see it. `window_until` is when the provider stops letting us write freely; `epoch` rises when
    the leg moves or its proof changes, so a send decided before that is refused."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    key: str
    channel: str
    account: str
    leg: str
    thread: str
    visibility: Visibility
    party: str
    name: str | None = None
    via: Literal["id", "token"] = "id"
    proof: Proof = "channel"
    epoch: int = 0
    held: bool = True
    last_received_at: datetime | None = None
    last_sent_at: datetime | None = None
    waiting_since: datetime | None = None
    window_until: datetime | None = None
    last_message: str | None = None


class OfferHead(BaseModel):
    """An invitation to a private leg. The token itself is never here."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    id: str
    state: Literal["open", "claimed", "used", "expired"]
    given_on: str
    expires_at: datetime
    used_by: str | None = None


class HandoffHead(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    state: HandoffState
    since: datetime
    public_leg: str
    private_leg: str | None = None
    deadline_at: datetime | None = None
    reason: str = ""
    offers: tuple[OfferHead, ...] = ()


class AssignmentHead(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    agent: str
    reservation: str
    state: Literal["offered", "active"]
    expires_at: datetime | None = None
    why: str = ""


class SlaHead(BaseModel):
    """Deadlines of the case. They do not restart when a leg moves, a handoff happens or two conversations join."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    waiting_since: datetime | None = None
    answer_by: datetime | None = None
    resolve_by: datetime | None = None
    breached: bool = False


class Head(BaseModel):
    """The whole state of a conversation as others may know it, in every state event: the newest alone suffices."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    state: Literal["open", "closed", "joined"]
    version: int
    seq: int
    customer_id: str | None
    group: str = "default"
    queue: str
    priority: int = 5
    language: str | None = None
    opened_at: datetime
    assignee: AssignmentHead | None = None
    participants: tuple[str, ...] = ()
    legs: tuple[LegHead, ...] = ()
    handoff: HandoffHead | None = None
    sla: SlaHead = SlaHead()
    into: str | None = None
    absorbed: tuple[str, ...] = ()


class ConversationEvent(Data):
    """A state event: `seq` is gapless per conversation, `anchor` the identifier key of the home leg."""

    conversation_id: str
    seq: int
    anchor: str
    at: datetime
    by: Author | None = None
    why: str = ""
    head: Head


class ConversationChanged(ConversationEvent):
    """Opened, closed, reopened, and what joins, splits and timers do. `other` is the conversation or leg concerned. `waiting`:
    a customer's wait for an answer begins; `answered`: it ended in the provider's own app. Both are there for the head."""

    type: Literal[
        "hilo.conversation.opened.v1",
        "hilo.conversation.reopened.v1",
        "hilo.conversation.closed.v1",
        "hilo.conversation.joined.v1",
        "hilo.conversation.absorbed.v1",
        "hilo.conversation.renamed.v1",
        "hilo.conversation.waiting.v1",
        "hilo.conversation.answered.v1",
        "hilo.conversation.queued.v1",
        "hilo.conversation.prioritized.v1",
        "hilo.conversation.breached.v1",
        "hilo.leg.attached.v1",
        "hilo.leg.moved.v1",
        "hilo.leg.proven.v1",
    ]
    other: str | None = None


class ConversationAssigned(ConversationEvent):
    type: Literal[
        "hilo.conversation.offered.v1",
        "hilo.conversation.assigned.v1",
        "hilo.conversation.transferred.v1",
        "hilo.conversation.released.v1",
    ]
    agent: str
    reservation: str


class HandoffChanged(ConversationEvent):
    """A step of the handoff; its state is in the head too, `state` is the one that was reached."""

    type: Literal["hilo.handoff.changed.v1"] = "hilo.handoff.changed.v1"
    state: HandoffState
    offer: str | None = None


class NoteAdded(ConversationEvent):
    """A team note: an entry that never reaches hilo.outbound."""

    type: Literal["hilo.note.added.v1"] = "hilo.note.added.v1"
    note_id: str
    text: str


class MessageQueued(ConversationEvent):
    """An answer was accepted: what the outbound worker will be asked to send, and what the timeline shows until then."""

    type: Literal["hilo.message.queued.v1"] = "hilo.message.queued.v1"
    outbound_id: str
    leg: str
    parts: tuple[Part, ...]
    visibility: Visibility
    channel: str
    account: str
    party: Identifier | None = None
    thread: str = ""
    reply_to: str | None = None
    not_before: datetime | None = None


class SendStopped(ConversationEvent):
    """A queued public message was stopped in time; the gate refuses it from now on."""

    type: Literal["hilo.message.stopped.v1"] = "hilo.message.stopped.v1"
    outbound_id: str


class MessageAppended(Data):
    """A message belongs to a conversation. It has no number of its own; `after` is the seq it was decided on."""

    type: Literal["hilo.message.appended.v1"] = "hilo.message.appended.v1"
    conversation_id: str
    anchor: str
    after: int
    entry_id: str
    input_id: str
    leg: str


class SendRequested(Data):
    """hilo.outbound: one message to send. `leg` is the leg's name on its channel, `leg_key` its key. The worker asks the
    router's gate right before every provider call and holds on any answer but allow."""

    type: Literal["hilo.send.requested.v1"] = "hilo.send.requested.v1"
    outbound_id: str
    conversation_id: str
    leg_key: str
    leg: str
    thread: str
    party: Identifier | None = None
    visibility: Visibility
    need: Proof
    epoch: int
    action: Action = "message"
    parts: tuple[Part, ...] = ()
    reply_to: str | None = None
    target: str | None = None
    context: Mapping[str, str] = Field(default_factory=dict)
    context_at: datetime | None = None
    opens: str | None = None
    not_before: datetime | None = None
    author: Author


# -- channels and accounts (hilo.channels, compacted) --------------------------------------------------------------------


class LegDeclared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    visibility: Visibility
    sends: tuple[dict[str, Any], ...] = ()
    window_s: float | None = None
    outside: Action | None = None
    replies_only: bool = False
    actions: tuple[Action, ...] = ()


class HandoffDeclared(BaseModel):
    """The platform's own private reply: a private leg opened from a public item, for the same subject."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    public: str
    private: str
    within_s: float | None = None
    once: bool = True


class ChannelDeclared(Data):
    """What a channel can do, as data."""

    type: Literal["hilo.channel.declared.v1"] = "hilo.channel.declared.v1"
    name: str
    title: str
    docs: str = ""
    legs: dict[str, LegDeclared]
    handoffs: tuple[HandoffDeclared, ...] = ()
    form: dict[str, Any] = Field(default_factory=dict)
    actions: tuple[str, ...] = ()
    invite: str | None = None


class AccountDescribed(Data):
    """An account without its secrets. `invite` is where a handoff link leads on this account, with `{code}` in it: a
    wa.me link, a chat page. `contact` is the account's own public data, which a public answer may name. Accounts of one `group`
    share a customer's conversation."""

    type: Literal["hilo.account.described.v1"] = "hilo.account.described.v1"
    tenant: str
    channel: str
    account: str
    title: str = ""
    queue: str = "default"
    group: str = "default"
    language: str | None = None
    state: Literal["active", "paused", "removed"] = "active"
    invite: str | None = None
    contact: tuple[str, ...] = ()
    hours: dict[str, Any] = Field(default_factory=dict)


# -- dead letters (hilo.dead) ----------------------------------------------------------------------------------------------


class DeadLettered(Data):
    """Something was set aside, with where it came from and why. The original bytes are in `body`, base64."""

    type: Literal["hilo.record.dead.v1"] = "hilo.record.dead.v1"
    dead_id: str
    topic: str
    partition: int
    offset: int
    path: str = ""
    kind: str = ""
    reason: str
    stage: str
    bug: bool = False
    at: datetime
    key: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    body: str = ""


class DeadDecided(Data):
    """What was decided about a dead letter, by whom and why."""

    type: Literal["hilo.record.decided.v1"] = "hilo.record.decided.v1"
    dead_id: str
    decision: Literal["replayed", "discarded"]
    by: Author
    why: str = ""
    at: datetime


FACTS: tuple[type[Fact], ...] = (
    MessageReceived,
    PostCommented,
    PostMentioned,
    ReviewPosted,
    ReviewUpdated,
    MessageSent,
    MessageDelivered,
    MessageRead,
    MessageRetrying,
    MessageUnknown,
    MessageRefused,
    MessageFailed,
    MessageEdited,
    MessageDeleted,
    ReactionAdded,
    ReactionRemoved,
    MediaStored,
    MediaFailed,
    ReferralFollowed,
    CallStarted,
    CallEnded,
    CallRecorded,
    ParticipantTyping,
    IdentityAsserted,
    ConsentGiven,
    ConsentWithdrawn,
    AccountHealth,
    JourneyStep,
)
MODELS: tuple[type[Data], ...] = (
    *FACTS,
    IdentityMapped,
    CustomerChanged,
    ConversationChanged,
    ConversationAssigned,
    HandoffChanged,
    NoteAdded,
    MessageQueued,
    SendStopped,
    MessageAppended,
    SendRequested,
    ChannelDeclared,
    AccountDescribed,
    DeadLettered,
    DeadDecided,
)
BY_TYPE: Mapping[str, type[Data]] = {
    name: model for model in MODELS for name in get_args(model.model_fields["type"].annotation)
}

AnyFact = Annotated[
    MessageReceived
    | PostCommented
    | PostMentioned
    | ReviewPosted
    | ReviewUpdated
    | MessageSent
    | MessageDelivered
    | MessageRead
    | MessageRetrying
    | MessageUnknown
    | MessageRefused
    | MessageFailed
    | MessageEdited
    | MessageDeleted
    | ReactionAdded
    | ReactionRemoved
    | MediaStored
    | MediaFailed
    | ReferralFollowed
    | CallStarted
    | CallEnded
    | CallRecorded
    | ParticipantTyping
    | IdentityAsserted
    | ConsentGiven
    | ConsentWithdrawn
    | AccountHealth
    | JourneyStep,
    Field(discriminator="type"),
]


def short(name: str) -> str:
    """`hilo.message.received.v1` as people say it: `message.received`."""
    return name.removeprefix("hilo.").rpartition(".v")[0]
