"""Brings webhooks to their door as providers do: in batches, some twice, some late or in another order, and again and again
until the answer is 2xx."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.common.http import AnswerLost, Http, NotSent


@dataclass(frozen=True, slots=True)
class Mess:
    """How much disorder there is: shares from 0 to 1, and the longest delay in seconds."""

    duplicates: float = 0.0
    reorder: float = 0.0
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Delivery:
    url: str
    headers: Mapping[str, str]
    body: bytes
    items: int = 1


@dataclass
class Posted:
    """What has become of the deliveries, counted in requests and in items (a batch has several)."""

    accepted: int = 0
    items: int = 0
    twice: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    tries: int = 0


class Courier:
    """Delivers in the background. `drain` waits until everything was accepted."""

    def __init__(self, http: Http, mess: Mess = Mess(), *, seed: int = 7, give_up_s: float = 120, at_once: int = 32) -> None:
        self._http, self._mess, self._chance = http, mess, random.Random(seed)  # noqa: S311  # disorder, not secrecy
        self._give_up, self._slots = give_up_s, asyncio.Semaphore(at_once)
        self._tasks: set[asyncio.Task[None]] = set()
        self.posted = Posted()

    def send(self, delivery: Delivery) -> None:
        """Take it; when and how often it arrives is up to the mess."""
        late = self._chance.random() < self._mess.reorder
        delay = self._chance.uniform(0, self._mess.delay_s or 0.2) if late else 0.0
        self._spawn(self._bring(delivery, delay))
        if self._chance.random() < self._mess.duplicates:
            self.posted.twice += delivery.items
            self._spawn(self._bring(delivery, self._chance.uniform(0, 0.5)))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bring(self, delivery: Delivery, delay: float) -> None:
        await asyncio.sleep(delay)
        wait, waited = 0.2, 0.0
        while True:
            async with self._slots:
                status = await self.once(delivery)
            if 200 <= status < 300:
                self.posted.accepted += 1
                self.posted.items += delivery.items
                return
            self.posted.refused[status] = self.posted.refused.get(status, 0) + 1
            if waited > self._give_up or status in (401, 403, 404, 413):
                return
            await asyncio.sleep(wait)
            waited, wait = waited + wait, min(wait * 2, 5)

    async def once(self, delivery: Delivery) -> int:
        """One try: the status, or 0 when there was no answer."""
        self.posted.tries += 1
        try:
            answer = await self._http.provider("POST", delivery.url, delivery.headers, delivery.body)
        except (NotSent, AnswerLost):
            return 0
        return answer.status

    async def drain(self, within_s: float = 180) -> None:
        """Raises TimeoutError when something is still on its way."""
        async with asyncio.timeout(within_s):
            while self._tasks:
                await asyncio.wait(set(self._tasks))
