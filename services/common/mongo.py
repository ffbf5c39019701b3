"""MongoDB, and the only place that knows the driver. Majority writes and reads from the primary; what is temporary becomes
StoreAway. Code outside uses the surface that motor and PyMongo's own async client share, so the driver can be changed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bson.codec_options import CodecOptions
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import ASCENDING, DESCENDING, DeleteOne, IndexModel, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WTimeoutError,
)

from services.common.errors import StoreAway
from services.common.settings import CommonSettings

Document = dict[str, Any]
Collection = AsyncIOMotorCollection[Document]
Database = AsyncIOMotorDatabase[Document]
DUPLICATE = 11000

TEMPORARY = (
    AutoReconnect,
    ConnectionFailure,
    NetworkTimeout,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WTimeoutError,
    ExecutionTimeout,
)
# Codes of a server that is stepping down, shutting down or has no primary.
# https://github.com/mongodb/specifications/blob/master/source/server-discovery-and-monitoring/server-discovery-and-monitoring.md
TEMPORARY_CODES = frozenset((11600, 11602, 10107, 13435, 13436, 189, 91, 7, 6, 89, 9001, 262, 50, 112))


@asynccontextmanager
async def reaching() -> AsyncIterator[None]:
    """Around every call of a store: what is temporary leaves as StoreAway, everything else as it is."""
    try:
        yield
    except BulkWriteError as error:
        if all(one.get("code") in TEMPORARY_CODES for one in error.details.get("writeErrors", [{}])):
            raise StoreAway(type(error).__name__) from error
        raise
    except TEMPORARY as error:
        raise StoreAway(type(error).__name__) from error
    except OperationFailure as error:
        if error.code in TEMPORARY_CODES:
            raise StoreAway(f"code {error.code}") from error
        raise


@dataclass(frozen=True, slots=True)
class Bulk:
    """What an unordered bulk did. `duplicates` are the places of operations that found their `_id` taken."""

    inserted: int
    matched: int
    modified: int
    upserted: int
    duplicates: tuple[int, ...]


async def bulk(collection: Collection, operations: Sequence[Any], *, ordered: bool = False) -> Bulk:
    """One bulk with majority write. A taken `_id` is a result, not an error; anything else raises. An ordered one stops at
    the first taken `_id`."""
    if not operations:
        return Bulk(0, 0, 0, 0, ())
    async with reaching():
        try:
            done = await collection.bulk_write(operations, ordered=ordered)
            return Bulk(done.inserted_count, done.matched_count, done.modified_count, done.upserted_count, ())
        except BulkWriteError as error:
            failed = error.details["writeErrors"]
            if error.details.get("writeConcernErrors"):  # written, but perhaps not by a majority: it may be rolled back
                raise StoreAway("write concern") from error
            if any(one["code"] != DUPLICATE for one in failed):
                raise
            d = error.details
            taken = tuple(int(one["index"]) for one in failed)
            return Bulk(d["nInserted"], d["nMatched"], d["nModified"], d["nUpserted"], taken)


class Mongo:
    """A connection pool. `start` returns once a primary answers.

    `retried=False` is for processes whose every write may be done again, because whoever asked for it asks again: then the
    driver does not try a second time by itself, which spares the server a write to `config.transactions` for each document
    (measured: 42 instead of 57 us an update)."""

    def __init__(self, settings: CommonSettings, *, pool: int = 50, retried: bool = True) -> None:
        self._settings = settings
        self.client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
            settings.mongo.get_secret_value(),
            w="majority",
            readConcernLevel="majority",
            readPreference="primary",
            retryWrites=retried,
            tz_aware=True,
            uuidRepresentation="standard",
            maxPoolSize=pool,
            serverSelectionTimeoutMS=int(settings.mongo_timeout_s * 1000),
            socketTimeoutMS=int(settings.mongo_timeout_s * 1000),
            connectTimeoutMS=int(settings.mongo_timeout_s * 1000),
            waitQueueTimeoutMS=int(settings.mongo_timeout_s * 1000),
        )

    def database(self, name: str) -> Database:
        return self.client[self._settings.database(name)]

    @property
    def away(self) -> bool:
        """Whether the driver, which watches the servers in the background, knows of no primary. For readiness."""
        return not self.client.delegate.topology_description.has_writable_server()

    async def start(self) -> None:
        await self.ping()

    async def ping(self) -> None:
        """Raise StoreAway unless a primary answers."""
        async with reaching():
            await self.client.admin.command("ping")

    async def stop(self) -> None:
        self.client.close()


async def initiate_replica_set(settings: CommonSettings, member: str, name: str = "hilo", wait_s: float = 30) -> None:
    """Make a single mongod a one-node replica set and wait for its primary; a set that exists is left as it is."""
    from pymongo import MongoClient

    def initiate() -> None:
        client: MongoClient[Document] = MongoClient(
            f"mongodb://{member}/?directConnection=true", serverSelectionTimeoutMS=int(wait_s * 1000)
        )
        try:
            client.admin.command("replSetInitiate", {"_id": name, "members": [{"_id": 0, "host": member}]})
        except OperationFailure as error:
            if error.code != 23:  # AlreadyInitialized
                raise
        finally:
            client.close()

    await asyncio.to_thread(initiate)
    mongo = Mongo(settings)
    try:
        for _attempt in range(int(wait_s * 10)):
            hello = await mongo.client.admin.command("hello")
            if hello.get("isWritablePrimary"):
                return
            await asyncio.sleep(0.1)
        raise StoreAway("no primary was elected")
    finally:
        await mongo.stop()


__all__ = [
    "ASCENDING",
    "DESCENDING",
    "DUPLICATE",
    "Bulk",
    "CodecOptions",
    "Collection",
    "Database",
    "DeleteOne",
    "Document",
    "DuplicateKeyError",
    "IndexModel",
    "InsertOne",
    "Mongo",
    "PyMongoError",
    "ReplaceOne",
    "UpdateMany",
    "UpdateOne",
    "bulk",
    "initiate_replica_set",
    "reaching",
]
