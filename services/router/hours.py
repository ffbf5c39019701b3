"""Business hours: when a queue is open, and deadlines that only run while it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

HORIZON = 400  # days that a deadline may lie ahead; a queue that never opens has none


@dataclass(frozen=True, slots=True)
class Hours:
    """`week` holds for each day, Monday first, the stretches in minutes since midnight (00:00 to 24:00) in `zone`; without
    one it is always open. `holidays` are days without any."""

    zone: str = "UTC"
    week: tuple[tuple[tuple[int, int], ...], ...] = ()
    holidays: tuple[date, ...] = ()

    def __post_init__(self) -> None:
        ZoneInfo(self.zone)
        if self.week and len(self.week) != 7:
            raise ValueError("a week has seven days, Monday first")
        for day in self.week:
            ends = [0, *(minute for stretch in day for minute in stretch), 1440]
            if ends != sorted(ends) or any(start == end for start, end in day):
                raise ValueError("a day's stretches follow each other between minute 0 and 1440")

    def kept(self) -> dict[str, Any]:
        """As a document."""
        week = [[list(stretch) for stretch in day] for day in self.week]
        return {"zone": self.zone, "week": week, "holidays": [day.isoformat() for day in self.holidays]}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Hours:
        week = tuple(tuple((start, end) for start, end in day) for day in kept["week"])
        return cls(kept["zone"], week, tuple(map(date.fromisoformat, kept["holidays"])))


ALWAYS = Hours()


def is_open(hours: Hours, at: datetime) -> bool:
    if not hours.week:
        return True
    here = at.astimezone(ZoneInfo(hours.zone)).date()
    return any(start <= at < end for start, end in _stretches(hours, here))


def deadline(hours: Hours, start: datetime, seconds: int) -> datetime | None:
    """The moment at which so many open seconds have passed since `start`; None if the queue does not open that long."""
    start = start.astimezone(UTC)  # with a zone of its own, a sum would count hours of the wall clock
    if not hours.week:
        return start + timedelta(seconds=seconds)
    left = timedelta(seconds=seconds)
    day = start.astimezone(ZoneInfo(hours.zone)).date()
    for _ in range(HORIZON):
        for begins, ends in _stretches(hours, day):
            begins = max(begins, start)
            if begins < ends:
                if ends - begins >= left:
                    return begins + left
                left -= ends - begins
        day += timedelta(days=1)
    return None


@lru_cache(maxsize=4096)
def _stretches(hours: Hours, day: date) -> tuple[tuple[datetime, datetime], ...]:
    """When it is open on that day, in UTC: on the night of a clock change a stretch is an hour longer or shorter."""
    if day in hours.holidays:
        return ()
    return tuple((_moment(hours.zone, day, start), _moment(hours.zone, day, end)) for start, end in hours.week[day.weekday()])


def _moment(zone: str, day: date, minute: int) -> datetime:
    if minute == 1440:
        day, minute = day + timedelta(days=1), 0
    return datetime.combine(day, time(minute // 60, minute % 60), ZoneInfo(zone)).astimezone(UTC)
