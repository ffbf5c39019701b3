"""Tests wait for conditions, never sleep for luck."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def until(condition: Callable[[], Awaitable[T]], *, within_s: float = 20, every_s: float = 0.02, what: str = "") -> T: ...
@overload
async def until(condition: Callable[[], T], *, within_s: float = 20, every_s: float = 0.02, what: str = "") -> T: ...
async def until(condition: Callable[[], Any], *, within_s: float = 20, every_s: float = 0.02, what: str = "") -> Any:
    """The first truthy value of `condition`; fails with its last value after `within_s`."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        value = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'the condition'} did not come true within {within_s} s; last: {value!r}")
        await asyncio.sleep(every_s)
