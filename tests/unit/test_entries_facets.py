"""Facets: what the projector folds before it writes must be what the store would have made of the single updates."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from services.timeline.facets import Change, document, folded, merged, operators
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
    whole = document("acme", folded(all_)[ENTRY])
    mixed = [*all_, *rng.choices(all_, k=len(all_))]
    rng.shuffle(mixed)
    cut = rng.randrange(len(mixed) + 1)
    parts = [folded(part)[ENTRY] for part in (mixed[:cut], mixed[cut:]) if part]
    again = parts[0] if len(parts) == 1 else merged(*parts)

    assert document("acme", again) == whole


def test_paths_become_documents_and_empty_operators_are_left_out() -> None:
    change = Change(ENTRY, {"rx.ab": {"v": b"1"}, "rx.cd": {"v": b"2"}})

    assert document("acme", change) == {"_id": ENTRY, "tn": "acme", "rx": {"ab": {"v": b"1"}, "cd": {"v": b"2"}}}
    assert list(operators(change)) == ["$max"]
