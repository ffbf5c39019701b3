"""Runs a process: doors first (health answers, readiness is red), then its parts in order, then its loops; at a stop, all of
it in reverse and within bounds. What a loop raises ends the process loudly: its supervisor starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp

from services.common.errors import Away
from services.common.logs import configure, log
from services.common.settings import CommonSettings, wrong
from services.common.web import Readiness

EXIT_BUG = 70  # EX_SOFTWARE
EXIT_CONFIG = 78  # EX_CONFIG


class Part(Protocol):
    """Something that must be started before use and stopped after it. `start` may raise Away and is then tried again."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


Loop = Callable[[], Awaitable[None]]


@dataclass
class Process:
    """What `build(settings)` returns: parts in the order in which they start, loops that run until the stop, and doors."""

    name: str
    settings: CommonSettings
    readiness: Readiness
    parts: Sequence[Part] = ()
    loops: Sequence[Loop] = ()
    app: ASGIApp | None = None
    port: int = 0
    websocket_max_bytes: int = 64 * 1024
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Until `stopping` is set or a loop ends. Raises what a loop raised."""
        started: list[Part] = []
        server = _Server(self) if self.app else None
        serving = asyncio.create_task(server.serve()) if server else None
        try:
            await self._start(started, serving)
            if not self.stopping.is_set():
                settle()
                self.readiness.started = True
                log().info("started", port=self.port)
                await self._work(serving)
        finally:
            self.readiness.draining = True
            log().info("stopping")
            if server and serving:
                server.should_exit = True
                await _bounded("doors", serving, self.settings.drain_s)
            for part in reversed(started):
                await _bounded(type(part).__name__, asyncio.ensure_future(part.stop()), self.settings.drain_s)
            log().info("stopped")

    async def _start(self, started: list[Part], serving: asyncio.Task[None] | None) -> None:
        for part in self.parts:
            wait = 0.2
            while not self.stopping.is_set():
                if serving and serving.done():
                    serving.result()
                    raise RuntimeError("the doors closed while starting")
                try:
                    await part.start()
                    started.append(part)
                    break
                except Away as error:
                    log().warning("waiting", part=error.part, reason=str(error), backoff_s=wait)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self.stopping.wait(), wait)
                    wait = min(wait * 2, 5)

    async def _work(self, serving: asyncio.Task[None] | None) -> None:
        tasks = [asyncio.ensure_future(loop()) for loop in self.loops]
        stop = asyncio.create_task(self.stopping.wait())
        watched = [*tasks, stop, *([serving] if serving else [])]
        done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        for part in reversed(self.parts):  # consumers finish the batch in hand; their loops then end by themselves
            if hasattr(part, "run"):
                await _bounded(type(part).__name__, asyncio.ensure_future(part.stop()), self.settings.drain_s)
        stop.cancel()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in [*results, *(one.exception() for one in done if one is serving)]:
            if isinstance(result, Exception):
                raise result


def settle() -> None:
    """What the start has made stays as long as the process, so the garbage collector need not look at it again; and what one
    batch or some hundred requests make is looked at once, not for every 700 objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the process decides when to stop."""

    def __init__(self, process: Process) -> None:
        assert process.app
        super().__init__(
            uvicorn.Config(
                process.app,
                host=process.settings.host,
                port=process.port,
                log_config=None,
                access_log=False,
                lifespan="off",
                http="httptools",
                ws="websockets-sansio",
                ws_max_size=process.websocket_max_bytes,
                timeout_graceful_shutdown=5,
                proxy_headers=False,  # whom X-Forwarded-For is believed is a setting of the doors, loopback or not
                server_header=False,
                date_header=False,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _bounded(name: str, task: asyncio.Future[None], seconds: float) -> None:
    done, _ = await asyncio.wait((task,), timeout=seconds)
    if not done:
        task.cancel()
        log().error("stop_timed_out", part=name, seconds=seconds)
    elif not task.cancelled() and (error := task.exception()):
        log().error("stop_failed", part=name, exc_type=type(error).__name__, exc_info=error)


def main(build: Callable[[], Process]) -> None:
    """The whole of a `__main__`: read settings, build, run. Exits 0 after a stop, 70 after a bug, 78 for wrong settings."""
    try:
        process = build()
    except ValueError as error:  # pydantic's ValidationError is one: a wrong setting
        print(f"hilo: {wrong(error)}", file=sys.stderr)
        raise SystemExit(EXIT_CONFIG) from error
    configure(process.settings, process.name)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, process.stopping.set)
        await process.run()

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run())
    except Exception as error:
        log().critical("crashed", exc_type=type(error).__name__, exc_info=error)
        sys.stderr.flush()
        os._exit(EXIT_BUG)  # threads of a driver must not keep a broken process alive


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
