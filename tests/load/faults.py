"""What happens to the processes while the load runs: kill -9 of every service and the broker, and workers that stop for longer
than their session lasts and then go on with what they had in hand, as if nothing had been (zombies)."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from deploy.local.containers import ApacheBroker
from deploy.local.embedded import free_port
from deploy.local.stack import MODULES, Stack

BROKER = "broker"
SHARED = ("identity", "router", "timeline")  # whose work several processes share
SESSION_S = 6  # the shortest that Apache Kafka allows by default
PAUSE_S = SESSION_S + 3


@dataclass(frozen=True, slots=True)
class Fault:
    """`share` of the run after which it happens."""

    share: float
    kind: Literal["kill", "pause"]
    name: str


def schedule(kills: Collection[str], pauses: Collection[str], *, last: float, seed: int = 5) -> list[Fault]:
    """Each once, in an order of chance, all before `last`."""
    chance = random.Random(seed)
    wanted = [("kill", name) for name in kills] + [("pause", name) for name in pauses]
    chance.shuffle(wanted)
    width = last / (len(wanted) + 1)
    return [Fault(width * (n + chance.uniform(0.2, 1)), kind, name) for n, (kind, name) in enumerate(wanted)]  # type: ignore[arg-type]


def second_workers(stack: Stack) -> list[str]:
    """One more process of each service whose work is shared. Their names."""
    for name in SHARED:
        stack.run(f"{name}-2", MODULES[name], {"HILO_PORT": str(free_port())})
    return [f"{name}-2" for name in SHARED]


class Faults:
    def __init__(self, stack: Stack, broker: ApacheBroker | None, planned: Sequence[Fault]) -> None:
        self._stack, self._broker, self._planned = stack, broker, planned
        self.done: list[Fault] = []

    async def happen(self, progress: Callable[[], float]) -> None:
        """One after the other; returns when who died is started again."""
        for fault in self._planned:
            while progress() < fault.share:
                await asyncio.sleep(0.02)
            if fault.name == BROKER and self._broker:
                await asyncio.to_thread(self._broker.kill)
                await asyncio.to_thread(self._broker.start)
            elif fault.kind == "kill":
                await self._kill(fault.name)
            else:
                await self._pause(fault.name)
            self.done.append(fault)

    def count(self, kind: str) -> int:
        return sum(fault.kind == kind for fault in self.done)

    async def _kill(self, name: str) -> None:
        before = self._stack.services[name].restarts
        self._stack.services[name].kill()
        async with asyncio.timeout(60):
            while self._stack.services[name].restarts == before:
                await asyncio.sleep(0.02)

    async def _pause(self, name: str) -> None:
        """So long that the others have taken its partitions."""
        process = self._stack.services[name].process
        assert process
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(PAUSE_S)
        finally:
            process.send_signal(signal.SIGCONT)
