"""The desk's real code under thousands of random interleavings with crashes, stale screens and lost answers; and each promise
of the protocol broken on purpose, which the checks must notice. `HILO_TEST_SEEDS` runs more of them."""

from __future__ import annotations

import os

import pytest

from tests.desk_world import World
from tests.interleaving import Violation

SEEDS = int(os.environ.get("HILO_TEST_SEEDS", "600"))


@pytest.mark.timeout(3600)
async def test_whoever_races_or_crashes_no_capacity_is_exceeded_or_lost_and_nobody_waits_beside_a_free_agent() -> None:
    steps = crashes = lost = 0
    for seed in range(SEEDS):
        world = World(seed)
        try:
            await world.go()
        except Violation as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        steps += world.scheduler.steps
        crashes += world.scheduler.crashed
        lost += world.store.lost

    assert steps > 100 * SEEDS
    assert crashes > SEEDS
    assert lost > SEEDS


BUGS = {
    "count_query": "capacity exceeded",
    "set_first": "assignment without a capacity token",
    "release_blind": "assignment without a capacity token",
    "gc_unversioned": "assignment without a capacity token",
    "gc_no_follow": "assignment without a capacity token",
    "gc_stops_early": "assignment without a capacity token",
    "set_if_unassigned": "assignment without a capacity token",
    "release_before_set": "assignment without a capacity token",
    "release_before_clear": "assignment without a capacity token",
    "no_gc": "capacity lost for ever",
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("bug", BUGS)
async def test_a_broken_promise_is_noticed(bug: str) -> None:
    found = set()
    for seed in range(3000):
        try:
            await World(seed, frozenset((bug,))).go()
        except Violation as error:
            found.add(str(error).partition(":")[0])
        if BUGS[bug] in found:
            return

    raise AssertionError(f"not noticed; found {found}")
