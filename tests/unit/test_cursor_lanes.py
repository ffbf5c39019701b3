"""Lanes: when records belong to the log that a lane was made for, and when the topic was made again."""

from __future__ import annotations

import pytest

from services.timeline.lanes import Lane, Print, lane_of, offset_of, position, same_log

FIRST = Print(10, 1000, b"first-----------")


def prints(*offsets: int, stamp: int = 2000) -> list[Print]:
    return [Print(offset, stamp, b"e%015d" % offset) for offset in offsets]


LANE = Lane(3, FIRST, end=50)


@pytest.mark.parametrize(
    ("records", "journaled", "same"),
    [
        (prints(20, 21), {}, True),
        (prints(20, 21), {21: b"e%015d" % 21}, True),
        (prints(20, 21), {21: b"another---------"}, False),
        (prints(9, 20), {}, False),
        ([FIRST, *prints(11)], {}, True),
        ([Print(10, 1000, b"another---------")], {}, False),
        ([Print(10, 1001, FIRST.event)], {}, False),
        (prints(48, 49), {60: b"beyond----------"}, True),
    ],
)
def test_a_log_is_recognised_by_its_first_record_and_by_what_is_journaled(
    records: list[Print], journaled: dict[int, bytes], same: bool
) -> None:
    assert same_log(LANE, records, journaled) is same


def test_positions_hold_lane_and_offset() -> None:
    assert (lane_of(position(65535, 2**40)), offset_of(position(65535, 2**40))) == (65535, 2**40)
    assert position(1, 2**48 - 1) < position(2, 0)
