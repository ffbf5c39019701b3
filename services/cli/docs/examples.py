"""One example of every event, from one case: Marta complains under a post and is helped by WhatsApp and email."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from services.common import events as e
from services.common.cloudevents import Event
from services.common.identifiers import (
    Evidence,
    Identifier,
    Sender,
    conversation_id,
    customer_id,
    entry_id,
    event_id,
    keyed,
    leg_key,
    outbound_id,
    piece_id,
)

TENANT = "casa-lumbre"
TENANT_KEY = b"only the examples of these pages"
AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
RECEIVED = AT + timedelta(milliseconds=180)


def _id(scheme: str, value: str, scope: str = "") -> Identifier:
    return keyed(TENANT_KEY, Identifier(scheme, value, scope))


PHONE, MAIL = _id("tel", "+34612407782"), _id("email", "marta.ruiz@correo.example")
VISITOR = _id("webchat", "9d0c5a7e41f24b0f8a5be0c1d7f3a692", "casalumbre.example")
INSTAGRAM = _id("instagram", "5712830094", "17841400008460056")
WHATSAPP = _id("whatsapp", "ES.1502576394655843", "bp-casalumbre")
MARTA = Sender(WHATSAPP, "Marta Ruiz", (Evidence(PHONE, "verified", "whatsapp-phone"),))
MARTA_IN_PUBLIC = Sender(INSTAGRAM, "martaruiz.cocina")
CUSTOMER = customer_id(TENANT, INSTAGRAM.key)
COMMENT_LEG = leg_key(TENANT, "instagram", "casalumbre", INSTAGRAM.key, "public", "17900000000000001")
CHAT_LEG = leg_key(TENANT, "whatsapp", "lumbre", WHATSAPP.key, "private")
CASE = conversation_id(COMMENT_LEG, 1)
ANSWER = outbound_id(CASE, "example")
INES = e.Author(kind="agent", id="ines", name="Inés Vidal")
WORDS = (e.Part("text", text="Hola, Marta: tu hervidor nuevo va de camino."),)

PUBLIC = {
    "party": INSTAGRAM, "at": AT, "received_at": RECEIVED, "leg": "comment", "thread": "17900000000000001", "visibility": "public",
}  # fmt: skip
PRIVATE = {
    "party": WHATSAPP,
    "at": AT,
    "received_at": RECEIVED,
    "leg": "chat",
    "thread": WHATSAPP.value,
    "visibility": "private",
}
THEIRS = {**PRIVATE, "provider_id": "wamid.HBgLMzQ2MTI0MDc3ODI"}
OURS = {**PRIVATE, "provider_id": "wamid.HBgLMzQ5MTA1MDYwNzA"}
SENT = {**OURS, "outbound_id": ANSWER, "correlation": piece_id(ANSWER, 1)}
UNNAMED = {**SENT, "provider_id": "", "attempt": 1}
CALL = {**PRIVATE, "provider_id": "wacall.1", "sender": MARTA}

HEAD = e.Head(
    state="open",
    version=4,
    seq=3,
    customer_id=CUSTOMER,
    queue="redes",
    language="es",
    opened_at=RECEIVED,
    legs=(
        e.LegHead(
            key=COMMENT_LEG, channel="instagram", account="casalumbre", leg="comment", thread="17900000000000001",
            visibility="public", party=INSTAGRAM.key, name="martaruiz.cocina", last_received_at=RECEIVED, waiting_since=RECEIVED,
        ),
    ),
    sla=e.SlaHead(waiting_since=RECEIVED, answer_by=RECEIVED + timedelta(hours=1)),
)  # fmt: skip
STATE = {"conversation_id": CASE, "seq": 3, "anchor": INSTAGRAM.key, "at": RECEIVED, "head": HEAD}


def _facts() -> Sequence[e.Fact]:
    said = {"sender": MARTA_IN_PUBLIC, "parts": (e.Part("text", text="Segundo hervidor Alba que se me rompe en un mes"),)}
    review = {**PUBLIC, "provider_id": "review.81", "leg": "review", **said}
    stepped = Sender(VISITOR, None, (Evidence(MAIL, "asserted", "journey"),))
    journey = {"received_at": RECEIVED, "at": AT, "party": VISITOR, "provider_id": "order-48213", "sender": stepped}
    return (
        e.MessageReceived(**THEIRS, sender=MARTA, parts=(e.Part("text", text="Hola, vengo de Instagram"),)),
        e.PostCommented(**PUBLIC, provider_id="17900000000000001", **said),
        e.PostMentioned(**{**PUBLIC, "leg": "mention"}, provider_id="17900000000000002", **said),
        e.ReviewPosted(**review),
        e.ReviewUpdated(**review),
        e.MessageSent(**SENT, parts=WORDS, author=INES),
        e.MessageDelivered(**SENT),
        e.MessageRead(**SENT),
        e.MessageRetrying(**UNNAMED, reason="busy", next_try_at=AT + timedelta(seconds=4)),
        e.MessageUnknown(**UNNAMED, reason="the answer was lost"),
        e.MessageRefused(**UNNAMED, reason="window"),
        e.MessageFailed(**UNNAMED, reason="more than 24 h since the person wrote", then="template"),
        e.MessageEdited(**THEIRS, revision="1", parts=(e.Part("text", text="Hola, vengo de Instagram."),), sender=MARTA),
        e.MessageDeleted(**THEIRS, sender=MARTA),
        e.ReactionAdded(**OURS, sender=MARTA, emoji="👍", revision="wamid.reaction.1"),
        e.ReactionRemoved(**OURS, sender=MARTA, revision="wamid.reaction.2"),
        e.MediaStored(**THEIRS, part=0, sha256="5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
                      media_type="video/mp4", size=2_481_004, name="hervidor.mp4"),
        e.MediaFailed(**THEIRS, part=0, reason="the provider has deleted it"),
        e.ReferralFollowed(received_at=RECEIVED, provider_id="go.7c1e", ref="offer:2b1f6a0e-77c1-5a3c-9a53-9b0f7b8f2f10"),
        e.CallStarted(**CALL),
        e.CallEnded(**CALL, duration_s=184, outcome="answered"),
        e.CallRecorded(**CALL, recording="https://provider.example/recordings/1"),
        e.ParticipantTyping(**PRIVATE, provider_id="typing", sender=MARTA),
        e.IdentityAsserted(**PRIVATE, provider_id="proof.1", sender=Sender(WHATSAPP, None, (
            Evidence(INSTAGRAM, "verified", "handoff-code"),)), conversation_id=CASE),
        e.ConsentGiven(**PRIVATE, provider_id="consent.1", sender=MARTA),
        e.ConsentWithdrawn(**PRIVATE, provider_id="consent.2", sender=MARTA),
        e.AccountHealth(received_at=RECEIVED, provider_id="health.1", state="broken", reason="the access token has expired"),
        e.JourneyStep(**journey, type="hilo.order.placed.v1", title="Hervidor Alba 1,7 L", data={"total": "39,90 €"}),
    )  # fmt: skip


def _others() -> Sequence[tuple[str, e.Data]]:
    """With the record's key, which for these is not the party's."""
    cause = e.EvidenceCited(a=WHATSAPP.key, b=INSTAGRAM.key, rule="handoff-code", strength="verified")
    own = {"leg": CHAT_LEG, "parts": WORDS, "channel": "whatsapp", "account": "lumbre", "visibility": "private"}
    return (
        (WHATSAPP.key, e.IdentityMapped(identifier=WHATSAPP.key, customer_id=CUSTOMER, version=2)),
        (CUSTOMER, e.CustomerChanged(type="hilo.customer.merged.v1", customer_id=CUSTOMER, version=2, at=RECEIVED,
                                     others=(customer_id(TENANT, WHATSAPP.key),), identifiers=(WHATSAPP.key,), cause=(cause,))),
        (CASE, e.ConversationChanged(**STATE, type="hilo.conversation.opened.v1")),
        (CASE, e.ConversationAssigned(**STATE, type="hilo.conversation.assigned.v1", agent="ines", reservation="r-1", why="free")),
        (CASE, e.HandoffChanged(**STATE, state="offered", by=INES)),
        (CASE, e.NoteAdded(**STATE, note_id="0f0c5e0a-7a0f-5c76-8a39-1d3a52f1c6d1", text="Second kettle of this batch.", by=INES)),
        (CASE, e.MessageQueued(**STATE, outbound_id=ANSWER, **own, party=WHATSAPP, thread=WHATSAPP.value, by=INES)),
        (CASE, e.SendStopped(**STATE, outbound_id=ANSWER, by=INES)),
        (CASE, e.MessageAppended(
            conversation_id=CASE, anchor=INSTAGRAM.key, after=3, leg=CHAT_LEG,
            entry_id=entry_id(TENANT, "whatsapp", "lumbre", str(THEIRS["provider_id"])),
            input_id=event_id(TENANT, "whatsapp", "lumbre", str(THEIRS["provider_id"]), "message.received"))),
        (CHAT_LEG, e.SendRequested(
            outbound_id=ANSWER, conversation_id=CASE, leg_key=CHAT_LEG, leg="chat", thread=WHATSAPP.value, party=WHATSAPP,
            visibility="private", need="channel", epoch=1, parts=WORDS, author=INES)),
        ("telegram", e.ChannelDeclared(
            name="telegram", title="Telegram", docs="https://core.telegram.org/bots/api", actions=("message",),
            legs={"chat": e.LegDeclared(visibility="private", sends=({"kind": "text", "size": 4096},), actions=("message",))})),
        ("casa-lumbre/whatsapp/lumbre", e.AccountDescribed(
            tenant=TENANT, channel="whatsapp", account="lumbre", title="Casa Lumbre", queue="redes", language="es",
            invite="https://wa.me/34910506070?text={code}", contact=("+34 910 50 60 70",))),
        (INSTAGRAM.key, e.DeadLettered(
            dead_id="6f2d0e2f-5f6b-5d8c-9a3e-1f0a1b6c7d8e", topic="hilo.raw", partition=0, offset=41, kind="comments",
            path="entry[0].changes[1]", reason="value.from.id: Field required", stage="ingest", at=RECEIVED,
            body=base64.b64encode(b'{"field": "comments", "value": {}}').decode())),
        (INSTAGRAM.key, e.DeadDecided(
            dead_id="6f2d0e2f-5f6b-5d8c-9a3e-1f0a1b6c7d8e", decision="replayed", by=INES, at=RECEIVED)),
    )  # fmt: skip


def _event(data: e.Data, key: str, channel: str = "", account: str = "") -> Event[e.Data]:
    identity = event_id(TENANT, channel, account, getattr(data, "provider_id", key), e.short(data.type))
    return Event(identity, TENANT, key, getattr(data, "at", None) or RECEIVED, data, channel, account)


def _place(fact: e.Fact) -> tuple[str, str]:
    if isinstance(fact, e.JourneyStep):
        return "journey", "shop"
    return ("instagram", "casalumbre") if fact.party == INSTAGRAM else ("whatsapp", "lumbre")


def examples() -> dict[type[e.Data], Event[e.Data]]:
    """One event of every model."""
    facts = [_event(one, one.party.key if one.party else one.provider_id, *_place(one)) for one in _facts()]
    return {type(event.data): event for event in [*facts, *(_event(data, key) for key, data in _others())]}
