"""Where an answer can go: each leg with its verb and who will read it, closed ones with the reason. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from services.common.events import ChannelDeclared, Head, LegHead
from services.timeline.views import ChannelView

NEW = re.compile(r"new:([^/]+)/([^/]+)/([^/]+)/([\w-]{22})")


@dataclass(frozen=True, slots=True)
class Place:
    """One choice of the composer. `value` is the leg key, or `note`, or names a leg that the first message begins; `sees`
    says whose eyes it meets. `which` tells two of the same kind apart."""

    value: str
    channel: str
    leg: str
    sees: Literal["private", "public", "note"]
    closed_why: Literal["", "window", "deleted", "case"] = ""
    until: datetime | None = None
    title: str = ""
    which: str = ""
    new: bool = False

    @property
    def open(self) -> bool:
        return not self.closed_why

    @property
    def name(self) -> str:
        """By which the texts know it: `whatsapp`, `instagram.dm`, `instagram.comment`."""
        return f"{self.channel}.{self.leg}" if self.channel == "instagram" else self.channel


@dataclass(frozen=True, slots=True)
class Beginning:
    """A leg that is not there yet: what the router is asked to begin before the first message goes."""

    channel: str
    account: str
    leg: str
    identifier: str

    @property
    def value(self) -> str:
        return f"new:{self.channel}/{self.account}/{self.leg}/{self.identifier}"


@dataclass(frozen=True, slots=True)
class Address:
    """An email address that identity knows to be this customer's."""

    key: str
    value: str


NOTE = Place("note", "", "", "note")


def places(head: Head, declared: Mapping[str, ChannelDeclared], now: datetime) -> list[Place]:
    """The legs that the conversation holds, the one heard of last first, and the note at the end."""
    held = [leg for leg in head.legs if leg.held]
    ordered = sorted(held, key=lambda leg: leg.last_received_at or leg.last_sent_at or head.opened_at, reverse=True)
    found = [_place(head, leg, declared.get(leg.channel), now) for leg in ordered]
    alike = Counter((one.channel, one.leg, one.sees) for one in found)
    told = [one if alike[one.channel, one.leg, one.sees] > 1 else replace(one, which="") for one in found]
    return [*told, NOTE]


def _place(head: Head, leg: LegHead, channel: ChannelDeclared | None, now: datetime) -> Place:
    title = channel.title if channel else leg.channel
    which = leg.name or leg.account
    why = _closed(head, leg, now)
    until = leg.window_until if not why else None
    return Place(leg.key, leg.channel, leg.leg, leg.visibility, why, until, title, which)


def _closed(head: Head, leg: LegHead, now: datetime) -> Literal["", "window", "deleted", "case"]:
    if head.state != "open":
        return "case"
    if leg.window_until is not None and leg.window_until <= now:
        return "window"
    handoff = head.handoff
    gone = handoff is not None and handoff.state == "author_deleted" and handoff.public_leg == leg.key
    return "deleted" if gone else ""


def beginnings(found: Sequence[Place], channels: Sequence[ChannelView], addresses: Sequence[Address]) -> list[Place]:
    """Writing first: by mail, to an address that is proven to be theirs, where no mail has been exchanged yet."""
    if not any(place.open and place is not NOTE for place in found) or any(place.channel == "email" for place in found):
        return []
    return [
        Place(begin.value, "email", leg, "private", title=channel.channel.title, which=address.value, new=True)
        for channel in channels
        if channel.channel.name == "email"
        for account in channel.accounts[:1]
        if account.account.state == "active"
        for leg, declared in channel.channel.legs.items()
        if declared.visibility == "private" and not declared.replies_only
        for address in addresses
        for begin in (Beginning("email", account.account.account, leg, address.key),)
    ]


def begun(value: str) -> Beginning | None:
    """What such a place names, as the form gives it back."""
    match = NEW.fullmatch(value)
    return Beginning(*match.groups()) if match else None


def chosen(found: Sequence[Place], wanted: str | None) -> Place:
    """The one asked for, else the first private one that is open, else the first that is open."""
    by_value = {place.value: place for place in found}
    if wanted in by_value:
        return by_value[wanted]
    able = [place for place in found if place.open and place.value != NOTE.value and not place.new]
    return next((place for place in able if place.sees == "private"), able[0] if able else NOTE)


def elsewhere(found: Sequence[Place], failed: str) -> Place:
    """Another place for a message that could not go where it was meant to."""
    able = [place for place in found if place.open and place.sees == "private" and place.value != failed]
    return next((place for place in able if not place.new), able[0] if able else NOTE)


def is_public(leg: str) -> bool:
    """A leg's key says its visibility; the router decides again, with the same key."""
    return "/public:" in leg
