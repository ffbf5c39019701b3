"""What people and other systems ask identity, and what they may tell it: one customer, why and why not, same, not same,
forget. Commands are evidence like any other, so they obey the same guards."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from services.common.errors import Problem, not_found
from services.common.identifiers import customer_id
from services.identity.announce import Announcer
from services.identity.component import Assigned, Edge, Member, edge
from services.identity.evidence import Carried
from services.identity.explain import Obstacle, chain, obstacles
from services.identity.linker import Linker
from services.identity.linking import View
from services.identity.nodes import Graph, Node
from services.identity.profiles import Plain, Profiles
from services.identity.resolve import birth, customers
from services.identity.rules import Rules

CUSTOMER_ID = 36
Rule = Literal["agent.same", "agent.apart"]


@dataclass(frozen=True, slots=True)
class Command:
    """Who wants it and why; `id` is the same when a caller tries again."""

    id: str
    actor: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer as it is now: its identifiers, the evidence among them, what is only suggested, and whom it took in."""

    customer_id: str
    version: int
    members: dict[str, Member]
    evidence: tuple[Edge, ...]
    suggestions: tuple[Edge, ...]
    merged_from: tuple[str, ...]
    shared: frozenset[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an agent's word: whose customer `a` and `b` are now, and what stands between them."""

    a: str | None
    b: str | None
    obstacles: tuple[Obstacle, ...]

    @property
    def same(self) -> bool:
        return self.a is not None and self.a == self.b


class Desk:
    def __init__(
        self, graph: Graph, linker: Linker, announcer: Announcer, profiles: Profiles, rules: Rules, now: Callable[[], int]
    ) -> None:
        self._graph, self._linker, self._announcer, self._profiles = graph, linker, announcer, profiles
        self._rules, self._now = rules, now

    # -- asking ---------------------------------------------------------------------------------------------------------

    async def assigned(self, tenant: str, key: str) -> Assigned | None:
        """None for an identifier that was never seen."""
        root = (await self._linker.look([key])).root(key)
        return root.component.assigned.get(key) if root and root.tenant == tenant else None

    async def customer(self, tenant: str, reference: str) -> Customer:
        """By its id, by the id of a customer it took in, or by one of its identifier keys. Raises Problem."""
        key, root = await self._found(tenant, reference)
        found = root.component.assigned.get(key)
        if found is None or found.customer is None:
            if root.component.members[key].erased:
                raise Problem(410, "erased", "This customer was erased.")
            raise not_found("customer")
        return _customer(root, found.customer, self._rules)

    async def values(self, tenant: str, keys: Collection[str]) -> dict[str, Plain]:
        return await self._profiles.read(tenant, keys)

    async def why(self, tenant: str, a: str, b: str) -> list[Edge]:
        """The evidence from `a` to `b`, link by link; empty where they are not one customer. Raises Problem."""
        (one, here), (other, there) = await self._found(tenant, a), await self._found(tenant, b)
        return chain(here.component, self._rules, one, other) if here.key == there.key else []

    async def why_not(self, tenant: str, a: str, b: str) -> list[Obstacle]:
        """Empty where they are one customer. Raises Problem."""
        (one, here), (other, there) = await self._found(tenant, a), await self._found(tenant, b)
        same = here.key == there.key
        return obstacles(here.component, here.component if same else there.component, self._rules, one, other)

    # -- telling --------------------------------------------------------------------------------------------------------

    async def judge(self, tenant: str, a: str, b: str, rule: Rule, command: Command) -> Verdict:
        """An agent says that two are the same person, or that they are not. Raises Problem."""
        (one, here), (other, there) = await self._found(tenant, a), await self._found(tenant, b)
        if one == other:
            raise Problem(422, "same_identifier", "Name two different identifiers or customers.")
        members = {one: here.component.members[one], other: there.component.members[other]}
        ends = {key: (m.scheme, m.scope) for key, m in members.items()}
        source, at = f"agent/{command.actor}", self._now()
        told = edge(ends, rule, source, "asserted", at, command.id, actor=command.actor, why=command.why)
        heard = {key: Member(m.scheme, m.scope, m.first_seen) for key, m in members.items()}
        view = await self._linker.learn([Carried(tenant, at, command.id, None, one, heard, (told,), (), command.actor)])
        await self._announcer.announce(view)
        return Verdict(_at(view, one), _at(view, other), tuple(await self.why_not(tenant, one, other)))

    async def erase(self, tenant: str, reference: str, command: Command) -> list[str]:
        """Forget a customer: values, evidence and the customer itself. Keys stay, as hashes, so that a replay of what came
        before brings nothing back. The keys that were erased."""
        erased: set[str] = set()
        key, root = await self._found(tenant, reference)
        while keys := _with(root, key) - erased:
            at = self._now()
            gone = {one: Member(erased=at) for one in keys}
            view = await self._linker.learn([Carried(tenant, at, command.id, None, key, gone, (), (), command.actor)])
            await self._announcer.announce(view)
            erased |= keys
            _, root = await self._found(tenant, key)
        return sorted(erased)

    async def _found(self, tenant: str, reference: str) -> tuple[str, Node]:
        key: str | None = reference
        if len(reference) == CUSTOMER_ID:
            key = (await self._graph.born(tenant, [reference])).get(reference)
        root = (await self._linker.look([key])).root(key) if key else None
        if key is None or root is None or root.tenant != tenant:
            raise not_found("customer")
        return key, root


def _with(root: Node, key: str) -> set[str]:
    """The identifiers of the customer that the key belongs to."""
    assigned = root.component.assigned
    customer = assigned[key].customer if key in assigned else None
    return {one for one, a in assigned.items() if customer and a.customer == customer}


def _at(view: View, key: str) -> str | None:
    root = view.root(key)
    return root.component.assigned[key].customer if root else None


def _customer(root: Node, customer: str, rules: Rules) -> Customer:
    component = root.component
    keys = {key for key, one in component.assigned.items() if one.customer == customer}
    members = {key: component.members[key] for key in sorted(keys, key=lambda k: (component.members[k].first_seen or 0, k))}
    first = birth(keys, members)
    return Customer(
        customer_id=customer,
        version=max(component.assigned[key].version for key in keys),
        members=members,
        evidence=tuple(e for e in component.edges.values() if e.strong and {*e.ends} <= keys),
        suggestions=tuple(e for e in component.edges.values() if not e.strong and {*e.ends} & keys),
        merged_from=tuple(sorted(customer_id(root.tenant, k) for k, m in members.items() if m.named and k != first)),
        shared=customers(component, rules).shared & keys,
    )
