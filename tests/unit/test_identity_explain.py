"""Why two are one, and why not: from the same evidence, by the same function that decided."""

from __future__ import annotations

from services.identity.component import APART, Component
from services.identity.explain import chain, obstacles, weakest
from tests.unit.identity_world import RULES
from tests.unit.test_identity_resolve import component, said


def guards(one: Component, other: Component, a: str, b: str) -> list[tuple[str, str]]:
    return [(found.guard, found.about) for found in obstacles(one, other, RULES, a, b)]


def test_why_leads_from_one_to_the_other_and_names_the_link_that_holds_least() -> None:
    some = component(
        ["t1", "e2", "u3", "c4"], [said("t1", "e2"), said("e2", "u3", strength="asserted"), said("u3", "c4", at=9)]
    )
    path = chain(some, RULES, "c4", "t1")

    assert [(e.a, e.b) for e in path] == [("c4", "u3"), ("e2", "u3"), ("e2", "t1")]
    assert weakest(path).strength == "asserted"
    assert guards(some, some, "c4", "t1") == []


def test_who_is_not_one_has_no_path() -> None:
    assert chain(component(["t1", "e2"]), RULES, "t1", "e2") == []


def test_without_evidence_that_is_the_answer() -> None:
    assert guards(component(["t1"]), component(["e2"]), "t1", "e2") == [("no_evidence", "")]


def test_why_not_names_the_verdict_and_the_limit() -> None:
    apart = component(["t1", "e2"], [said("t1", "e2"), said("t1", "e2", 9, "asserted", APART)])
    full = component(["t1", "u2", "u3"], [said("t1", "u2"), said("t1", "u3", at=3)])

    assert guards(apart, apart, "t1", "e2") == [("apart", "e2")]
    assert guards(full, full, "u2", "u3") == [("per_scope", "user")]


def test_why_not_names_what_both_share() -> None:
    users = ["u2", "u3", "u4"]
    some = component(["t1", *users], [said("t1", user) for user in users])

    assert guards(some, some, "u2", "u3") == [("shared", "t1")]


def test_why_not_names_what_was_only_claimed() -> None:
    one = component(["c4"], [said("c4", "e2", strength="claimed")])

    assert guards(one, component(["e2"]), "c4", "e2") == [("only_claimed", "")]


def test_components_too_large_to_be_linked_say_so() -> None:
    link = said("t1", "e2")

    assert guards(component(["t1"], [link]), component(["e2"], [link]), "t1", "e2") == [("component_size", "")]
