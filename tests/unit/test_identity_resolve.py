"""Customers follow from the evidence: the same for every order, repetition and grouping of it, within every guard."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.identifiers import customer_id
from services.identity import linking
from services.identity.component import APART, SAME, Component, Edge, Member, edge
from services.identity.evidence import Carried
from services.identity.linker import Linker
from services.identity.resolve import Cause, Change, customers, named, settled, shared
from services.identity.rules import Limit, Rules
from services.identity.stores import MemoryGraph
from tests.unit.identity_world import RULES, TENANT, evidence

DAY = 24 * 3600 * 1_000_000
KINDS = {"t": ("tel", ""), "e": ("email", ""), "u": ("user", "shop"), "c": ("chat", "bot")}


def component(members: Iterable[str], edges: Sequence[Edge] = ()) -> Component:
    """Members named by kind and number, seen in the order of their numbers."""
    found = {key: Member(*KINDS[key[0]], first_seen=int(key[1:])) for key in members}
    return Component().learned(found, edges, 64)


def said(a: str, b: str, at: int = 1, strength: str = "verified", rule: str = "said", event: str = "e") -> Edge:
    kinds = {key: KINDS[key[0]] for key in (a, b)}
    return edge(kinds, rule, "bot/1", strength, at, event)  # type: ignore[arg-type]


def groups(some: Component, rules: Rules = RULES) -> set[frozenset[str]]:
    return customers(some, rules).groups


def together(*keys: str) -> frozenset[str]:
    return frozenset(keys)


# -- guards ---------------------------------------------------------------------------------------------------------------


def test_verified_and_asserted_evidence_joins_and_claimed_does_not() -> None:
    some = component(["t1", "e2", "u3", "c4"], [said("t1", "e2"), said("e2", "u3", strength="asserted")])
    claimed = some.learned({}, [said("c4", "u3", strength="claimed")], 64)

    assert groups(claimed) == {together("t1", "e2", "u3"), together("c4")}


def test_a_second_identifier_of_a_scheme_that_is_unique_in_its_scope_stays_apart() -> None:
    some = component(["t1", "u2", "u3"], [said("t1", "u2", at=2), said("t1", "u3", at=3)])
    found = customers(some, RULES)

    assert found.groups == {together("t1", "u2"), together("u3")}
    assert [(r.guard, r.about) for r in found.refused] == [("per_scope", "user")]


def test_of_two_that_exclude_each_other_the_stronger_then_the_earlier_evidence_wins() -> None:
    earlier = [said("t1", "u2", at=9), said("t1", "u3", at=5)]
    stronger = [said("t1", "u2", at=9), said("t1", "u3", at=5, strength="asserted")]

    assert groups(component(["t1", "u2", "u3"], earlier)) == {together("t1", "u3"), together("u2")}
    assert groups(component(["t1", "u2", "u3"], stronger)) == {together("t1", "u2"), together("u3")}


def test_an_identifier_that_never_links_keeps_its_neighbours_apart() -> None:
    some = component(["e1", "t2", "t3"], [said("e1", "t2"), said("e1", "t3")])
    some = some.learned({"e1": Member("email", "", 1, stop="role")}, (), 64)

    assert groups(some) == {together("e1"), together("t2"), together("t3")}


def test_an_identifier_with_too_many_strong_neighbours_of_one_kind_is_shared_and_joins_nobody() -> None:
    users = ["u2", "u3", "u4"]
    some = component(["t1", *users], [said("t1", user) for user in users])
    found = customers(some, RULES)

    assert found.shared == {"t1"}
    assert found.groups == {together("t1"), *map(together, users)}


def test_more_evidence_never_takes_shared_back() -> None:
    edges = [said("t1", f"u{n}") for n in range(2, 5)]

    assert shared(edges, RULES) <= shared([*edges, said("t1", "e9"), said("u2", "e9")], RULES)


def test_cookies_are_renewed_so_many_of_them_do_not_make_their_user_shared() -> None:
    kinds = {f"v{n}": ("cookie", "shop") for n in range(8)} | {"u": ("user", "shop")}
    members = {key: Member(*kind, first_seen=1) for key, kind in kinds.items()}
    edges = [edge({key: kinds[key], "u": kinds["u"]}, "session", "web", "verified", 1, "e") for key in kinds if key != "u"]
    found = customers(Component().learned(members, edges, 64), RULES)

    assert found.shared == frozenset()
    assert found.groups == {frozenset(kinds)}


def test_a_customer_never_grows_beyond_its_size() -> None:
    rules = RULES.model_copy(update={"customer_size": 2})
    some = component(["t1", "e2", "u3"], [said("t1", "e2", at=1), said("e2", "u3", at=2)])

    assert groups(some, rules) == {together("t1", "e2"), together("u3")}
    assert [r.guard for r in customers(some, rules).refused] == ["customer_size"]


# -- agents' verdicts -------------------------------------------------------------------------------------------------------


def test_what_an_agent_holds_apart_stays_apart_whatever_else_is_said() -> None:
    some = component(["t1", "e2", "u3"], [said("t1", "e2"), said("e2", "u3", at=2), said("t1", "u3", 9, "asserted", APART)])

    assert groups(some) == {together("t1", "e2"), together("u3")}
    again = some.learned({}, [said("e2", "u3", at=30), said("t1", "u3", at=40)], 64)
    assert groups(again) == groups(some)


def test_the_newest_verdict_about_a_pair_holds() -> None:
    pair = [said("t1", "e2", 5, "asserted", APART), said("t1", "e2", 6, "asserted", SAME)]

    assert groups(component(["t1", "e2"], pair)) == {together("t1", "e2")}
    later = [*pair, said("t1", "e2", 7, "asserted", APART)]
    assert groups(component(["t1", "e2"], later)) == {together("t1"), together("e2")}


def test_a_split_after_a_merge_gives_both_their_old_ids_back() -> None:
    apart = component(["t1", "e2"])
    merged = apart.learned({}, [said("t1", "e2")], 64)
    split = merged.learned({}, [said("t1", "e2", 9, "asserted", APART)], 64)

    assert ids(merged) == {"t1": ids(apart)["t1"], "e2": ids(apart)["t1"]}
    assert ids(split) == ids(apart)


def ids(some: Component, rules: Rules = RULES) -> dict[str, str]:
    return named(customers(some, rules), some.members, TENANT)


# -- names and changes --------------------------------------------------------------------------------------------------


def test_a_customer_is_named_after_its_earliest_identifier_and_ties_go_to_the_smaller_key() -> None:
    some = component(["t2", "e1", "u2"], [said("t2", "e1"), said("t2", "u2")])
    tied = component(["t2", "u2"], [said("t2", "u2")])

    assert set(ids(some).values()) == {customer_id(TENANT, "e1")}
    assert set(ids(tied).values()) == {customer_id(TENANT, "t2")}


def settle(before: Component, after: Component, version: int) -> tuple[Component, list[tuple[str, str, tuple[str, ...]]]]:
    final, changes = settled(before, after, TENANT, Cause(version, 1), RULES)
    return final, [(c.kind, c.customer_id, c.others) for c in changes]


def test_created_merged_and_split_are_told_with_who_and_why() -> None:
    t1, e2 = customer_id(TENANT, "t1"), customer_id(TENANT, "e2")
    fresh = component(["t1", "e2"])
    created, first = settle(Component(), fresh, 1)
    merged, second = settle(created, created.learned({}, [said("t1", "e2")], 64), 2)
    split, third = settle(merged, merged.learned({}, [said("t1", "e2", 9, "asserted", APART)], 64), 3)

    assert sorted(first) == sorted([("created", t1, ()), ("created", e2, ())])
    assert second == [("merged", t1, (e2,))]
    assert third == [("split", t1, (e2,))]
    assert {key: (one.customer, one.version) for key, one in split.assigned.items()} == {"t1": (t1, 1), "e2": (e2, 3)}
    assert split.assigned["e2"].previous == t1


def test_a_change_cites_the_evidence_that_caused_it() -> None:
    created, _ = settle(Component(), component(["t1", "e2"]), 1)
    _, changes = settled(created, created.learned({}, [said("t1", "e2", event="why")], 64), TENANT, Cause(2, 1), RULES)

    assert [[event for _, event in e.events] for change in changes for e in change.evidence] == [["why"]]


def test_an_earlier_event_that_comes_late_renames() -> None:
    created, _ = settle(Component(), component(["t5", "e6"], [said("t5", "e6")]), 1)
    late = created.learned({"e6": Member("email", "", 2)}, (), 64)
    final, changes = settle(created, late, 2)

    assert changes == [("renamed", customer_id(TENANT, "e6"), (customer_id(TENANT, "t5"),))]
    assert {one.version for one in final.assigned.values()} == {2}


def test_becoming_shared_is_told_and_gives_the_others_their_own_names() -> None:
    some = component(["t1", "u2", "u3"], [said("t1", "u2"), said("t1", "u3")])
    before, _ = settle(Component(), some, 1)
    more = before.learned({"u4": Member("user", "shop", 4)}, [said("t1", "u4")], 64)
    after, changes = settle(before, more, 2)

    assert ("shared", customer_id(TENANT, "t1"), ()) in changes
    assert len({one.customer for one in after.assigned.values()}) == 4


# -- erasure --------------------------------------------------------------------------------------------------------------


def test_what_was_said_before_an_erasure_is_not_heard_again_and_what_comes_after_is() -> None:
    some = component(["t1", "e2"], [said("t1", "e2", at=3)])
    erased = some.learned({"t1": Member(erased=10), "e2": Member(erased=10)}, (), 64)

    assert ids(erased) == {}
    assert erased.edges == {}
    replayed = erased.learned({"t1": Member("tel", "", 3), "e2": Member("email", "", 3)}, [said("t1", "e2", at=3)], 64)
    assert replayed is erased
    again = erased.learned({"t1": Member("tel", "", 11)}, (), 64)
    assert set(ids(again)) == {"t1"}


def linked(event: str, at: int, strength: str = "verified") -> Carried:
    """Somebody says by which number they can be reached."""
    members = {"u1": Member("user", "shop", at, "channel"), "t1": Member("tel", "", at, "channel")}
    return Carried(TENANT, at, event, "u1", "u1", members, (said("u1", "t1", at, strength, event=event),))


def test_what_says_nothing_new_is_known_and_anything_else_is_not() -> None:
    graph = graph_of([[linked(f"e{at}", at)] for at in (1, 2, 3)])
    view = linking.View(graph.nodes, {"u1": "u1", "t1": "t1", "t2": "t2"})
    later = linked("e9", 9)

    assert linking.known(later, view)
    assert not linking.known(linked("e9", 9 + DAY), view)
    assert not linking.known(linked("e0", 1), view)
    assert not linking.known(linked("e9", 9, "asserted"), view)
    assert not linking.known(replace(later, members={**later.members, "t2": Member("tel", "", 9, "channel")}), view)
    assert not linking.known(replace(later, members={"u1": replace(later.members["u1"], proof="account")}), view)


# -- any evidence, any order ------------------------------------------------------------------------------------------------

seeds = st.integers(0, 2**32 - 1)


async def learned(batches: Iterable[Sequence[Carried]], graph: MemoryGraph) -> None:
    linker = Linker(graph, RULES, "w", lambda: 1)
    for batch in batches:
        await linker.learn(batch)


def graph_of(batches: Iterable[Sequence[Carried]]) -> MemoryGraph:
    """The memory store never waits, so there is nothing to run a loop for."""
    graph = MemoryGraph()
    with pytest.raises(StopIteration):
        learned(batches, graph).send(None)
    return graph


def resolve(batches: Iterable[Sequence[Carried]]) -> dict[str, str | None]:
    graph = graph_of(batches)
    roots = [node for node in graph.nodes.values() if node.redirect is None]
    return {key: one.customer for root in roots for key, one in root.component.assigned.items()}


@settings(deadline=None)
@given(seeds)
def test_the_order_of_events_their_repetition_and_their_batches_change_nothing(seed: int) -> None:
    rng = random.Random(seed)
    events = evidence(rng)
    shuffled = rng.sample(events, len(events)) + rng.choices(events, k=5)
    cut = rng.randrange(len(shuffled))

    expected = resolve([[one] for one in events])
    assert resolve([[one] for one in shuffled]) == expected
    assert resolve([shuffled[:cut], shuffled[cut:]]) == expected
    assert resolve([shuffled]) == expected


@settings(deadline=None)
@given(seeds)
def test_to_leave_out_what_is_known_changes_nothing(seed: int) -> None:
    rng = random.Random(seed)
    events = evidence(rng)
    batches = [rng.choices(events, k=rng.randint(1, 6)) for _ in range(12)]
    found = graph_of(batches)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linking, "known", lambda *_: False)
        plain = graph_of(batches)

    assert {key: replace(node, outbox=()) for key, node in found.nodes.items()} == {
        key: replace(node, outbox=()) for key, node in plain.nodes.items()
    }


@settings(deadline=None)
@given(seeds)
def test_learning_merges_like_a_set(seed: int) -> None:
    events = evidence(random.Random(seed))
    one_by_one = Component()
    for event in events:
        one_by_one = one_by_one.learned(event.members, event.edges, 64)
    backwards = Component()
    for event in reversed(events):
        backwards = backwards.learned(event.members, event.edges, 64)

    assert backwards == one_by_one
    assert one_by_one.united(backwards) == one_by_one
    assert all(one_by_one.learned(event.members, event.edges, 64) is one_by_one for event in events)


@settings(deadline=None)
@given(seeds)
def test_no_guard_is_ever_broken(seed: int) -> None:
    some = Component()
    for event in evidence(random.Random(seed), count=25, keys=12):
        some = some.learned(event.members, event.edges, 64)
    found = customers(some, RULES)
    newest: dict[frozenset[str], tuple[int, str]] = {}
    for e in some.edges.values():
        if e.rule in (APART, SAME):
            newest[frozenset(e.ends)] = min(newest.get(frozenset(e.ends), (-e.last_seen, e.rule)), (-e.last_seen, e.rule))
    apart = [pair for pair, (_, rule) in newest.items() if rule == APART]

    for group in found.groups:
        schemes = Counter(some.members[key].scheme for key in group)
        scopes = Counter((some.members[key].scheme, some.members[key].scope) for key in group)
        assert all(count <= RULES.limit(scheme).per_customer for scheme, count in schemes.items())
        assert all(count <= RULES.limit(scheme).per_scope for (scheme, _), count in scopes.items())
        assert not any(pair <= group for pair in apart)
        assert len(group) == 1 or not group & found.shared


@settings(deadline=None)
@given(seeds)
def test_taking_a_merge_back_restores_every_previous_id(seed: int) -> None:
    rng = random.Random(seed)
    some = Component()
    for event in evidence(rng, count=10, keys=6):
        some = some.learned(event.members, [e for e in event.edges if e.rule not in (SAME, APART)], 64)
    living = sorted(some.members)
    a, b = rng.choice(living), rng.choice(living)
    kinds = {key: (some.members[key].scheme, some.members[key].scope) for key in (a, b)}
    if a == b or customers(some, RULES).of[a] == customers(some, RULES).of[b]:
        return
    merged = some.learned({}, [edge(kinds, SAME, "agent/ana", "asserted", 1000, "m", actor="ana")], 64)
    unmerged = merged.learned({}, [edge(kinds, APART, "agent/ana", "asserted", 1001, "s", actor="ana")], 64)

    assert ids(unmerged) == ids(some)


@settings(deadline=None)
@given(seeds)
def test_versions_rise_with_every_change_of_an_identifier_and_only_then(seed: int) -> None:
    some = Component()
    for version, event in enumerate(evidence(random.Random(seed)), start=1):
        before = some
        some, changes = settled(before, before.learned(event.members, event.edges, 64), TENANT, Cause(version, 1), RULES)
        moved = {key for key, one in some.assigned.items() if before.assigned.get(key) != one}

        assert all(some.assigned[key].version == version for key in moved)
        assert moved <= {key for change in changes for key in change.identifiers}
        assert all(_tells(change, before, some) for change in changes)


def _tells(change: Change, before: Component, after: Component) -> bool:
    """A change names only customers that there were before it or are after it."""
    there = {one.customer for some in (before, after) for one in some.assigned.values()}
    return {change.customer_id, *change.others} <= there


def test_a_limit_that_a_file_gives_is_added_to_the_default_ones() -> None:
    rules = Rules(limits={"badge": Limit(per_scope=1)})

    assert rules.limit("badge").per_scope == 1
    assert rules.limit("anything").per_scope == rules.other.per_scope
