"""What time alone does to a conversation, and when it is looked at again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.router import timers
from services.router.conversations import closed
from services.router.outputs import Change, Emit
from services.router.state import Conversation, LegRecord, Sla

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CLOCKS = [timers.SLA, timers.inactivity(timedelta(hours=1), closed)]
FIRE, ARM = timers.fired(CLOCKS), timers.armed(CLOCKS)


def waiting(since: datetime | None = NOW, **fields: object) -> Conversation:
    leg = LegRecord(key="acme/x/1/p/private", party="p", channel="x", account="1", wait=since, last=NOW)
    base = Conversation("c1", "acme", leg.key, NOW, legs=(leg,), check=False, sla=Sla(60), last=NOW)
    return replace(base, **fields)  # type: ignore[arg-type]


def told(change: Change) -> list[tuple[str, str]]:
    return [(one.name, one.why) for one in change.outputs if isinstance(one, Emit)]


def test_a_late_answer_is_told_once_per_wait() -> None:
    first = FIRE(waiting(), NOW + timedelta(seconds=60))
    again = FIRE(first.after, NOW + timedelta(seconds=90))
    next_wait = FIRE(first.after.with_leg(waiting(NOW + timedelta(hours=2)).legs[0]), NOW + timedelta(hours=2, seconds=61))

    assert told(first) == [("conversation.breached", "answer")]
    assert told(again) == []
    assert told(next_wait) == [("conversation.breached", "answer")]


def test_nothing_fires_early_and_due_is_the_moment_it_will() -> None:
    change = FIRE(waiting(), NOW + timedelta(seconds=59))

    assert told(change) == []
    assert change.after.due == NOW + timedelta(seconds=60)


def test_a_silent_conversation_is_closed_unless_the_customer_waits_for_us() -> None:
    later = NOW + timedelta(hours=1)
    answered = FIRE(waiting(None), later)
    ours = FIRE(waiting(), later)

    assert answered.after.state == "closed"
    assert told(answered) == [("conversation.closed", "inactivity")]
    assert ours.after.state == "open"


def test_the_end_of_the_case_is_told_once() -> None:
    c = waiting(None, sla=Sla(60, NOW + timedelta(minutes=5)))
    first = FIRE(c, NOW + timedelta(minutes=5))

    assert told(first) == [("conversation.breached", "resolve")]
    assert told(FIRE(first.after, NOW + timedelta(minutes=6))) == []


def test_a_clock_that_is_past_but_does_not_fire_does_not_keep_the_poller_busy() -> None:
    def never(change: Change, now: datetime) -> Change:
        return change

    arm = timers.armed([timers.Clock(lambda _: NOW - timedelta(days=1), never)])

    assert arm(waiting(), NOW) == NOW + timedelta(seconds=1)


def test_closed_and_joined_conversations_have_no_clock() -> None:
    assert ARM(waiting(state="closed"), NOW) is None
    assert ARM(waiting(state="joined", into="c2"), NOW) is None
