"""The side of the page and the rows of the list: what is true, what runs out, the one next step. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from services.common.events import ChannelDeclared, HandoffState, Head
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
USED_UP = frozenset(("expired", "rejected_by_platform"))  # the platform's one private message is gone
Step = Literal["", "invite", "approve", "answer_public", "write_private", "ask_code", "close_public", "resolve"]
STEPS: Mapping[HandoffState, Step] = {
    "detected": "invite",
    "triaged": "invite",
    "drafted": "approve",
    "approved": "",
    "public_replied": "invite",
    "offered": "answer_public",
    "claimed": "ask_code",
    "proven": "write_private",
    "private_active": "close_public",
    "resolved": "close_public",
    "public_closed": "",
    "declined": "answer_public",
    "expired": "invite",
    "rejected_by_platform": "invite",
    "author_deleted": "resolve",
    "reverted_public": "answer_public",
}
Invite = Literal["", "private", "link"]


@dataclass(frozen=True, slots=True)
class Clock:
    """Something that runs out: label, what is left, and the share of it that is left, in percent."""

    label: str
    icon: str
    left: timedelta
    share: int
    kind: Literal["", "warn", "late"]
    channel: str = ""
    leg: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """`invite` is how an invitation would go: by the platform's own private message, or by a link in public. `leg` is where
    the next step is taken, when it is taken in the composer or by a message."""

    state: HandoffState
    at: int
    half: bool
    cut: bool
    reason: str
    clocks: tuple[Clock, ...]
    step: Step
    invite: Invite = ""
    leg: str = ""


def panel(
    head: Head, now: datetime, declared: Mapping[str, ChannelDeclared] | None = None, targets: Sequence[str] = ()
) -> Panel | None:
    """The handoff of a conversation, or None where nothing of it was ever public."""
    handoff = head.handoff
    if handoff is None:
        return None
    at, half, cut = STRAND[handoff.state]
    how = inviting(head, now, declared or {}, targets)
    step, leg = next_step(head, how)
    return Panel(handoff.state, at, half, cut, handoff.reason, tuple(clocks(head, now)), step, how, leg)


def inviting(head: Head, now: datetime, declared: Mapping[str, ChannelDeclared], targets: Sequence[str]) -> Invite:
    """The platform's own private message where it has one and still takes it, else a link if there is somewhere to go."""
    handoff = head.handoff
    public = next((leg for leg in head.legs if handoff and leg.key == handoff.public_leg), None)
    if handoff is None or public is None or handoff.state not in INVITABLE:
        return ""
    channel = declared.get(public.channel)
    able = channel is not None and any(one.public == public.leg for one in channel.handoffs)
    late = handoff.deadline_at is not None and handoff.deadline_at <= now
    if able and not late and handoff.state not in USED_UP:
        return "private"
    return "link" if targets else ""


def next_step(head: Head, how: Invite) -> tuple[Step, str]:
    """The one thing to do now, and the leg it is done on."""
    handoff = head.handoff
    assert handoff
    step, public = STEPS[handoff.state], handoff.public_leg
    if step == "close_public" and handoff.reason == "closing":
        return "", ""  # it is on its way
    if head.state != "open":
        here = any(leg.held for leg in head.legs if leg.key == public)
        return ("close_public" if step == "close_public" and here else "", public)
    if step == "invite" and not how:
        return "answer_public", public
    if step == "ask_code":
        claimed = next(
            (leg.key for leg in head.legs if leg.held and leg.visibility == "private" and leg.proof == "claimed"), ""
        )
        return (step, claimed) if claimed else ("", "")
    if step == "write_private":
        private = [leg for leg in head.legs if leg.held and leg.visibility == "private"]
        latest = max(private, key=lambda leg: leg.last_received_at or head.opened_at, default=None)
        return (step, latest.key) if latest else ("", "")
    return step, public


def clocks(head: Head, now: datetime) -> list[Clock]:
    """What runs: the answer, the platform's private reply, windows, the resolution. The soonest first."""
    found: list[tuple[datetime, Clock]] = []

    def add(label: str, icon: str, until: datetime | None, whole: timedelta, *where: str) -> None:
        if until is not None:
            left = until - now
            share = max(0, min(100, round(left / whole * 100)))
            kind: Literal["", "warn", "late"] = "late" if left < timedelta(0) else "warn" if share < 25 else ""
            found.append((until, Clock(label, icon, left, share, kind, *where)))

    if head.state == "open":
        waiting = head.sla.waiting_since or head.opened_at
        answer_by = head.sla.answer_by if head.sla.waiting_since else None
        add("ck_answer", "clock", answer_by, (answer_by - waiting) if answer_by and answer_by > waiting else timedelta(hours=1))
        resolve_by = head.sla.resolve_by
        add("ck_resolve", "hourglass", resolve_by, (resolve_by - head.opened_at) if resolve_by else timedelta(days=1))
        if head.handoff and head.handoff.state in INVITABLE:
            add("ck_private", "lock", head.handoff.deadline_at, timedelta(days=7))
        if head.handoff and head.handoff.state in ("offered", "claimed"):
            works = [offer.expires_at for offer in head.handoff.offers if offer.state in ("open", "claimed")]
            add("ck_link", "link-2", max(works, default=None), timedelta(days=7))
        for leg in head.legs:
            if leg.held and leg.visibility == "private" and leg.window_until and leg.window_until > now:
                add("ck_window", f"ch-{icon(leg.channel)}", leg.window_until, timedelta(hours=24), leg.channel, leg.leg)
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
    path: tuple[tuple[str, str], ...]
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
        path,
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
