"""Polls the journal and works on what is due: many legs at once, one message at a time in each. Nothing that waits holds
anything up, since waiting is a time in the journal and not a place in a queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

from services.common import metrics
from services.common.errors import Away
from services.common.logs import log, place
from services.ingest.outbound.decide import held
from services.ingest.outbound.sends import Sending, later
from services.ingest.outbound.worker import Parts, Worker

BUG_S = 60.0
HOLDS = ("time", "order", "gate", "router", "account", "channel", "file", "rate", "retry", "receipt")


class Scheduler:
    """`run` until `stop`, which lets calls under way finish."""

    def __init__(self, parts: Parts, worker: Worker, *, at_once: int = 64, poll_s: float = 0.2) -> None:
        self._parts, self._worker, self._at_once, self._poll_s = parts, worker, at_once, poll_s
        self._hands: dict[str, asyncio.Task[None]] = {}
        self._due = asyncio.Event()
        self._stopping = asyncio.Event()
        self.away: str | None = None

    def wake(self) -> None:
        """Something may be due now."""
        self._due.set()

    async def start(self) -> None:
        self._stopping.clear()

    async def stop(self) -> None:
        self._stopping.set()
        self._due.set()
        if self._hands:
            await asyncio.wait(self._hands.values())

    async def run(self) -> None:
        chores = 0.0
        while not self._stopping.is_set():
            self._due.clear()
            await self._safely(self._poll)
            if time.monotonic() - chores > 5:
                chores = time.monotonic()
                await self._safely(self._chores)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), self._poll_s if self.away is None else 1)

    async def _safely(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Away as error:
            if self.away is None:
                log().warning("away", part=error.part, reason=str(error))
                metrics.AWAY.labels(error.part).set(1)
            self.away = error.part
        else:
            if self.away:
                metrics.AWAY.labels(self.away).set(0)
            self.away = None

    async def _poll(self) -> None:
        free = self._at_once - len(self._hands)
        if free <= 0:
            return
        for s in await self._parts.journal.due(self._worker.now(), free, list(self._hands)):
            self._hands[s.id] = task = asyncio.create_task(self._one(s))
            task.add_done_callback(partial(self._free, s.id))
        await self._parts.announcer.repair(self._worker.now(), self._at_once)

    def _free(self, name: str, task: asyncio.Task[None]) -> None:
        self._hands.pop(name, None)
        self._due.set()

    async def _one(self, s: Sending) -> None:
        try:
            await self._worker.work(s)
        except Away as error:
            log().warning("away", part=error.part, outbound_id=s.id)
            await asyncio.sleep(self._poll_s)
        except Exception as error:  # one message must not stop the others: it is held, and the bug is loud
            metrics.CHANNEL_BUGS.labels(s.channel).inc()
            log().error("send_bug", outbound_id=s.id, exc_type=type(error).__name__, path=place(error))
            await self._hold(s, f"bug: {type(error).__name__}")

    async def _hold(self, s: Sending, reason: str) -> None:
        until = later(self._worker.now(), BUG_S)
        with suppress(Away):
            await self._parts.journal.change(s.id, lambda x: x if x.lease or x.closed else held(x, "channel", reason, until))

    async def _chores(self) -> None:
        """What need not be prompt: gauges, lanes nobody uses, account changes that were not told."""
        waiting = await self._parts.journal.waiting()
        for reason in HOLDS:
            metrics.HELD.labels(reason).set(waiting.get(reason, 0))
        self._parts.rates.forget((self._worker.now() - timedelta(minutes=5)).timestamp())
        await self._parts.health.tell()
        await self._parts.health.look_again(self._parts.accounts, self._worker.now())
