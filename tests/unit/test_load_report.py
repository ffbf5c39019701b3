"""The load tool's verdict can fail: what is lost, doubled or inverted is counted."""

from __future__ import annotations

from typing import Any

from tests.load.faults import schedule
from tests.load.plan import batches, plan, sendings
from tests.load.report import ReadBack, Report, Seen, inverted, report


def seen(*ids: str) -> list[Seen]:
    return [Seen(f"e-{number}-{one}", one) for number, one in enumerate(ids)]


def told(promised: dict[int, set[str]], found: ReadBack, **more: Any) -> Report:
    written = {one: ord(one[-1]) for ids in promised.values() for one in ids}
    pushed = more.pop("pushed", written)
    return report(promised, written, pushed, found, seconds=1, timed=3, latencies_ms=[5, 7], **more)


def test_all_there_once_is_neither_lost_nor_doubled() -> None:
    found = told({1: {"a", "b"}}, ReadBack({1: seen("a", "b")}, arrived={"a": 2, "b": 1, "other": 9}))

    assert (found.lost, found.doubled, found.on_timeline, found.suppressed, found.out_of_order) == (0, 0, 2, 1, 0)
    assert found.wrong(duplicates=True) == []


def test_a_missing_message_is_lost_and_one_shown_twice_is_doubled() -> None:
    found = told({1: {"a", "b"}, 2: {"c"}}, ReadBack({1: seen("a", "a")}, arrived={"a": 2, "b": 1}))

    assert (found.lost, found.doubled, found.suppressed) == (2, 1, 1)
    assert {"lost", "doubled"} <= set(found.wrong(duplicates=True))


def test_a_message_on_somebody_elses_timeline_is_lost() -> None:
    assert told({1: {"a"}, 2: set()}, ReadBack({2: seen("a")})).lost == 1


def test_sends_conversations_and_appends_count_as_doubled_too() -> None:
    found = told({}, ReadBack({}, read={"x": 2, "y": 1}, answers={"sent": 2}, two_open=2, appended_above_one=4))

    assert (found.doubled, found.sends_twice, found.sends_unread) == (7, 1, 0)


def test_an_answer_that_is_called_sent_and_that_nobody_read_is_found() -> None:
    assert told({}, ReadBack({}, read={"x": 0}, answers={"sent": 1})).wrong(duplicates=False) == ["sends_unread"]


def test_each_promise_that_is_broken_makes_the_run_a_bad_one() -> None:
    promised = {1: {"a", "b"}}
    fine: dict[str, Any] = {"by_person": {1: seen("a", "b")}, "arrived": {"a": 2, "b": 1}}

    assert told(promised, ReadBack(**{**fine, "by_person": {1: seen("b", "a")}})).wrong(duplicates=True) == ["out_of_order"]
    assert told(promised, ReadBack(**fine), pushed=["a"]).wrong(duplicates=True) == ["unpushed"]
    assert told(promised, ReadBack(**{**fine, "arrived": {"a": 1, "b": 1}})).wrong(duplicates=True) == ["suppressed"]
    assert told(promised, ReadBack(**fine, ledger={"accepted": 3, "normalized": 2})).wrong(duplicates=True) == ["ledger"]
    assert told(promised, ReadBack(**fine, ledger_ok=False)).wrong(duplicates=True) == ["ledger"]
    assert told(promised, ReadBack(**fine, behind=1)).wrong(duplicates=True) == ["behind"]
    assert told(promised, ReadBack(**fine, answers={"waiting": 1})).wrong(duplicates=True) == ["waiting"]


def test_messages_against_their_order_are_out_of_order_and_equal_ones_are_not() -> None:
    assert inverted([5, 5, 4, 6]) == 1


def test_the_plan_is_the_same_for_a_seed_and_every_person_writes_in_rising_time() -> None:
    messages = plan(500, 1_700_000_000)

    assert messages == plan(500, 1_700_000_000)
    for person in {m.person for m in messages}:
        own = [m for m in messages if m.person == person]
        assert [m.place for m in own] == list(range(len(own)))
        assert [m.at for m in own] == sorted({m.at for m in own})
    assert sorted(m.number for batch in batches(messages, 7) for m in batch) == list(range(500))


def test_sendings_hold_everything_some_of_it_twice_and_some_out_of_order() -> None:
    ordered = sendings(range(1000), duplicates=0.1, reorder=0.1)

    assert set(ordered) == set(range(1000))
    assert 50 < len(ordered) - 1000 < 200
    first = list(dict.fromkeys(ordered))
    assert first != sorted(first)
    assert sendings(range(1000), duplicates=0, reorder=0) == list(range(1000))


def test_everybody_is_killed_or_paused_once_before_the_end() -> None:
    planned = schedule(["a", "b", "c"], ["c"], last=0.9)

    assert sorted((fault.kind, fault.name) for fault in planned) == [
        ("kill", "a"),
        ("kill", "b"),
        ("kill", "c"),
        ("pause", "c"),
    ]
    assert [fault.share for fault in planned] == sorted(fault.share for fault in planned)
    assert all(0 < fault.share < 0.9 for fault in planned)
