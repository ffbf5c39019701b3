"""Apache Kafka and MongoDB in containers, in place of the embedded parts: the same tests, on what production runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from testcontainers.core.container import DockerContainer

from deploy.local.containers import IMAGE, available
from deploy.local.embedded import free_port, listening
from services.common.errors import BrokerAway
from services.common.kafka import create_topics
from services.common.mongo import initiate_replica_set
from services.common.settings import CommonSettings


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    if not available():
        pytest.skip(f"needs a Docker engine with {IMAGE}")


@pytest.fixture(scope="session")
def kafka_servers(engine: None) -> Iterator[str]:
    """Its port is chosen first, since the broker must advertise it."""
    port = free_port()
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
    container = DockerContainer(IMAGE).with_bind_ports(port, port)
    for name, value in settings.items():
        container = container.with_env(name, value)
    with container:
        servers = f"127.0.0.1:{port}"
        _until_it_answers(CommonSettings(env="test", kafka=servers, kafka_prefix="probe."))
        yield servers


def _until_it_answers(settings: CommonSettings) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            asyncio.run(create_topics(settings, ()))
            return
        except BrokerAway:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


@pytest.fixture(scope="session")
def mongo_uri(engine: None) -> Iterator[str]:
    """The same port inside and outside, so that the replica set's one member has one name."""
    port = free_port()
    command = f"--replSet hilo --port {port} --wiredTigerCacheSizeGB 0.5"
    with DockerContainer("mongo:8.0").with_bind_ports(port, port).with_command(command):
        deadline = time.monotonic() + 60
        while not listening(port) and time.monotonic() < deadline:
            time.sleep(0.2)
        uri = f"mongodb://127.0.0.1:{port}/?replicaSet=hilo"
        asyncio.run(initiate_replica_set(CommonSettings(env="test", mongo=uri), f"127.0.0.1:{port}"))
        yield uri
