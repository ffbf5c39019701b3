"""Order keys, cursors and event ids of the stream: fixed lengths, exact order, nothing foreign accepted."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.timeline.order import (
    ABOVE,
    BOTTOM,
    NOWHERE,
    TOP,
    NotACursor,
    cursor,
    id_bytes,
    id_text,
    key_of,
    microseconds,
    milliseconds,
    order_key,
    sequence,
    version,
)
from services.timeline.vectors import NotAVector, Trail, Vector, prefix, vector_of

IDS = st.binary(min_size=16, max_size=16)
MS = st.integers(0, 2**48 - 1)
NUMBERS = st.integers(0, 2**64 - 1)


@given(MS, NUMBERS, IDS, MS, NUMBERS, IDS)
def test_keys_order_by_time_then_sequence_then_entry(a: int, b: int, c: bytes, d: int, e: int, f: bytes) -> None:
    one, other = order_key(a, b, c), order_key(d, e, f)

    assert (one < other) == ((a, b, c) < (d, e, f))
    assert len(one) == len(other) == len(NOWHERE) == len(ABOVE) == 30


@given(st.integers(0, 255), MS, NUMBERS, IDS)
def test_versions_have_one_length_and_stand_between_bottom_and_top(rank: int, ms: int, number: int, event: bytes) -> None:
    assert BOTTOM <= version(rank, ms, number, event) <= TOP
    assert len(version(rank, ms, number, event)) == len(TOP) == len(BOTTOM) == 31


@given(st.binary(min_size=30, max_size=30))
def test_a_cursor_has_42_characters_and_leads_back(key: bytes) -> None:
    assert len(cursor(key)) == 42
    assert key_of(cursor(key)) == key


@pytest.mark.parametrize(
    "text", ["", "x", "A" * 41, "A" * 43, "é" * 42, "=" * 42, "A" * 42, cursor(NOWHERE)[:-1] + "*", "AQ" + " " * 40]
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(NotACursor):
        key_of(text)


@given(st.text(max_size=60))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        key = key_of(text)
    except NotACursor:
        return
    assert key_of(cursor(key)) == key


def test_a_sequence_orders_places_within_a_microsecond() -> None:
    now = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)

    assert sequence(now, 0) < sequence(now, 1) < sequence(now + timedelta(microseconds=1), 0)
    assert microseconds(now) % 1_000_000 == 123456
    assert milliseconds(datetime(1969, 1, 1, tzinfo=UTC)) == 0


@given(st.datetimes(timezones=st.sampled_from((UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=3))))))
def test_microseconds_are_exact(at: datetime) -> None:
    assert microseconds(at) == (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_a_time_without_zone_is_utc() -> None:
    assert microseconds(datetime(2026, 1, 1)) == microseconds(datetime(2026, 1, 1, tzinfo=UTC))


def test_ids_that_are_no_uuids_are_hashed_and_uuids_lead_back() -> None:
    assert id_text(id_bytes("0129711d-1c7b-5f42-aab8-34e109b54f82")) == "0129711d-1c7b-5f42-aab8-34e109b54f82"
    assert len(id_bytes("e1")) == 16
    assert id_bytes("e1") != id_bytes("e2")


@given(IDS)
def test_an_id_is_written_as_uuids_are(raw: bytes) -> None:
    assert id_text(raw) == str(uuid.UUID(bytes=raw))


@given(
    st.binary(min_size=4, max_size=4),
    st.datetimes(datetime(1980, 1, 1), datetime(2200, 1, 1)),
    st.dictionaries(st.integers(0, 2**16 - 1), st.integers(0, 2**40 - 1)),
)
def test_a_vector_leads_back(epoch: bytes, at: datetime, offsets: dict[int, int]) -> None:
    given_ = Vector(epoch, at.replace(microsecond=0, tzinfo=UTC), offsets)

    assert vector_of(given_.text()) == given_


LANES = st.integers(0, 2**16 - 1) | st.integers(0, 5)
ENDS = st.integers(0, 2**40 - 1)


@given(st.dictionaries(LANES, ENDS), st.lists(st.tuples(LANES, ENDS)))
def test_a_trail_names_every_step_as_its_vector_does(offsets: dict[int, int], steps: list[tuple[int, int]]) -> None:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    trail, moved = Trail(prefix(b"abcd", at), offsets), dict(offsets)
    for lane, end in steps:
        trail.move(lane, end)
        moved[lane] = end

        assert vector_of(trail.text()) == Vector(b"abcd", at, moved)
    assert trail.offsets == moved


@pytest.mark.parametrize(
    "text", ["", "x", "AAAA", "*" * 20, Vector(b"abcd", datetime(2026, 3, 1, tzinfo=UTC), {1: 1}).text()[:-3]]
)
def test_what_is_no_event_id_is_refused(text: str) -> None:
    with pytest.raises(NotAVector):
        vector_of(text)


def test_a_vector_is_too_old_an_hour_before_the_journal_forgets() -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    vector = Vector(b"abcd", now - timedelta(hours=71, minutes=1))

    assert vector.too_old(now, days=3)
    assert not vector.too_old(now - timedelta(minutes=2), days=3)
