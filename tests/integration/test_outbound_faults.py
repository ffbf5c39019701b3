"""The store dies at the worst moment, under a mongod of the test's own: what the provider has taken is not sent again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.local.embedded import EmbeddedMongod
from services.common.kafka import Publisher
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from tests.outbound_world import PIGEON, World, piece, world
from tests.waiting import until


@pytest.fixture
def mongod(tmp_path: Path) -> Iterator[EmbeddedMongod]:
    one = EmbeddedMongod(tmp_path / "mongod")
    one.start()
    yield one
    one.stop()


@pytest.fixture
async def w(settings: CommonSettings, publisher: Publisher, tmp_path: Path, mongod: EmbeddedMongod) -> AsyncIterator[World]:
    own = settings.model_copy(update={"mongo": SecretStr(mongod.uri)})
    mongo = Mongo(own)
    one = world(own, mongo, publisher, tmp_path, (PIGEON,), mongo_timeout_s=1.5)
    await one.begin()
    yield one
    await one.end()
    await mongo.stop()


async def test_an_answer_that_comes_while_the_store_is_dead_is_written_when_it_is_back(
    w: World, mongod: EmbeddedMongod
) -> None:
    await w.worker()
    w.provider.wait = asyncio.Event()
    await w.ask(w.request("m1", "once"))
    await until(lambda: w.provider.messages)
    mongod.kill()
    w.provider.wait.set()
    await asyncio.to_thread(mongod.start)
    found = await w.state("m1", "sent")
    (sent,) = await w.heard("m1", "sent")

    assert (found.state, sent.provider_id) == ("sent", "p1")
    assert w.provider.calls == {piece("m1"): 1}


async def test_a_store_that_dies_before_the_call_delays_messages_and_loses_or_doubles_none(
    w: World, mongod: EmbeddedMongod
) -> None:
    process = await w.worker()
    names = [f"m{n}" for n in range(40)]
    await w.ask(*(w.request(name, name, thread=f"+49{name}") for name in names))
    await until(lambda: len(w.provider.messages) >= 3)
    mongod.kill()
    await until(lambda: "store" in process.readiness.missing())
    await asyncio.to_thread(mongod.start)
    for name in names:
        await w.state(name, "sent")

    assert w.provider.calls == {piece(name): 1 for name in names}
    await until(lambda: process.readiness.missing() == {})
