"""What is known of identifiers that evidence connects: members, edges, and which customer each member belongs to.

Everything here is a value, and everything learned merges by minimum, maximum or union: the same evidence in any order, any
number of times, gives the same component.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, Protocol, Self, TypeVar, get_args

from services.common.identifiers import PROOFS, Proof, Strength

DAY = 24 * 3600 * 1_000_000  # in microseconds, as all times here
CITED = 3
STRENGTHS: tuple[Strength, ...] = ("inferred", "claimed", "asserted", "verified")
RANK: Mapping[Strength, int] = {name: place for place, name in enumerate(STRENGTHS)}
PROOF_RANK: Mapping[Proof, int] = {name: place for place, name in enumerate(PROOFS)}
Kind = tuple[str, str]
SAME: Literal["agent.same"] = "agent.same"
APART: Literal["agent.apart"] = "agent.apart"
assert set(STRENGTHS) == set(get_args(Strength))


@dataclass(frozen=True, slots=True)
class Member:
    """An identifier. `stop` says why its value never links; `first_seen` is None while it has no evidence, which is so
    after an erasure: what was received up to `erased` is not heard again. `named` once a customer was named after it."""

    scheme: str = ""
    scope: str = ""
    first_seen: int | None = None
    proof: Proof = "none"
    stop: str = ""
    erased: int = 0
    named: bool = False

    @property
    def alive(self) -> bool:
        return self.first_seen is not None

    def merged(self, other: Member) -> Member:
        if self.has(other):
            return self
        erased = max(self.erased, other.erased)
        heard = [(m.first_seen, m.proof) for m in (self, other) if m.first_seen is not None and m.first_seen > erased]
        return Member(
            scheme=max(self.scheme, other.scheme),
            scope=max(self.scope, other.scope),
            first_seen=min((at for at, _ in heard), default=None),
            proof=max((proof for _, proof in heard), key=PROOF_RANK.__getitem__, default="none"),
            stop=max(self.stop, other.stop),
            erased=erased,
            named=self.named or other.named,
        )

    def has(self, other: Member) -> bool:
        """The case of nearly every event: it says nothing new."""
        return (
            self.first_seen is not None
            and other.first_seen is not None
            and self.first_seen <= other.first_seen
            and self.scheme == other.scheme
            and self.scope == other.scope
            and self.stop == other.stop
            and PROOF_RANK[other.proof] <= PROOF_RANK[self.proof]
            and other.erased <= self.erased < self.first_seen
            and other.named <= self.named
        )


@dataclass(frozen=True)
class Edge:
    """A source says by a rule, and with some strength, that two identifiers belong to one person, or, by the rule
    `agent.apart`, that they must not. What says the same again is the same edge.
    `events` are the three earliest that said so, `kinds` the scheme and scope of both ends. `last_seen` is a day, but for an
    agent's verdict, whose newest counts."""

    a: str
    b: str
    rule: str
    source: str
    strength: Strength
    first_seen: int
    last_seen: int
    events: tuple[tuple[int, str], ...]
    kinds: tuple[Kind, Kind]
    actor: str = ""
    why: str = ""

    @cached_property
    def id(self) -> str:
        text = f"{self.a}\0{self.b}\0{self.rule}\0{self.source}\0{self.strength}"
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:20]

    @property
    def ends(self) -> tuple[str, str]:
        return self.a, self.b

    @property
    def strong(self) -> bool:
        """Whether it may join customers or keep them apart; a weak one only suggests."""
        return RANK[self.strength] >= RANK["asserted"]

    @property
    def joins(self) -> bool:
        return self.strong and self.rule != APART

    def merged(self, other: Edge) -> Edge:
        if self.has(other):
            return self
        latest = max(self, other, key=lambda e: (e.last_seen, e.actor, e.why))
        return replace(
            self,
            first_seen=min(self.first_seen, other.first_seen),
            last_seen=latest.last_seen,
            events=tuple(sorted({*self.events, *other.events})[:CITED]),
            actor=latest.actor,
            kinds=max(self.kinds, other.kinds),
            why=latest.why,
        )

    def has(self, other: Edge) -> bool:
        """The case of nearly every event: it is of a day that was seen, and three earlier ones are cited."""
        return (
            self.first_seen <= other.first_seen
            and (self.last_seen, self.actor, self.why) >= (other.last_seen, other.actor, other.why)
            and self.kinds == other.kinds
            and len(self.events) == CITED
            and self.events[-1] <= other.events[0]
        )


def edge(
    ends: Mapping[str, Kind],
    rule: str,
    source: str,
    strength: Strength,
    at: int,
    event_id: str,
    *,
    actor: str = "",
    why: str = "",
) -> Edge:
    """The edge between two identifiers, given with their kinds, that one event is evidence for."""
    (a, a_kind), (b, b_kind) = sorted(ends.items())
    seen = at if rule in (SAME, APART) else at - at % DAY
    return Edge(a, b, rule, source, strength, at, seen, ((at, event_id),), (a_kind, b_kind), actor, why)


@dataclass(frozen=True, slots=True)
class Assigned:
    """The customer of an identifier. `version` only rises, whatever happens to the component."""

    customer: str | None
    version: int
    previous: str | None = None


@dataclass(frozen=True)
class Component:
    """A raw component is where evidence meets, not yet a customer: customers are clusters within it. It may hold edges
    whose other end is elsewhere: suggestions, and links that were refused."""

    members: Mapping[str, Member] = field(default_factory=dict)
    edges: Mapping[str, Edge] = field(default_factory=dict)
    assigned: Mapping[str, Assigned] = field(default_factory=dict)

    def knows(self, key: str, member: Member) -> bool:
        """Whether it says nothing new, and belongs to a customer, or to none for a reason."""
        mine = self.members.get(key)
        return mine is not None and mine.has(member) and key in self.assigned

    def holds(self, edge: Edge) -> bool:
        """Whether it says nothing new."""
        mine = self.edges.get(edge.id)
        return mine is not None and mine.has(edge)

    def united(self, other: Component) -> Component:
        """Both. Of two assignments of one identifier the newer holds, so absorbing twice changes nothing."""
        return Component(
            _merged(self.members, other.members),
            _merged(self.edges, other.edges),
            {**self.assigned, **other.assigned, **_newer(self.assigned, other.assigned)},
        )

    def learned(self, members: Mapping[str, Member], edges: Iterable[Edge], suggestions: int) -> Component:
        """With this evidence; itself when nothing of it is new. Weak edges, and strong ones that lead elsewhere, are kept
        up to `suggestions` of each, the earliest first. Evidence up to an erasure is not heard."""
        known = _merged(self.members, members)
        heard = _merged(self.edges, _by_id(e for e in edges if _heard(e, known)))
        if known is self.members and heard is self.edges:
            return self
        kept = _bounded({name: e for name, e in heard.items() if _heard(e, known)}, known, suggestions)
        if known is self.members and kept == self.edges:
            return self
        return replace(self, members=known, edges=kept)


def _newer(ours: Mapping[str, Assigned], theirs: Mapping[str, Assigned]) -> dict[str, Assigned]:
    """Of the identifiers that both have."""
    return {key: max(ours[key], theirs[key], key=lambda one: one.version) for key in ours.keys() & theirs.keys()}


class _Merges(Protocol):
    def merged(self, other: Self) -> Self: ...


M = TypeVar("M", bound=_Merges)


def _merged(ours: Mapping[str, M], theirs: Mapping[str, M]) -> Mapping[str, M]:
    """The union; `ours` itself when it has all of it already."""
    news: dict[str, M] = {}
    for key, their in theirs.items():
        mine = ours.get(key)
        both = their if mine is None else mine.merged(their)
        if both is not mine and both != mine:
            news[key] = both
    return {**ours, **news} if news else ours


def _by_id(edges: Iterable[Edge]) -> dict[str, Edge]:
    found: dict[str, Edge] = {}
    for one in edges:
        found[one.id] = found[one.id].merged(one) if one.id in found else one
    return found


def _heard(one: Edge, members: Mapping[str, Member]) -> bool:
    return all(one.first_seen > members[end].erased for end in one.ends if end in members)


def _bounded(edges: dict[str, Edge], members: Mapping[str, Member], suggestions: int) -> Mapping[str, Edge]:
    weak = [e for e in edges.values() if not e.strong]
    away = [e for e in edges.values() if e.joins and not (e.a in members and e.b in members)]
    if len(weak) <= suggestions and len(away) <= suggestions:
        return edges
    dropped = {e.id for some in (weak, away) for e in sorted(some, key=lambda e: (e.first_seen, e.id))[suggestions:]}
    return {name: e for name, e in edges.items() if name not in dropped}
