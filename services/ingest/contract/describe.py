"""What derives from a declaration: the record on hilo.channels, the setup form, the row of the channel matrix."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any, Literal

from services.common.events import AccountDescribed, Action, ChannelDeclared, HandoffDeclared, LegDeclared
from services.ingest.contract.account import Account
from services.ingest.contract.capabilities import Can, Leg
from services.ingest.contract.channel import Channel
from services.ingest.contract.doors import Fetched, Mail, Poll, Posted, Session, Stream, Webhook

# A stand-in for a code while a link is built: channels escape what they put into an address, and braces would not survive.
CODE = "HILO0CODE0HERE"


def declared(channel: Channel[Any]) -> ChannelDeclared:
    """The declaration as data: what router and console know of a channel."""
    actions = tuple(sorted(channel.send.requests)) if channel.send else ()
    return ChannelDeclared(
        name=channel.name,
        title=channel.title,
        docs=channel.docs,
        legs={name: _leg(leg, actions) for name, leg in channel.legs.items()},
        handoffs=tuple(
            HandoffDeclared(public=h.public, private=h.private, within_s=h.within and h.within.total_seconds(), once=h.once)
            for h in channel.handoffs
        ),
        form=form(channel),
        actions=actions,
        invite=channel.invite if isinstance(channel.invite, str) else None,
    )


def _leg(leg: Leg, actions: tuple[Action, ...]) -> LegDeclared:
    return LegDeclared(
        visibility=leg.visibility,
        sends=tuple(map(_can, leg.sends)),
        window_s=leg.window and leg.window.length.total_seconds(),
        outside=leg.window and leg.window.outside,
        replies_only=leg.replies_only,
        actions=actions if leg.sends else (),
    )


def _can(can: Can) -> dict[str, Any]:
    empty = asdict(Can(can.kind))
    return {"kind": can.kind, **{name: value for name, value in asdict(can).items() if value != empty[name]}}


def described(
    channel: Channel[Any],
    account: Account,
    *,
    title: str = "",
    queue: str = "default",
    language: str | None = None,
    state: Literal["active", "paused", "removed"] = "active",
    hours: Mapping[str, Any] | None = None,
) -> AccountDescribed:
    """An account without its secrets."""
    return AccountDescribed(
        tenant=account.tenant,
        channel=channel.name,
        account=account.id,
        title=title,
        queue=queue,
        language=language,
        state=state,
        invite=(channel.invitation(account, CODE) or "").replace(CODE, "{code}") or None,
        contact=channel.contact(account),
        hours=dict(hours or {}),
    )


def form(channel: Channel[Any]) -> dict[str, Any]:
    """JSON Schema of what an operator fills in; secrets are write-only passwords."""
    schema = channel.account.model_json_schema()
    own = {name: field for name, field in schema["properties"].items() if name not in ("tenant", "id")}
    return {
        "title": channel.title,
        "type": "object",
        "properties": own,
        "required": [name for name in schema.get("required", []) if name in own],
    }


def matrix_row(channel: Channel[Any], receives: Collection[str]) -> dict[str, Any]:
    """One row of docs/channels.md and of `hilo channel list --json`; `receives` are the event types that the fixtures show."""
    return {
        "channel": channel.name,
        "title": channel.title,
        "doors": [door.name for door in channel.doors],
        "legs": {name: leg.visibility for name, leg in channel.legs.items()},
        "receives": sorted(receives),
        "sends": {name: [can.kind for can in leg.sends] for name, leg in channel.legs.items()},
        "actions": sorted(channel.send.requests) if channel.send else [],
        "window_hours": {n: leg.window.length.total_seconds() / 3600 for n, leg in channel.legs.items() if leg.window},
        "private_reply": [f"{h.public} -> {h.private}" for h in channel.handoffs],
        "kinds": len(channel.kinds),
    }


def how(channel: Channel[Any]) -> list[str]:
    """The sentences under 'Connect' on the channel's page."""
    said = {
        Webhook: "calls our webhook",
        Poll: "is asked",
        Stream: "is listened to",
        Mail: "delivers mail",
        Session: "holds a WebSocket open",
        Posted: "is told to our API",
        Fetched: "is asked for what it only names",
    }
    return [f"{channel.title} {said[type(door)]} ({door.name})" for door in channel.doors]
