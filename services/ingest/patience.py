"""A bound on waits that are nearly always over at once, with one timer for all of them.

`asyncio.timeout` makes and drops a timer for every wait: for a body that has come already that costs more than reading it.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any


class Patience:
    """Within `with patience:` a task may wait for so long, then TimeoutError is raised where it waits."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[asyncio.Task[Any], float] = {}  # until when; who came first ends first
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task
        self._waiting[task] = until = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(until, self._look)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        task = asyncio.current_task()
        assert task
        if self._waiting.pop(task, None) is None:
            self._late.remove(task)
            if not task.uncancel() and kind is asyncio.CancelledError:  # by us alone
                raise TimeoutError from error

    def _look(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        for task, until in list(self._waiting.items()):
            if until > loop.time():
                self._timer = loop.call_at(until, self._look)
                break
            del self._waiting[task]
            self._late.add(task)
            task.cancel()
