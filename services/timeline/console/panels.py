"""The side of the page and the rows of the list: what is true, what runs out, the one next step. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from services.common.events import HandoffState, Head
from services.timeline.views import ConversationView

# state -> (place on the strand 1-5, half tied, cut)
STRAND: Mapping[HandoffState, tuple[int, bool, bool]] = {
    "detected": (1, False, False),
    "triaged": (1, False, False),
    "drafted": (1, False, False),
    "approved": (2, False, False),
    "public_replied": (2, False, False),
    "offered": (3, False, False),
    "claimed": (3, True, False),
    "proven": (4, False, False),
    "private_active": (4, False, False),
    "resolved": (5, False, False),
    "public_closed": (5, False, False),
    "declined": (3, False, True),
    "expired": (3, False, True),
    "rejected_by_platform": (1, False, True),
    "author_deleted": (1, False, True),
    "reverted_public": (4, False, True),
}
INVITABLE = frozenset(
    ("detected", "triaged", "drafted", "public_replied", "declined", "expired", "rejected_by_platform", "reverted_public")
)
CLOSABLE = frozenset(("proven", "private_active", "resolved"))


@dataclass(frozen=True, slots=True)
class Clock:
    """Something that runs out: label, what is left, and the share of it that is left, in percent."""

    label: str
    icon: str
    left: timedelta
    share: int
    kind: Literal["", "warn", "late"]


@dataclass(frozen=True, slots=True)
class Panel:
    state: HandoffState
    at: int
    half: bool
    cut: bool
    reason: str
    clocks: tuple[Clock, ...]
    step: Literal["", "invite", "close_public"]


def panel(head: Head, now: datetime) -> Panel | None:
    """The handoff of a conversation, or None where nothing of it was ever public."""
    handoff = head.handoff
    if handoff is None:
        return None
    at, half, cut = STRAND[handoff.state]
    step: Literal["", "invite", "close_public"] = ""
    if head.state == "open" and handoff.state in INVITABLE:
        step = "invite"
    elif handoff.state in CLOSABLE:
        step = "close_public"
    return Panel(handoff.state, at, half, cut, handoff.reason, tuple(clocks(head, now)), step)


def clocks(head: Head, now: datetime) -> list[Clock]:
    """What runs: the answer, the platform's private reply, windows, the resolution. The soonest first."""
    found: list[tuple[datetime, Clock]] = []

    def add(label: str, icon: str, until: datetime | None, whole: timedelta) -> None:
        if until is not None:
            left = until - now
            share = max(0, min(100, round(left / whole * 100)))
            kind: Literal["", "warn", "late"] = "late" if left < timedelta(0) else "warn" if share < 25 else ""
            found.append((until, Clock(label, icon, left, share, kind)))

    if head.state == "open":
        waiting = head.sla.waiting_since or head.opened_at
        answer_by = head.sla.answer_by
        add("ck_answer", "clock", answer_by, (answer_by - waiting) if answer_by and answer_by > waiting else timedelta(hours=1))
        resolve_by = head.sla.resolve_by
        add("ck_resolve", "hourglass", resolve_by, (resolve_by - head.opened_at) if resolve_by else timedelta(days=1))
        if head.handoff and head.handoff.state in INVITABLE:
            add("ck_private", "lock", head.handoff.deadline_at, timedelta(days=7))
        for leg in head.legs:
            if leg.held and leg.visibility == "private" and leg.window_until and leg.window_until > now:
                add(f"ck_window_{leg.channel}", f"ch-{icon(leg.channel)}", leg.window_until, timedelta(hours=24))
    return [clock for _, clock in sorted(found, key=lambda pair: pair[0])]


def icon(channel: str) -> str:
    """The glyph of a channel; what has none of its own is shown as web."""
    return {"webchat": "web"}.get(
        channel, channel if channel in ("instagram", "whatsapp", "telegram", "email", "journey") else "web"
    )


# -- rows of the inbox ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tag:
    """One at most: what needs doing, and by when."""

    what: Literal["late", "answer", "window", "not_opened", "close_public", "private"]
    kind: Literal["", "bad", "late", "ok"]
    icon: str
    left: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Row:
    id: str
    who: str
    face: str
    at: datetime
    last: str
    us: bool
    path: tuple[tuple[str, Literal["pub", "prv"]], ...]
    public: bool
    waiting: bool
    tag: Tag | None
    agent: str | None


def row(view: ConversationView, now: datetime) -> Row:
    head = view.head
    who = name_of(view)
    last = view.last
    path = tuple((icon(leg.channel), "pub" if leg.visibility == "public" else "prv") for leg in head.legs if leg.held)
    public = any(leg.held and leg.visibility == "public" and leg.waiting_since for leg in head.legs)
    return Row(
        view.id,
        who,
        initials(who),
        last.at if last else view.active_at,
        preview(view),
        bool(last and last.direction == "out"),
        path,  # type: ignore[arg-type]  # mypy widens the literals of a generator
        public,
        head.state == "open" and head.sla.waiting_since is not None,
        tag(head, now),
        head.assignee.agent if head.assignee else None,
    )


def tag(head: Head, now: datetime) -> Tag | None:
    if head.state != "open":
        return None
    answer_by = head.sla.answer_by
    if answer_by and head.sla.waiting_since:
        left = answer_by - now
        if left < timedelta(0):
            return Tag("late", "late", "clock", -left)
        whole = answer_by - head.sla.waiting_since
        return Tag("answer", "bad" if whole and left / whole < 0.25 else "", "clock", left)
    if head.handoff and head.handoff.state == "offered":
        return Tag("not_opened", "", "link-2")
    if head.handoff and head.handoff.state == "resolved":
        return Tag("close_public", "", "globe")
    closing = [leg.window_until for leg in head.legs if leg.held and leg.window_until and leg.window_until > now]
    if closing and min(closing) - now < timedelta(hours=1):
        return Tag("window", "", "hourglass", min(closing) - now)
    if head.handoff and head.handoff.state in ("proven", "private_active"):
        return Tag("private", "ok", "shield-check")
    return None


def name_of(view: ConversationView) -> str:
    """How the customer is called on the leg heard of last; empty where no channel told a name."""
    if view.last and view.last.direction == "in" and view.last.sender and view.last.sender.name:
        return view.last.sender.name
    named = [leg for leg in view.head.legs if leg.name]
    ordered = sorted(named, key=lambda leg: leg.last_received_at or view.head.opened_at, reverse=True)
    return (ordered[0].name or "") if ordered else ""


def initials(name: str) -> str:
    words = [word for word in name.replace("@", " ").split() if word[0].isalnum()]
    return "".join(word[0] for word in (words[:1] + words[-1:] if len(words) > 1 else words)).upper() or "·"


def preview(view: ConversationView) -> str:
    """The beginning of what was said last; for a file its kind, which the page names."""
    if view.last is None:
        return ""
    if view.last.text:
        return " ".join(view.last.text.split())[:120]
    return next((f"[{part.kind}]" for part in view.last.parts), "")
