"""Real parts for every test that talks to Kafka or MongoDB: addresses from the environment, else the embedded ones."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from deploy.local.embedded import EmbeddedBroker, EmbeddedMongod
from services.common.kafka import Publisher, create_topics
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from tests.needs import missing

# No timing assertions: how long an example takes says more of the machine than of the code.
hypothesis_settings.register_profile("hilo", deadline=None)
hypothesis_settings.load_profile("hilo")


@pytest.fixture(scope="session")
def kafka_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if given := os.environ.get("HILO_TEST_KAFKA"):
        yield given
        return
    broker = EmbeddedBroker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker.servers
    broker.stop()


@pytest.fixture(scope="session")
def mongo_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if given := os.environ.get("HILO_TEST_MONGO"):
        yield given
        return
    mongod = EmbeddedMongod(tmp_path_factory.mktemp("mongod"))
    mongod.start()
    yield mongod.uri
    mongod.stop()


@pytest.fixture
def unique() -> str:
    """A prefix of this test's own for topics, groups and databases."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def mongo_settings(mongo_uri: str, unique: str) -> CommonSettings:
    return CommonSettings(env="test", mongo=mongo_uri, mongo_prefix=f"{unique}_", kafka_prefix=f"{unique}.")


@pytest.fixture
def settings(mongo_uri: str, kafka_servers: str, unique: str) -> CommonSettings:
    return CommonSettings(
        env="test", kafka=kafka_servers, mongo=mongo_uri, mongo_prefix=f"{unique}_", kafka_prefix=f"{unique}."
    )


@pytest.fixture
async def mongo(mongo_settings: CommonSettings) -> AsyncIterator[Mongo]:
    one = Mongo(mongo_settings)
    await one.start()
    yield one
    for name in await one.client.list_database_names():
        if name.startswith(mongo_settings.mongo_prefix):
            await one.client.drop_database(name)
    await one.stop()


@pytest.fixture
async def topics(settings: CommonSettings) -> None:
    """All topics of the table, under this test's prefix."""
    await create_topics(settings)


@pytest.fixture
async def publisher(settings: CommonSettings, topics: None) -> AsyncIterator[Publisher]:
    one = Publisher(settings)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture(scope="session")
def chromium(request: pytest.FixtureRequest) -> str:
    for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"):
        if Path(path).exists():
            return path
    raise missing(request.config, "browser", "needs a Chromium: apt install chromium")
