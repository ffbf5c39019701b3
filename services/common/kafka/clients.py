"""What every client of the broker has in common: how it connects, how it waits, how it stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaError
from aiokafka.helpers import create_ssl_context

from services.common.settings import CommonSettings

IDLE_S = 0.01
FEW, LITTLE = 16 * 1024, 1024 * 1024  # bytes that a fetch brought
BUSY = 3  # paces
FETCH = 1  # Kafka's number for fetch requests and their answers


def connection(settings: CommonSettings) -> dict[str, Any]:
    """What every client of the broker is made with."""
    common: dict[str, Any] = {
        "bootstrap_servers": settings.kafka.split(","),
        "security_protocol": settings.kafka_security,
        "request_timeout_ms": 15_000,
        # While a broker starts it does not know its topics: whoever leads a group then assigns nothing until it looks again.
        "metadata_max_age_ms": 5_000,
    }
    if settings.kafka_security.endswith("SSL"):
        common["ssl_context"] = create_ssl_context(cafile=settings.kafka_cafile)
    if settings.kafka_username and settings.kafka_password:
        common |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": settings.kafka_password.get_secret_value(),
        }
    return common


async def bounded(stopping: Awaitable[None], seconds: float = 5) -> bool:
    """A stop that waits for a broker that is gone must not hold up ours. False when it was cut short."""
    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(seconds):
            await stopping
        return True
    return False


async def stopped(client: AIOKafkaProducer | AIOKafkaConsumer | AIOKafkaAdminClient) -> None:
    """Stops it, and closes its connections also where the broker does not answer: aiokafka closes them last, so that a stop
    that was cut short would leave them open and its tasks running."""
    if isinstance(client, AIOKafkaAdminClient):
        parts: list[Any] = [client._client]
        clean = await bounded(client.close())
    elif isinstance(client, AIOKafkaProducer):
        parts = [client._sender, client.client]
        clean = await bounded(client.stop())
    else:
        parts = [client._fetcher, client._client]
        clean = await bounded(client.stop())
        if not clean and isinstance(client._coordinator, GroupCoordinator):
            await bounded(client._coordinator._stop_heartbeat_task())
    for part in parts if not clean else ():
        if part is not None:
            with suppress(asyncio.CancelledError):
                await bounded(part.close(), 1)


def be_patient(consumer: AIOKafkaConsumer, pace_s: float = 0) -> None:
    """Ask a broker for records no oftener than it pays.

    A broker may answer at once that there is nothing new, whatever time it was given to wait (the embedded one does): asking
    again at once keeps a core busy with every idle topic. And records that come one by one are fetched together, every
    `pace_s`, where many come less often: what a fetch and a batch cost, here and on the broker, is then shared. A fetch
    that waits for its first record gets it at once, and who is behind, as large answers tell, is not held up."""
    send = consumer._client.send
    due: dict[int, float] = {}

    async def patient(node: int, request: Any, **how: Any) -> Any:
        if request.API_KEY != FETCH:
            return await send(node, request, **how)
        if (rest := due.get(node, 0) - time.monotonic()) > 0:
            await asyncio.sleep(rest)
        began = time.monotonic()
        response = await send(node, request, **how)
        brought = _brought(response)
        if brought == 0 and (rest := began + IDLE_S - time.monotonic()) > 0:
            await asyncio.sleep(rest)
        paces = BUSY if brought > FEW else 1
        due[node] = time.monotonic() + paces * pace_s if 0 < brought < LITTLE else 0
        return response

    consumer._client.send = patient


class PatientConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka is not typed
    """aiokafka's consumer that asks no oftener than it pays."""

    def __init__(self, *topics: str, pace_s: float = 0, **how: Any) -> None:
        super().__init__(*topics, **how)
        be_patient(self, pace_s)


def _brought(response: Any) -> int:
    """Bytes of records in the answer to a fetch; an error counts as much, since it is acted upon at once."""
    parts = [part for _, partitions in response.topics for part in partitions]
    return LITTLE if any(part[1] for part in parts) else sum(len(part[-1] or b"") for part in parts)
