"""Reading an input within bounds, and finding the items again that were set aside."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.common.events import Fact
from services.ingest.accounts import Connected, Stored
from services.ingest.contract import Raw
from services.ingest.dead import one_item
from services.ingest.intake import MAX_FACT, MAX_ITEMS, SMALL, addressed, aside, bounded, read
from tests.ingesting import FIELDS, Pigeon, body, message, pigeon
from tests.ingesting import addressed as unpack_addressed

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CHANNEL = pigeon("flock", address="number", unpack=unpack_addressed)


def account(name: str = "main", number: str = "N1") -> Connected:
    model = Pigeon(tenant="acme", id=name, **{**FIELDS, "number": number})
    return Connected(CHANNEL, model, Stored("acme", "flock", name), b"k" * 32)


def raw(*items: Any) -> Raw:
    return Raw(body(*items), received_at=NOW)


GOOD = st.builds(message, st.integers(0, 3))
BAD = st.sampled_from(
    [
        {**message(1), "sent_at": "x"},
        {"type": "message"},
        {"type": "crash", "id": "1"},
        7,
        {},
        {"type": "?"},
        message(1, to="X"),
    ]
)
IGNORED = st.sampled_from([{"type": "heartbeat"}, {"type": "hologram"}])


@given(st.lists(GOOD | BAD | IGNORED, max_size=12))
def test_every_input_balances_and_every_item_set_aside_is_found_again(items: list[Any]) -> None:
    """What was set aside, run again alone in its place, is set aside for the same reason: nothing of it was lost."""
    one = raw(*items)
    outcome = read([account()], one)
    assert outcome.balances

    found = addressed(CHANNEL, one, outcome.quarantined)
    for quarantined, (item, place) in zip(outcome.quarantined, found, strict=True):
        assert item
        assert (item.data, item.path) == (quarantined.slice, quarantined.path)
        assert items[place] == item.data
        [again] = one_item([account()], one, item, place).quarantined
        assert (again.reason, again.kind) == (quarantined.reason, quarantined.kind)


@given(st.lists(GOOD, min_size=1, max_size=8))
def test_one_item_alone_gives_the_fact_that_it_gave_among_the_others(items: list[Any]) -> None:
    one = raw(*items)
    meant = read([account()], one).events
    for place, item in enumerate(CHANNEL.unpack(one)):
        assert one_item([account()], one, item, place).events == [meant[place]]


def test_an_input_of_too_many_items_is_refused_whole_and_one_of_just_enough_is_not() -> None:
    most, more = raw(*[{}] * MAX_ITEMS), raw(*[{}] * (MAX_ITEMS + 1))

    assert len(list(bounded(CHANNEL).unpack(most))) == MAX_ITEMS
    [refused] = read([account()], more).quarantined
    assert refused.slice == more.body
    assert len(more.body) > SMALL


def test_a_fact_that_no_topic_would_take_sets_its_input_aside() -> None:
    one = raw(message(1, text="x" * (MAX_FACT + 1)))
    outcome = read([account()], one)

    assert (outcome.events, outcome.quarantined[0].slice) == ([], one.body)
    assert outcome.balances


def test_an_input_that_cannot_be_unpacked_has_no_item() -> None:
    broken = replace(raw(), body=b"{")
    outcome = read([account()], broken)

    assert addressed(CHANNEL, broken, outcome.quarantined) == [(None, 0)]
    assert outcome.quarantined[0].slice == b"{"


def test_an_input_set_aside_by_its_door_balances() -> None:
    outcome = aside(raw(message()), "mime-limit: parts")

    assert outcome.balances
    assert json.loads(outcome.quarantined[0].slice) == {"events": [message()]}


def test_items_go_to_the_account_that_they_name() -> None:
    outcome = read([account("north", "N1"), account("south", "S1")], raw(message(1, to="S1"), message(2), message(3, to="X9")))
    facts: list[Fact] = [event.data for event in outcome.events]

    assert [event.account for event in outcome.events] == ["south", "north"]
    assert [fact.place for fact in facts] == [0, 1]
    assert [one.reason for one in outcome.quarantined] == ["no account with number 'X9'"]
