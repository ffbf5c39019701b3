"""Why two identifiers are one customer, or why not: read from the evidence by the same function that decided."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.identity.component import RANK, Component, Edge
from services.identity.resolve import Customers, Guard, customers
from services.identity.rules import Rules


@dataclass(frozen=True, slots=True)
class Obstacle:
    """`guard` names what stands between, `edge` the evidence that it held back; without one there is no evidence."""

    guard: Guard | str
    about: str = ""
    edge: Edge | None = None


def chain(component: Component, rules: Rules, a: str, b: str) -> list[Edge]:
    """The evidence that makes them one, link by link from `a` to `b`: the only path in the tree that joined the customer,
    so its weakest link is the strongest possible. Empty if they are not one."""
    found = customers(component, rules)
    if b not in found.of.get(a, ()):
        return []
    return _path(found.accepted, a, b)


def _path(edges: Iterable[Edge], a: str, b: str) -> list[Edge]:
    near: dict[str, list[tuple[str, Edge]]] = defaultdict(list)
    for edge in edges:
        near[edge.a].append((edge.b, edge))
        near[edge.b].append((edge.a, edge))
    came: dict[str, tuple[str, Edge]] = {}
    queue = deque([a])
    while queue and b not in came:
        at = queue.popleft()
        for other, edge in near[at]:
            if other not in came and other != a:
                came[other] = (at, edge)
                queue.append(other)
    found: list[Edge] = []
    while b != a:
        b, edge = came[b]
        found.append(edge)
    return found[::-1]


def weakest(edges: Sequence[Edge]) -> Edge:
    """The link that holds least: the smallest strength, of equal ones the newest."""
    return min(edges, key=lambda e: (RANK[e.strength], -e.first_seen, e.id))


def obstacles(one: Component, other: Component, rules: Rules, a: str, b: str) -> list[Obstacle]:
    """What stands between the customers of `a` and `b`, given the components that hold them."""
    both = one if one is other else one.united(other)
    found = customers(both, rules)
    ours, theirs = _side(found, a), _side(found, b)
    if b in ours:  # the evidence would join them, so only the size of their components keeps them apart
        return [] if one is other else [Obstacle("component_size")]
    between = [e for e in both.edges.values() if _between(e, ours, theirs)]
    refused = [Obstacle(r.guard, r.about, r.edge) for r in found.refused if r.edge in between]
    weak = [Obstacle(f"only_{e.strength}", "", e) for e in between if not e.strong]
    return [*refused, *weak] or _over_shared(found, ours, theirs) or [Obstacle("no_evidence")]


def _side(found: Customers, key: str) -> frozenset[str]:
    return found.of.get(key, frozenset((key,)))


def _between(edge: Edge, ours: Iterable[str], theirs: Iterable[str]) -> bool:
    return (edge.a in ours and edge.b in theirs) or (edge.b in ours and edge.a in theirs)


def _over_shared(found: Customers, ours: frozenset[str], theirs: frozenset[str]) -> list[Obstacle]:
    """Evidence that leads from both to the same identifier, which links nobody."""
    refused = [r for r in found.refused if r.guard in ("shared", "stopped", "elsewhere")]
    met = {end for r in refused if ours & {*r.edge.ends} for end in r.edge.ends} - ours
    return [Obstacle(r.guard, r.about, r.edge) for r in refused if theirs & {*r.edge.ends} and met & {*r.edge.ends}]
