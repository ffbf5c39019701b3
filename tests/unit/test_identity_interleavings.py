"""Workers, crashes and zombies on one graph, in thousands of orders of every step: the customers are always those of the
evidence, and every promise, broken on purpose, is caught by the same check."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import replace

import pytest

from services.common.identifiers import customer_id
from services.identity import linker, linking
from services.identity.component import Assigned, Component, Member
from services.identity.linking import Hand, Swaps, View, plan
from services.identity.nodes import Node, Swap, Taken
from tests.unit.identity_world import RULES, TENANT, SteppedGraph, Violation, World

SEEDS = int(os.environ.get("HILO_SEEDS", "400"))
Patch = pytest.MonkeyPatch


def violations(seeds: int, *, enough: int = 1) -> set[str]:
    found: set[str] = set()
    for seed in range(seeds):
        world = World(seed)
        try:
            world.go()
        except Violation as error:
            found.add(str(error))
            if len(found) >= enough:
                break
    return found


def test_every_interleaving_gives_the_customers_of_the_evidence() -> None:
    crashed = lost = 0
    for seed in range(SEEDS):
        world = World(seed).go()
        crashed += world.scheduler.crashed
        lost += world.graph.lost

    assert crashed > SEEDS
    assert lost > SEEDS


def no_version_check(patch: Patch) -> None:
    def swapped(graph: SteppedGraph, swap: Swap) -> bool:
        graph.nodes[swap.after.key] = swap.after
        return True

    patch.setattr(SteppedGraph, "_swapped", swapped)


def no_helping(patch: Patch) -> None:
    """Who reads a sealed node takes it for finished: only who sealed it absorbs it."""
    read = SteppedGraph.read

    async def lying(graph: SteppedGraph, keys: Collection[str]) -> dict[str, Node]:
        return {key: replace(node, absorbed=node.redirect is not None) for key, node in (await read(graph, keys)).items()}

    patch.setattr(SteppedGraph, "read", lying)


def no_fixed_order(patch: Patch) -> None:
    patch.setattr(linking, "winner", lambda keys: next(iter(keys)))


def next_version_of_the_root_alone(patch: Patch) -> None:
    patch.setattr(linking, "raised", lambda versions: next(iter(versions)) + 1)


def emptying_before_absorbing(patch: Patch) -> None:
    def seals(links: object, view: View, rules: object) -> tuple[Swap, ...]:
        return tuple(
            replace(one, after=replace(one.after, absorbed=True))
            for one in real(links, view, rules)  # type: ignore[arg-type]
        )

    real = linking._seals
    patch.setattr(linking, "_seals", seals)


def taking_out_what_may_be_overtaken(patch: Patch) -> None:
    def taken(graph: SteppedGraph, one: Taken) -> bool:
        node = graph.nodes[one.key]
        graph.nodes[one.key] = replace(node, outbox=tuple(e for e in node.outbox if e.id not in one.entries))
        return True

    patch.setattr(SteppedGraph, "_taken", taken)


def not_publishing_what_others_left(patch: Patch) -> None:
    patch.setattr(linking, "_left", lambda *_: [])


def an_absorbed_outbox_is_lost(patch: Patch) -> None:
    patch.setattr(linking, "_outboxes", lambda root, *_: root.outbox)


def trusting_a_root_read_too_early(patch: Patch) -> None:
    patch.setattr(linker, "_stale", lambda *_: set())


def believing_who_is_known_whatever_is_said(patch: Patch) -> None:
    patch.setattr(linking, "_held", lambda *_: True)


FAULTS: tuple[Callable[[Patch], None], ...] = (
    no_version_check,
    no_helping,
    no_fixed_order,
    next_version_of_the_root_alone,
    emptying_before_absorbing,
    taking_out_what_may_be_overtaken,
    not_publishing_what_others_left,
    an_absorbed_outbox_is_lost,
    trusting_a_root_read_too_early,
    believing_who_is_known_whatever_is_said,
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_broken_promise_is_caught(fault: Callable[[Patch], None], monkeypatch: Patch) -> None:
    fault(monkeypatch)

    assert violations(600)


OWN = Assigned(customer_id(TENANT, "a"), 9)


def half_done() -> View:
    """`a` is absorbed by `b`, though not marked so, and was renamed there; then `b` was sealed under `c`."""
    old, new, other = Assigned("old", 2), OWN, Assigned(customer_id(TENANT, "b"), 9)
    member = Member("tel", "", 1)
    a = Node("a", TENANT, 3, "b", component=Component({"a": member}, {}, {"a": old}))
    b = Node("b", TENANT, 10, "c", component=Component({"a": member, "b": member}, {}, {"a": new, "b": other}))
    c = Node("c", TENANT, 4, component=Component({"c": member}, {}, {"c": Assigned(customer_id(TENANT, "c"), 1)}))
    return View({"a": a, "b": b, "c": c}, {"a": "a"})


def test_what_is_nearest_to_the_root_is_absorbed_first_so_no_version_falls() -> None:
    view, hand = half_done(), Hand("w", 1, RULES)
    step = plan((), view, hand)
    assert isinstance(step, Swaps)
    view = view.after(swap.after for swap in step.swaps)
    root = view.nodes["c"]

    assert [swap.before.key for swap in step.swaps] == ["c"]
    assert root.component.assigned["a"] == OWN
    assert root.v == 11
    assert plan((), view, hand) == Swaps(tuple(Swap(view.nodes[key], linking._emptied(view.nodes[key])) for key in ("a", "b")))
