"""A deterministic scheduler for real async code: every I/O step waits at a gate, a seeded choice opens one gate at a time.
Some actors stand nearly still for a while (zombies); an actor may crash at any gate and begin anew."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

Work = Callable[[], Awaitable[None]]
_actor: ContextVar[Actor | None] = ContextVar("actor", default=None)


class Violation(AssertionError):
    """The protocol broke a promise."""


class Actor:
    def __init__(self, work: Work, crashes: int) -> None:
        self.work, self.crashes, self.weight = work, crashes, 1.0
        self.gates: list[asyncio.Future[None]] = []
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self.gates.clear()
        token = _actor.set(self)
        self.task = asyncio.ensure_future(self.work())
        _actor.reset(token)


class Scheduler:
    """`pause` is what a store awaits before a step. Outside `run` it lets everything pass."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.actors: list[Actor] = []
        self.steps = self.crashed = 0

    def add(self, work: Work, crashes: int = 0) -> None:
        self.actors.append(Actor(work, crashes))

    async def pause(self) -> None:
        actor = _actor.get()
        if actor is not None:
            gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            actor.gates.append(gate)
            await gate

    async def run(self, limit: int = 8000) -> None:
        """Until every actor is done. Raises what an actor raised, and Violation when there is no end."""
        for actor in self.actors:
            actor.begin()
        try:
            while self.actors:
                await self._settle()
                await self._step()
                if self.steps > limit:
                    raise Violation("does not terminate")
        finally:
            for actor in self.actors:
                if actor.task:
                    actor.task.cancel()
            await asyncio.gather(*(actor.task for actor in self.actors if actor.task), return_exceptions=True)

    async def _settle(self) -> None:
        """Until every actor stands at a gate or is done."""
        for actor in list(self.actors):
            turns = 0
            while not actor.gates and actor.task and not actor.task.done():
                await asyncio.sleep(0)
                turns += 1
                if turns > 1000:
                    raise Violation("an actor waits for something that is no step")
            if actor.task and actor.task.done():
                self.actors.remove(actor)
                actor.task.result()

    async def _step(self) -> None:
        self.steps += 1
        if self.steps % 12 == 1:
            for actor in self.actors:
                actor.weight = self.random.choice((0.01, 0.3, 1.0, 4.0))
        if not self.actors:
            return
        actor = self.random.choices(self.actors, [one.weight for one in self.actors])[0]
        if actor.crashes and self.random.random() < 0.04:
            await self._crash(actor)
            return
        gate = actor.gates.pop(self.random.randrange(len(actor.gates)))
        gate.set_result(None)
        for _ in range(3):
            await asyncio.sleep(0)

    async def _crash(self, actor: Actor) -> None:
        actor.crashes -= 1
        self.crashed += 1
        assert actor.task
        actor.task.cancel()
        await asyncio.gather(actor.task, return_exceptions=True)
        actor.begin()
