"""`make demo`: everything on this machine, a story to watch, and at the end the account of what came and what became of it.

python -m deploy.local.demo [--once]        PORT= (the console's) and DATA= come from the environment
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import shutil
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

from deploy.local import casa, setup
from deploy.local.embedded import CannotStart
from deploy.local.stack import ROOT, Ports, Stack
from deploy.local.story import Story, clock
from services.common.http import Http
from services.ingest.ledger import LedgerReport, check
from services.ingest.settings import IngestSettings
from services.simulator.app import Simulator, origins

LEFTOVERS = "run.json"


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
        self.say(f"  {tick}{what:<13} {text:<46} {took:>7}".rstrip())

    def told(self, at: float, where: str, how: str, who: str, text: str) -> None:
        shown = f"\033[33m{how:<8}\033[0m" if self.colour and how == "PUBLIC" else f"{how:<8}"
        people = f"{who:<9} " if who else ""
        self.say(f"  {clock(at)}  {where:<10} {shown} {people}{text}")


def data_folder() -> tuple[Path, bool]:
    """Where this run keeps its files, and whether they are meant to stay."""
    given = os.environ.get("DATA")
    return (Path(given).expanduser(), True) if given else (ROOT / ".hilo", False)


def prepared(folder: Path) -> None:
    """An empty folder that we may write to; what a killed run has left behind is stopped first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "probe").write_text("")
        (folder / "probe").unlink()
    except OSError as error:
        import pwd

        owner = folder if folder.exists() else folder.parent
        name = pwd.getpwuid(owner.stat().st_uid).pw_name
        shown = os.path.relpath(folder, ROOT) if folder.is_relative_to(ROOT) else str(folder)
        raise CannotStart(
            "005",
            f"Cannot write to {shown} (it belongs to {name}).",
            f'sudo chown -R "$USER" {shown}      or elsewhere:   make demo DATA=~/hilo-demo',
        ) from error
    _stop_leftovers(folder / LEFTOVERS)
    for name in ("broker", "mongod", "logs", "media", "broker.log", "mongod.log"):
        place = folder / name
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)


def _stop_leftovers(file: Path) -> None:
    """Processes of a run that was killed: only those with the very pid and start time that it wrote down."""
    with contextlib.suppress(OSError, ValueError):
        for pid, created in json.loads(file.read_text()):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if abs(process.create_time() - created) < 1:
                    process.kill()
                    process.wait(5)
        file.unlink()


def note_children(folder: Path) -> None:
    mine = [(one.pid, one.create_time()) for one in psutil.Process().children(recursive=True)]
    (folder / LEFTOVERS).write_text(json.dumps(mine))


class Demo:
    def __init__(self, screen: Screen, *, once: bool) -> None:
        self.screen, self.once = screen, once
        self.folder, self.kept = data_folder()
        self.ports = Ports(int(os.environ.get("PORT") or 8104))
        self.secrets = casa.Secrets()
        self.done = asyncio.Event()
        self.again = asyncio.Event()

    def start(self) -> Stack:
        """Broker, mongod and services, with what each took."""
        python = f"{platform.python_version()}, {os.cpu_count()} cores, {psutil.virtual_memory().available / 1e9:.1f} GB free"
        self.screen.step("python", python)
        prepared(self.folder)
        self.ports.check()
        env = {
            "HILO_STOP_S": "1",  # a public answer waits 10 s in life, so that it can be stopped; the story has no time for that
            "HILO_ACCOUNTS_REFRESH_S": "0.5",
            "HILO_DEMO_KEY": casa.AGENT_KEY,
            "HILO_SMTP_TRUSTED_AUTH": "mx.hilo.test",
            "HILO_PROVIDER_ORIGINS": json.dumps(dict(origins(self.ports.of["simulator"]))),
        }
        stack = Stack(self.folder, self.ports, mongo=os.environ.get("MONGO") or None, env=env, said=self.screen.step)
        try:
            stack.start()
            stack.start_services()
        except BaseException:
            stack.stop()
            raise
        note_children(self.folder)
        return stack

    async def run(self, stack: Stack) -> int:
        """Set up the shop, play, and wait for keys. The exit code."""
        http = Http(stack.settings)
        await http.start()
        began = time.monotonic()
        keys = await setup.tenant(stack)
        simulator = Simulator(casa.simulated(self.ports, self.secrets), http, mail_port=self.ports.of["mailbox"])
        await simulator.start()
        server = _Quiet(uvicorn.Config(simulator.app, "127.0.0.1", self.ports.of["simulator"], log_config=None, lifespan="off"))
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
            self.screen.say("  s story again   b browser   l logs   q quit" if self.screen.terminal else "  Ctrl+C stops it.")
            if not await self._told_to_play_again():
                return code

    async def _balance(self, stack: Stack) -> LedgerReport:
        """The ledger, read from the topics once nothing is on its way any more."""
        settings = IngestSettings(**stack.settings.model_dump(include={"env", "kafka", "mongo", "service_key"}))
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
    once = "--once" in words
    screen.say("Hilo demo. Nothing leaves this machine.")
    screen.say()
    demo = Demo(screen, once=once)
    try:
        stack = demo.start()
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return _watched(demo, stack, screen)


def _watched(demo: Demo, stack: Stack, screen: Screen) -> int:
    """Run until the story is over, a key or a signal; then stop everything, whatever happened."""
    import signal

    stop = threading.Event()

    async def run() -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, demo.done.set)
        if screen.terminal and sys.stdin.isatty() and not demo.once:
            threading.Thread(target=keys, args=(demo, stack, loop, stop), daemon=True).start()
        return await demo.run(stack)

    try:
        code = asyncio.run(run())
    finally:
        stop.set()
        began = time.monotonic()
        stack.stop()
        (demo.folder / LEFTOVERS).unlink(missing_ok=True)
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
