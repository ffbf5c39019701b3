"""Takes the files that events refer to into its journal, fetches what is due, and announces what became of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial

from services.common import metrics, topics
from services.common.cloudevents import Event, Record, UnknownType, Unreadable, decode
from services.common.errors import Away
from services.common.events import BY_TYPE, CallRecorded, CustomerChanged, Data, MessageSent, Said
from services.common.kafka import DeadLetters, Publisher, read
from services.common.logs import log, place
from services.common.media import MediaStore, Stored
from services.ingest.media.fetch import MAIL, Fetcher
from services.ingest.media.jobs import Job, Later, Patience, Result, announcement, ended, wanted
from services.ingest.media.journal import MediaJournal

GROUP = "media"
ERASURE_GROUP = "media-erasure"
TYPES = frozenset(name for name, model in BY_TYPE.items() if issubclass(model, Said | MessageSent | CallRecorded))
FILES = (b'"ref"', b'"recording"')  # the fields that name a file
HOUR = 3600.0


class Intake:
    """Events of these types into the journal: a record is acknowledged once its files are there, or were."""

    def __init__(self, journal: MediaJournal, wake: Callable[[], None], clock: Callable[[], datetime]) -> None:
        self._journal, self._wake, self._clock = journal, wake, clock

    async def handle(self, records: Sequence[Record]) -> None:
        """Raises StoreAway. Records that are no events are left to identity, which sets them aside for everybody."""
        now = self._clock()
        jobs = [job for record in records if (event := _read(record)) for job in wanted(event, now)]
        if jobs:
            await self._journal.accept(jobs)
            self._wake()


def _read(record: Record) -> Event[Data] | None:
    """The event, where it may name a file: few do, and to look for the field's name costs next to nothing."""
    value = record.value or b""
    if not any(name in value for name in FILES):
        return None
    try:
        return decode(record)
    except (Unreadable, UnknownType):
        return None


class MediaWorker:
    """`run` until `stop`, which lets fetches under way finish."""

    def __init__(
        self,
        journal: MediaJournal,
        fetcher: Fetcher,
        store: MediaStore,
        publisher: Publisher,
        patience: Patience,
        clock: Callable[[], datetime],
        dice: Callable[[], float],
        *,
        at_once: int = 8,
        poll_s: float = 0.5,
        lease_s: float = 300,
        keep_mail_s: float = 30 * 24 * HOUR,
    ) -> None:
        self._journal, self._fetcher, self._store, self._publisher = journal, fetcher, store, publisher
        self._patience, self._clock, self._dice = patience, clock, dice
        self._at_once, self._poll_s, self._lease_s, self._keep_mail_s = at_once, poll_s, lease_s, keep_mail_s
        self._hands: dict[str, asyncio.Task[None]] = {}
        self._due, self._stopping = asyncio.Event(), asyncio.Event()
        self.away: str | None = None

    def wake(self) -> None:
        self._due.set()

    async def start(self) -> None:
        self._stopping.clear()

    async def stop(self) -> None:
        self._stopping.set()
        self._due.set()
        if self._hands:
            await asyncio.wait(self._hands.values())

    async def run(self) -> None:
        swept = float("-inf")
        while not self._stopping.is_set():
            self._due.clear()
            try:
                await self._poll()
                if time.monotonic() - swept > HOUR:
                    swept = time.monotonic()
                    await self._store.sweep("mail", self._keep_mail_s)
                self._set_away(None)
            except Away as error:
                self._set_away(error.part)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), self._poll_s if self.away is None else 1)

    def _set_away(self, part: str | None) -> None:
        if part and part != self.away:
            log().warning("away", part=part)
        for name in filter(None, (part, self.away)):
            metrics.AWAY.labels(name).set(name == part)
        self.away = part

    async def _poll(self) -> None:
        free = self._at_once - len(self._hands)
        if free <= 0:
            return
        for job in await self._journal.due(self._clock(), free, list(self._hands)):
            self._hands[job.id] = task = asyncio.create_task(self._one(job))
            task.add_done_callback(partial(self._free, job.id))

    def _free(self, name: str, task: asyncio.Task[None]) -> None:
        self._hands.pop(name, None)
        self._due.set()

    async def _one(self, job: Job) -> None:
        """What fails for want of a part of ours is tried again when its lease is over."""
        try:
            await self.work(job)
        except Away as error:
            log().warning("away", part=error.part, channel=job.channel)
            await asyncio.sleep(self._poll_s)

    async def work(self, job: Job) -> None:
        """Raises Away."""
        if job.state in ("stored", "failed"):
            await self._tell(job)
            return
        mine = await self._journal.claim(job, self._clock(), self._lease_s)
        if mine is None:
            return
        result = await self._fetched(mine)
        metrics.MEDIA.labels(job.channel, type(result).__name__.lower()).inc()
        after = await self._journal.replace(mine, ended(mine, result, self._clock(), self._patience, self._dice()))
        if after is None:
            await self._unwanted(mine, result)
        elif after.ended_at:
            await self._tell(after)

    async def _fetched(self, job: Job) -> Result:
        try:
            return await self._fetcher.fetch(job)
        except Away as error:
            return Later(f"{error.part} is away")
        except Exception as error:  # one file must not stop the others: it is tried again, and the bug is loud
            log().error("media_bug", channel=job.channel, exc_type=type(error).__name__, path=place(error))
            return Later(f"bug: {type(error).__name__}", HOUR)

    async def _tell(self, job: Job) -> None:
        """Announce, then note that it is announced. Whoever comes between announces the same event again."""
        await self._publisher.emit(topics.EVENTS, [announcement(job)])
        await self._journal.replace(job, replace(job, told=True, next_at=None))

    async def _unwanted(self, job: Job, result: Result) -> None:
        """The person was erased while we fetched: the file goes too, unless it is somebody else's as well."""
        now = await self._journal.get(job.id)
        if isinstance(result, Stored) and now and now.state == "erased":
            await discard(self._journal, self._store, job.tenant, result.sha256)


class Erasure:
    """hilo.identity.changes: a person is to be forgotten. Their files go, but for those that are somebody else's too."""

    def __init__(self, journal: MediaJournal, store: MediaStore, dead: DeadLetters) -> None:
        self._journal, self._store, self._dead = journal, store, dead

    async def handle(self, records: Sequence[Record]) -> None:
        """Raises StoreAway and MediaAway."""
        for _, event in await read(records, self._dead, ERASURE_GROUP):
            if isinstance(event.data, CustomerChanged) and event.data.type == "hilo.customer.erased.v1":
                await self._erase(event.tenant, event.data.identifiers)

    async def _erase(self, tenant: str, people: Sequence[str]) -> None:
        """Files first: a job that is erased no longer knows them, and this batch may come again."""
        for job in await self._journal.of_people(tenant, people):
            if job.sha256:
                await discard(self._journal, self._store, tenant, job.sha256, people)
            if mail := MAIL.fullmatch(job.ref):
                await self._store.delete(tenant, mail[1], area="mail")
            await self._journal.erase(job)


async def discard(journal: MediaJournal, store: MediaStore, tenant: str, sha256: str, people: Sequence[str] = ()) -> None:
    if not await journal.needed(tenant, sha256, people):
        await store.delete(tenant, sha256)
