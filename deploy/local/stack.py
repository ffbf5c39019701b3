"""The whole of Hilo as child processes on this machine: broker, mongod, services. The demo, the end-to-end tests and the load
tool run it. A child that ends by itself is started again, as any supervisor does."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import platform
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import psutil

from deploy.local.embedded import CannotStart, EmbeddedBroker, EmbeddedMongod, free_port, is_free, listening
from services.common.kafka import create_topics
from services.common.run import EXIT_CONFIG
from services.common.settings import CommonSettings

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    "ingest": "services.ingest",
    "outbound": "services.ingest.outbound",
    "media": "services.ingest.media",
    "identity": "services.identity",
    "router": "services.router",
    "timeline": "services.timeline",
}


@dataclass(frozen=True, slots=True)
class Ports:
    """All from one number, the console's, so that a second Hilo needs one other number."""

    console: int = 8104

    @property
    def of(self) -> Mapping[str, int]:
        base = self.console
        return {
            "ingest": base - 3,
            "identity": base - 2,
            "router": base - 1,
            "timeline": base,
            "outbound": base + 1,
            "media": base + 2,
            "simulator": base + 4,
            "smtp": base + 21,
            "mailbox": base + 22,
        }

    def check(self, command: str = "make demo") -> None:
        """Raise CannotStart for the first port that somebody else holds."""
        for port in self.of.values():
            if listening(port):
                raise CannotStart(
                    "001",
                    f"Port {port} is taken by {holder(port)}.",
                    f"Stop it, or use other ports:   {command} PORT={self.console + 100}",
                )


def free_ports() -> Ports:
    """A range in which all ports are free now, for tests that run beside others."""
    while True:
        ports = Ports(free_port())
        if all(map(is_free, ports.of.values())):
            return ports


def holder(port: int) -> str:
    """Who listens there, as far as this user may know."""
    with contextlib.suppress(psutil.AccessDenied, OSError):
        for one in psutil.net_connections("tcp"):
            if one.laddr and one.laddr.port == port and one.status == psutil.CONN_LISTEN and one.pid:
                with contextlib.suppress(psutil.Error):
                    return f'"{psutil.Process(one.pid).name()}" (pid {one.pid})'
    return "another program"


class Broker(Protocol):
    """What the stack needs of a broker, embedded or not."""

    @property
    def servers(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def forget(self, process: str) -> None:
        """Take a process that died out of its consumer groups, if the broker would not do so by itself."""


@dataclass
class Service:
    """One child process. `kill` is kill -9; the supervisor starts it again."""

    name: str
    command: list[str]
    env: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = False
    restarts: int = 0
    _output: IO[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        self.wanted = True
        self._output = self.log.open("ab")
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env={**os.environ, **self.env},
            stdout=self._output,
            stderr=self._output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl+C is for us: the broker must not stop before those who still say goodbye to it
            preexec_fn=_die_with_parent if platform.system() == "Linux" else None,  # noqa: PLW1509  # one prctl call
        )

    def kill(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.wanted = False
        if self.process and self.process.poll() is None:
            self.process.terminate()

    def wait(self, seconds: float) -> None:
        if self.process:
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self._output:
            self._output.close()

    @property
    def died(self) -> bool:
        """Whether it ended by itself, and not because its settings are wrong: that no second start mends."""
        return self.wanted and self.process is not None and self.process.poll() not in (None, EXIT_CONFIG)

    def revive(self) -> None:
        """Start it again after it ended by itself."""
        if self._output:
            self._output.close()
        self.restarts += 1
        self.start()


def _die_with_parent() -> None:
    """The kernel ends a child when its parent is gone, also after kill -9, so that the next run finds its ports free."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Stack:
    """Started in order, stopped in reverse. `data` holds logs and the database's files."""

    def __init__(
        self,
        data: Path,
        ports: Ports,
        *,
        broker: Broker | None = None,
        mongo: str | None = None,
        env: Mapping[str, str] | None = None,
        said: Callable[[str, str, float], None] | None = None,
    ) -> None:
        self.data, self.ports, self._said = data, ports, said or (lambda *_: None)
        self.broker: Broker = broker or EmbeddedBroker(data, _preferred(9092, ports))
        self._mongod = None if mongo else EmbeddedMongod(data, _preferred(27117, ports))
        self._mongo = mongo
        self._env = dict(env or {})
        self.service_key = secrets.token_hex(16)
        self.services: dict[str, Service] = {}
        self._watching: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def env(self) -> dict[str, str]:
        """What every service is started with."""
        of = self.ports.of
        urls = {f"HILO_{n.upper()}_URL": f"http://127.0.0.1:{of[n]}" for n in ("ingest", "identity", "router", "timeline")}
        return {
            "HILO_ENV": "demo",
            "HILO_HOST": "127.0.0.1",
            "HILO_KAFKA": self.broker.servers,
            "HILO_MONGO": self._mongo or (self._mongod.uri if self._mongod else ""),
            "HILO_SERVICE_KEY": self.service_key,
            "HILO_PUBLIC_URL": f"http://127.0.0.1:{of['ingest']}",
            "HILO_MEDIA_DIR": str(self.data / "media"),
            "HILO_SMTP_PORT": str(of["smtp"]),
            "PYTHONUNBUFFERED": "1",
            **urls,
            **self._env,
        }

    @property
    def settings(self) -> CommonSettings:
        """The same, for code that runs in this process."""
        env = self.env
        return CommonSettings(
            env="demo",
            kafka=env["HILO_KAFKA"],
            mongo=env["HILO_MONGO"],
            service_key=self.service_key,
            ingest_url=env["HILO_INGEST_URL"],
            identity_url=env["HILO_IDENTITY_URL"],
            router_url=env["HILO_ROUTER_URL"],
            timeline_url=env["HILO_TIMELINE_URL"],
            provider_origins=json.loads(env.get("HILO_PROVIDER_ORIGINS", "{}")),
        )

    def url(self, service: str, path: str = "") -> str:
        return f"http://127.0.0.1:{self.ports.of[service]}{path}"

    # -- starting and stopping

    def start(self) -> None:
        (self.data / "logs").mkdir(parents=True, exist_ok=True)
        with self._step("broker", lambda: f"{self.broker.servers}, {topics} topics"):
            self.broker.start()
            topics = len(asyncio.run(create_topics(self.settings)))
        if self._mongod:
            with self._step("mongod", lambda: f"127.0.0.1:{self._mongod.port}" if self._mongod else ""):
                self._mongod.start()

    def start_services(self, wait_s: float = 90, names: Collection[str] = tuple(MODULES)) -> None:
        with self._step("services", lambda: "  ".join(names)):
            for name in names:
                self.run(name, MODULES[name], {"HILO_PORT": str(self.ports.of[name])})
            self._watching = threading.Thread(target=self._watch, daemon=True)
            self._watching.start()
            for name in names:
                self.wait_ready(name, wait_s)

    def run(self, name: str, module: str, env: Mapping[str, str]) -> Service:
        """Start one more process of the stack."""
        log = self.data / "logs" / f"{name}.log"
        service = Service(name, [sys.executable, "-m", module], {**self.env, **env}, log)
        self.services[name] = service
        service.start()
        return service

    def wait_ready(self, name: str, wait_s: float = 60) -> None:
        deadline, last = time.monotonic() + wait_s, ""
        service = self.services[name]
        while time.monotonic() < deadline:
            if service.process and (code := service.process.poll()) is not None and code not in (70, -9):
                raise CannotStart("009", f"{name} ended with {code}.", f"See {service.log}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{service.env['HILO_PORT']}/readyz", timeout=2):
                    return
            except urllib.error.HTTPError as error:
                last = error.read().decode(errors="replace")
            except OSError as error:
                last = str(error)
            time.sleep(0.1)
        raise CannotStart("009", f"{name} is not ready after {wait_s:.0f} s: {last[:200]}", f"See {service.log}")

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            for service in [one for one in self.services.values() if one.died]:
                self.broker.forget(service.name)
                service.revive()

    def stop(self) -> None:
        self._stop.set()
        if self._watching:
            self._watching.join(2)
        for service in reversed(self.services.values()):
            service.terminate()
        for service in reversed(self.services.values()):
            service.wait(25)
        if self._mongod:
            self._mongod.stop()
        self.broker.stop()

    @contextlib.contextmanager
    def _step(self, what: str, text: Callable[[], str]) -> Any:
        began = time.monotonic()
        yield
        self._said(what, text(), time.monotonic() - began)


def _preferred(port: int, ports: Ports) -> int:
    """The well-known port for the one Hilo with the well-known ports; the others would take it from each other."""
    return port if ports == Ports() and is_free(port) else free_port()
