"""The media worker's journal (database `ingest`, collection `media`): one document per file, changed by compare-and-set on
`v`. Kept as long as the file, since an erasure finds a person's files by it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from services.common import metrics
from services.common.mongo import ASCENDING, Document, IndexModel, Mongo, UpdateOne, bulk, reaching
from services.ingest.media.jobs import Job, document, erased, job_of, milliseconds


class MediaJournal:
    """Every method raises StoreAway."""

    def __init__(self, mongo: Mongo) -> None:
        self._media = mongo.database("ingest")["media"]

    async def start(self) -> None:
        due: Document = {"next_at": {"$type": "date"}}
        indexes = [
            IndexModel([("next_at", ASCENDING)], name="due", partialFilterExpression=due),
            IndexModel([("tenant", ASCENDING), ("person", ASCENDING)], name="person"),
            IndexModel([("tenant", ASCENDING), ("sha256", ASCENDING)], name="file"),
        ]
        async with reaching():
            await self._media.create_indexes(indexes)

    async def stop(self) -> None:
        pass

    async def accept(self, jobs: Sequence[Job]) -> None:
        """Each job that is not there yet."""
        operations = [UpdateOne({"_id": job.id}, {"$setOnInsert": document(job)}, upsert=True) for job in jobs]
        await bulk(self._media, operations)  # a taken id is another worker's insert of the same job

    async def get(self, job_id: str) -> Job | None:
        async with reaching():
            found = await self._media.find_one({"_id": job_id})
        return job_of(found) if found else None

    async def due(self, now: datetime, limit: int, without: Collection[str]) -> list[Job]:
        where: Document = {"next_at": {"$lte": now}, **({"_id": {"$nin": list(without)}} if without else {})}
        async with reaching():
            found = await self._media.find(where).sort("next_at", ASCENDING).limit(limit).to_list(limit)
        return [job_of(one) for one in found]

    async def claim(self, job: Job, now: datetime, lease_s: float) -> Job | None:
        """The job, for `lease_s`; None if somebody else has it. Fetching twice would only be waste."""
        return await self.replace(job, replace(job, next_at=milliseconds(now + timedelta(seconds=lease_s))))

    async def replace(self, before: Job, after: Job) -> Job | None:
        """None if the job is no longer as `before`."""
        changed = document(after) | {"v": before.v + 1}
        async with reaching():
            done = await self._media.replace_one({"_id": before.id, "v": before.v}, changed)
        if done.modified_count:
            return replace(after, v=before.v + 1)
        metrics.CAS_LOST.labels("media").inc()
        return None

    async def of_people(self, tenant: str, people: Sequence[str]) -> list[Job]:
        async with reaching():
            found = await self._media.find({"tenant": tenant, "person": {"$in": list(people)}}).to_list(None)
        return [job_of(one) for one in found]

    async def needed(self, tenant: str, sha256: str, without: Collection[str] = ()) -> bool:
        """Whether a job of somebody but these people has this file."""
        where = {"tenant": tenant, "sha256": sha256, "person": {"$nin": list(without)}}
        async with reaching():
            return await self._media.find_one(where, {"_id": 1}) is not None

    async def erase(self, job: Job) -> None:
        """However often it changes meanwhile."""
        current: Job | None = job
        while current is not None and await self.replace(current, erased(current)) is None:
            current = await self.get(job.id)
