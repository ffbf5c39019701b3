"""Tries the steps that linking.py plans, against a store that others use at the same time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from services.common import metrics
from services.common.errors import Poison, StoreAway
from services.identity.evidence import Carried
from services.identity.linking import Hand, Insert, Swaps, View, plan
from services.identity.nodes import Graph
from services.identity.recent import Recent
from services.identity.rules import Rules

ATTEMPTS = 60
STALE_READS = 30
HINTS = 200_000


class Foreign(Poison):
    """Identifier keys of one tenant in an event of another: keys are made with the tenant's own key, so somebody made this
    one up. `events` are the ids of those events."""

    def __init__(self, events: Collection[str]) -> None:
        super().__init__("an identifier key of another tenant")
        self.events = frozenset(events)


async def jitter(attempt: int) -> None:
    """Those who lost against each other must not meet again."""
    await asyncio.sleep(random.random() * min(0.002 * 2**attempt, 0.1))  # noqa: S311  # no secret


class Linker:
    """`worker` names this process among those that write to the graph, and is never used again by another."""

    def __init__(
        self,
        graph: Graph,
        rules: Rules,
        worker: str,
        now: Callable[[], int],
        pause: Callable[[int], Awaitable[None]] = jitter,
    ) -> None:
        self._graph, self._rules, self.worker, self._now, self._pause = graph, rules, worker, now, pause
        self._hints: Recent[str, str] = Recent(HINTS)

    async def learn(self, batch: Sequence[Carried], keys: Iterable[str] = (), *, adopts: bool = True) -> View:
        """The graph as it is once it knows all of the batch, around its identifiers and `keys`. Raises Foreign before
        anything is written, and StoreAway, after which the same batch may be learned again."""
        wanted = {*keys, *(key for one in batch for key in one.members)}
        for attempt in range(ATTEMPTS):
            view = await self._load(wanted)
            if strangers := _strangers(batch, view):
                raise Foreign(strangers)
            if done := await self._advance(batch, view, adopts):
                self._remember(done)
                return done
            metrics.CAS_LOST.labels("identity").inc()
            await self._pause(attempt)
        raise StoreAway("the identity graph is too busy")

    async def look(self, keys: Iterable[str]) -> View:
        """The graph around these, with what others left half done finished."""
        return await self.learn((), keys, adopts=False)

    async def _advance(self, batch: Sequence[Carried], view: View, adopts: bool) -> View | None:
        """None when somebody was faster."""
        while step := plan(batch, view, Hand(self.worker, self._now(), self._rules, adopts)):
            match step:
                case Insert(nodes):
                    done, news = await self._graph.insert(nodes), nodes
                case Swaps(swaps):
                    done, news = await self._graph.swap(swaps), tuple(swap.after for swap in swaps)
            if not done:
                return None
            view = view.after(news)
        return view

    async def _load(self, keys: Collection[str]) -> View:
        """Every wanted identifier's path to its root, in one read where the roots are known and still are roots."""
        starts = {key: self._hints.get(key) or key for key in keys}
        view, ask = View({}, starts), set(starts.values())
        for _ in range(STALE_READS):
            if not ask:
                return view
            view = view.after((await self._graph.read(ask)).values())
            ask = _onwards(view) or _stale(view)
        raise StoreAway("the identity graph changes too fast to be read")

    def _remember(self, view: View) -> None:
        for key, root in view.roots.items():
            if root.key != key and root.key != self._hints.get(key):
                self._hints.put(key, root.key)


def _strangers(batch: Sequence[Carried], view: View) -> list[str]:
    """Events that name another tenant's identifiers, as the graph knows them, else as the first of the batch does."""
    tenants = {key: root.tenant for key, root in view.roots.items()}
    return [c.event_id for c in batch if any(tenants.setdefault(key, c.tenant) != c.tenant for key in c.members)]


def _onwards(view: View) -> set[str]:
    return {n.redirect for n in view.nodes.values() if n.redirect is not None and n.redirect not in view.nodes}


def _stale(view: View) -> set[str]:
    """Roots that were read before what they absorbed: they do not hold an identifier that leads to them, and nothing on the
    way is unfinished."""
    lost = [(key, root.key) for key, root in view.roots.items() if key not in root.component.members]
    return {root for key, root in lost if not any(node.unfinished for node in view.path(key))}
