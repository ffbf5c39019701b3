"""Which events the media worker reads: those that name a file, found without reading the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from services.common import topics
from services.common.cloudevents import Event, Record, encode
from services.common.events import CallEnded, CallRecorded, Fact, MessageReceived, MessageSent, Part, PartKind
from services.common.identifiers import Identifier, Sender
from services.ingest.media.jobs import Job, wanted
from services.ingest.media.worker import TYPES, Intake

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WHO = Identifier("telegram", "7", key="k" * 22)
SENDER = Sender(WHO, "Ana")


class Journal:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    async def accept(self, jobs: Sequence[Job]) -> None:
        self.jobs.extend(jobs)


words = st.one_of(st.none(), st.sampled_from(["", '"ref"', "ref", '"ref":"x"']), st.text(max_size=8))
parts = st.lists(st.builds(Part, st.sampled_from(get_args(PartKind)), text=words, ref=words, name=words), max_size=3)


def received(some: list[Part]) -> Fact:
    return MessageReceived(provider_id="m", party=WHO, received_at=NOW, sender=SENDER, parts=tuple(some))


def sent(some: list[Part]) -> Fact:
    return MessageSent(provider_id="m", party=WHO, received_at=NOW, parts=tuple(some))


def recorded(recording: str | None) -> Fact:
    return CallRecorded(provider_id="c", party=WHO, received_at=NOW, sender=SENDER, recording=recording)


facts = st.one_of(st.builds(received, parts), st.builds(sent, parts), st.builds(recorded, words))


def taken(records: Sequence[Record]) -> list[Job]:
    """The journal never waits, so there is nothing to run a loop for."""
    journal = Journal()
    handling = Intake(journal, lambda: None, lambda: NOW).handle(records)  # type: ignore[arg-type]
    try:
        handling.send(None)
    except StopIteration:
        return journal.jobs
    raise AssertionError("the journal waited")


@given(st.lists(facts, max_size=4))
def test_every_file_that_an_event_names_is_taken_and_nothing_else(found: list[Fact]) -> None:
    events = [Event(f"e{n}", "acme", WHO.key, NOW, data, "telegram", "bot") for n, data in enumerate(found)]
    records = [encode(topics.EVENTS.name, event) for event in events]

    assert taken(records) == [job for event in events for job in wanted(event, NOW)]


def test_what_is_no_event_is_left_to_identity() -> None:
    record = encode(
        topics.EVENTS.name, Event("e", "acme", WHO.key, NOW, received([Part("image", ref="f1")]), "telegram", "bot")
    )

    assert (
        taken([replace(record, value=b'{"ref"'), replace(record, value=None), Record(record.topic, record.key, record.value)])
        == []
    )
    assert len(taken([record])) == 1


def test_a_call_that_has_ended_brings_no_recording_and_is_not_asked_for() -> None:
    assert CallEnded.model_fields["type"].default not in TYPES
    assert CallRecorded.model_fields["type"].default in TYPES
