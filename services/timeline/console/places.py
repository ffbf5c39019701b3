"""Where an answer can go: each leg with its verb and who will read it, closed ones with the reason. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.common.events import ChannelDeclared, Head, LegHead


@dataclass(frozen=True, slots=True)
class Place:
    """One choice of the composer. `value` is the leg key, or `note`; `sees` says whose eyes it meets."""

    value: str
    channel: str
    leg: str
    sees: Literal["private", "public", "note"]
    open: bool = True
    closed_why: Literal["", "window", "deleted", "replies_only"] = ""
    closed_at: datetime | None = None
    until: datetime | None = None
    title: str = ""

    @property
    def name(self) -> str:
        """By which the texts know it: `whatsapp`, `instagram.dm`, `instagram.comment`."""
        return f"{self.channel}.{self.leg}" if self.channel == "instagram" else self.channel


NOTE = Place("note", "", "", "note")


def places(head: Head, declared: Mapping[str, ChannelDeclared], now: datetime) -> list[Place]:
    """The legs that the conversation holds, the one heard of last first, and the note at the end."""
    held = [leg for leg in head.legs if leg.held]
    ordered = sorted(held, key=lambda leg: leg.last_received_at or leg.last_sent_at or head.opened_at, reverse=True)
    return [*(_place(leg, declared.get(leg.channel), now) for leg in ordered), NOTE]


def _place(leg: LegHead, channel: ChannelDeclared | None, now: datetime) -> Place:
    over = leg.window_until is not None and leg.window_until <= now
    title = channel.title if channel else leg.channel
    return Place(
        leg.key,
        leg.channel,
        leg.leg,
        leg.visibility,
        open=not over,
        closed_why="window" if over else "",
        closed_at=leg.window_until if over else None,
        until=leg.window_until if not over else None,
        title=title,
    )


def chosen(found: Sequence[Place], wanted: str | None) -> Place:
    """The one asked for, else the first private one that is open, else the first that is open."""
    by_value = {place.value: place for place in found}
    if wanted in by_value:
        return by_value[wanted]
    able = [place for place in found if place.open and place is not NOTE]
    return next((place for place in able if place.sees == "private"), able[0] if able else NOTE)
