"""A review may be changed more than once: every change is a fact of its own, and all are about the same review."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from services.common import events
from services.ingest.contract import (
    Channel,
    Facts,
    Identifier,
    Leg,
    Outcome,
    Payload,
    Raw,
    Received,
    Sender,
    Webhook,
    each,
    text,
)
from services.ingest.contract import normalize as normalized
from services.ingest.contract.kit import TENANT_KEY
from services.ingest.contract.schemes import Unsigned
from tests.contract.examples.pigeon import CHANNEL as PIGEON
from tests.contract.examples.pigeon import Pigeon

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Review(Payload):
    id: str
    edit: str
    words: str


def updated(account: Pigeon, r: Review) -> Facts:
    who = Sender(Identifier("stars", "u-7"))
    said = (text(r.words),)
    yield Received(id=r.id, at=NOW, sender=who, parts=said, thread=r.id, type="review.updated", revision=r.edit)


STARS: Channel[Pigeon] = replace(
    PIGEON,
    name="stars",
    legs={"review": Leg("public")},
    doors=(Webhook(Unsigned("a test")),),
    unpack=each("changes[]", kind="what"),
    kinds={"edit": updated},
    send=None,
)


def outcome(*edits: str) -> Outcome:
    accounts = json.loads((Path(__file__).parents[1] / "contract/examples/pigeon/fixtures/accounts.json").read_text())
    changes = [{"what": "edit", "id": "81", "edit": edit, "words": f"edit {edit}"} for edit in edits]
    raw = Raw(json.dumps({"changes": changes}).encode(), received_at=NOW, door="webhook")
    return normalized(STARS, [Pigeon.model_validate(accounts[0])], raw, TENANT_KEY)


def test_two_updates_of_one_review_are_two_events_about_one_entry() -> None:
    first, second = outcome("1", "2").events

    assert first.id != second.id
    assert {first.data.provider_id, second.data.provider_id} == {"81"}
    assert isinstance(first.data, events.ReviewUpdated)


def test_the_same_update_again_is_the_same_event() -> None:
    (first,), (again,) = outcome("1").events, outcome("1").events

    assert first.id == again.id
