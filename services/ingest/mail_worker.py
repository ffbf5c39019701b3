"""Mails are parsed in processes of their own, which may be killed: the parser has no limits, so its process has.

A worker (`mail_reader`) may use so many seconds of processor time a mail and so much memory; what needs more is answered as
a mail over the limits, never by waiting. Only our own process writes to a worker, and pickle travels in both directions
between the same code.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.common.errors import Away
from services.common.logs import log
from services.ingest.accounts import Stored
from services.ingest.contract import Account, Outcome, Raw
from services.ingest.mime import DEFAULT, Limits, TooMuch

LENGTH = 8


class WorkersBusy(Away):
    """No worker could take the mail in time: the sender keeps it and tries again."""

    def __init__(self, why: str) -> None:
        super().__init__("mail workers", why)


@dataclass(frozen=True, slots=True)
class Job:
    """One mail to read, with all that the reading depends on."""

    channel: str
    account: Account
    stored: Stored
    raw: Raw
    tenant_key: bytes
    limits: Limits = DEFAULT


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a worker may use for one mail. `wait_s` is for the wall clock: a machine without time is not the mail's fault."""

    cpu_s: int = 5
    memory_bytes: int = 1024 * 1024 * 1024
    wait_s: float = 120


class MailWorkers:
    """A few processes that read one mail each at a time. They start when they are first needed."""

    def __init__(
        self, count: int, bounds: Bounds, channels_dir: Path | None = None, *, module: str = "services.ingest.mail_reader"
    ) -> None:
        self._count, self._bounds = count, bounds
        self._command = (sys.executable, "-m", module, str(bounds.cpu_s), str(bounds.memory_bytes), str(channels_dir or ""))
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._workers: set[_Worker] = set()
        self._running = 0

    async def start(self) -> None:
        """Nothing to wait for."""

    async def stop(self) -> None:
        await asyncio.gather(*(worker.kill() for worker in self._workers))
        self._workers.clear()

    async def read(self, job: Job) -> Outcome:
        """What is in the mail. Raises TooMuch for one over the limits, WorkersBusy when there was no time for it."""
        for last in (False, True):
            worker = await self._taken()
            try:
                found = await worker.ask(job, self._bounds.wait_s)
            except TimeoutError as error:
                await self._replace(worker)
                raise WorkersBusy("the mail was not read in time") from error
            except EOFError as error:
                code = await self._replace(worker)
                if code == -signal.SIGXCPU:
                    raise TooMuch(f"more than {self._bounds.cpu_s} s to read") from error
                log().warning("mail_worker_died", code=code)
                if last:  # a second process died of it, so it is the mail
                    raise TooMuch("the process that read it died") from error
                continue
            except BaseException:  # we are being stopped: what the worker will answer is nobody's answer
                await self._replace(worker)
                raise
            self._idle.put_nowait(worker)
            if isinstance(found, Refusal):
                raise TooMuch(found.reason)
            return found
        raise AssertionError("unreachable")

    async def _taken(self) -> _Worker:
        if self._idle.empty() and self._running < self._count:
            self._running += 1
            try:
                self._add(await _Worker.started(self._command))
            except OSError as error:
                self._running -= 1
                raise WorkersBusy("none can be started") from error
        try:
            async with asyncio.timeout(self._bounds.wait_s):
                return await self._idle.get()
        except TimeoutError as error:
            raise WorkersBusy("all are reading") from error

    async def _replace(self, worker: _Worker) -> int | None:
        """How the old one ended. Where no new one can be started, the dead one stands for it and is replaced when used."""
        code = await worker.kill()
        try:
            started = await _Worker.started(self._command)
        except OSError as error:
            log().error("mail_worker_not_started", exc_type=type(error).__name__)
            started = worker
        self._workers.discard(worker)
        self._add(started)
        return code

    def _add(self, worker: _Worker) -> None:
        self._workers.add(worker)
        self._idle.put_nowait(worker)


@dataclass(eq=False)
class _Worker:
    process: asyncio.subprocess.Process

    @classmethod
    async def started(cls, command: Sequence[str]) -> _Worker:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is for us; we tell the workers
        )
        return cls(process)

    async def ask(self, job: Job, wait_s: float) -> Outcome | Refusal:
        """Raises EOFError when the worker dies, TimeoutError when it takes too long."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin
        assert stdout
        body = pickle.dumps(job)
        try:
            async with asyncio.timeout(wait_s):
                stdin.write(len(body).to_bytes(LENGTH) + body)
                await stdin.drain()
                size = int.from_bytes(await stdout.readexactly(LENGTH))
                found: Outcome | Refusal = pickle.loads(await stdout.readexactly(size))  # noqa: S301  # our own worker's
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise EOFError("the worker died") from error
        return found

    async def kill(self) -> int | None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        if self.process.stdin:
            self.process.stdin.close()
        return await self.process.wait()
