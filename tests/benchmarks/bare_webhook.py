"""Bare webhooks, served as ingest's are, with the same producer settings, and nothing around them.

    python -m tests.benchmarks.bare_webhook PORT KAFKA PREFIX SECRET

`/webhook` checks the signature, parses the body, and awaits aiokafka's acknowledgement of one record: a first version of such
a service. It has no raw log with headers and verdict, no normalized event, no ids, nothing that a later stage could work with.
`/same` has ingest's own deciders: admission, normalization, raw record and event; it awaits aiokafka for both records. It
leaves out the account's look-up, bounds on body and load, quarantine, what is kept for later, metrics and safe headers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import uvicorn
from aiokafka import AIOKafkaProducer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.common import topics
from services.common.cloudevents import encode
from services.ingest import rawlog
from services.ingest.channels.whatsapp import CHANNEL
from services.ingest.contract import Account, Raw, admit, normalize
from services.ingest.stored import validated
from tests.benchmarks.webhook import KEY, fields


class Bare:
    def __init__(self, kafka: str, prefix: str, secret: str) -> None:
        self._kafka, self._prefix, self._secret = kafka, prefix, secret.encode()
        self._account: Account = validated(CHANNEL.account, "acme", "main", fields(secret))
        self._producer: AIOKafkaProducer | None = None

    async def first_version(self, request: Request) -> Response:
        assert self._producer
        body = await request.body()
        signed = "sha256=" + hmac.digest(self._secret, body, "sha256").hex()
        if not hmac.compare_digest(signed, request.headers.get("x-hub-signature-256", "")):
            return Response(status_code=401)
        message = json.loads(body)["entry"][0]["changes"][0]["value"]["messages"][0]
        key = hashlib.sha256(message["from"].encode()).digest()
        await self._producer.send_and_wait(self._prefix + topics.EVENTS.name, body, key)
        return Response()

    async def same_deciders(self, request: Request) -> Response:
        assert self._producer
        body = await request.body()
        raw = Raw(body, dict(request.headers), dict(request.query_params), url=str(request.url), received_at=datetime.now(UTC))
        verdict = admit(CHANNEL, self._account, raw)
        if verdict.keep:
            outcome = normalize(CHANNEL, [self._account], raw, KEY)
            records = [rawlog.record(CHANNEL.name, self._account, raw, outcome)]
            records += [encode(topics.EVENTS.name, event) for event in outcome.events]
            sent = [await self._producer.send(self._prefix + r.topic, r.value, r.key, headers=list(r.headers)) for r in records]
            await asyncio.gather(*sent)
        return Response(verdict.reply.body, verdict.reply.status)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._kafka, enable_idempotence=True, acks="all", linger_ms=2, max_batch_size=512 * 1024
        )
        await self._producer.start()
        yield
        await self._producer.stop()

    def application(self) -> Starlette:
        routes = [
            Route("/webhook", self.first_version, methods=["POST"]),
            Route("/same", self.same_deciders, methods=["POST"]),
        ]
        return Starlette(routes=routes, lifespan=self.lifespan)


if __name__ == "__main__":
    port, kafka, prefix, secret = sys.argv[1:]
    uvicorn.run(
        Bare(kafka, prefix, secret).application(),
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
    )
