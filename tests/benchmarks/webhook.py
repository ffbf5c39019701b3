"""Signed webhook over HTTP to durable 200: ingest as it runs in production, beside the bare routes of `bare_webhook`.

`ratio` is to the route that only checks, parses and sends one record; `same_ratio` to one with the same deciders. Each request is one WhatsApp message of a usual length from one of 2,000 people. Server, client, broker and store share the
machine, so the rate is that of all of them; `cpu_us` is the server's own.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from deploy.local.embedded import free_port, listening
from services.common.auth import Keyring
from services.common.http import Http
from services.common.kafka import create_topics
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.vault import DEMO_KEY, Vault
from services.simulator import wire
from tests.benchmarks.client import post, written
from tests.benchmarks.measuring import Figure, Parts, alternate, cpu_s

SECRET, NUMBER = "the-secret-of-the-app", "106540352242922"
TEXT = "Hola, ¿dónde está mi pedido? Llevo una semana esperando y nadie me contesta. " * 3
PEOPLE = 2000
KEY = b"k" * 32


def fields(secret: str) -> dict[str, Any]:
    """The account, as an operator fills it in."""
    shown = {"phone_number_id": NUMBER, "number": "+49 30 123456", "portfolio": "waba-1"}
    return shown | {"access_token": "x" * 40, "app_secret": secret, "verify_token": "verify"}


def body(number: int) -> bytes:
    phone = f"4915112{number % PEOPLE:06d}"
    content = {"type": "text", "text": {"body": f"{number} {TEXT}"}}
    message = wire.whatsapp_message(f"wamid.bench.{number}", 1_790_000_000 + number // 100, phone, None, content)
    return wire.as_meta_writes(
        wire.whatsapp_body([wire.whatsapp_value(NUMBER, [wire.whatsapp_contact("Ana", phone, None)], messages=[message])])
    )


def requests(path: str, start: int, count: int) -> list[bytes]:
    bodies = (body(number) for number in range(start, start + count))
    return [written(path, wire.meta_headers(one, SECRET), one) for one in bodies]


@dataclass(frozen=True, slots=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    path: str


@asynccontextmanager
async def serving(module: str, port: int, path: str, *words: str, **env: str) -> AsyncIterator[Server]:
    """A child process that listens; its output is shown if it dies."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, "-m", module, *words], stdout=log, stderr=log, env={**os.environ, **env})
        try:
            while not listening(port):
                if process.poll() is not None:
                    log.seek(0)
                    raise RuntimeError(f"{module} ended: {log.read().decode(errors='replace')[-3000:]}")
                await asyncio.sleep(0.1)
            yield Server(process, port, path)
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 30)


@asynccontextmanager
async def ingest(settings: CommonSettings, mongo: str) -> AsyncIterator[Server]:
    port, media = free_port(), tempfile.gettempdir()
    env = {
        "HILO_ENV": "test",
        "HILO_HOST": "127.0.0.1",
        "HILO_PORT": str(port),
        "HILO_SMTP_PORT": str(free_port()),
        "HILO_SMTP_HOST": "127.0.0.1",
        "HILO_KAFKA": settings.kafka,
        "HILO_KAFKA_PREFIX": settings.kafka_prefix,
        "HILO_MONGO": mongo,
        "HILO_MONGO_PREFIX": settings.mongo_prefix,
        "HILO_MEDIA_DIR": media,
        "HILO_LOG_LEVEL": "warning",
    }
    async with serving("services.ingest", port, "/webhooks/whatsapp/main", **env) as server:
        await _connected(settings, port)
        yield server


async def until_ready(port: int, within_s: float = 60) -> None:
    """Until the process says so; raises TimeoutError."""
    async with asyncio.timeout(within_s), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.2)


async def _connected(settings: CommonSettings, port: int) -> None:
    """An account, made through the API as an operator makes one."""
    mongo, http = Mongo(settings), Http(settings)
    await mongo.start()
    await http.start()
    try:
        key = await Keyring(mongo, Vault(DEMO_KEY)).create_tenant("acme")
        url = f"http://127.0.0.1:{port}/v1/accounts/whatsapp/main"
        await until_ready(port)
        answer = await http.service("PUT", url, "acme", {"fields": fields(SECRET)}, credential=key, tries=5)
        if answer.status != 200:
            raise RuntimeError(f"the account was refused: {answer.status} {answer.body!r}")
    finally:
        await http.stop()
        await mongo.stop()


async def stage(parts: Parts, count: int, connections: int) -> dict[str, Any]:
    settings = parts.settings("webhook")
    await create_topics(settings)
    port = free_port()
    latencies: dict[str, list[float]] = {}

    async def measured(server: Server, number: int, path: str = "") -> Figure:
        sent = requests(path or server.path, number * (count + 500), count + 500)
        await post(server.port, sent[:500], connections)  # connections to the broker, caches, just what a start costs
        began = cpu_s(server.process.pid)
        answered = await post(server.port, sent[500:], connections)
        if answered.refused:
            raise RuntimeError(f"{answered.refused} of {count} were not answered with 200")
        latencies.setdefault(server.path, []).extend(answered.latencies_ms)
        return Figure(count / answered.seconds, (cpu_s(server.process.pid) - began) / count * 1e6)

    words = (str(port), parts.kafka, settings.kafka_prefix, SECRET)
    async with (
        ingest(settings, parts.mongo) as ours,
        serving("tests.benchmarks.bare_webhook", port, "/webhook", *words) as bare,
    ):
        line = await alternate(
            "webhook",
            lambda n: measured(ours, n),
            lambda n: measured(bare, n),
            same=lambda n: measured(bare, n, "/same"),
        )
        found = statistics.quantiles(latencies[ours.path], n=100)
        return {**line, "p50_ms": round(found[49], 1), "p99_ms": round(found[98], 1), "connections": connections}
