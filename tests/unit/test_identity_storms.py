"""What everybody seems to share (a shop's phone, a kiosk's cookie, a mistyped address) joins nobody and stops nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from services.identity.component import Kind, Member, edge
from services.identity.evidence import Carried
from services.identity.linker import Linker
from services.identity.nodes import Node
from services.identity.rules import Rules
from services.identity.stores import MemoryGraph

HUB: Kind = ("webchat", "shop")
USER: Kind = ("user", "shop")
EMAIL: Kind = ("email", "")


def meets(number: int, kind: Kind, hub: Kind = HUB) -> Carried:
    """The `number`th person, whom a channel links with the hub by verified evidence."""
    key, at = f"p{number:05d}", 1000 + number
    members = {key: Member(*kind, first_seen=at), "hub": Member(*hub, first_seen=at)}
    link = edge({key: kind, "hub": hub}, "session", "web/shop", "verified", at, f"e{number}")
    return Carried("acme", at, f"e{number}", key, key, members, (link,))


async def told(graph: MemoryGraph, events: Sequence[Carried], batch: int, rules: Rules | None = None) -> None:
    linker = Linker(graph, rules or Rules(), "w", lambda: 1)
    for start in range(0, len(events), batch):
        await linker.learn(events[start : start + batch])


def roots(graph: MemoryGraph) -> list[Node]:
    return [node for node in graph.nodes.values() if node.redirect is None]


def customers_of(graph: MemoryGraph) -> dict[str, str | None]:
    return {key: one.customer for root in roots(graph) for key, one in root.component.assigned.items()}


@pytest.mark.parametrize("batch", [1, 7, 500])
@pytest.mark.parametrize(("kind", "hub"), [(USER, HUB), (EMAIL, ("tel", "")), (("telegram", ""), EMAIL)])
async def test_everybody_behind_one_identifier_is_a_customer_of_their_own(batch: int, kind: Kind, hub: Kind) -> None:
    graph = MemoryGraph()
    await told(graph, [meets(n, kind, hub) for n in range(300)], batch)
    found = customers_of(graph)

    assert len(found) == len(set(found.values())) == 301
    assert max(len(root.component.members) for root in roots(graph)) < 20
    assert max(len(root.component.edges) for root in roots(graph)) < 200


async def test_who_renews_a_cookie_every_day_stays_one_customer_up_to_the_size_of_one() -> None:
    graph, rules = MemoryGraph(), Rules()
    await told(graph, [meets(n, ("webchat", "shop"), ("user", "shop")) for n in range(200)], 20)
    found = customers_of(graph)
    limit = rules.limit("webchat").per_customer

    assert [key for key in sorted(found) if found[key] == found["hub"]] == ["hub", *(f"p{n:05d}" for n in range(limit))]


async def test_a_component_that_is_full_links_no_more_and_goes_on_resolving() -> None:
    graph, rules = MemoryGraph(), Rules(component_size=10)
    events = [meets(n, ("webchat", "shop"), ("user", "shop")) for n in range(30)]
    await told(graph, events, 4, rules)
    before = dict(graph.nodes)
    await told(graph, events, 30, rules)

    assert customers_of(graph).keys() == {"hub", *(f"p{n:05d}" for n in range(30))}
    assert max(len(root.component.members) for root in roots(graph)) == 10
    assert graph.nodes == before


async def test_workers_that_meet_at_one_hub_all_come_through() -> None:
    graph = MemoryGraph()
    lanes = [[meets(n, USER) for n in range(lane, 400, 8)] for lane in range(8)]
    await asyncio.gather(*(told(graph, lane, 5) for lane in lanes))
    found = customers_of(graph)

    assert len(found) == len(set(found.values())) == 401


async def test_what_many_dead_workers_left_grows_by_what_each_of_them_learned_and_no_more() -> None:
    """Each stands for all that the others left; what they say in common is said once."""
    graph = MemoryGraph()
    for number in range(16):
        linker = Linker(graph, Rules(), f"w{number}", lambda: 1)  # dies before it tells anybody
        await linker.learn([meets(number % 4, USER)])
    [root] = [one for one in roots(graph) if "hub" in one.component.members]
    said = {change for entry in root.outbox for change in entry.changes}

    assert len(root.outbox) >= 10
    assert all(len(entry.changes) == len(set(entry.changes)) for entry in root.outbox)
    assert max(len(entry.changes) for entry in root.outbox) <= len(said) < 40
