"""From entries to the one thread: stretches of legs, with a knot where it goes from public to private. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal
from zoneinfo import ZoneInfo

from services.common.identifiers import Visibility
from services.timeline.views import EntryView

SAID = frozenset(("message", "comment", "mention", "review"))
# Steps of the handoff that a reader of the thread sees as a line; the panel shows the rest.
TOLD_STEPS = frozenset(
    ("claimed", "declined", "expired", "rejected_by_platform", "author_deleted", "reverted_public", "resolved", "public_closed")
)


@dataclass(slots=True)
class Stretch:
    """A run of messages on one leg; its header sticks while one scrolls."""

    kind: Literal["leg"] = "leg"
    channel: str = ""
    leg: str = ""
    visibility: Visibility = "private"
    id: str = ""
    items: list[EntryView] = field(default_factory=list)


@dataclass(slots=True)
class Journey:
    """What the customer did before and between words."""

    kind: Literal["journey"] = "journey"
    id: str = ""
    steps: list[EntryView] = field(default_factory=list)


@dataclass(slots=True)
class Knot:
    """Where the thread is tied: it moves to private, or is proven to be the same person's."""

    kind: Literal["knot"] = "knot"
    what: Literal["private", "proven"] = "private"
    id: str = ""
    entry: EntryView | None = None


@dataclass(slots=True)
class Day:
    kind: Literal["day"] = "day"
    id: str = ""
    day: date = date.min


@dataclass(slots=True)
class Line:
    """Something that happened beside the words: assigned, closed, a step of the handoff."""

    kind: Literal["line"] = "line"
    id: str = ""
    entry: EntryView | None = None


Block = Stretch | Journey | Knot | Day | Line


def thread(entries: Iterable[EntryView], zone: ZoneInfo) -> list[Block]:
    """Blocks in the order of the entries, which is that of time. Ids are stable, so that a page can be morphed."""
    blocks: list[Block] = []
    tied = False
    for entry in entries:
        if not blocks or _day(entry, zone) != _last_day(blocks):
            day = _day(entry, zone)
            blocks.append(Day(id=f"day-{day.isoformat()}", day=day))
        if entry.kind in SAID:
            if entry.visibility == "private" and not tied and _was_public(blocks):
                blocks.append(Knot(id=f"knot-{entry.id}", what="private", entry=entry))
                tied = True
            _stretch(blocks, entry).items.append(entry)
        elif entry.kind == "note":
            _stretch_for_note(blocks, entry).items.append(entry)
        elif entry.kind == "journey":
            _journey(blocks, entry).steps.append(entry)
        elif entry.kind == "handoff" and entry.data.get("state") == "proven":
            blocks.append(Knot(id=f"knot-{entry.id}", what="proven", entry=entry))
        elif entry.kind == "handoff" and entry.data.get("state") not in TOLD_STEPS:
            continue
        else:
            blocks.append(Line(id=f"line-{entry.id}", entry=entry))
    return [block for block in blocks if not (isinstance(block, Day) and block is blocks[-1])]


def _day(entry: EntryView, zone: ZoneInfo) -> date:
    return entry.at.astimezone(zone).date()


def _last_day(blocks: Sequence[Block]) -> date | None:
    return next((block.day for block in reversed(blocks) if isinstance(block, Day)), None)


def _was_public(blocks: Sequence[Block]) -> bool:
    return any(isinstance(block, Stretch) and block.visibility == "public" for block in blocks)


def _stretch(blocks: list[Block], entry: EntryView) -> Stretch:
    """The stretch that this message goes on, or a new one."""
    visibility: Visibility = entry.visibility or "private"
    last = blocks[-1]
    if isinstance(last, Stretch) and (last.channel, last.leg, last.visibility) == (entry.channel, entry.leg, visibility):
        return last
    if isinstance(last, Stretch) and not entry.leg and (last.channel, last.visibility) == (entry.channel, visibility):
        return last  # our own queued message does not name the leg before it is sent
    made = Stretch(channel=entry.channel, leg=entry.leg, visibility=visibility, id=f"leg-{entry.id}")
    blocks.append(made)
    return made


def _stretch_for_note(blocks: list[Block], entry: EntryView) -> Stretch:
    """A note never stands among public messages."""
    last = blocks[-1]
    if isinstance(last, Stretch) and last.visibility == "private":
        return last
    made = Stretch(channel="", visibility="private", id=f"leg-{entry.id}")
    blocks.append(made)
    return made


def _journey(blocks: list[Block], entry: EntryView) -> Journey:
    last = blocks[-1]
    if isinstance(last, Journey):
        return last
    made = Journey(id=f"journey-{entry.id}")
    blocks.append(made)
    return made
