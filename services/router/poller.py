"""Looks at what is due: timers, and whatever a crash left half done. Any number of processes may do it at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from services.common.errors import Away
from services.common.logs import log
from services.router.outputs import Change
from services.router.protocol import Conversations
from services.router.state import Conversation
from services.router.together import all_of

BATCH = 200


class Poller:
    def __init__(
        self, conversations: Conversations, fire: Callable[[Conversation, datetime], Change], *, every_s: float
    ) -> None:
        self._conversations, self._fire, self._every = conversations, fire, every_s
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        return None

    async def run(self) -> None:
        """Until `stop`. While the store or the broker is away it waits: what is due stays due."""
        wait = self._every
        while not self._stopping.is_set():
            try:
                found = await self.poll()
                wait = self._every * random.uniform(0.8, 1.2) if found < BATCH else 0  # noqa: S311  # only to spread polls
            except Away as error:
                wait = min(max(wait, self._every) * 2, 5)
                log().warning("away", part=error.part, reason=str(error), backoff_s=wait)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)

    async def poll(self) -> int:
        """Tend all that is due now, at most a batch; how many there were."""
        found = await self._conversations.store.due(self._conversations.now(), BATCH)
        random.shuffle(found)  # two processes then rarely begin with the same one
        await all_of(*(self._conversations.tend(c.id, self._fire) for c in found))
        return len(found)

    async def stop(self) -> None:
        self._stopping.set()
