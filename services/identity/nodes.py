"""The documents of the graph, and what a store of them must be able to do.

One document per identifier. A root holds its component; any other points towards its root. A node is *sealed* once it points
somewhere, and *absorbed* once what it held is in a node further up: from then on it holds nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.identity.component import Component
from services.identity.resolve import Change


@dataclass(frozen=True, slots=True)
class Entry:
    """Waits in the root until it is published: `keys` are the identifiers whose map records are due. Only `worker`
    takes it out, or, once it is old, whoever has published it too (see announce.py)."""

    id: str
    worker: str
    written: int
    keys: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    stands_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """`v` rises with every compare-and-set, but for taking entries out, which changes nothing that was decided."""

    key: str
    tenant: str
    v: int = 1
    redirect: str | None = None
    absorbed: bool = False
    component: Component = field(default_factory=Component)
    outbox: tuple[Entry, ...] = ()

    @property
    def unfinished(self) -> bool:
        """Sealed, and what it holds is nowhere else yet."""
        return self.redirect is not None and not self.absorbed


@dataclass(frozen=True, slots=True)
class Swap:
    """Put `after` where `before` still is. Entries of the outbox are added, never replaced."""

    before: Node
    after: Node


@dataclass(frozen=True, slots=True)
class Taken:
    """Take these entries out of a root that is still at `v`."""

    key: str
    tenant: str
    v: int
    entries: tuple[str, ...]


class Graph(Protocol):
    """Each node is changed atomically; nothing is promised about several. A call that raises may have done anything."""

    async def read(self, keys: Collection[str]) -> dict[str, Node]:
        """Those that exist, each as it is at some moment of the call."""

    async def insert(self, nodes: Sequence[Node]) -> bool:
        """Insert those that do not exist. False when some did."""

    async def swap(self, swaps: Sequence[Swap]) -> bool:
        """Do each whose `before` still stands. False when some did not."""

    async def take(self, taken: Sequence[Taken]) -> bool:
        """Do each whose root is still at `v`. False when some were not."""

    async def born(self, tenant: str, customers: Collection[str]) -> dict[str, str]:
        """The identifier that each of these customers is, or once was, named after."""

    async def waiting(self, written_before: int, limit: int) -> list[str]:
        """Nodes that hold entries older than that, the oldest first."""
