"""The ledger on a real broker: it balances, names what is missing, and puts exactly that back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.common import topics as t
from services.common.cloudevents import Record
from services.common.kafka import Publisher, create_topics
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.ingest import ledger
from services.ingest.settings import IngestSettings
from tests.ingesting import body, channels, connect, events, ingest_settings, message, records, running, signed, tenant

BAD = {**message(2), "sent_at": "yesterday"}
LATER = timedelta(minutes=5)


@pytest.fixture
async def own(settings: CommonSettings, topics: None) -> IngestSettings:
    return ingest_settings(settings)


@pytest.fixture
async def doors(own: IngestSettings, mongo: Mongo) -> AsyncIterator[httpx.AsyncClient]:
    async with running(own) as client:
        await connect(client, await tenant(mongo, "acme"))
        yield client


async def post(doors: httpx.AsyncClient, *items: Any) -> None:
    payload = body(*items)
    assert (await doors.post("/webhooks/pigeon/main", content=payload, headers=signed(payload))).status_code == 200


async def check(own: IngestSettings, **more: Any) -> ledger.LedgerReport:
    return await ledger.check(own, registry=channels(), now=datetime.now(UTC) + LATER, **more)


async def lose(own: IngestSettings, publisher: Publisher, record: Record) -> None:
    """The raw record alone, as a process leaves it that dies before its facts are acknowledged. It comes to another place,
    so its dead letters have other ids."""
    await publisher.publish([replace(record, partition=None, offset=-1)])


async def test_what_was_taken_balances(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    await post(
        doors,
        message(1),
        BAD,
        {"type": "heartbeat"},
        {"type": "hologram"},
        {"type": "crash", "id": "1"},
        {"type": "typing", "id": "7"},
    )
    await post(doors)
    report = await check(own)

    assert report.ok
    assert report.missing == []
    assert report.channels == {("acme", "pigeon"): ledger.Balance(2, 7, 2, 2, 3)}
    assert ledger.render(report).endswith("\nbalanced")


async def test_a_fact_that_is_missing_is_named_and_put_back_as_it_would_have_been(
    doors: httpx.AsyncClient, own: IngestSettings, publisher: Publisher, mongo: Mongo
) -> None:
    await post(doors, message(1), message(2))
    [meant, other] = await events(own, t.EVENTS)
    raw = (await records(own, t.RAW))[0]
    fresh = own.model_copy(update={"kafka_prefix": own.kafka_prefix + "again."})
    apart = Publisher(fresh)
    await apart.start()
    await create_topics(fresh)
    await lose(fresh, apart, raw)
    await apart.emit(t.EVENTS, [other])
    found = await check(fresh)

    assert [(one.id, one.kind, one.repaired) for one in found.missing] == [(meant.id, "event", "")]
    assert not found.ok
    assert f"missing: event {meant.id}" in ledger.render(found)
    assert ledger.render(found).endswith("NOT balanced")

    repaired = await check(fresh, repair=True)
    assert repaired.ok
    assert [one.repaired for one in repaired.missing] == ["repaired"]
    back = [event for event in await events(fresh, t.EVENTS) if event.id == meant.id]
    assert back == [meant]
    assert len(await records(fresh, t.EVENTS)) == 2
    assert (await check(fresh)).missing == []
    await apart.stop()


async def test_a_dead_letter_that_is_missing_is_put_back(
    doors: httpx.AsyncClient, own: IngestSettings, publisher: Publisher
) -> None:
    await post(doors, message(1), BAD)
    [written] = await events(own, t.DEAD)
    [raw] = await records(own, t.RAW)
    await lose(own, publisher, raw)
    report = await check(own, repair=True)
    first, second = [event.data for event in await events(own, t.DEAD)]

    assert [(one.kind, one.repaired) for one in report.missing] == [("dead letter", "repaired")]
    assert first == written.data
    same = {"dead_id", "offset", "partition", "at"}
    assert second.model_dump(exclude=same) == first.model_dump(exclude=same)
    assert (await check(own)).ok


async def test_an_input_set_aside_whole_is_put_back_whole(
    doors: httpx.AsyncClient, own: IngestSettings, publisher: Publisher
) -> None:
    payload = b"{not json"
    await doors.post("/webhooks/pigeon/main", content=payload, headers=signed(payload))
    [raw] = await records(own, t.RAW)
    await lose(own, publisher, raw)
    await check(own, repair=True)
    first, second = [event.data for event in await events(own, t.DEAD)]

    assert (first.body, first.reason, first.headers) == (second.body, second.reason, second.headers)  # type: ignore[attr-defined]


async def test_what_may_still_be_on_its_way_is_not_called_missing(
    doors: httpx.AsyncClient, own: IngestSettings, publisher: Publisher
) -> None:
    await post(doors, BAD)
    [raw] = await records(own, t.RAW)
    await lose(own, publisher, raw)
    report = await ledger.check(own, registry=channels())

    assert (report.in_flight, report.missing, report.ok) == (1, [], True)


async def test_only_the_chosen_tenant_and_channel_are_counted(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    await post(doors, message(1))

    assert (await check(own, tenant="globex")).channels == {}
    assert (await check(own, channel="flock")).channels == {}
    assert (await check(own, tenant="acme", channel="pigeon")).channels.keys() == {("acme", "pigeon")}


async def test_what_is_no_input_is_told(doors: httpx.AsyncClient, own: IngestSettings, publisher: Publisher) -> None:
    await publisher.publish([Record(t.RAW.name, b"k", b"junk")])
    report = await check(own)

    assert (report.unreadable, report.ok) == (1, False)


async def test_what_cannot_be_repaired_says_why(
    doors: httpx.AsyncClient, own: IngestSettings, publisher: Publisher, mongo: Mongo
) -> None:
    await post(doors, BAD)
    [raw] = await records(own, t.RAW)
    await lose(own, publisher, raw)
    await doors.delete("/v1/accounts/pigeon/main", headers=await tenant(mongo, "acme", "admin"))
    report = await check(own, repair=True)

    assert [one.repaired for one in report.missing] == ["its account is no longer connected"]
    assert not report.ok
