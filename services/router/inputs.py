"""From events to what the router decides on. Only somebody's words open a conversation; a message from the provider's own
app answers one; everything else leaves conversations alone or is told by its outbound id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from services.common.cloudevents import Event
from services.common.events import Data, Fact, MessageAppended, MessageSent, Part, ReferralFollowed, Said
from services.common.identifiers import Identifier, Sender, derived_event_id, entry_id, leg_key
from services.router.conversations import Input
from services.router.directory import Directory
from services.router.people import Parties
from services.router.state import Conversation, LegRecord, milliseconds, stamp

UNKNOWN = LegRecord(key="", party="", channel="", account="")


def party_of(data: Fact) -> Identifier | None:
    """The customer's side of what happened, as the provider tells it."""
    if data.party is not None:
        return data.party
    sender = data.sender if isinstance(data, Said | ReferralFollowed) else None
    return sender.id if sender else None


def leg_of(event: Event[Data], data: Fact, directory: Directory) -> str | None:
    """The key of the leg that a fact belongs to; None where it names nobody."""
    who = party_of(data)
    if who is None or not who.key:
        return None
    visibility = data.visibility or directory.visibility(event.channel, data.leg)
    return leg_key(event.tenant, event.channel, event.account, who.key, visibility, data.thread)


def as_input(event: Event[Data], directory: Directory, parties: Parties) -> Input | None:
    """Somebody's words, or an answer from the provider's own app; None for anything else, and for what names nobody."""
    match event.data:
        case Said() as data:
            return _input(event, data, "said", text_of(data.parts), data.sender, data.context, directory, parties)
        case MessageSent(outbound_id=None) as data:
            return _input(event, data, "echo", "", None, {}, directory, parties)
    return None


def as_referral(event: Event[Data], data: ReferralFollowed, directory: Directory, parties: Parties) -> Input | None:
    """A link of ours was followed into a chat: for an invitation, as if the reference had been written there."""
    return _input(event, data, "said", data.ref, data.sender, {}, directory, parties)


def _input(
    event: Event[Data],
    data: Fact,
    kind: Literal["said", "echo"],
    text: str,
    sender: Sender | None,
    context: Mapping[str, str],
    directory: Directory,
    parties: Parties,
) -> Input | None:
    who = party_of(data)
    if who is None or not who.key:
        return None
    visibility = data.visibility or directory.visibility(event.channel, data.leg)
    at = milliseconds(data.at or data.received_at)
    leg = UNKNOWN.but(
        key=leg_key(event.tenant, event.channel, event.account, who.key, visibility, data.thread),
        party=who.key,
        channel=event.channel,
        account=event.account,
        who=parties.seal(event.tenant, who),
        leg=data.leg,
        thread=data.thread,
        visibility=visibility,
        name=sender.name if sender else None,
        proof=sender.proof if sender else "claimed",
        context=dict(context),
        context_at=at if context else None,
    )
    return Input(
        id=event.id,
        kind=kind,
        leg=leg,
        customer=event.customer_id,
        version=-1 if event.identity_version is None else event.identity_version,
        time=stamp(at),
        at=at,
        received=milliseconds(data.received_at),
        provider_id=data.provider_id,
        entry_id=entry_id(event.tenant, event.channel, event.account, data.provider_id),
        window=directory.window(event.channel, data.leg, at),
        text=text,
    )


def text_of(parts: tuple[Part, ...]) -> str:
    return "\n".join(part.text for part in parts if part.text)


def appended(event: Event[Data], entry: str, conversation: Conversation, leg: str) -> Event[Data]:
    """This message belongs to that conversation. Its id comes from the entry's, so a second delivery says
    it again, and so does the echo or receipt of what we sent ourselves."""
    data = MessageAppended(
        conversation_id=conversation.id,
        anchor=conversation.anchor,
        after=conversation.seq,
        entry_id=entry,
        input_id=event.id,
        leg=leg,
    )
    return Event(
        id=derived_event_id(entry, "message.appended"),
        tenant=event.tenant,
        key=conversation.id,
        time=event.time,
        data=data,
        channel=event.channel,
        account=event.account,
        origin=event.origin,
        traceparent=event.traceparent,
    )
