"""From entries to the one thread: stretches of legs, with a knot where it goes from public to private. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

from services.common.identifiers import Visibility
from services.timeline.views import EntryView

SAID = frozenset(("message", "comment", "mention", "review"))
# Steps of the handoff that a reader of the thread sees as a line; the panel shows the rest.
TOLD_STEPS = frozenset(
    ("claimed", "declined", "expired", "rejected_by_platform", "author_deleted", "reverted_public", "resolved", "public_closed")
)
# What the page says elsewhere: since when the case is open, to whom it is being offered.
UNTOLD = frozenset((("conversation", "opened"), ("assignment", "offered")))
PROOF = frozenset((("identity", ""), ("conversation", "proven")))


@dataclass(slots=True)
class Stretch:
    """A run of messages on one leg, with what happened between them; its header sticks while one scrolls. Without a
    channel it holds only what the team wrote."""

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
    first: bool = True
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


Block = Stretch | Journey | Knot | Day


def thread(entries: Iterable[EntryView], zone: ZoneInfo) -> list[Block]:
    """Blocks in the order of the entries, which is that of time. Ids are stable, so that a page can be morphed."""
    blocks: list[Block] = []
    tied = False
    for entry in _told(list(entries)):
        if (day := entry.at.astimezone(zone).date()) != _last_day(blocks):
            blocks.append(Day(id=f"day-{day.isoformat()}", day=day))
        if entry.kind in SAID:
            if entry.visibility == "private" and not tied and _was_public(blocks):
                blocks.append(Knot(id=f"knot-{entry.id}", what="private", entry=entry))
                tied = True
            _stretch(blocks, entry).items.append(entry)
        elif entry.kind == "note":
            _private_stretch(blocks, entry).items.append(entry)
        elif entry.kind == "journey":
            _journey(blocks, entry).steps.append(entry)
        elif entry.kind == "handoff" and entry.data.get("state") == "proven":
            blocks.append(Knot(id=f"knot-{entry.id}", what="proven", entry=entry))
        else:
            _any_stretch(blocks, entry).items.append(entry)
    return [block for block, after in pairwise([*blocks, Day()]) if not (block.kind == "day" and after.kind == "day")]


def _told(entries: list[EntryView]) -> list[EntryView]:
    """What a reader of the thread sees. A proof is told once: where the handoff was proven, its knot says so."""
    steps = {entry.data.get("state") for entry in entries if entry.kind == "handoff"}
    untold = UNTOLD | (PROOF if "proven" in steps else frozenset())

    def seen(entry: EntryView) -> bool:
        state = str(entry.data.get("state", ""))
        if entry.kind == "handoff":
            return state == "proven" or state in TOLD_STEPS
        return (entry.kind, state) not in untold

    return [entry for entry in entries if seen(entry)]


def _last_day(blocks: Sequence[Block]) -> date | None:
    return next((block.day for block in reversed(blocks) if isinstance(block, Day)), None)


def _was_public(blocks: Sequence[Block]) -> bool:
    return any(isinstance(block, Stretch) and block.visibility == "public" for block in blocks)


def _stretch(blocks: list[Block], entry: EntryView) -> Stretch:
    """The stretch that this message goes on, or a new one."""
    visibility: Visibility = entry.visibility or "private"
    last = blocks[-1]
    match last:
        case Stretch(channel=entry.channel, visibility=seen, leg=leg) if seen == visibility and (
            leg == entry.leg or "" in (leg, entry.leg)  # not every message of ours names its leg
        ):
            return last
    return _begun(blocks, Stretch(channel=entry.channel, leg=entry.leg, visibility=visibility, id=f"leg-{entry.id}"))


def _private_stretch(blocks: list[Block], entry: EntryView) -> Stretch:
    """A note never stands among public messages."""
    last = blocks[-1]
    return last if isinstance(last, Stretch) and last.visibility == "private" else _begun(blocks, Stretch(id=f"leg-{entry.id}"))


def _any_stretch(blocks: list[Block], entry: EntryView) -> Stretch:
    last = blocks[-1]
    return last if isinstance(last, Stretch) else _begun(blocks, Stretch(id=f"leg-{entry.id}"))


def _begun(blocks: list[Block], stretch: Stretch) -> Stretch:
    blocks.append(stretch)
    return stretch


def _journey(blocks: list[Block], entry: EntryView) -> Journey:
    last = blocks[-1]
    if isinstance(last, Journey):
        return last
    first = not any(isinstance(block, Stretch) for block in blocks)
    made = Journey(id=f"journey-{entry.id}", first=first)
    blocks.append(made)
    return made
