"""The load tool's verdict can fail: what is lost, doubled or inverted is counted."""

from __future__ import annotations

from tests.load.plan import batches, plan
from tests.load.report import ReadBack, Seen, inverted, report


def seen(*ids: str) -> list[Seen]:
    return [Seen(f"e-{number}-{one}", one, number) for number, one in enumerate(ids)]


def test_all_there_once_is_neither_lost_nor_doubled() -> None:
    found = report({1: {"a", "b"}}, ReadBack({1: seen("a", "b")}), delivered_items=3, sends=0, seconds=1, latencies_ms=[5, 7])

    assert (found.lost, found.doubled, found.on_timeline, found.suppressed, found.out_of_order) == (0, 0, 2, 1, 0)


def test_a_missing_message_is_lost_and_one_shown_twice_is_doubled() -> None:
    found = report(
        {1: {"a", "b"}, 2: {"c"}}, ReadBack({1: seen("a", "a")}), delivered_items=4, sends=0, seconds=1, latencies_ms=[]
    )

    assert (found.lost, found.doubled, found.suppressed) == (2, 1, 0)


def test_sends_conversations_and_appends_count_as_doubled_too() -> None:
    read = ReadBack({}, sends_above_one=1, two_open=2, appended_above_one=4)

    assert report({}, read, delivered_items=0, sends=0, seconds=1, latencies_ms=[]).doubled == 7


def test_messages_against_their_times_are_out_of_order_and_equal_times_are_not() -> None:
    assert inverted([Seen("1", "a", 5), Seen("2", "b", 5), Seen("3", "c", 4)]) == 1


def test_the_plan_is_the_same_for_a_seed_and_every_person_writes_in_rising_time() -> None:
    messages = plan(500, 1_700_000_000)

    assert messages == plan(500, 1_700_000_000)
    for person in {m.person for m in messages}:
        own = [m for m in messages if m.person == person]
        assert [m.place for m in own] == list(range(len(own)))
        assert [m.at for m in own] == sorted({m.at for m in own})
    assert sorted(m.number for batch in batches(messages, 7) for m in batch) == list(range(500))
