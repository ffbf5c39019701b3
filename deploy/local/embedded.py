"""A broker and a mongod as child processes, from wheels: for the demo and the tests. Neither needs Docker or Java.

The broker keeps everything in memory, so a demo starts it afresh, and by itself it never forgets a group member that died.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import platform
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from aiokafka.admin import AIOKafkaAdminClient  # noqa: TID251  # speaks for members that cannot any more
from aiokafka.errors import KafkaError  # noqa: TID251  # what that admin client raises
from aiokafka.protocol.group import LeaveGroupRequest  # noqa: TID251  # which the admin client has no method for

from services.common.mongo import initiate_replica_set
from services.common.settings import CommonSettings


class CannotStart(Exception):
    """What happened, why, one thing to do, and a code to search for: the shape of every start-up message."""

    def __init__(self, code: str, what: str, *todo: str) -> None:
        super().__init__("\n".join([f"HILO-{code}  {what}", *(f"          {line}" for line in todo)]))
        self.code = code


def free_port() -> int:
    """A port that nobody has, below those that systems give to outgoing connections (32768 on Linux, 49152 by RFC 6335):
    there a connection of somebody else could take it before its server has come up, or come back."""
    while True:
        port = random.randrange(10_000, 32_000)  # noqa: S311  # chance, not secrecy
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """Whether a server could have it now: nobody listens there, and no connection of somebody else's begins there."""
    with socket.socket() as one, contextlib.suppress(OSError):
        one.bind(("127.0.0.1", port))
        return True
    return False


def listening(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(0.2)
        return one.connect_ex(("127.0.0.1", port)) == 0


class _Child:
    """A server process: `start` returns when its port answers."""

    name = "server"

    def __init__(self, data: Path, port: int | None = None) -> None:
        self.data, self.port = data, port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    @property
    def log(self) -> Path:
        return self.data / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, wait_s: float = 30) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command(), stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
            )
        deadline = time.monotonic() + wait_s
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise self.failed(self.log.read_text(errors="replace")[-4000:])
            time.sleep(0.05)

    def _listens(self) -> bool:
        """Our own process, and not somebody else's whose answers would be taken for ours."""
        if not listening(self.port):
            return False
        with contextlib.suppress(psutil.Error):
            found = psutil.Process(self.pid).net_connections("tcp")
            return any(one.status == psutil.CONN_LISTEN and one.laddr.port == self.port for one in found)
        return False

    def failed(self, output: str) -> CannotStart:
        return CannotStart("009", f"{self.name} did not start.", f"See {self.log}")

    def stop(self, wait_s: float = 10) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(wait_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def kill(self) -> None:
        """As `kill -9`: nothing is flushed or said goodbye to."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


class EmbeddedBroker(_Child):
    name = "broker"

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        found = importlib.util.find_spec("noida_db")
        if found is None or not found.submodule_search_locations:
            raise unsupported("broker", "KAFKA=host:9092")
        program = Path(next(iter(found.submodule_search_locations))) / "noida-db"
        data = str(self.data / "broker")
        return [str(program), "start", "--only", "kafka", "--kafka-port", str(self.port), "--data-dir", data]

    def forget(self, process: str) -> None:
        """Take a process that died out of its consumer groups: this broker has no session timeout, and whoever joined the group
        next would wait for the dead without end. Every group is named after its process."""
        asyncio.run(_leave_for(self.servers, process))


async def _leave_for(servers: str, process: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers, request_timeout_ms=5000)
    try:
        await admin.start()
        for name in [name for name, *_ in await admin.list_consumer_groups() if re.split("[.-]", name)[0] == process]:
            node = await admin.find_coordinator(name)
            for answer in await admin.describe_consumer_groups([name]):  # its answer about several at once is malformed
                for member, *_ in answer.groups[0][-1]:
                    await admin._send_request(LeaveGroupRequest(name, member), node)
    except KafkaError:
        pass  # a broker that does not answer has lost its members with everything else
    finally:
        await admin.close()


class EmbeddedMongod(_Child):
    name = "mongod"

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet=hilo"

    def command(self) -> Sequence[str]:
        program = mongod_program()
        if program is None:
            raise unsupported("MongoDB", "MONGO=mongodb://host:27017")
        files = self.data / "mongod"
        files.mkdir(parents=True, exist_ok=True)
        return [
            *(str(program), "--dbpath", str(files), "--port", str(self.port), "--bind_ip", "127.0.0.1"),
            *("--replSet", "hilo", "--wiredTigerCacheSizeGB", "0.5", "--quiet", "--nounixsocket"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        ]

    def start(self, wait_s: float = 30) -> None:
        super().start(wait_s)
        settings = CommonSettings(env="test", mongo=self.uri)
        asyncio.run(initiate_replica_set(settings, f"127.0.0.1:{self.port}"))

    def failed(self, output: str) -> CannotStart:
        library = re.search(r"(lib[\w.+-]+\.so[.\d]*)", output)
        if library and "shared" in output:
            return CannotStart(
                "004",
                f"mongod cannot start: {library[1]} is missing.",
                "Debian, Ubuntu:   sudo apt install libssl3",
                "Fedora:           sudo dnf install openssl-libs",
            )
        return super().failed(output)


def mongod_program() -> Path | None:
    """The mongod that came with a wheel, or one on the PATH."""
    found = importlib.util.find_spec("fiftyone")
    for place in found.submodule_search_locations or () if found else ():
        program = Path(place) / "db" / "bin" / ("mongod.exe" if platform.system() == "Windows" else "mongod")
        if program.exists():
            return program
    other = shutil.which("mongod")
    return Path(other) if other else None


def unsupported(what: str, instead: str) -> CannotStart:
    system = f"{platform.system().lower()}/{platform.machine()}"
    return CannotStart(
        "003",
        f"There is no embedded {what} for {system}.",
        f"Use one of yours:   make demo {instead}",
        "or containers:      docker compose up --wait",
    )
