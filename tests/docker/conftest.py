"""Apache Kafka and MongoDB in containers, in place of the embedded parts: the same tests, on what production runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from testcontainers.core.container import DockerContainer

from deploy.local.containers import IMAGE, ApacheBroker, available
from deploy.local.embedded import free_port, listening
from services.common.mongo import initiate_replica_set
from services.common.settings import CommonSettings
from tests.needs import missing
from tests.waiting import until


@pytest.fixture(scope="session", autouse=True)
def engine(request: pytest.FixtureRequest) -> None:
    if not available():
        raise missing(request.config, "docker", f"needs a Docker engine with {IMAGE}")


@pytest.fixture(scope="session")
def kafka_servers(engine: None) -> Iterator[str]:
    broker = ApacheBroker()
    broker.start()
    yield broker.servers
    broker.stop()


@pytest.fixture(scope="session")
def mongo_uri(engine: None) -> Iterator[str]:
    """The same port inside and outside, so that the replica set's one member has one name."""
    port = free_port()
    command = f"--replSet hilo --port {port} --wiredTigerCacheSizeGB 0.5"
    with DockerContainer("mongo:8.0").with_bind_ports(port, port).with_command(command):
        asyncio.run(until(lambda: listening(port), within_s=60, what="a MongoDB that listens"))
        uri = f"mongodb://127.0.0.1:{port}/?replicaSet=hilo"
        asyncio.run(initiate_replica_set(CommonSettings(env="test", mongo=uri), f"127.0.0.1:{port}"))
        yield uri
