"""A broker or a database of the user's own under the demo: it gets names of its own there, and takes them away again."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient  # noqa: TID251  # deleting topics is nothing that Hilo itself ever does
from aiokafka.errors import KafkaError  # noqa: TID251  # what that admin client raises

from deploy.local.embedded import CannotStart
from services.common.errors import StoreAway
from services.common.kafka.clients import connection
from services.common.mongo import Mongo, PyMongoError
from services.common.settings import CommonSettings


class Own(NamedTuple):
    """Addresses, each None where the embedded one is meant, and the prefix of this run's topics and databases."""

    kafka: str | None
    mongo: str | None
    prefix: str


def given() -> Own | None:
    """KAFKA and MONGO from the environment; None where neither is there."""
    kafka, mongo = os.environ.get("KAFKA"), os.environ.get("MONGO")
    if kafka == "embedded":
        kafka = None
    return Own(kafka or None, mongo or None, f"hilo-demo-{secrets.token_hex(4)}") if kafka or mongo else None


def apart(own: Own) -> Mapping[str, str]:
    """What keeps this run's names apart, for its services; this process reads the same from its environment."""
    names = {"HILO_KAFKA_PREFIX": f"{own.prefix}.", "HILO_MONGO_PREFIX": f"{own.prefix}-"}
    os.environ.update(names)
    return names


class OwnBroker:
    """Stands where the embedded one would; is neither started nor stopped by us."""

    def __init__(self, servers: str) -> None:
        self.servers = servers

    def start(self) -> None:
        try:
            asyncio.run(_topics(self.servers))
        except (KafkaError, OSError) as error:
            raise CannotStart(
                "007",
                f"No broker answers at {self.servers} ({type(error).__name__}).",
                "Start it, or use the embedded one:   make demo KAFKA=",
            ) from error

    def stop(self) -> None:
        pass

    def forget(self, process: str) -> None:
        """A real broker forgets a member by itself when its session has timed out."""


def reached(uri: str) -> None:
    """Raise CannotStart where no MongoDB answers, or none that is a replica set: writes that are tried again need one."""

    async def hello() -> bool:
        mongo = Mongo(CommonSettings(env="demo", mongo=uri, mongo_timeout_s=5))
        try:
            await mongo.start()
            return "setName" in await mongo.client.admin.command("hello")
        finally:
            await mongo.stop()

    shown = uri.rpartition("@")[2].removeprefix("mongodb://")
    try:
        replicated = asyncio.run(hello())
    except (StoreAway, PyMongoError, ValueError) as error:
        why = f"No MongoDB answers at {shown} ({error.__cause__ or error})."
        raise CannotStart("007", why[:200], "Start it, or use the embedded one:   make demo MONGO=") from error
    if not replicated:
        todo = "Start it with --replSet, or use the embedded one:   make demo MONGO="
        raise CannotStart("007", f"The MongoDB at {shown} is no replica set.", todo)


def swept(kafka: str | None, mongo: str | None, prefix: str) -> None:
    """Remove the topics and databases of the run with this prefix. What is away keeps them."""

    async def sweep() -> None:
        if kafka:
            await _topics(kafka, f"{prefix}.")
        if mongo:
            one = Mongo(CommonSettings(env="demo", mongo=mongo))
            await one.start()
            for name in await one.client.list_database_names():
                if name.startswith(f"{prefix}-"):
                    await one.client.drop_database(name)
            await one.stop()

    try:
        asyncio.run(sweep())
    except (KafkaError, OSError, StoreAway, PyMongoError):
        print(f"  The topics and databases {prefix}* could not be removed.", flush=True)


async def _topics(servers: str, delete: str | None = None) -> None:
    """Whether the broker answers; with `delete` also remove the topics whose names begin so."""
    admin = AIOKafkaAdminClient(**{**connection(CommonSettings(env="demo", kafka=servers)), "request_timeout_ms": 10_000})
    try:
        await admin.start()
        found = await admin.list_topics()
        if delete and (ours := [name for name in found if name.startswith(delete)]):
            await admin.delete_topics(ours)
    finally:
        await admin.close()
