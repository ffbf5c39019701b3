"""How fast we may call a provider: for each account and thread a lane in which calls stand at least `1 / rate` apart.

Kept in memory, per process: with several workers the legs of an account may be worked on by several, so each is given its
share (`workers`). A 429 closes the account's lane for as long as the provider says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from services.ingest.contract import Left, Rate

# Below so many calls left, what is left is spread over the time until there are more.
LOW = 10


@dataclass(slots=True)
class Lane:
    """Turns in a queue, in seconds of one clock. `due` is kept per message until it takes its turn, so that waiting twice
    does not mean standing at the end again."""

    spacing: float
    last: float = float("-inf")
    free: float = float("-inf")
    slow: float = 0
    slow_until: float = float("-inf")
    closed_until: float = float("-inf")
    due: dict[str, float] = field(default_factory=dict)

    def wait(self, who: str, now: float) -> float:
        """How long `who` must still wait; 0 is said once, and is the turn itself unless it is given up by `back`."""
        apart = max(self.spacing, self.slow if now < self.slow_until else 0)
        if who not in self.due:
            self.due[who] = max(self.free, self.closed_until, now)
            self.free = self.due[who] + apart
        turn = max(self.due[who], self.last + apart, self.closed_until)
        return max(0.0, turn - now)

    def take(self, who: str, now: float) -> None:
        self.due.pop(who, None)
        self.last = now
        self.free = max(self.free, now + self.spacing)

    def close(self, until: float) -> None:
        """Nobody goes before `until`, and then one after the other: all queue again."""
        if until > self.closed_until:
            self.closed_until = self.free = until
            self.due.clear()

    def forget(self, before: float) -> bool:
        """Drop turns that were never taken; whether the lane is of no use any more."""
        self.due = {who: at for who, at in self.due.items() if at >= before}
        return not self.due and max(self.last + self.spacing, self.closed_until, self.slow_until) < before


class Rates:
    """All lanes of this process."""

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._lanes: dict[str, Lane] = {}

    def wait(self, account: str, thread: str, rates: Sequence[Rate], who: str, now: float) -> float:
        """How long this message must wait; 0 takes its turn in every lane at once."""
        lanes = [self._of(account, thread, rate) for rate in sorted(rates, key=_narrowest_first)]
        lanes.append(self._lane(account, 0.0))
        for lane in lanes:  # no place in the account's queue for who must wait for the thread's anyway
            if (wait := lane.wait(who, now)) > 0:
                return wait
        for lane in lanes:
            lane.take(who, now)
        return 0

    def _of(self, account: str, thread: str, rate: Rate) -> Lane:
        if rate.of == "thread":
            return self._lane(f"{account}\0{thread}", 1 / rate.per_second)
        return self._lane(account, self._workers / rate.per_second)

    def close(self, account: str, until: float) -> None:
        """The provider said: too fast."""
        self._lane(account, 0.0).close(until)

    def left(self, account: str, calls: int, until: float, now: float) -> None:
        """The provider said how many calls are left until a time."""
        lane = self._lane(account, 0.0)
        if calls <= 0:
            lane.close(until)
        elif calls < LOW and until > now:
            lane.slow, lane.slow_until = (until - now) / calls, until

    def forget(self, before: float) -> None:
        self._lanes = {name: lane for name, lane in self._lanes.items() if not lane.forget(before)}

    def _lane(self, name: str, spacing: float) -> Lane:
        lane = self._lanes.setdefault(name, Lane(spacing))
        lane.spacing = max(lane.spacing, spacing)
        return lane


def _narrowest_first(rate: Rate) -> bool:
    return rate.of != "thread"


def until(left: Left, now: datetime) -> datetime | None:
    """When there will be calls again: seconds, Unix time or ISO 8601, as the provider writes it. None if it is neither, or
    further away than any provider's budget lasts."""
    text = (left.until or "").strip()
    try:
        number = float(text)
        at = datetime.fromtimestamp(number, UTC) if number > 1_000_000_000 else now + timedelta(seconds=number)
    except (ValueError, OverflowError, OSError):
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return at if now < at < now + timedelta(days=2) else None
