"""The processes that read mails: what a mail does to one of them, it does to that one alone, and not for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from services.common.events import MessageReceived
from services.ingest.accounts import Stored
from services.ingest.channels.email import Email
from services.ingest.contract import Outcome, Raw
from services.ingest.mail_worker import Bounds, Job, MailWorkers, WorkersBusy
from services.ingest.mime import TooMuch

GIGABYTE = 1024**3
LETTER = b"From: ana@example.org\r\nMessage-ID: <1@example.org>\r\n\r\nHola"


def job(body: bytes) -> Job:
    account = Email(tenant="acme", id="help", address="help@shop.example", smtp_url="smtp://mail.shop.example:587")
    raw = Raw(body, {"mail-from": "ana@example.org"}, received_at=datetime(2026, 3, 1, tzinfo=UTC), door="mail")
    return Job("email", account, Stored("acme", "email", "help"), raw, b"k" * 32)


@pytest.fixture
async def workers() -> AsyncIterator[MailWorkers]:
    one = MailWorkers(2, Bounds(1, GIGABYTE, 30), module="tests.hostile_reader")
    await one.start()
    yield one
    await one.stop()


def texts(outcome: Outcome) -> list[str | None]:
    said = [event.data for event in outcome.events]
    return [one.parts[0].text for one in said if isinstance(one, MessageReceived)]


async def test_a_mail_that_takes_too_long_is_over_the_limits_and_its_neighbours_are_read_meanwhile(
    workers: MailWorkers,
) -> None:
    await workers.read(job(LETTER))
    spinning = asyncio.create_task(workers.read(job(b"spin")))
    for _ in range(5):
        assert texts(await workers.read(job(LETTER))) == ["Hola"]

    with pytest.raises(TooMuch, match="more than 1 s to read"):
        await spinning


async def test_a_mail_that_eats_memory_is_over_the_limits(workers: MailWorkers) -> None:
    with pytest.raises(TooMuch, match="memory"):
        await workers.read(job(b"eat"))
    assert texts(await workers.read(job(LETTER))) == ["Hola"]


async def test_a_mail_that_kills_two_processes_is_over_the_limits(workers: MailWorkers) -> None:
    with pytest.raises(TooMuch, match="died"):
        await workers.read(job(b"die"))
    assert texts(await workers.read(job(LETTER))) == ["Hola"]


async def test_a_process_that_was_killed_from_outside_is_no_fault_of_the_mail(workers: MailWorkers) -> None:
    await workers.read(job(LETTER))
    for worker in workers._workers:
        worker.process.kill()

    assert texts(await workers.read(job(LETTER))) == ["Hola"]


async def test_a_mail_that_is_nested_too_deeply_is_over_the_limits(workers: MailWorkers) -> None:
    with pytest.raises(TooMuch, match="deeper"):
        await workers.read(job(b"recurse"))


async def test_when_there_is_no_time_for_a_mail_its_sender_keeps_it() -> None:
    workers = MailWorkers(1, Bounds(1, GIGABYTE, 3), module="tests.hostile_reader")
    sleeping = asyncio.create_task(workers.read(job(b"sleep")))
    with pytest.raises(WorkersBusy):
        await sleeping
    await workers.stop()


async def test_a_reading_that_is_given_up_gives_its_answer_to_nobody_else(workers: MailWorkers) -> None:
    await workers.read(job(LETTER))
    given_up = [asyncio.create_task(workers.read(job(b"sleep"))) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in given_up:
        task.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)

    assert texts(await workers.read(job(LETTER.replace(b"Hola", b"Adi\xc3\xb3s")))) == ["Adiós"]
