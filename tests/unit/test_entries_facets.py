"""Facets: what the projector folds before it writes must be what the store would have made of the single updates."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from services.timeline.facets import Change, Row, folded, merged, nested
from services.timeline.order import version

ENTRY = b"e" * 16
NUMBERS = st.integers(0, 5)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Facets whose content follows from their version, as it does where equal versions are the same event."""
    v = version(draw(st.integers(0, 2)), draw(NUMBERS), draw(NUMBERS), bytes(15) + bytes([draw(NUMBERS)]))
    facet = {"v": v, "tx": v.hex()}
    highest = dict.fromkeys(draw(st.sets(st.sampled_from(("b", "c", "rx.ab", "md.0", "gone.1")))), facet)
    lowest = {path: draw(NUMBERS) for path in draw(st.sets(st.sampled_from(("st.sent", "st.read"))))}
    return Change(ENTRY, highest, {**lowest, **({"c0": facet} if draw(st.booleans()) else {})}, draw(st.booleans()))


@given(st.lists(changes(), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_a_batch_folds_to_the_same_whatever_its_order_doubles_and_cuts(all_: list[Change], rng: random.Random) -> None:
    whole = nested(folded(all_)[ENTRY].facets)
    mixed = [*all_, *rng.choices(all_, k=len(all_))]
    rng.shuffle(mixed)
    cut = rng.randrange(len(mixed) + 1)
    parts = [folded(part)[ENTRY] for part in (mixed[:cut], mixed[cut:]) if part]
    again = parts[0] if len(parts) == 1 else merged(*parts)

    assert nested(again.facets) == whole


def test_paths_become_documents_and_empty_operators_are_left_out() -> None:
    change = Change(ENTRY, {"rx.ab": {"v": b"1"}, "rx.cd": {"v": b"2"}})

    assert nested(change.facets) == {"rx": {"ab": {"v": b"1"}, "cd": {"v": b"2"}}}
    assert list(change.update()) == ["$max"]


def test_only_what_brings_an_entry_or_a_row_into_being_is_worth_an_insert() -> None:
    facet = {"v": b"1"}

    assert Change(ENTRY, {"b": facet}, {"st.sent": 1}).whole() == {"b": facet, "st": {"sent": 1}}
    assert Change(ENTRY, {"cv": facet}).whole() is None
    assert Row({"h": facet}, {"qs": ("support",), "as": ()}).whole() == {"h": facet, "qs": ("support",), "as": ()}
    assert Row({"last": facet}).whole() is None


SETS = st.dictionaries(st.sampled_from(("qs", "as")), st.lists(st.sampled_from("abc")).map(tuple))


@given(st.lists(st.tuples(NUMBERS, SETS), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_rows_of_a_batch_become_one_whatever_their_order(
    single: list[tuple[int, dict[str, tuple[str, ...]]]], rng: random.Random
) -> None:
    rows = [Row({"h": {"v": number, "tx": str(number)}, "act": bytes([number])}, sets) for number, sets in single]
    highest = max(number for number, _ in single)
    rng.shuffle(rows)
    merged_ = rows[0]
    for row in rows[1:]:
        merged_ = merged_.merged(row)

    assert merged_.highest == {"h": {"v": highest, "tx": str(highest)}, "act": bytes([highest])}
    for name, values in merged_.sets.items():
        assert set(values) == {value for _, sets in single for value in sets.get(name, ())}
