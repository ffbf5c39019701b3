"""What became of the load, as one JSON line. Pure: from what was accepted and what was read back."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Seen:
    """An entry of a timeline as its reader saw it, in the order shown."""

    entry_id: str
    provider_id: str
    at_ms: int


@dataclass
class ReadBack:
    """All that was read through the APIs and topics after everything was quiet."""

    by_person: dict[int, list[Seen]] = field(default_factory=dict)
    ledger: Mapping[str, int] = field(default_factory=dict)
    sends_above_one: int = 0
    two_open: int = 0
    appended_above_one: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    accepted: int
    normalized: int
    quarantined: int
    ignored: int
    on_timeline: int
    lost: int
    doubled: int
    out_of_order: int
    suppressed: int
    entries_twice: int
    sends_twice: int
    two_open: int
    appended_twice: int
    sends: int
    seconds: float
    per_second: float
    p50_ms: float
    p99_ms: float

    def line(self) -> dict[str, float]:
        return asdict(self)


def inverted(seen: Sequence[Seen]) -> int:
    """Neighbours of one sender shown against their provider times; equal times may stand either way."""
    return sum(first.at_ms > second.at_ms for first, second in itertools.pairwise(seen))


def report(
    promised: Mapping[int, set[str]],
    read: ReadBack,
    *,
    delivered_items: int,
    sends: int,
    seconds: float,
    latencies_ms: Iterable[float],
) -> Report:
    """`promised` are the provider ids answered 200, by person; `delivered_items` counts them with their doubles."""
    shown = {person: Counter(one.provider_id for one in seen) for person, seen in read.by_person.items()}
    lost = sum(len(ids - shown.get(person, Counter()).keys()) for person, ids in promised.items())
    twice = sum(times - 1 for counted in shown.values() for times in counted.values() if times > 1)
    distinct = sum(len(ids) for ids in promised.values())
    latencies = sorted(latencies_ms)
    return Report(
        accepted=read.ledger.get("accepted", 0),
        normalized=read.ledger.get("normalized", 0),
        quarantined=read.ledger.get("quarantined", 0),
        ignored=read.ledger.get("ignored", 0),
        on_timeline=sum(len(ids & shown.get(person, Counter()).keys()) for person, ids in promised.items()),
        lost=lost,
        doubled=twice + read.sends_above_one + read.two_open + read.appended_above_one,
        out_of_order=sum(map(inverted, read.by_person.values())),
        suppressed=delivered_items - distinct - twice,
        entries_twice=twice,
        sends_twice=read.sends_above_one,
        two_open=read.two_open,
        appended_twice=read.appended_above_one,
        sends=sends,
        seconds=round(seconds, 1),
        per_second=round(distinct / seconds, 1) if seconds else 0.0,
        p50_ms=round(statistics.median(latencies), 1) if latencies else 0.0,
        p99_ms=round(latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))], 1) if latencies else 0.0,
    )
