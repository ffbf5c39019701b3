"""What became of the load, as one JSON line. Pure: from what was accepted and what was read back."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Seen:
    """An entry of a timeline, in the order shown."""

    entry_id: str
    provider_id: str


@dataclass
class ReadBack:
    """All that was read through the APIs and topics after everything was quiet. `arrived`: how often each provider id came on
    `hilo.events`. `read`: how often each answer reached its customer. `answers`: how many are in which state."""

    by_person: dict[int, list[Seen]] = field(default_factory=dict)
    ledger: Mapping[str, int] = field(default_factory=dict)
    ledger_ok: bool = True
    arrived: Mapping[str, int] = field(default_factory=dict)
    read: Mapping[str, int] = field(default_factory=dict)
    answers: Mapping[str, int] = field(default_factory=dict)
    two_open: int = 0
    appended_above_one: int = 0
    behind: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """`sends` are answers that the router accepted; `sends_unread` of them reached nobody although the journal says sent."""

    accepted: int
    normalized: int
    quarantined: int
    ignored: int
    on_timeline: int
    lost: int
    doubled: int
    out_of_order: int
    suppressed: int
    seconds: float
    p50_ms: float
    p99_ms: float
    entries_twice: int
    sends_twice: int
    two_open: int
    appended_twice: int
    promised: int
    unpushed: int
    sends: int
    sends_settled: Mapping[str, int]
    sends_unread: int
    behind: int
    ledger_ok: bool
    per_second: float

    def line(self) -> dict[str, object]:
        return asdict(self)

    def wrong(self, *, duplicates: bool) -> list[str]:
        """What must not be; empty for a good run."""
        bad = [
            name for name in ("lost", "doubled", "out_of_order", "unpushed", "sends_unread", "behind") if getattr(self, name)
        ]
        bad += [] if self.ledger_ok and self.accepted == self.normalized + self.quarantined + self.ignored else ["ledger"]
        bad += ["suppressed"] if duplicates and self.suppressed <= 0 else []
        return bad + [state for state in ("waiting", "failed", "refused") if self.sends_settled.get(state)]


def inverted(shown: Sequence[int]) -> int:
    """Neighbours of one sender shown against the order in which they were written; equals may stand either way."""
    return sum(first > second for first, second in itertools.pairwise(shown))


def report(
    promised: Mapping[int, set[str]],
    written: Mapping[str, int],
    pushed: Iterable[str],
    found: ReadBack,
    *,
    seconds: float,
    timed: int,
    latencies_ms: Iterable[float],
) -> Report:
    """`seconds` from the first of the `timed` last messages to the last push.

    `promised` are the provider ids answered 200, by person, and `written` their order, both from the client's own ledger."""
    shown = {person: Counter(one.provider_id for one in seen) for person, seen in found.by_person.items()}
    nothing: Counter[str] = Counter()
    there = sum(len(ids & shown.get(person, nothing).keys()) for person, ids in promised.items())
    distinct = {one for ids in promised.values() for one in ids}
    entries_twice = sum(times - 1 for counted in shown.values() for times in counted.values())
    sends_twice = sum(times - 1 for times in found.read.values() if times > 1)
    orders = ([written[one.provider_id] for one in seen if one.provider_id in written] for seen in found.by_person.values())
    latencies = sorted(latencies_ms)
    return Report(
        accepted=found.ledger.get("accepted", 0),
        normalized=found.ledger.get("normalized", 0),
        quarantined=found.ledger.get("quarantined", 0),
        ignored=found.ledger.get("ignored", 0),
        on_timeline=there,
        lost=len(distinct) - there,
        doubled=entries_twice + sends_twice + found.two_open + found.appended_above_one,
        out_of_order=sum(map(inverted, orders)),
        suppressed=sum(times for one, times in found.arrived.items() if one in distinct) - there - entries_twice,
        seconds=round(seconds, 1),
        p50_ms=round(statistics.median(latencies), 1) if latencies else 0.0,
        p99_ms=round(latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))], 1) if latencies else 0.0,
        entries_twice=entries_twice,
        sends_twice=sends_twice,
        two_open=found.two_open,
        appended_twice=found.appended_above_one,
        promised=len(distinct),
        unpushed=len(distinct - set(pushed)),
        sends=sum(found.answers.values()),
        sends_settled=dict(found.answers),
        sends_unread=max(0, found.answers.get("sent", 0) - sum(times > 0 for times in found.read.values())),
        behind=found.behind,
        ledger_ok=found.ledger_ok,
        per_second=round(timed / seconds, 1) if seconds else 0.0,
    )
