"""When to look at a conversation again, and what time alone does to it. Each clock says when it is next due and what it does
then; a conversation's `due` is the earliest. Messages only ever move `due` earlier: the tick looks at the facts again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.router import conversations, handoff
from services.router.outputs import Change, Emit
from services.router.state import Conversation


@dataclass(frozen=True, slots=True)
class Clock:
    """`due` is the next moment at which `fire` may have something to do; `fire` looks whether that is really so."""

    due: Callable[[Conversation], datetime | None]
    fire: Callable[[Change, datetime], Change]


def armed(clocks: Sequence[Clock]) -> Callable[[Conversation, datetime], datetime | None]:
    def arm(c: Conversation, now: datetime) -> datetime | None:
        """What is past already is looked at in a second: a clock that cannot fire must not keep the poller busy."""
        if c.state != "open":
            return None
        found = min(filter(None, (clock.due(c) for clock in clocks)), default=None)
        return max(found, now + timedelta(seconds=1)) if found else None

    return arm


def fired(clocks: Sequence[Clock]) -> Callable[[Conversation, datetime], Change]:
    arm = armed(clocks)

    def fire(c: Conversation, now: datetime) -> Change:
        """All that is really due, and the next moment to look."""
        change = Change(c)
        for clock in clocks:
            if change.after.state == "open":
                change = clock.fire(change, now)
        after = replace(change.after, due=arm(change.after, now))
        return Change(conversations.unfinished(after, now) if change.outputs else after, change.outputs)

    return fire


# -- answers wanted -------------------------------------------------------------------------------------------------------


def _answer_by(c: Conversation) -> datetime | None:
    waiting = c.waiting_since
    if waiting is None or c.sla.answer_breached == waiting:
        return None
    return c.sla.answer_by(waiting)


def _sla_due(c: Conversation) -> datetime | None:
    resolve_by = None if c.sla.resolve_breached else c.sla.resolve_by
    return min(filter(None, (_answer_by(c), resolve_by)), default=None)


def _sla(change: Change, now: datetime) -> Change:
    c = change.after
    if (by := _answer_by(c)) and by <= now:
        c = replace(c, sla=replace(c.sla, answer_breached=c.waiting_since))
        change = change.plus(c, Emit("conversation.breached", why="answer"))
    if c.sla.resolve_by and not c.sla.resolve_breached and c.sla.resolve_by <= now:
        change = change.plus(
            replace(c, sla=replace(c.sla, resolve_breached=True)), Emit("conversation.breached", why="resolve")
        )
    return change


SLA = Clock(_sla_due, _sla)


# -- silence ----------------------------------------------------------------------------------------------------------------


def inactivity(after: timedelta, close: Callable[[Conversation, datetime, str], Change]) -> Clock:
    """Close what has been silent for so long, unless the customer waits for us: then the silence is ours. An invitation that
    stands longer is waited for: its link is not cut while we promise that it works."""

    def due(c: Conversation) -> datetime | None:
        if c.last is None or c.waiting_since is not None:
            return None
        return max(filter(None, (c.last + after, handoff.stands_until(c))))

    def fire(change: Change, now: datetime) -> Change:
        by = due(change.after)
        if by is None or by > now:
            return change
        closed = close(change.after, now, "inactivity")
        return change.plus(closed.after, *closed.outputs)

    return Clock(due, fire)
