"""The router's real protocol code under thousands of random interleavings with crashes, zombies and lost answers; and each
promise broken on purpose, which the checks must notice. `HILO_TEST_SEEDS` runs more of them, from `HILO_TEST_FIRST_SEED` on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from services.router import conversations as decide
from services.router.conversations import Meet, Split
from services.router.outputs import Change
from services.router.placing import Placer
from services.router.state import Conversation, Seen
from services.router.stores import Hint, Known
from tests.interleaving import Violation
from tests.router_world import START, World, message

SEEDS = int(os.environ.get("HILO_TEST_SEEDS", "250"))
FIRST = int(os.environ.get("HILO_TEST_FIRST_SEED", "0"))


@pytest.fixture(autouse=True)
def _small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two remembered inputs a leg, so that the floor is reached."""
    monkeypatch.setattr(decide, "WINDOW", 2)


@pytest.mark.timeout(3600)
async def test_whoever_races_or_crashes_nothing_is_lost_doubled_or_held_twice() -> None:
    steps = crashes = lost = 0
    for seed in range(FIRST, FIRST + SEEDS):
        world = World(seed)
        try:
            await world.go()
        except Violation as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        steps += world.scheduler.steps
        crashes += world.scheduler.crashed
        lost += world.store.lost

    assert steps > 200 * SEEDS
    assert crashes > SEEDS
    assert lost > SEEDS


async def test_a_leg_on_its_way_arrives_although_the_conversation_that_it_left_is_joined() -> None:
    """The worker that moved the leg crashed before it was attached; a join of what the leg left must not put that off."""
    world = World(0)
    driver, store, now = world.driver(), world.store, world.now()
    b = message("b", 0, "b", 0).leg
    other = Conversation(id="older", tenant="acme", home="c", opened=START, legs=(message("c", 0, "b", 0).leg,), customer="b")
    left = replace(other, id="left", home="b", opened=now, legs=(b, message("a", 0, "a", 0).leg))
    left = decide.moved(left, "a", "next", "a", now).after
    store.legs |= {"a": Hint("left", now, "b"), "b": Hint("left", now, "b"), "c": Hint("older", START, "b")}
    store.idents |= {"a": Known("a", 1), "b": Known("b", 1), "c": Known("b", 1)}
    store.conversations |= {"older": other, "left": left}
    store.inputs |= {"older": set(), "left": set()}

    await driver.seal(left, "older")
    assert store.conversations["left"].absorbed_into
    assert "next" not in store.conversations
    await world.heal()

    assert {key: [leg.key for leg in c.held] for key, c in store.conversations.items() if c.state == "open"} == {
        "older": ["c", "b"],
        "next": ["a"],
    }
    assert [c.due for c in store.conversations.values()] == [None, None, None]


async def test_a_leg_that_leaves_while_another_of_its_conversation_is_looked_up_is_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both were read in one round, one after the other: what is true of the conversation is what was read last."""
    world = World(0, lossy=False)
    store, mine, other = world.store, world.driver(), world.driver()
    placer, look_up = Placer(mine), store.hints
    world.log = {"a": [message("a", n, "a", 0) for n in range(2)], "b": [message("b", n, "a", 0) for n in range(2)]}
    await Placer(other).place([world.log["a"][0]])
    await placer.place([world.log["b"][0]])
    (both,) = store.conversations.values()
    assert [leg.key for leg in both.held] == ["a", "b"]

    async def meanwhile(legs: Collection[str]) -> dict[str, Hint]:
        monkeypatch.setattr(store, "hints", look_up)
        await other.learned("b", Known("b", 1))
        return await look_up(legs)

    monkeypatch.setattr(store, "hints", meanwhile)
    mine.newest.forget(both.id)
    await placer.place([world.log["b"][1], world.log["a"][1]])

    holders = {leg.key: c for c in store.conversations.values() for leg in c.held}
    assert holders["b"].id != holders["a"].id == both.id
    assert all(leg.seen.has(f"{key}1") for key, c in holders.items() if (leg := c.leg(key)))


Decision = Callable[..., Any]


def no_carry(arrived: Decision) -> Decision:
    """The memory of inputs does not travel with the leg."""
    return lambda walk: replace(arrived(walk), seen=Seen())


def no_need(attached: Decision) -> Decision:
    """Any record means that the leg has arrived."""
    return lambda record, _need: record is not None


def no_order(survivor: Decision) -> Decision:
    """Who acts wins, not the oldest."""
    return lambda one, _others: one


def no_split(reconciled: Decision) -> Decision:
    def stays(c: Conversation, known: Any, now: datetime) -> Any:
        step = reconciled(c, known, now)
        return Meet(c.customer) if isinstance(step, Split) else step

    return stays


def no_reopen(absorbed: Decision) -> Decision:
    def closed(winner: Conversation, loser: Conversation, now: datetime) -> Change:
        change: Change = absorbed(winner, loser, now)
        return Change(replace(change.after, state=winner.state), change.outputs)

    return closed


def join_forgets_moves(_finished: Decision) -> Decision:
    """A loser is never looked at again once its survivor has what it held: legs that it had sent on may not have arrived."""
    return lambda loser: Change(replace(loser, absorbed_into=True, due=None))


DECISIONS: dict[str, tuple[str, Callable[[Decision], Decision]]] = {
    "no_carry": ("arrived", no_carry),
    "no_need": ("attached", no_need),
    "no_order": ("survivor", no_order),
    "no_split": ("reconciled", no_split),
    "no_reopen": ("absorbed", no_reopen),
    "join_forgets_moves": ("finished", join_forgets_moves),
}
STEPS = (
    "no_cas",
    "no_help",
    "no_postcheck no_sweeper",
    "map_no_version",
    "map_ignores_conversations",
    "trim_all",
    "publish_newest_first",
    "commit_first",
    "marker_first",
    "unique_customer_index",
    "reply_unseen",
    "due_put_off",
)

# Rare ones, up to once in ten thousand: where to begin, so that the search is short.
BEGIN = {
    "due_put_off": 190,
    "join_forgets_moves": 21_800,
    "no_need": 500,
    "reply_unseen": 110,
}


@pytest.mark.parametrize("bug", [*DECISIONS, *STEPS])
async def test_a_promise_broken_on_purpose_is_noticed(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if bug in DECISIONS:
        name, broken = DECISIONS[bug]
        monkeypatch.setattr(decide, name, broken(getattr(decide, name)))
    begin = BEGIN.get(bug, 0)
    for seed in range(begin, begin + 3000):
        try:
            await World(seed, frozenset(bug.split())).go()
        except (Violation, RecursionError):
            return
    pytest.fail(f"{bug} was not noticed in 3000 interleavings")
