"""Who is one person: customers as a pure function of the evidence in one component, their names, and what a change of the
evidence changed.

Kruskal: strong edges, the strongest and then the earliest first, unless a union breaks a guard. Equal evidence gives equal
customers in whatever order it came; earliest first keeps what stands when later evidence of the same strength disagrees.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from services.common.identifiers import customer_id
from services.identity.component import APART, RANK, SAME, Assigned, Component, Edge, Member
from services.identity.rules import Rules

Guard = Literal["per_customer", "per_scope", "apart", "customer_size", "shared", "stopped", "elsewhere"]
ChangeKind = Literal["created", "merged", "split", "renamed", "shared", "erased"]
CAUSES = 10


@dataclass(frozen=True, slots=True)
class Refusal:
    """An edge that joined nothing, the guard that said so, and what it is about (a scheme, an identifier)."""

    edge: Edge
    guard: Guard
    about: str = ""


@dataclass(frozen=True, slots=True)
class Customers:
    """`of` gives the members of each living identifier's customer."""

    of: Mapping[str, frozenset[str]]
    accepted: tuple[Edge, ...] = ()
    refused: tuple[Refusal, ...] = ()
    shared: frozenset[str] = frozenset()

    @property
    def groups(self) -> set[frozenset[str]]:
        return set(self.of.values())


@dataclass(slots=True)
class _Group:
    members: set[str]
    schemes: Counter[str]
    scopes: Counter[tuple[str, str]]


def customers(component: Component, rules: Rules) -> Customers:
    members = {key: member for key, member in component.members.items() if member.alive}
    edges = sorted(_strong(component.edges.values()), key=_order)
    many = shared(edges, rules) & members.keys()
    apart = _apart(edges)
    groups = {key: _Group({key}, Counter((m.scheme,)), Counter(((m.scheme, m.scope),))) for key, m in members.items()}
    accepted: list[Edge] = []
    refused: list[Refusal] = []
    for edge in (e for e in edges if e.joins):
        if refusal := _unusable(edge, members, many):
            refused.append(refusal)
            continue
        one, other = groups[edge.a], groups[edge.b]
        if one is other:
            continue
        if refusal := _refusal(edge, one, other, apart, rules):
            refused.append(refusal)
            continue
        accepted.append(edge)
        for key in other.members:
            groups[key] = one
        one.members |= other.members
        one.schemes += other.schemes
        one.scopes += other.scopes
    frozen = {id(group): frozenset(group.members) for group in groups.values()}
    return Customers({key: frozen[id(group)] for key, group in groups.items()}, tuple(accepted), tuple(refused), many)


def _strong(edges: Iterable[Edge]) -> Iterable[Edge]:
    return (e for e in edges if e.strong)


def _order(edge: Edge) -> tuple[int, int, str]:
    return -RANK[edge.strength], edge.first_seen, edge.id


def _unusable(edge: Edge, members: Mapping[str, Member], many: Collection[str]) -> Refusal | None:
    for end in edge.ends:
        if end not in members:
            return Refusal(edge, "elsewhere", end)
        if members[end].stop:
            return Refusal(edge, "stopped", members[end].stop)
        if end in many:
            return Refusal(edge, "shared", end)
    return None


def _refusal(edge: Edge, one: _Group, other: _Group, apart: Collection[frozenset[str]], rules: Rules) -> Refusal | None:
    for pair in apart:
        a, b = sorted(pair)
        if (a in one.members and b in other.members) or (b in one.members and a in other.members):
            return Refusal(edge, "apart", a)
    if len(one.members) + len(other.members) > rules.customer_size:
        return Refusal(edge, "customer_size")
    for scheme in one.schemes.keys() & other.schemes.keys():
        if one.schemes[scheme] + other.schemes[scheme] > rules.limit(scheme).per_customer:
            return Refusal(edge, "per_customer", scheme)
    for scheme, scope in one.scopes.keys() & other.scopes.keys():
        if one.scopes[scheme, scope] + other.scopes[scheme, scope] > rules.limit(scheme).per_scope:
            return Refusal(edge, "per_scope", scheme)
    return None


def _apart(edges: Iterable[Edge]) -> set[frozenset[str]]:
    """The pairs that an agent holds apart. Of verdicts about the same pair the newest holds, and of two at once the one
    that keeps people apart."""
    newest: dict[frozenset[str], tuple[int, bool]] = {}
    for edge in edges:
        if edge.rule in (SAME, APART):
            pair, verdict = frozenset(edge.ends), (edge.last_seen, edge.rule == APART)
            newest[pair] = max(newest.get(pair, verdict), verdict)
    return {pair for pair, (_, is_apart) in newest.items() if is_apart and len(pair) == 2}


def shared(edges: Iterable[Edge], rules: Rules) -> frozenset[str]:
    """The identifiers that channels and systems link with more of a scheme than one person has: a shop's phone, a kiosk's
    cookie, a family's login. More evidence never takes it back."""
    met: dict[str, dict[tuple[str, ...], set[str]]] = defaultdict(lambda: defaultdict(set))
    for edge in edges:
        if edge.joins and edge.rule != SAME:
            for end, other, kind in ((edge.a, edge.b, edge.kinds[1]), (edge.b, edge.a, edge.kinds[0])):
                if rules.limit(kind[0]).counts:
                    met[end][kind[:1]].add(other)
                    met[end][kind].add(other)
    return frozenset(
        key for key, kinds in met.items() if any(len(others) >= _too_many(kind, rules) for kind, others in kinds.items())
    )


def _too_many(kind: tuple[str, ...], rules: Rules) -> int:
    limit = rules.limit(kind[0])
    return max(rules.shared_from, (limit.per_customer if len(kind) == 1 else limit.per_scope) + 1)


# -- names and changes --------------------------------------------------------------------------------------------------


def birth(group: Collection[str], members: Mapping[str, Member]) -> str:
    """The identifier a customer is named after: the earliest, of two at once the one with the smaller key."""
    return min(group, key=lambda key: (members[key].first_seen or 0, key))


def named(found: Customers, members: Mapping[str, Member], tenant: str) -> dict[str, str]:
    """The customer id of each living identifier."""
    names = {group: customer_id(tenant, birth(group, members)) for group in found.groups}
    return {key: names[group] for key, group in found.of.items()}


@dataclass(frozen=True, slots=True)
class Cause:
    """Under which version a change happens, when its evidence was received, and which agent asked for it, if one did."""

    version: int
    at: int
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to a customer. Of a `split`, `customer_id` is the one it was taken from and `others` where it went; of a
    merge, `others` are those that are now part of `customer_id`."""

    kind: ChangeKind
    customer_id: str
    others: tuple[str, ...]
    identifiers: tuple[str, ...]
    cause: Cause = Cause(0, 0)
    evidence: tuple[Edge, ...] = ()


def settled(before: Component, after: Component, tenant: str, cause: Cause, rules: Rules) -> tuple[Component, list[Change]]:
    """`after` with the customers that follow from it, under the cause's version where they differ from those `before`."""
    found = customers(after, rules)
    names = named(found, after.members, tenant)
    moved = {key: names.get(key) for key in after.members if _customer(after, key) != names.get(key)}
    changes = [
        *_changes({key: _customer(after, key) for key in after.members}, names, moved),
        *_newly_shared(before, found, names, rules),
    ]
    news = [e for e in after.edges.values() if before.edges.get(e.id) != e]
    assigned = {
        **after.assigned,
        **{key: Assigned(customer, cause.version, _customer(after, key)) for key, customer in moved.items()},
    }
    births = {birth(group, after.members) for group in found.groups}
    members = {k: replace(m, named=True) if k in births and not m.named else m for k, m in after.members.items()}
    return replace(after, members=members, assigned=assigned), [_caused(change, cause, news) for change in changes]


def _customer(component: Component, key: str) -> str | None:
    assigned = component.assigned.get(key)
    return assigned.customer if assigned else None


def _caused(change: Change, cause: Cause, news: Iterable[Edge]) -> Change:
    about = set(change.identifiers)
    return replace(change, cause=cause, evidence=tuple(e for e in news if e.a in about or e.b in about)[:CAUSES])


def _changes(before: Mapping[str, str | None], after: Mapping[str, str], moved: Mapping[str, str | None]) -> list[Change]:
    was, now = _by_customer(before), _by_customer(after)
    found: list[Change] = []
    left: dict[str, set[str]] = defaultdict(set)
    for customer in sorted({c for c in moved.values() if c}):
        came = {key for key, to in moved.items() if to == customer}
        sources = {c for key in came if (c := before[key])}
        whole = {c for c in sources if was[c] <= now[customer]}
        for part in sources - whole:
            left[part] |= {key for key in came if before[key] == part}
        arrived = tuple(sorted(key for key in came if before[key] is None or before[key] in whole))
        if not sources and customer not in was:
            found.append(Change("created", customer, (), arrived))
        elif customer not in was and len(whole) == 1 and sources == whole:
            found.append(Change("renamed", customer, tuple(whole), arrived))
        elif arrived:
            found.append(Change("merged", customer, tuple(sorted(whole)), arrived))
    for customer, keys in sorted(left.items()):
        found.append(Change("split", customer, tuple(sorted({after[key] for key in keys})), tuple(sorted(keys))))
    for customer in sorted({c for key, to in moved.items() if to is None and (c := before[key])}):
        gone = sorted(key for key, to in moved.items() if to is None and before[key] == customer)
        found.append(Change("erased", customer, (), tuple(gone)))
    return found


def _newly_shared(before: Component, found: Customers, names: Mapping[str, str], rules: Rules) -> list[Change]:
    if not found.shared:
        return []
    news = found.shared - shared(before.edges.values(), rules)
    return [Change("shared", names[key], (), (key,)) for key in sorted(news)]


def _by_customer(of: Mapping[str, str | None] | Mapping[str, str]) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = defaultdict(set)
    for key, customer in of.items():
        if customer:
            groups[customer].add(key)
    return groups
