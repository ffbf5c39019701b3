"""kill -9 of every service and the broker while the load runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence

from deploy.local.containers import ApacheBroker
from deploy.local.stack import MODULES, Stack

BROKER = "broker"


def schedule(names: Iterable[str], times: int, *, last: float, seed: int = 5) -> list[tuple[float, str]]:
    """Who is killed at which share of the run: everybody once in every round, in an order of chance, all before `last`."""
    chance = random.Random(seed)
    rounds = [chance.sample(sorted(names), len(list(names))) for _ in range(times)]
    victims = [name for one in rounds for name in one]
    return [(last * (number + chance.uniform(0.2, 1)) / (len(victims) + 1), name) for number, name in enumerate(victims)]


def victims(broker: ApacheBroker | None) -> Sequence[str]:
    """The embedded broker keeps everything in memory and is never killed."""
    return [*MODULES, *([BROKER] if broker else [])]


async def kill(
    stack: Stack, broker: ApacheBroker | None, planned: Sequence[tuple[float, str]], progress: Callable[[], float]
) -> list[str]:
    """Carry out the plan. Returns who died and is started again, once all are."""
    killed = []
    for share, name in planned:
        while progress() < share:
            await asyncio.sleep(0.02)
        if name == BROKER and broker:
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)
        else:
            before = stack.services[name].restarts
            stack.services[name].kill()
            async with asyncio.timeout(30):
                while stack.services[name].restarts == before:
                    await asyncio.sleep(0.02)
        killed.append(name)
    return killed
