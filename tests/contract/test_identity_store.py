"""What a store of the graph and of values promises, held by the one in memory and the one in MongoDB."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.common.identifiers import Identifier, customer_id
from services.common.mongo import Mongo
from services.common.vault import DEMO_KEY, Unsealable, Vault
from services.identity.component import SAME, Assigned, Component, Edge, Member, edge
from services.identity.evidence import Profile
from services.identity.nodes import Entry, Graph, Node, Swap, Taken
from services.identity.profiles import MemoryValues, MongoValues, Profiles, Sealed, Values
from services.identity.resolve import Cause, Change
from services.identity.stores import MemoryGraph, MongoGraph

A, B = "a" * 22, "_" + "B" * 21


@pytest.fixture(params=["memory", "mongo"])
async def graph(request: pytest.FixtureRequest, mongo: Mongo) -> Graph:
    if request.param == "memory":
        return MemoryGraph()
    one = MongoGraph(mongo)
    await one.start()
    return one


@pytest.fixture(params=["memory", "mongo"])
def values(request: pytest.FixtureRequest, mongo: Mongo) -> Values:
    return MemoryValues() if request.param == "memory" else MongoValues(mongo)


def said() -> Edge:
    kinds = {A: ("tel", ""), B: ("user", "shop.eu")}
    return edge(kinds, SAME, "agent/ana", "asserted", 1_700_000_000_000_007, "e1", actor="ana", why="¿same?")


def entry(name: str, written: int = 5) -> Entry:
    change = Change("merged", "c1", ("c2",), (A,), Cause(3, 1_700_000_000_000_000, "ana"), (said(),))
    return Entry(name, "w1", written, (A,), (change,), ("w0.x.1",))


def full(key: str = A) -> Node:
    members = {
        A: Member("tel", "", 1_700_000_000_000_007, "channel", "", 4, named=True),
        B: Member("user", "shop.eu", None, "none", "blocked"),
    }
    assigned = {A: Assigned("c1", 3, "c0"), B: Assigned(None, 2)}
    return Node(key, "acme", 7, component=Component(members, {said().id: said()}, assigned), outbox=(entry("w1.a.7"),))


async def test_what_was_inserted_is_read_back_as_it_was_and_what_is_not_there_is_not(graph: Graph) -> None:
    assert await graph.insert([full()])

    assert await graph.read([A, B]) == {A: full()}


async def test_an_identifier_is_inserted_once_and_the_others_of_the_call_all_the_same(graph: Graph) -> None:
    await graph.insert([full()])

    assert not await graph.insert([replace(full(), v=99), Node(B, "acme")])
    assert {key: node.v for key, node in (await graph.read([A, B])).items()} == {A: 7, B: 1}


async def test_a_swap_happens_only_where_the_node_is_still_as_it_was_read(graph: Graph) -> None:
    await graph.insert([full(), Node(B, "acme")])
    sealed = replace(full(), v=8, redirect=B)

    assert await graph.swap([Swap(full(), sealed)])
    assert not await graph.swap([Swap(full(), replace(full(), v=8))])
    assert (await graph.read([A]))[A] == sealed


async def test_of_several_swaps_those_that_still_hold_are_done(graph: Graph) -> None:
    await graph.insert([full(), Node(B, "acme")])

    assert not await graph.swap([Swap(replace(full(), v=6), replace(full(), v=9)), Swap(Node(B, "acme"), Node(B, "acme", 2))])
    assert {key: node.v for key, node in (await graph.read([A, B])).items()} == {A: 7, B: 2}


async def test_a_swap_of_another_tenants_node_does_nothing(graph: Graph) -> None:
    await graph.insert([full()])

    assert not await graph.swap([Swap(replace(full(), tenant="evil"), replace(full(), tenant="evil", v=8))])
    assert (await graph.read([A]))[A] == full()


async def test_a_swap_adds_removes_and_changes_members_edges_and_assignments(graph: Graph) -> None:
    await graph.insert([full()])
    after = replace(
        full(),
        v=8,
        component=Component({A: Member("tel", "", 9), "c" * 22: Member("email", "", 1)}, {}, {A: Assigned("c9", 8, "c1")}),
        outbox=(*full().outbox, entry("w1.a.8")),
    )

    assert await graph.swap([Swap(full(), after)])
    assert (await graph.read([A]))[A] == after


async def test_an_absorbed_node_holds_nothing(graph: Graph) -> None:
    await graph.insert([full()])
    sealed = replace(full(), v=8, redirect=B)
    empty = replace(sealed, v=9, absorbed=True, component=Component(), outbox=())
    await graph.swap([Swap(full(), sealed)])

    assert await graph.swap([Swap(sealed, empty)])
    assert (await graph.read([A]))[A] == empty


async def test_an_entry_that_was_taken_out_meanwhile_does_not_come_back_with_a_swap(graph: Graph) -> None:
    await graph.insert([full()])
    await graph.take([Taken(A, "acme", 7, ("w1.a.7",))])

    assert await graph.swap([Swap(full(), replace(full(), v=8, outbox=(*full().outbox, entry("w1.a.8"))))])
    assert [one.id for one in (await graph.read([A]))[A].outbox] == ["w1.a.8"]


async def test_entries_are_taken_out_only_of_a_root_that_has_not_changed(graph: Graph) -> None:
    await graph.insert([full()])

    assert not await graph.take([Taken(A, "acme", 6, ("w1.a.7",))])
    assert not await graph.take([Taken(A, "evil", 7, ("w1.a.7",))])
    assert await graph.take([Taken(A, "acme", 7, ("w1.a.7",))])
    assert (await graph.read([A]))[A] == replace(full(), outbox=())


async def test_what_others_do_to_a_node_that_was_read_is_seen_when_it_is_read_again(graph: Graph, mongo: Mongo) -> None:
    other = MongoGraph(mongo) if isinstance(graph, MongoGraph) else graph
    await graph.insert([full()])
    swapped = replace(full(), v=8, outbox=(), component=Component())
    seen = [(await graph.read([A]))[A]]
    for change in (other.take([Taken(A, "acme", 7, ("w1.a.7",))]), other.swap([Swap(full(), swapped)])):
        assert await change
        seen += [(await graph.read([A]))[A], (await graph.read([A]))[A]]

    taken = replace(full(), outbox=())
    assert seen == [full(), taken, taken, swapped, swapped]


async def test_what_waits_is_found_oldest_first_and_what_is_young_or_done_is_not(graph: Graph) -> None:
    nodes = [
        replace(full(letter * 22), outbox=(entry(letter, written),)) for letter, written in (("x", 9), ("y", 3), ("z", 50))
    ]
    await graph.insert([*nodes, replace(full(B), outbox=())])

    assert await graph.waiting(10, 9) == ["y" * 22, "x" * 22]
    assert await graph.waiting(10, 1) == ["y" * 22]


async def test_a_customer_is_found_by_the_identifier_it_is_named_after_within_its_tenant(graph: Graph) -> None:
    await graph.insert([full()])
    name = customer_id("acme", A)

    assert await graph.born("acme", [name, "other"]) == {name: A}
    assert await graph.born("evil", [name]) == {}


async def test_the_search_for_what_waits_reads_only_what_waits(mongo: Mongo) -> None:
    graph = MongoGraph(mongo)
    await graph.start()
    await graph.insert([replace(full(f"{n:022d}"), outbox=()) for n in range(50)] + [full()])
    nodes = mongo.database("identity")["nodes"]
    plan = await nodes.find({"outbox.written": {"$lt": 10}}).explain()

    assert plan["executionStats"]["totalKeysExamined"] == 1
    assert plan["executionStats"]["totalDocsExamined"] == 1


# -- values ---------------------------------------------------------------------------------------------------------------


def sealed(at: int, text: bytes = b"x") -> Sealed:
    return Sealed(A, "acme", "tel", "", at, text)


async def test_the_newer_value_holds_in_whatever_order_they_come(values: Values) -> None:
    await values.put([sealed(5, b"new")])
    await values.put([sealed(3, b"old")])

    assert await values.find("acme", [A, B]) == {A: sealed(5, b"new")}
    await values.put([sealed(6, b"newest")])
    assert (await values.find("acme", [A]))[A].sealed == b"newest"


async def test_a_value_belongs_to_its_tenant(values: Values) -> None:
    await values.put([sealed(5)])
    await values.put([replace(sealed(9), tenant="evil")])
    await values.forget("evil", [A], 99)

    assert await values.find("evil", [A]) == {}
    assert await values.find("acme", [A]) == {A: sealed(5)}


async def test_an_erased_value_is_gone_and_only_what_comes_later_brings_one_back(values: Values) -> None:
    await values.put([sealed(5)])
    await values.forget("acme", [A, B], 10)
    await values.put([sealed(7), replace(sealed(7), key=B)])

    assert {key: one.sealed for key, one in (await values.find("acme", [A, B])).items()} == {A: None, B: None}
    await values.put([sealed(11, b"back")])
    assert (await values.find("acme", [A]))[A].sealed == b"back"


# -- profiles -------------------------------------------------------------------------------------------------------------


class Counting(MemoryValues):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    async def find(self, tenant: str, keys: object) -> dict[str, Sealed]:
        self.calls.append("find")
        return await super().find(tenant, keys)  # type: ignore[arg-type]

    async def put(self, values: object) -> None:
        self.calls.append(f"put {len(values)}")  # type: ignore[arg-type]
        await super().put(values)  # type: ignore[arg-type]


def shows(at: int, name: str | None = "Añá") -> Profile:
    return Profile(A, Identifier("tel", "+491511234567", key=A), name, at)


async def test_what_is_known_costs_neither_read_nor_write_and_a_new_name_one_of_each() -> None:
    store = Counting()
    profiles = Profiles(store, Vault(DEMO_KEY))
    await profiles.remember("acme", [shows(1)], {A: 1})
    await profiles.remember("acme", [shows(2), shows(3, None)], {A: 1})

    assert store.calls == ["find", "put 1"]
    await profiles.remember("acme", [shows(4, "Ana")], {A: 1})
    assert store.calls == ["find", "put 1", "find", "put 1"]
    assert (await profiles.read("acme", [A]))[A].name == "Ana"


async def test_after_an_erasure_by_another_process_a_new_event_brings_the_value_back() -> None:
    store = MemoryValues()
    profiles = Profiles(store, Vault(DEMO_KEY))
    await profiles.remember("acme", [shows(1)], {A: 1})
    await store.forget("acme", [A], 5)
    await profiles.remember("acme", [shows(9)], {A: 3})

    assert (await profiles.read("acme", [A]))[A].value == "+491511234567"


async def test_values_are_sealed_for_their_tenant_and_key() -> None:
    store = MemoryValues()
    profiles = Profiles(store, Vault(DEMO_KEY))
    await profiles.remember("acme", [shows(1)], {})
    kept = store.values[A].sealed or b""
    store.values[B] = replace(store.values[A], key=B)

    assert b"1511234567" not in kept
    with pytest.raises(Unsealable):
        await profiles.read("acme", [B])
