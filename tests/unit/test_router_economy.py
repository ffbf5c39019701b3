"""What the common ways cost: how often the store is asked, and what is told twice. Counts, not times."""

from __future__ import annotations

from datetime import UTC, datetime

from services.router import desk
from services.router.agents import Desk, Profile
from services.router.assigner import Assigner
from services.router.desk import Agent, Queue
from services.router.placing import Placer
from services.router.protocol import Conversations, NoDesk
from services.router.state import Conversation, OutboxItem
from services.router.stores import Known
from tests.agents_memory import MemoryAgents
from tests.router_memory import MemoryStore, no_pause
from tests.router_world import START, message, never, opening_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Told:
    def __init__(self) -> None:
        self.items: list[tuple[str, int]] = []

    async def send(self, conversation: str, items: list[OutboxItem]) -> None:
        self.items += [(conversation, item.n) for item in items]


def world() -> tuple[MemoryStore, Told, Conversations]:
    store, told = MemoryStore(), Told()
    return store, told, Conversations(store, told, NoDesk(), never, opening_of, lambda: NOW)  # type: ignore[arg-type]


async def test_a_conversation_is_opened_told_once_and_settled_in_one_write() -> None:
    store, told, driver = world()
    await Placer(driver).place([message("a", 0, "ana", 1), message("a", 1, "ana", 1)])

    (c,) = store.conversations.values()
    assert told.items == [(c.id, 1)]
    assert (c.out, c.check, c.v) == ((), False, 2)
    assert store.writes == 4, "the hint, the map, the conversation, and that nothing is left to do"


async def test_what_we_wrote_last_is_not_read_before_it_is_written_again() -> None:
    store, told, driver = world()
    placer = Placer(driver)
    await placer.place([message("a", 0, "ana", 1)])
    store.reads = store.writes = 0
    await placer.place([message("a", 1, "ana", 1), message("a", 2, "ana", 1)])

    assert (store.reads, store.writes) == (0, 1)
    assert len(told.items) == 1


async def test_a_known_leg_of_a_conversation_that_others_changed_costs_a_lost_write_a_read_and_a_write() -> None:
    store, _, driver = world()
    placer = Placer(driver)
    await placer.place([message("a", 0, "ana", 1)])
    (c,) = store.conversations.values()
    assert store.compare_and_set(c, c.but(v=c.v + 1, queue="sales"))
    store.reads = store.writes = 0
    await placer.place([message("a", 1, "ana", 1)])

    assert (store.reads, store.writes, store.lost) == (1, 2, 1)
    assert [(one.queue, one.legs[0].last_id) for one in store.conversations.values()] == [("sales", "a1")]


async def test_where_there_is_nothing_to_write_the_answer_is_of_what_is_there() -> None:
    store, _, driver = world()
    placer = Placer(driver)
    await placer.place([message("a", 0, "ana", 1)])
    (c,) = store.conversations.values()
    assert store.compare_and_set(c, c.but(v=c.v + 1, seq=7))
    (again,) = await placer.place([message("a", 0, "ana", 1)])

    assert (again.effect, again.conversation.seq) == ("duplicate", 7)


async def test_a_map_record_that_says_what_the_conversation_says_changes_nothing() -> None:
    store, _, driver = world()
    await Placer(driver).place([message("a", 0, "ana", 1)])
    (before,) = store.conversations.values()
    store.reads = 0
    await driver.learned("a", Known("ana", 1))

    assert list(store.conversations.values()) == [before]
    assert store.reads == 2, "who holds it, and what the map says of its legs"


async def test_a_map_record_that_says_otherwise_is_followed() -> None:
    store, _, driver = world()
    await Placer(driver).place([message("a", 0, "ana", 1), message("b", 0, "ben", 1)])
    await driver.learned("b", Known("ana", 2))

    assert sorted(c.state for c in store.conversations.values()) == ["joined", "open"]


def waiting(store: MemoryStore, count: int) -> None:
    for number in range(count):
        name = f"c{number:04}"
        store.conversations[name] = Conversation(name, "acme", "l", START, check=False, since=START)


async def test_a_queue_on_which_nobody_can_work_is_not_read() -> None:
    store, agents = MemoryStore(), MemoryAgents(no_pause)
    waiting(store, 300)
    await agents.put("acme", Profile("eva", queues=("default",), capacity=0))
    driver = Conversations(store, Told(), NoDesk(), never, opening_of, lambda: NOW)  # type: ignore[arg-type]
    assigner = Assigner(store, agents, Desk(driver, agents, lambda *_: None))

    assert await assigner.work("acme", "default")
    assert store.reads == 1

    await agents.put("acme", Profile("eva", queues=("default",), capacity=2))
    await agents.present("acme", "eva", on=True, now=NOW)
    assert await assigner.work("acme", "default")
    assert sum(c.assignment is not None for c in store.conversations.values()) == 2


def test_there_is_room_only_where_the_lightest_conversation_fits() -> None:
    queue = Queue("q", weights={"public": 3, "private": 2})
    busy = Agent("eva", "acme", queues=("q",), capacity=3, on=True, load=3)

    assert not desk.anybody_free(queue, [busy])
    assert not desk.anybody_free(queue, [Agent("eva", "acme", capacity=3, on=False)])
    assert desk.anybody_free(queue, [busy, Agent("leo", "acme", capacity=1, on=True)])
