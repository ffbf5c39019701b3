"""One timer bounds many waits: who is late is told so, and nobody else notices."""

from __future__ import annotations

import asyncio

import pytest

from services.ingest.patience import Patience


async def waited(patience: Patience, event: asyncio.Event) -> str:
    try:
        with patience:
            await event.wait()
    except TimeoutError:
        return "late"
    return "in time"


async def test_who_waits_too_long_is_late_and_who_does_not_is_left_alone() -> None:
    patience, never, soon = Patience(0.05), asyncio.Event(), asyncio.Event()
    late = [asyncio.create_task(waited(patience, never)) for _ in range(3)]
    in_time = asyncio.create_task(waited(patience, soon))
    await asyncio.sleep(0)
    soon.set()

    assert await in_time == "in time"
    assert await asyncio.gather(*late) == ["late"] * 3


async def test_it_bounds_one_wait_after_another_of_the_same_task() -> None:
    patience, never = Patience(0.01), asyncio.Event()

    assert [await waited(patience, never) for _ in range(3)] == ["late"] * 3
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_wait_that_begins_while_another_is_bounded_has_its_whole_time() -> None:
    patience, never = Patience(0.1), asyncio.Event()
    loop = asyncio.get_running_loop()
    first = asyncio.create_task(waited(patience, never))
    await asyncio.wait((first,), timeout=0.05)
    began = loop.time()

    assert await waited(patience, never) == "late"
    assert loop.time() - began >= 0.09
    assert await first == "late"


async def test_a_task_that_is_cancelled_from_outside_stays_cancelled() -> None:
    patience, never = Patience(10), asyncio.Event()
    task = asyncio.create_task(waited(patience, never))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_within_is_raised_as_it_is() -> None:
    with pytest.raises(KeyError), Patience(10):
        raise KeyError("x")
