"""The bare webhook: a Starlette route that checks the signature, parses the body and awaits aiokafka's acknowledgement.

    python -m tests.benchmarks.bare_webhook PORT KAFKA TOPIC SECRET

The same server, event loop and producer settings as ingest's. It leaves out all that ingest promises: one record and not two
(no raw log with headers and verdict, no normalized event), no account in the address, no bounds on body or load, no metrics,
no quarantine. What it does is what a first version of such a service would do.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import sys
from collections.abc import AsyncIterator

import uvicorn
from aiokafka import AIOKafkaProducer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def application(kafka: str, topic: str, secret: bytes) -> Starlette:
    producers: list[AIOKafkaProducer] = []

    async def webhook(request: Request) -> Response:
        body = await request.body()
        signed = "sha256=" + hmac.digest(secret, body, "sha256").hex()
        if not hmac.compare_digest(signed, request.headers.get("x-hub-signature-256", "")):
            return Response(status_code=401)
        message = json.loads(body)["entry"][0]["changes"][0]["value"]["messages"][0]
        key = hashlib.sha256(message["from"].encode()).digest()
        await producers[0].send_and_wait(topic, body, key)
        return Response()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        producer = AIOKafkaProducer(
            bootstrap_servers=kafka, enable_idempotence=True, acks="all", linger_ms=2, max_batch_size=512 * 1024
        )
        await producer.start()
        producers.append(producer)
        yield
        await producer.stop()

    return Starlette(routes=[Route("/webhook", webhook, methods=["POST"])], lifespan=lifespan)


if __name__ == "__main__":
    port, kafka, topic, secret = sys.argv[1:]
    uvicorn.run(
        application(kafka, topic, secret.encode()),
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
    )
