"""The memory of inputs that is bounded and still knows every one: a window of the newest, and a floor below it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from services.router.conversations import destination, first_id, survivor
from services.router.newest import Newest
from services.router.state import Conversation, Seen, milliseconds, stamp

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
INPUTS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), max_size=120)


@given(INPUTS, st.integers(1, 8))
def test_no_input_takes_effect_twice_whatever_comes_again_in_whatever_order(inputs: list[tuple[int, int]], window: int) -> None:
    seen, applied = Seen(), list[int]()
    times: dict[int, int] = {}
    for name, time in inputs:
        time = times.setdefault(name, time)  # an input's time is a function of the input, never of the copy
        if not seen.has(f"i{name}") and not seen.is_late(time):
            applied.append(name)
            seen = seen.plus(f"i{name}", time, window)

    assert len(applied) == len(set(applied))
    assert len(seen) <= window


@given(st.lists(st.integers(0, 2**48 - 1), unique=True, max_size=100))
def test_inputs_that_come_in_the_order_of_time_all_take_effect(times: list[int]) -> None:
    seen = Seen()
    for time in sorted(times):
        assert not seen.has(f"i{time}")
        assert not seen.is_late(time)
        seen = seen.plus(f"i{time}", time)

    assert all(seen.has(f"i{time}") for time in sorted(times)[-64:])
    assert len(seen.packed) <= 64 * 14


def test_a_clock_far_off_neither_breaks_the_packing_nor_hides_what_comes_after() -> None:
    seen = Seen().plus("future", stamp(datetime(9999, 1, 1, tzinfo=UTC))).plus("now", stamp(NOW))

    assert seen.has("future")
    assert seen.has("now")
    assert not seen.is_late(stamp(NOW + timedelta(seconds=1)))
    assert stamp(datetime(1900, 1, 1, tzinfo=UTC)) == 0


ZONES = st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(timezone)
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(9000, 1, 1), timezones=ZONES)  # their zones are drawn


@given(TIMES)
def test_a_time_is_kept_as_the_store_keeps_it_and_stamped_by_its_milliseconds(at: datetime) -> None:
    kept, begin = milliseconds(at), datetime(1970, 1, 1, tzinfo=UTC)

    assert kept == at - timedelta(microseconds=at.astimezone(UTC).microsecond % 1000)
    assert kept.tzinfo is UTC
    assert stamp(at) == stamp(kept) == max((at - begin) // timedelta(milliseconds=1), 0)


def conversation(name: str, age_s: int) -> Conversation:
    return Conversation(name, "acme", "leg", NOW - timedelta(seconds=age_s))


def test_the_oldest_survives_whoever_asks() -> None:
    one, two, three = conversation("b", 5), conversation("a", 5), conversation("c", 9)

    assert survivor(one, [two, three]) == survivor(two, [three, one]) == three
    assert survivor(one, [two]) == two


def test_a_leg_never_goes_back_where_it_leaves() -> None:
    old = conversation("a", 9)

    assert destination("leg", 2, [old, conversation("b", 5)]) == "a"
    assert destination("leg", 2, [old], source="a") == first_id("leg", 2)
    assert destination("leg", 2, []) == first_id("leg", 2)


def test_of_what_was_written_the_newest_is_kept_while_it_is_open_and_without_what_was_published() -> None:
    newest, one, two = Newest(most=2), conversation("a", 1), conversation("b", 1)
    newest.wrote(one)
    newest.wrote(two)
    newest.wrote(one.but(v=1, out=("said",)))
    newest.published(one.but(v=0, out=("said before",)))

    assert newest.of(("a", "b", "c")) == {"a": one.but(v=1, out=("said",)), "b": two}

    newest.published(one.but(v=1, out=("said",)))
    newest.wrote(conversation("c", 1))

    assert newest.of(("a", "b")) == {"a": one.but(v=1)}, "the one that was written longest ago makes room"

    newest.wrote(one.but(v=2, state="closed"))
    newest.forget("c")

    assert newest.of(("a", "c")) == {}
