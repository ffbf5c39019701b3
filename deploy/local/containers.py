"""Apache Kafka in a container, by the official image: where crashes and rebalances must behave as in production."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
import uuid

from deploy.local.embedded import CannotStart, free_port
from services.common.errors import BrokerAway
from services.common.kafka import create_topics
from services.common.settings import CommonSettings

IMAGE = "apache/kafka:4.3.1"


class ApacheBroker:
    """One KRaft node whose advertised port is chosen first. `kill` is kill -9 and keeps the data; `start` brings it back.

    Its JVM compiles once only: in a broker that lives for a minute the optimizing compiler costs as much
    processor time as the broker itself (12,000 messages: 340 against 741 µs a message).
    """

    def __init__(self, port: int | None = None, heap: str = "-Xmx512m") -> None:
        self.port, self._controller, self._heap = port or free_port(), free_port(), heap
        self._name = f"hilo-kafka-{uuid.uuid4().hex[:8]}"
        self._made = False

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, wait_s: float = 180) -> None:
        if not self._made:
            _docker("create", "--name", self._name, *self._network(), *self._environment(), IMAGE)
            self._made = True
        _docker("start", self._name)
        deadline = time.monotonic() + wait_s
        while not self._answers():
            if time.monotonic() > deadline:
                raise CannotStart("009", "Apache Kafka did not start.", f"docker logs {self._name}")
            time.sleep(0.5)  # between two looks; there is nothing here that would tell us

    def _answers(self) -> bool:
        """The port is forwarded before the broker listens, and it listens before it knows its topics."""
        with contextlib.suppress(BrokerAway):
            asyncio.run(create_topics(CommonSettings(env="test", kafka=self.servers), ()))
            return True
        return False

    def _network(self) -> list[str]:
        """The machine's own network where Docker has it: a forwarded port costs 50 us of Docker's proxy for every message."""
        if sys.platform == "linux":
            return ["--network", "host"]
        return ["-p", f"127.0.0.1:{self.port}:{self.port}"]

    def _environment(self) -> list[str]:
        host = "127.0.0.1" if sys.platform == "linux" else ""
        values = {
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_LISTENERS": f"PLAINTEXT://{host}:{self.port},CONTROLLER://{host}:{self._controller}",
            "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{self.port}",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": f"1@localhost:{self._controller}",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "KAFKA_HEAP_OPTS": f"{self._heap} -XX:TieredStopAtLevel=1",
        }
        return [part for name, value in values.items() for part in ("-e", f"{name}={value}")]

    def kill(self) -> None:
        _docker("kill", "--signal", "KILL", self._name)

    def forget(self, process: str) -> None:
        """A real broker forgets a member by itself when its session has timed out."""

    def stop(self) -> None:
        if self._made:
            _docker("rm", "-f", "-v", self._name)
            self._made = False


def _docker(*words: str) -> str:
    try:
        done = subprocess.run(["docker", *words], capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise CannotStart("009", "There is no Docker here.", "Install a Docker engine, or use KAFKA=embedded") from error
    except subprocess.CalledProcessError as error:
        raise CannotStart("009", f"docker {words[0]} failed: {error.stderr.strip()[-300:]}") from error
    return done.stdout


def available() -> bool:
    """Whether a Docker engine answers and has the image."""
    try:
        return subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
