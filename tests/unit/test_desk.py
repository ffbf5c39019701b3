"""Who gets a conversation and why; and deadlines that run only in open hours."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.events import Author
from services.router import desk
from services.router.desk import Agent, Give, Queue, Wait, Write
from services.router.documents import from_document, to_document
from services.router.hours import ALWAYS, Hours, deadline, is_open
from services.router.outputs import Change, Emit
from services.router.state import Assignment, Conversation, LegRecord, Sla, head
from services.router.timers import SLA

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)  # a Monday
QUEUE = Queue("default", offer_s=30)
INES = Author("agent", "ines")


def case(**more: object) -> Conversation:
    leg = LegRecord("l", "p", "telegram", "bot", visibility="public")
    c = Conversation("c", "acme", "l", NOW, v=4, legs=(leg,), since=NOW - timedelta(seconds=10))
    return replace(c, **more)  # type: ignore[arg-type]


def agent(name: str, **more: object) -> Agent:
    one = Agent(name, "acme", queues=("default",), capacity=2, on=True, free_since=NOW - timedelta(minutes=5))
    return replace(one, **more)  # type: ignore[arg-type]


def order(decision: Give | Write | Wait) -> list[str]:
    assert isinstance(decision, Give), decision
    return [name for name, _ in decision.to]


# -- candidates -----------------------------------------------------------------------------------------------------------


def test_who_is_free_longest_is_asked_first_and_who_has_work_last() -> None:
    agents = [
        agent("busy", load=1, free_since=NOW - timedelta(hours=9)),
        agent("late", free_since=NOW - timedelta(minutes=1)),
        agent("long", free_since=NOW - timedelta(hours=1)),
    ]

    assert order(desk.decided(case(), QUEUE, agents, NOW)) == ["long", "late", "busy"]


def test_only_members_who_are_here_have_room_and_the_skills_are_asked() -> None:
    agents = [
        agent("away", on=False),
        agent("full", load=2),
        agent("other", queues=("vip",)),
        agent("unskilled"),
        agent("right", skills=("refunds", "cats")),
    ]

    assert order(desk.decided(case(skills=("refunds",)), QUEUE, agents, NOW)) == ["right"]
    assert order(desk.decided(case(), replace(QUEUE, skills=("cats",)), agents, NOW)) == ["right"]


def test_the_language_decides_while_anybody_speaks_it() -> None:
    agents = [agent("en", languages=("en",)), agent("es", languages=("es",)), agent("all")]

    assert set(order(desk.decided(case(language="es-MX"), QUEUE, agents, NOW))) == {"es", "all"}
    nobody = desk.decided(case(language="fi"), QUEUE, agents[:2], NOW)
    assert isinstance(nobody, Give)
    assert all("nobody_speaks=fi" in why for _, why in nobody.to)


def test_the_one_who_speaks_it_is_waited_for_while_busy() -> None:
    agents = [agent("en", languages=("en",)), agent("es", languages=("es",), load=2)]

    assert desk.decided(case(language="es"), QUEUE, agents, NOW) == Wait("full")


def test_a_conversation_weighs_what_its_heaviest_leg_does() -> None:
    chat = LegRecord("l2", "p", "webchat", "site", visibility="private")
    mail = LegRecord("l3", "p", "email", "in", visibility="private")
    c = case()

    assert desk.weight(c, QUEUE) == 1
    assert desk.weight(c.with_leg(mail), QUEUE) == 1
    assert desk.weight(c.with_leg(chat), QUEUE) == 2
    assert desk.weight(c.with_leg(chat), replace(QUEUE, weights={"webchat": 3})) == 3
    assert desk.decided(c.with_leg(chat), QUEUE, [agent("a", load=1)], NOW) == Wait("full")


def test_the_agent_of_before_is_preferred_and_waited_for_a_moment() -> None:
    c, sticky = case(sticky="old"), agent("old", free_since=NOW)
    other = agent("new", free_since=NOW - timedelta(hours=1))

    assert order(desk.decided(c, QUEUE, [other, sticky], NOW)) == ["old", "new"]
    assert desk.decided(c, QUEUE, [other, replace(sticky, load=2)], NOW) == Wait("sticky")
    assert order(desk.decided(c, QUEUE, [other, replace(sticky, load=2)], NOW + timedelta(seconds=120))) == ["new"]
    assert order(desk.decided(c, QUEUE, [other, replace(sticky, on=False)], NOW)) == ["new"]


def test_after_too_long_a_wait_the_agents_of_another_queue_are_asked_too() -> None:
    queue, far = replace(QUEUE, overflow="vip", overflow_s=600), agent("far", queues=("vip",))

    assert desk.decided(case(), queue, [far], NOW) == Wait("nobody")
    later = desk.decided(case(), queue, [far], NOW + timedelta(seconds=600))
    assert isinstance(later, Give)
    assert later.to[0][1].endswith("overflow=vip")


def test_every_decision_says_why() -> None:
    decision = desk.decided(case(language="es"), QUEUE, [agent("a", load=1)], NOW)

    assert decision == Give((("a", "by=auto rule=longest_free language=es load=1/2 of=1"),), 1, 30)


def test_who_refused_is_not_asked_again_until_all_have_refused_and_a_pause_is_over() -> None:
    agents = [agent("a"), agent("b")]
    assert order(desk.decided(case(excluded=("a",)), QUEUE, agents, NOW)) == ["b"]

    pause = desk.decided(case(excluded=("a", "b")), QUEUE, agents, NOW)
    assert isinstance(pause, Write)
    paused = pause.change.after
    assert desk.decided(paused, QUEUE, agents, NOW + timedelta(seconds=29)) == Wait("pause")
    again = desk.decided(paused, QUEUE, agents, NOW + timedelta(seconds=30))
    assert isinstance(again, Write)
    assert (again.change.after.excluded, again.change.after.pause_until) == ((), None)


# -- offers and assignments -------------------------------------------------------------------------------------------


def test_an_offer_keeps_the_place_in_the_queue_and_an_acceptance_ends_the_wait() -> None:
    expires = NOW + timedelta(seconds=30)
    offered = desk.given(case(), "a", "by=auto", NOW, state="offered", expires=expires)
    c = offered.after
    assert c.assignment == Assignment("a", "c@4@a", "offered", expires, "by=auto")
    assert c.since == case().since
    assert c.due is not None
    assert c.due <= expires
    assert offered.outputs == (Emit("conversation.offered", None, "by=auto", {"agent": "a", "reservation": "c@4@a"}),)

    taken = desk.accepted(c, NOW, INES)
    assert taken.after.assignment == Assignment("a", "c@4@a", "active", None, "by=auto")
    assert (taken.after.since, taken.after.sticky) == (None, "a")


def test_a_rejected_offer_goes_back_to_its_place_and_released_work_waits_from_now() -> None:
    offered = desk.given(case(), "a", "by=auto", NOW, state="offered", expires=NOW).after
    back = desk.released(offered, "rejected", NOW, exclude=True).after
    assert (back.assignment, back.since, back.excluded, back.participants) == (None, case().since, ("a",), ())

    active = desk.given(case(), "a", "by=manual", NOW).after
    later = NOW + timedelta(hours=1)
    free = desk.released(active, "released", later).after
    assert (free.since, free.participants, free.sticky) == (later, ("a",), "a")


def test_work_that_changes_hands_is_a_transfer_and_keeps_who_took_part() -> None:
    active = desk.given(case(), "a", "by=auto", NOW).after
    change = desk.given(replace(active, v=5), "b", "by=manual", NOW, by=INES)

    assert change.after.participants == ("a",)
    assert [one.name for one in change.outputs if isinstance(one, Emit)] == ["conversation.transferred"]


def test_another_queue_asks_everybody_anew() -> None:
    c = replace(desk.given(case(), "a", "by=auto", NOW).after, excluded=("a", "b"))
    change = desk.released(c, "transferred", NOW, INES, queue="vip")

    assert (change.after.queue, change.after.excluded, change.after.since) == ("vip", (), NOW)
    assert [one.name for one in change.outputs if isinstance(one, Emit)] == ["conversation.released", "conversation.queued"]


def test_an_offer_fires_at_its_end_and_not_before() -> None:
    c = desk.given(case(), "a", "by=auto", NOW, state="offered", expires=NOW + timedelta(seconds=30)).after

    assert desk.due(c) == NOW + timedelta(seconds=30)
    assert desk.fired(c, NOW + timedelta(seconds=29)) is None
    over = desk.fired(c, NOW + timedelta(seconds=30))
    assert isinstance(over, Change)
    assert (over.after.assignment, over.after.excluded) == (None, ("a",))
    assert desk.fired(desk.accepted(c, NOW, INES).after, NOW + timedelta(days=1)) is None


def test_by_hand_beats_a_rule_and_a_rule_beats_the_automatic() -> None:
    def held(why: str, state: str) -> Conversation:
        return case(assignment=Assignment("a", "r", state, None, why))  # type: ignore[arg-type]

    assert desk.may_replace(case(), "auto")
    assert desk.may_replace(held("by=auto x", "offered"), "rule")
    assert not desk.may_replace(held("by=rule x", "offered"), "rule")
    assert not desk.may_replace(held("by=manual x", "offered"), "rule")
    assert not desk.may_replace(held("by=auto x", "active"), "rule")
    assert desk.may_replace(held("by=manual x", "active"), "manual")


def test_a_reservation_names_conversation_version_and_agent_whatever_the_agents_name() -> None:
    assert desk.parsed(desk.reservation("c", 4, "ines@acme.example")) == ("c", 4, "ines@acme.example")


# -- business hours ---------------------------------------------------------------------------------------------------

MADRID = ZoneInfo("Europe/Madrid")
SHOP = Hours("Europe/Madrid", (((540, 840), (960, 1200)),) * 5 + ((), ()), (date(2026, 12, 8),))


def at(day: int, hour: int, minute: int = 0, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=MADRID)


def test_a_deadline_runs_only_while_it_is_open() -> None:
    assert deadline(SHOP, at(23, 9), 3600) == at(23, 10)
    assert deadline(SHOP, at(23, 13, 30), 3600) == at(23, 16, 30)  # over the midday break
    assert deadline(SHOP, at(27, 19, 30), 3600) == at(30, 9, 30)  # over the weekend
    assert deadline(SHOP, at(28, 12), 60) == at(30, 9, 1)  # from a Saturday
    assert deadline(SHOP, at(7, 19, 59, 12), 120) == at(9, 9, 1, 12)  # over a holiday
    assert deadline(ALWAYS, at(28, 12), 60) == at(28, 12, 1)
    assert deadline(Hours("UTC", ((),) * 7), at(28, 12), 60) is None


def test_on_the_night_of_a_clock_change_an_hour_is_an_hour() -> None:
    night = Hours("Europe/Madrid", (((0, 1440),),) * 7)
    start = datetime(2026, 10, 25, 1, 30, tzinfo=MADRID)

    assert deadline(night, start, 7200) == start.astimezone(UTC) + timedelta(hours=2)


def test_open_is_from_the_first_minute_to_before_the_last() -> None:
    assert not is_open(SHOP, at(23, 8, 59))
    assert is_open(SHOP, at(23, 9))
    assert not is_open(SHOP, at(23, 14))
    assert not is_open(SHOP, at(28, 10))
    assert is_open(ALWAYS, at(28, 3))


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)), st.integers(1, 40_000), st.integers(1, 40_000))
def test_a_longer_promise_never_ends_earlier_and_two_in_a_row_are_one(start: datetime, one: int, two: int) -> None:
    begin = start.replace(tzinfo=UTC)
    first = deadline(SHOP, begin, one)
    assert first

    assert first >= begin + timedelta(seconds=one)
    assert deadline(SHOP, first, two) == deadline(SHOP, begin, one + two)


@pytest.mark.parametrize("week", [(((540, 500),),) * 7, (((0, 1441),),) * 7, (((0, 60), (30, 90)),) * 7, (((0, 60),),) * 6])
def test_hours_that_cannot_be_are_refused(week: tuple[tuple[tuple[int, int], ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"week|stretches"):
        Hours("UTC", week)


def test_a_queue_promises_in_its_hours() -> None:
    queue = replace(QUEUE, hours=SHOP, answer_s=3600, resolve_s=7200)

    assert desk.answer_by(queue, at(27, 19, 30)) == at(30, 9, 30)
    assert desk.resolve_by(queue, at(27, 19)) == at(30, 10)
    assert desk.answer_by(QUEUE, at(27, 19)) is None


def test_a_conversations_deadline_keeps_its_queues_hours() -> None:
    c = case(sla=Sla(3600, hours=SHOP))
    c = c.with_leg(replace(c.legs[0], wait=at(27, 19, 30)))
    kept = from_document(to_document(c))

    assert kept.sla == c.sla
    assert head(kept).sla.answer_by == at(30, 9, 30)
    assert SLA.due(kept) == at(30, 9, 30)
    assert SLA.fire(Change(kept), at(30, 9, 29)).outputs == ()
    assert [one.why for one in SLA.fire(Change(kept), at(30, 9, 30)).outputs if isinstance(one, Emit)] == ["answer"]
