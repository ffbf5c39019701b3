"""Events of a history, made short for tests: one tenant, one account, customers and conversations by name."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from services.common.cloudevents import Event
from services.common.events import (
    AssignmentHead,
    Author,
    ConversationChanged,
    Data,
    Fact,
    Head,
    IdentityMapped,
    LegHead,
    MessageAppended,
    MessageQueued,
    MessageReceived,
    MessageSent,
    Part,
)
from services.common.identifiers import Identifier, IdentifierKey, Sender, entry_id, identifier_key, pending_entry_id

TENANT, CHANNEL, ACCOUNT = "acme", "telegram", "bot"
T0 = datetime(2026, 11, 1, 9, tzinfo=UTC)
KEY = b"k" * 32
D = TypeVar("D", bound=Data)
F = TypeVar("F", bound=Fact)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def name_of(*parts: object) -> str:
    """An id for a name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(map(str, parts))))


def who(name: str) -> Identifier:
    plain = Identifier("telegram", name, "")
    return Identifier("telegram", name, "", identifier_key(KEY, plain))


def key_of(name: str) -> IdentifierKey:
    return IdentifierKey(who(name).key)


def sender(name: str) -> Sender:
    return Sender(who(name), name.title())


def event(data: D, *, id: str | None = None, tenant: str = TENANT, time: datetime = T0, **more: Any) -> Event[D]:
    key = more.pop("key", None) or (data.party.key if isinstance(data, Fact) and data.party else "k")
    name = id or name_of(data.type, data.model_dump_json())
    return Event(id=name, tenant=tenant, key=key, time=time, data=data, channel=CHANNEL, account=ACCOUNT, **more)


def fact(model: type[F], message: str, seconds: float = 0, *, customer: str | None = "ana", **more: Any) -> F:
    party = who(customer) if customer else None
    stated = {"provider_id": message, "party": party, "at": at(seconds), "received_at": at(seconds + 0.25), **more}
    return model(**stated)


def said(message: str, text: str, seconds: float = 0, customer: str = "ana", **more: Any) -> MessageReceived:
    parts = more.pop("parts", (Part("text", text),))
    stated: Mapping[str, Any] = {"visibility": "private", "leg": "chat", **more}
    return fact(MessageReceived, message, seconds, customer=customer, sender=sender(customer), parts=parts, **stated)


def sent(message: str, text: str, seconds: float = 0, customer: str = "ana", **more: Any) -> MessageSent:
    parts = (Part("text", text),) if text else ()
    return fact(MessageSent, message, seconds, customer=customer, **{"parts": parts, "visibility": "private", **more})


def entry(message: str, tenant: str = TENANT) -> str:
    return entry_id(tenant, CHANNEL, ACCOUNT, message)


def pending(outbound: str, tenant: str = TENANT) -> str:
    return pending_entry_id(tenant, outbound)


def leg(customer: str, visibility: str = "private", **more: Any) -> LegHead:
    stated = {"channel": CHANNEL, "account": ACCOUNT, "leg": "chat", "thread": "", "party": who(customer).key}
    return LegHead(key=f"{TENANT}/{CHANNEL}/{ACCOUNT}/{customer}/{visibility}", visibility=visibility, **{**stated, **more})


def head(seq: int, customer: str | None = "c-ana", **more: Any) -> Head:
    agent = more.pop("agent", None)
    assignee = AssignmentHead(agent=agent, reservation="r", state="active") if agent else None
    stated = {"state": "open", "queue": "support", "opened_at": T0, "legs": (leg("ana"),), "assignee": assignee, **more}
    return Head(version=seq, seq=seq, customer_id=customer, **stated)


def stated(model: type[D], conversation: str, seq: int, seconds: float = 0, **more: Any) -> D:
    h = more.pop("head", None) or head(seq, **more.pop("with_head", {}))
    anchor = more.pop("anchor", who("ana").key)
    return model(conversation_id=conversation, seq=seq, anchor=anchor, at=at(seconds), head=h, **more)


def changed(conversation: str, seq: int, what: str = "opened", seconds: float = 0, **more: Any) -> ConversationChanged:
    return stated(ConversationChanged, conversation, seq, seconds, type=f"hilo.conversation.{what}.v1", **more)


def queued(conversation: str, seq: int, outbound: str, text: str, seconds: float = 0, **more: Any) -> MessageQueued:
    return stated(
        MessageQueued,
        conversation,
        seq,
        seconds,
        **{
            "outbound_id": outbound,
            "leg": leg("ana").key,
            "parts": (Part("text", text),),
            "visibility": "private",
            "channel": CHANNEL,
            "account": ACCOUNT,
            "party": who("ana"),
            "by": Author("agent", "lena", "Lena"),
            **more,
        },
    )


def appended(conversation: str, message: str, after: int = 1, customer: str = "ana") -> MessageAppended:
    return MessageAppended(
        conversation_id=conversation,
        anchor=who(customer).key,
        after=after,
        entry_id=entry(message),
        input_id=name_of("input", message),
        leg=f"{TENANT}/{CHANNEL}/{ACCOUNT}/{customer}/private",
    )


def mapped(identifier: str, customer: str | None, version: int = 1, previous: str | None = None) -> IdentityMapped:
    return IdentityMapped(
        identifier=key_of(identifier),
        customer_id=customer,
        version=version,
        previous=previous,
        erased=customer is None,
    )
