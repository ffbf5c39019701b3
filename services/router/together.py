"""Calls made in the same moment become one: a hundred reads of one document each are one read of a hundred."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

Q = TypeVar("Q")
A = TypeVar("A")
R = TypeVar("R")


class Together(Generic[Q, A]):
    """`run` answers many questions, in their order. What it raises, everybody who asked gets."""

    def __init__(self, run: Callable[[Sequence[Q]], Awaitable[Sequence[A]]]) -> None:
        self._run = run
        self._asked: list[tuple[Q, asyncio.Future[A]]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, question: Q) -> A:
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._asked.append((question, answer))
        if len(self._asked) == 1:
            task = asyncio.create_task(self._answer())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await answer

    async def _answer(self) -> None:
        await asyncio.sleep(0)  # whoever is about to ask in this turn of the loop, asks first
        asked, self._asked = self._asked, []
        try:
            answers: Sequence[A] = await self._run([question for question, _ in asked])
        except BaseException as error:
            for _, future in asked:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), answer in zip(asked, answers, strict=True):
            if not future.done():
                future.set_result(answer)


async def all_of(*steps: Awaitable[R]) -> list[R]:
    """Every one of them to its end; then what the first of them raised. None is left running behind the caller's back."""
    results = await asyncio.gather(*steps, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast("list[R]", results)
