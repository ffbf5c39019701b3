"""`make demo`: everything on this machine, a story to watch, and at the end the account of what came and what became of it.

python -m deploy.local.demo [--once]        from the environment:
PORT=8104                  the console's; all others are near it
DATA=folder                keeps this run's files there, for reading
KAFKA=host:9092            a broker of yours instead of the embedded one
MONGO=mongodb://host/      a replica set of yours instead of the embedded one; in both the run cleans up after itself
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import sys
import termios
import threading
import time
import tty
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import uvicorn

from deploy.local import casa, own, setup
from deploy.local.embedded import CannotStart
from deploy.local.stack import ROOT, Ports, Stack
from deploy.local.story import Story, clock
from services.common.http import Http
from services.ingest.ledger import LedgerReport, check
from services.ingest.settings import IngestSettings
from services.simulator.app import Simulator, origins

LEFTOVERS = "run.json"
FIRST = Path(sys.prefix) / "hilo-first"  # bootstrap.py has just made the environment, and in so many seconds


class Screen:
    """Prints as a person at a terminal reads it, or plainly: without a terminal, and where NO_COLOR is set, there are no
    colours, ticks and keys."""

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()
        self.colour = self.terminal and "NO_COLOR" not in os.environ

    def say(self, text: str = "") -> None:
        print(text, flush=True)

    def step(self, what: str, text: str, seconds: float | None = None) -> None:
        tick = "\033[32m✓\033[0m " if self.colour else "✓ " if self.terminal else ""
        took = f"{seconds:.1f} s" if seconds is not None else ""
        if what == "services":  # the workers are ingest's
            text = "  ".join(one for one in text.split() if one not in ("outbound", "media"))
        self.say(f"  {tick}{what:<13} {text:<44} {took:>7}".rstrip())

    def told(self, at: float, where: str, how: str, who: str, text: str) -> None:
        shown = f"\033[33m{how:<8}\033[0m" if self.colour and how == "PUBLIC" else f"{how:<8}"
        people = f"{who:<9} " if who else ""
        self.say(f"  {clock(at)}  {where:<10} {shown} {people}{text}")


def data_folder() -> tuple[Path, bool]:
    """Where this run keeps its files, and whether they are meant to stay."""
    given = os.environ.get("DATA")
    return (Path(given).expanduser().absolute(), True) if given else (ROOT / ".hilo", False)


def prepared(folder: Path) -> None:
    """An empty folder that we may write to; what a killed run has left behind is stopped and removed first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "probe").write_text("")
        (folder / "probe").unlink()
        _stop_leftovers(folder)
        for name in ("broker", "mongod", "logs", "media", "broker.log", "mongod.log"):
            place = folder / name
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> CannotStart:
    import pwd

    there = next(one for one in (folder, *folder.parents) if one.exists())
    name = pwd.getpwuid(there.stat().st_uid).pw_name
    shown = os.path.relpath(folder, ROOT) if folder.is_relative_to(ROOT) else str(folder)
    elsewhere = "make demo DATA=~/hilo-demo"
    if isinstance(error, PermissionError):
        mend = f'sudo chown -R "$USER" {shown}      or elsewhere:   {elsewhere}'
        return CannotStart("005", f"Cannot write to {shown} (it belongs to {name}).", mend)
    return CannotStart("005", f"Cannot write to {shown} ({error.strerror}).", f"Elsewhere:   {elsewhere}")


def _stop_leftovers(folder: Path) -> None:
    """What is left of a run that was killed: processes with the very pid and start time that it wrote down, whoever was
    started on files in this folder, and what it made on a broker or database of the user's."""
    for one in psutil.process_iter(["cmdline"]):
        if {str(folder / "broker"), str(folder / "mongod")} & set(one.info["cmdline"] or ()):
            _killed(one)
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        left = json.loads((folder / LEFTOVERS).read_text())
        for pid, created in left["processes"]:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if abs(process.create_time() - created) < 1:
                    _killed(process)
        if left["own"]:
            own.swept(*left["own"])
    (folder / LEFTOVERS).unlink(missing_ok=True)


def _killed(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        process.kill()
        process.wait(5)


def number_of_port() -> int:
    """PORT, if it leaves room for the others beside it."""
    given = os.environ.get("PORT") or "8104"
    if not given.isdecimal() or not 1027 <= int(given) <= 65513:
        raise CannotStart("006", f"PORT={given} is no port from 1027 to 65513.", "make demo PORT=8204")
    return int(given)


class Demo:
    def __init__(self, screen: Screen, *, once: bool) -> None:
        self.screen, self.once = screen, once
        self.folder, self.kept = data_folder()
        self.ports = Ports(number_of_port())
        self.own = own.given()
        self.secrets = casa.Secrets()
        self.done = asyncio.Event()
        self.again = asyncio.Event()

    def start(self) -> Stack:
        """Broker, mongod and services, with what each took."""
        python = f"{platform.python_version()}, {os.cpu_count()} cores, {psutil.virtual_memory().available / 1e9:.1f} GB free"
        self.screen.step("python", python)
        self._environment()
        prepared(self.folder)
        self.ports.check()
        env = {
            "HILO_STOP_S": "1",  # a public answer waits 10 s in life, so that it can be stopped; the story has no time for that
            "HILO_ACCOUNTS_REFRESH_S": "0.5",
            "HILO_DEMO_KEY": casa.AGENT_KEY,
            "HILO_SMTP_TRUSTED_AUTH": "mx.hilo.test",
            "HILO_PROVIDER_ORIGINS": json.dumps(dict(origins(self.ports.of["simulator"]))),
        }
        if self.own:
            env |= own.apart(self.own)
        broker = own.OwnBroker(self.own.kafka) if self.own and self.own.kafka else None
        mongo = self.own.mongo if self.own else None
        stack = Stack(self.folder, self.ports, broker=broker, mongo=mongo, env=env, said=self._started)
        try:
            if mongo:
                own.reached(mongo)
            stack.start()
            stack.start_services()
        except BaseException:
            self.stop(stack)
            raise
        return stack

    def _environment(self) -> None:
        """Told the first time only, by the seconds that bootstrap.py has left."""
        with contextlib.suppress(OSError, ValueError):
            seconds = float(FIRST.read_text())
            FIRST.unlink()
            packages = sum(1 for _ in importlib.metadata.distributions())
            self.screen.step("environment", f".venv, {packages} packages (only the first time)", seconds)

    def _started(self, what: str, text: str, seconds: float) -> None:
        """Written down at once, so that the next run can stop what this one would leave if it were killed."""
        mine = [(one.pid, one.create_time()) for one in psutil.Process().children(recursive=True)]
        (self.folder / LEFTOVERS).write_text(json.dumps({"processes": mine, "own": self.own}))
        self.screen.step(what, text, seconds)

    def stop(self, stack: Stack) -> None:
        """Everything, in reverse; nothing is left on a broker or database of the user's."""
        stack.stop()
        if self.own:
            own.swept(*self.own)
        (self.folder / LEFTOVERS).unlink(missing_ok=True)

    async def run(self, stack: Stack) -> int:
        """Set up the shop, play, and wait for keys. The exit code."""
        http = Http(stack.settings)
        await http.start()
        began = time.monotonic()
        keys = await setup.tenant(stack)
        simulator = Simulator(casa.simulated(self.ports, self.secrets), http, mail_port=self.ports.of["mailbox"])
        await simulator.start()
        config = uvicorn.Config(
            simulator.app,
            "127.0.0.1",
            self.ports.of["simulator"],
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = _Quiet(config)
        serving = asyncio.create_task(server.serve())
        try:
            await setup.shop(stack, http, keys, self.secrets)
            self.screen.step("simulator", "5 platforms, signing", time.monotonic() - began)
            self._introduce(stack)
            return await self._play(stack, http, simulator)
        finally:
            server.should_exit = True
            await serving
            await simulator.stop()
            await http.stop()

    def _introduce(self, stack: Stack) -> None:
        say = self.screen.say
        say()
        say(f"  Console   {stack.url('timeline')}              key filled in: {casa.AGENT_KEY}")
        say(f"  Shop      {stack.url('ingest', '/chat/shop')}    write as a visitor would")
        say()
        say("  Look at the yellow row: Marta complains in public. Watch the thread leave the street.")
        say()

    async def _play(self, stack: Stack, http: Http, simulator: Simulator) -> int:
        while True:
            began = time.monotonic()
            story = Story(stack, http, simulator, self.screen.told)
            playing = asyncio.create_task(story.play())
            stopping = asyncio.create_task(self.done.wait())
            await asyncio.wait((playing, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not playing.done():
                playing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await playing
                return 0
            playing.result()
            report = await self._balance(stack)
            code = self._verdict(stack, story, report, time.monotonic() - began)
            if self.once:
                return code
            self.screen.say()
            if self.screen.terminal:
                self.screen.say("  s story again   b browser   l logs   q quit")
            if not await self._told_to_play_again():
                return code

    async def _balance(self, stack: Stack) -> LedgerReport:
        """The ledger, read from the topics once nothing is on its way any more."""
        same = {"env", "kafka", "kafka_prefix", "mongo", "mongo_prefix", "service_key"}
        settings = IngestSettings(**stack.settings.model_dump(include=same))
        deadline = time.monotonic() + 20
        while True:
            report = await check(settings, casa.TENANT)
            if report.ok or time.monotonic() > deadline:
                return report
            await asyncio.sleep(0.5)

    def _verdict(self, stack: Stack, story: Story, report: LedgerReport, seconds: float) -> int:
        say = self.screen.say
        totals = {
            name: sum(getattr(one, name) for one in report.channels.values())
            for name in ("accepted", "normalized", "quarantined", "ignored")
        }
        a, n, q, i = totals.values()
        fine = not story.missed and report.ok and a == n + q + i
        say()
        if self.once:
            for missed in story.missed:
                say(f"  {missed}")
            say(
                f"  {story.seen + story.refused} of 10 steps seen ({story.seen} on the timeline, {story.refused} refusal), "
                f"{a} = {n} + {q} + {i}, missing {len(report.missing)}, {seconds:.1f} s"
            )
            return 0 if fine else 1
        if story.missed:
            say("  " + "\n  ".join(map(str, story.missed)))
        else:
            say("  Story done: one customer, one conversation, 4 channels, nothing asked twice.")
        say(f"  Ledger: accepted {a} = normalized {n} + quarantined {q} + ignored {i}, missing {len(report.missing)}")
        say(f"  One dead letter is waiting for you: {stack.url('timeline', '/operations/dead')}")
        return 0 if fine else 1

    async def _told_to_play_again(self) -> bool:
        self.again.clear()
        waits = [asyncio.create_task(self.done.wait()), asyncio.create_task(self.again.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()
        return not self.done.is_set()


class _Quiet(uvicorn.Server):
    """Signals are the demo's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def keys(demo: Demo, stack: Stack, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
    """Reads single keys while a terminal is there."""

    def logs() -> None:
        print(f"\n  {stack.data / 'logs'}", flush=True)

    def browser() -> None:
        webbrowser.open(stack.url("timeline"))

    acts: dict[str, Callable[[], object]] = {
        "s": lambda: loop.call_soon_threadsafe(demo.again.set),
        "q": lambda: loop.call_soon_threadsafe(demo.done.set),
        "b": browser,
        "l": logs,
    }
    import select

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        while not stop.is_set():
            if select.select([sys.stdin], [], [], 0.2)[0]:
                acts.get(sys.stdin.read(1).lower(), lambda: None)()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def main(words: list[str]) -> int:
    screen = Screen()
    if not FIRST.exists():  # otherwise bootstrap.py has said so already
        screen.say("Hilo demo. Nothing leaves this machine.")
        screen.say()
    for number in (signal.SIGTERM, signal.SIGHUP):  # children have sessions of their own: nobody else stops them
        signal.signal(number, signal.default_int_handler)
    try:
        demo = Demo(screen, once="--once" in words)
        stack = demo.start()
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return _watched(demo, stack, screen)


def _watched(demo: Demo, stack: Stack, screen: Screen) -> int:
    """Run until the story is over, a key or a signal; then stop everything, whatever happened."""
    stop = threading.Event()

    async def run() -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, demo.done.set)
        if screen.terminal and sys.stdin.isatty() and not demo.once:
            threading.Thread(target=keys, args=(demo, stack, loop, stop), daemon=True).start()
        return await demo.run(stack)

    try:
        code = asyncio.run(run())
    finally:
        stop.set()
        began = time.monotonic()
        demo.stop(stack)
        took = time.monotonic() - began
        if not demo.once:
            screen.say(f"  Stopping: services, mongod, broker … done in {took:.1f} s")
            if demo.kept:
                screen.say(f"  The files of this run stay in {demo.folder}.")
            else:
                screen.say("  The next run starts fresh; DATA=folder keeps this one's files for reading.")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
