"""Entries, heads and conversations for tests of the console, made short."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from services.common.events import (
    AccountDescribed,
    ChannelDeclared,
    HandoffDeclared,
    HandoffHead,
    HandoffState,
    Head,
    LegDeclared,
    LegHead,
)
from services.timeline.views import AccountView, ChannelView, ConversationView, EntryView, PartView, SenderView

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
INSTAGRAM = ChannelDeclared(
    type="hilo.channel.declared.v1",
    name="instagram",
    title="Instagram",
    legs={"comment": LegDeclared(visibility="public"), "dm": LegDeclared(visibility="private", window_s=86400)},
    handoffs=(HandoffDeclared(public="comment", private="dm", within_s=604800),),
)
EMAIL = ChannelDeclared(name="email", title="Email", legs={"mail": LegDeclared(visibility="private")})
DECLARED = {"instagram": INSTAGRAM, "email": EMAIL}


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def entry(name: str, minutes: float = 0, **more: Any) -> EntryView:
    stated = {"kind": "message", "channel": "instagram", "leg": "dm", "visibility": "private", "direction": "in", **more}
    if (text := stated.pop("text", name)) is not None and "parts" not in stated:
        stated |= {"text": text, "parts": (PartView(kind="text", text=text),)}
    return EntryView(id=name, at=ago(minutes), sender=SenderView(name="Marta Ruiz"), **stated)


def comment(name: str, minutes: float = 0, **more: Any) -> EntryView:
    return entry(name, minutes, **{"kind": "comment", "leg": "comment", "visibility": "public", **more})


def told(kind: str, name: str, minutes: float = 0, **data: Any) -> EntryView:
    return entry(name, minutes, kind=kind, channel="", leg="", visibility=None, direction="none", text=None, data=data)


def leg(place: str, **more: Any) -> LegHead:
    channel, _, at = place.partition(".")
    visibility = "public" if at == "comment" else "private"
    key = f"t/{channel}/a/p/{'public:1' if visibility == 'public' else 'private'}"
    stated = {"key": key, "channel": channel, "account": "a", "leg": at, "thread": "", "party": "p", "visibility": visibility}
    return LegHead(**{**stated, **more})


PUBLIC, DIRECT = leg("instagram.comment"), leg("instagram.dm")


def head(*legs: LegHead, state: str = "open", handoff: HandoffState | None = None, **more: Any) -> Head:
    about = more.pop("about", {})
    held = legs or (DIRECT,)
    stated = {"state": state, "version": 3, "seq": 3, "customer_id": "c", "queue": "q", "opened_at": ago(60), "legs": held}
    if handoff:
        stated["handoff"] = HandoffHead(state=handoff, since=ago(5), public_leg=PUBLIC.key, **about)
    return Head(**{**stated, **more})


def conversation(h: Head, last: EntryView | None = None) -> ConversationView:
    return ConversationView(id="c1", seq=3, at=NOW, type="", active_at=NOW, head=h, last=last)


def channel(declared: ChannelDeclared, *accounts: str, **more: Any) -> ChannelView:
    described = [AccountDescribed(tenant="t", channel=declared.name, account=one, **more) for one in accounts]
    return ChannelView(channel=declared, accounts=tuple(AccountView(account=one) for one in described))
