"""What an event does to an entry, as facets under MongoDB's `$max` and `$min`. Pure.

A facet is a document whose first field `v` is its version, or a plain number or binary. The store keeps the highest or the
lowest, whatever order, doubles and batches the events come in: commutative and idempotent without reading first.

What the projector makes for every event is a plain dataclass, though nobody changes it: a frozen one takes four times as
long to make.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Value = int | bytes | Mapping[str, object]


@dataclass(slots=True)
class Change:
    """An update of one entry. `bind`: what waits on this document (a receipt by piece, the words of a queued message) may
    now belong to another, so it is read again after the write."""

    entry: bytes
    highest: Mapping[str, Value] = field(default_factory=dict)
    lowest: Mapping[str, Value] = field(default_factory=dict)
    bind: bool = False

    @property
    def new(self) -> bool:
        """Whether it brings the entry into being: then an insert is tried first, which is twice as fast."""
        return "b" in self.highest

    @property
    def facets(self) -> Mapping[str, Value]:
        """By path: all of the entry, where nothing else is known of it."""
        return {**self.highest, **self.lowest}

    def update(self) -> Mapping[str, Mapping[str, Value]]:
        """MongoDB refuses empty operators."""
        return {name: values for name, values in (("$max", self.highest), ("$min", self.lowest)) if values}

    def whole(self) -> dict[str, object] | None:
        """What the upsert would insert; None for what only adds to an entry."""
        return nested(self.facets) if self.new else None


def rank_of(value: Value) -> int | bytes:
    """What the store compares first."""
    if isinstance(value, Mapping):
        found = value["v"]
        assert isinstance(found, int | bytes)
        return found
    return value


def _above(one: Value, other: Value) -> bool:
    return rank_of(one) > rank_of(other)  # type: ignore[operator]  # one path always holds one type


def highest_of(one: Mapping[str, Value], other: Mapping[str, Value]) -> dict[str, Value]:
    """What the store would keep of both under `$max`; of equals the first."""
    kept = dict(one)
    for path, value in other.items():
        if path not in kept or _above(value, kept[path]):
            kept[path] = value
    return kept


def lowest_of(one: Mapping[str, Value], other: Mapping[str, Value]) -> dict[str, Value]:
    """What the store would keep of both under `$min`; of equals the first."""
    kept = dict(one)
    for path, value in other.items():
        if path not in kept or _above(kept[path], value):
            kept[path] = value
    return kept


def merged(one: Change, other: Change) -> Change:
    """Both changes of the same entry as one, by the comparison that the store would make."""
    highest, lowest = highest_of(one.highest, other.highest), lowest_of(one.lowest, other.lowest)
    return Change(one.entry, highest, lowest, one.bind or other.bind)


def folded(changes: Iterable[Change]) -> dict[bytes, Change]:
    """One change per entry: a batch often holds a message with its receipts."""
    by: dict[bytes, Change] = {}
    for change in changes:
        known = by.get(change.entry)
        by[change.entry] = merged(known, change) if known else change
    return by


def nested(facets: Mapping[str, Value]) -> dict[str, object]:
    """Paths as documents within documents."""
    made: dict[str, object] = {}
    for path, value in facets.items():
        *parents, leaf = path.split(".")
        at = made
        for parent in parents:
            at = at.setdefault(parent, {})  # type: ignore[assignment]  # only documents have children
        at[leaf] = value
    return made


@dataclass(slots=True)
class Row:
    """What is new of a conversation or an identifier: facets, and what is added to its sets."""

    highest: Mapping[str, Value]
    sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def merged(self, other: Row) -> Row:
        names = (*self.sets, *other.sets)
        sets = {name: tuple(dict.fromkeys((*self.sets.get(name, ()), *other.sets.get(name, ())))) for name in names}
        return Row(highest_of(self.highest, other.highest), sets)

    def update(self) -> dict[str, object]:
        found: dict[str, object] = {"$max": self.highest}
        if self.sets:
            found["$addToSet"] = {name: {"$each": values} for name, values in self.sets.items()}
        return found

    def whole(self) -> Mapping[str, object] | None:
        """What the upsert would insert; None for what only adds to a row that is there."""
        return {**self.highest, **self.sets} if self.sets else None
