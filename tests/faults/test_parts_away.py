"""MongoDB or Kafka away, at the start and during the run, with all services as processes: they wait, say so, and go on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from deploy.local.embedded import EmbeddedBroker
from deploy.local.stack import MODULES, Stack, free_ports
from tests.console_shop import Shop, opened
from tests.waiting import until


def ask(url: str) -> tuple[int, str]:
    """Status and body; status 0 while nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def answers(url: str, status: int) -> Callable[[], bool]:
    return lambda: ask(url)[0] == status


@pytest.fixture
def early(tmp_path: Path) -> Iterator[Stack]:
    """All services, started before there is a broker or a database."""
    stack = Stack(tmp_path, free_ports())
    (tmp_path / "logs").mkdir()
    for name, module in MODULES.items():
        stack.run(name, module, {"HILO_PORT": str(stack.ports.of[name])})
    yield stack
    stack.stop()


async def test_who_starts_before_kafka_and_mongodb_is_alive_says_so_and_is_ready_when_they_come(early: Stack) -> None:
    for name in MODULES:
        await until(answers(early.url(name, "/healthz"), 200), within_s=60, what=f"{name} alive")
        status, said = ask(early.url(name, "/readyz"))
        assert status == 503, name
        assert json.loads(said), name
    await asyncio.to_thread(early.start)
    for name, service in early.services.items():
        await until(answers(early.url(name, "/readyz"), 200), within_s=90, what=f"{name} ready")
        assert service.process
        assert service.process.poll() is None, f"{name} ended instead of waiting: {service.log.read_text()[-2000:]}"
    for service in early.services.values():
        service.terminate()
    for name, service in early.services.items():
        assert service.process
        assert await asyncio.to_thread(service.process.wait, 30) == 0, f"{name}: {service.log.read_text()[-2000:]}"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with opened(tmp_path) as one:
        yield one


async def written(shop: Shop, conversation: str, texts: list[str]) -> list[str]:
    """What of `texts` stands on the conversation, as often as it does, once there are that many."""

    async def found() -> list[str] | None:
        page = await shop.read(f"/v1/conversations/{conversation}/entries?limit=100") or {}
        said = ["".join(part.get("text") or "" for part in one.get("parts", ())) for one in page.get("items", [])]
        mine = [text for text in said if text in texts]
        return mine if len(mine) >= len(texts) else None

    mine = await until(found, within_s=120, what="all of them on the timeline")
    return mine or []


async def conversations_of(shop: Shop, user: int) -> int:
    rows = await shop.read("/v1/conversations?view=open&limit=100")
    return sum(str(user) in str(one["last"]) for one in rows["items"])


async def test_a_database_killed_during_the_run_loses_and_doubles_nothing(shop: Shop) -> None:
    user = uuid.uuid4().int % 10**9
    texts = [f"{part} {user}" for part in ("antes", "durante", "otra vez durante", "después")]
    shop.telegram(user, "Marta", texts[0])
    conversation = await shop.conversation(texts[0])
    mongod = shop.stack._mongod
    assert mongod
    mongod.kill()
    shop.telegram(user, "Marta", texts[1])
    shop.telegram(user, "Marta", texts[2])
    for service in ("identity", "router", "timeline"):
        url = shop.stack.url(service, "/readyz")
        await until(answers(url, 503), within_s=60, what=f"{service} says that it cannot work")
    await asyncio.to_thread(mongod.start)
    shop.telegram(user, "Marta", texts[3])
    assert sorted(await written(shop, conversation, texts)) == sorted(texts)
    assert await conversations_of(shop, user) == 1


async def test_a_broker_that_stands_still_is_a_503_and_all_that_was_accepted_is_there_once(shop: Shop) -> None:
    """The embedded broker forgets all when it ends, so it is stopped for a while; a killed one is tried on Apache Kafka."""
    user = uuid.uuid4().int % 10**9
    texts = [f"{part} {user}" for part in ("antes", "durante", "después")]
    shop.telegram(user, "Marta", texts[0])
    conversation = await shop.conversation(texts[0])
    broker = shop.stack.broker
    assert isinstance(broker, EmbeddedBroker)
    assert broker.pid
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        shop.telegram(user, "Marta", texts[1])
        refused = shop.simulator.courier.posted.refused
        await until(lambda: refused.get(503), within_s=60, what="a 503")
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    shop.telegram(user, "Marta", texts[2])
    assert sorted(await written(shop, conversation, texts)) == sorted(texts)
    assert await conversations_of(shop, user) == 1
