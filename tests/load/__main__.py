"""`make load N=2000 KAFKA=embedded KILLS=0 DUPLICATES=10 RATE=0`: prints one JSON line, exits 1 if anything was lost or doubled.

KAFKA=apache runs Apache Kafka in a container. KILLS=1 kills every service and the broker once with -9 during the run (the
embedded broker keeps everything in memory and is never killed). RATE is messages a second; 0 is as fast as it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from deploy.local import casa, setup
from deploy.local.containers import ApacheBroker
from deploy.local.stack import MODULES, Stack, free_ports
from services.common.http import Http
from services.ingest.ledger import check
from services.ingest.settings import IngestSettings
from services.simulator.app import Simulator, origins
from tests.load.drive import Driver, listen
from tests.load.plan import Message, batches, plan
from tests.load.readback import Reading, quiet, read_back, scopes
from tests.load.report import report


@dataclass(frozen=True)
class Wish:
    n: int = 2000
    kafka: str = "embedded"
    kills: int = 0
    duplicates: float = 0.1
    rate: float = 0.0
    batch: int = 5
    replies: int = 20


def wish(words: list[str]) -> Wish:
    given = dict(word.split("=", 1) for word in words)
    if unknown := given.keys() - {"N", "KAFKA", "KILLS", "DUPLICATES", "RATE", "REPLIES", "BATCH"}:
        raise SystemExit(f"load: unknown {', '.join(sorted(unknown))}")
    if given.get("KAFKA", "embedded") not in ("embedded", "apache"):
        raise SystemExit("load: KAFKA is embedded or apache")
    return Wish(
        int(given.get("N", 2000)),
        given.get("KAFKA", "embedded"),
        int(given.get("KILLS", 0)),
        float(given.get("DUPLICATES", 10)) / 100,
        float(given.get("RATE", 0)),
        int(given.get("BATCH", 5)),
        int(given.get("REPLIES", 20)),
    )


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@asynccontextmanager
async def platforms(stack: Stack, http: Http, secrets: casa.Secrets) -> AsyncIterator[Simulator]:
    """The stand-ins that take our answers."""
    simulator = Simulator(casa.simulated(stack.ports, secrets), http, mail_port=stack.ports.of["mailbox"])
    await simulator.start()
    config = uvicorn.Config(simulator.app, "127.0.0.1", stack.ports.of["simulator"], log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    serving = asyncio.create_task(server.serve())
    try:
        yield simulator
    finally:
        server.should_exit = True
        await serving
        await simulator.stop()


async def kill_each(stack: Stack, broker: ApacheBroker | None, times: int, done: asyncio.Event) -> int:
    """One after the other, in a random order, while the load runs. How many were killed."""
    chance, killed = random.Random(5), 0
    for _ in range(times):
        names = [*MODULES, *(["broker"] if broker else [])]
        chance.shuffle(names)
        for name in names:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), chance.uniform(1.0, 2.5))
            if done.is_set():
                return killed
            note(f"kill -9 {name}")
            killed += 1
            if name == "broker" and broker:
                await asyncio.to_thread(broker.kill)
                await asyncio.to_thread(broker.start)
            else:
                stack.services[name].kill()
    return killed


async def answer_some(stack: Stack, http: Http, reading: Reading, key: str, many: int) -> int:
    """Answers to open private conversations, so that there are sends to count. How many were accepted."""
    _, page = await reading.get(f"/v1/conversations?view=open&limit={max(1, min(100, many))}")
    accepted = 0
    for number, one in enumerate(page["items"][:many]):
        leg = next((leg for leg in one["head"]["legs"] if leg["visibility"] == "private" and leg["held"]), None)
        if leg is None or one["last"] is None:
            continue
        body = {"leg": leg["key"], "text": f"Respuesta {number}", "saw": one["last"]["id"]}
        url = stack.url("router", f"/v1/conversations/{one['id']}/messages")
        headers = {"idempotency-key": f"load-{number}"}
        answer = await http.service("POST", url, casa.TENANT, body, credential=key, headers=headers, tries=5)
        if answer.status != 200:
            note(f"answer refused: {answer.status} {answer.body.decode(errors='replace')[:200]}")
        accepted += answer.status == 200
    return accepted


async def run(w: Wish, stack: Stack, broker: ApacheBroker | None) -> dict[str, Any]:
    secrets = casa.Secrets()
    http = Http(stack.settings)
    await http.start()
    keys = await setup.tenant(stack)
    try:
        async with platforms(stack, http, secrets) as simulator:
            await setup.shop(stack, http, keys, secrets)
            return await _measured(w, stack, broker, http, keys, simulator)
    finally:
        await http.stop()


async def _measured(
    w: Wish, stack: Stack, broker: ApacheBroker | None, http: Http, keys: setup.Keys, simulator: Simulator
) -> dict[str, Any]:
    messages = plan(w.n, int(time.time()))
    driver = Driver(simulator.accounts, duplicates=w.duplicates, reorder=0.1, rate=w.rate)
    stop, sent_all = asyncio.Event(), asyncio.Event()
    listening = asyncio.create_task(listen(http, stack.url("timeline", "/v1/stream?tenant=1"), keys.admin, driver.sent, stop))
    await asyncio.sleep(1)  # the stream is open before the first webhook; what it missed would only lack a latency
    began = time.perf_counter()
    killing = asyncio.create_task(kill_each(stack, broker, w.kills, sent_all))
    await driver.run(batches(messages, w.batch))
    note(f"sent {sum(map(len, driver.sent.promised.values()))} in {time.perf_counter() - began:.1f} s")
    killed = await killing if w.kills and not w.rate else 0
    sent_all.set()
    killed = killed or await killing
    promised = {one for ids in driver.sent.promised.values() for one in ids}
    last = await quiet(sent_all, driver.sent.seen, promised, within_s=600)
    seconds = last - began
    stop.set()
    listening.cancel()
    for name in MODULES:
        await asyncio.to_thread(stack.wait_ready, name, 120)
    note(f"quiet after {seconds:.1f} s; reading back")
    reading = Reading(stack.settings, http, casa.TENANT, keys.admin, scopes(simulator.accounts, casa.PORTFOLIO, casa.SITE))
    for message in messages:  # they wrote to us, so the platforms' windows are open
        channel = message.person.channel
        simulator.sends.wrote(channel, message.person.identifier[1])
    accepted = await answer_some(stack, http, reading, keys.agent, w.replies)
    await _until_sent(simulator, accepted)
    found = await _read(reading, stack, messages, simulator)
    line = report(
        dict(driver.sent.promised),
        found,
        delivered_items=driver.sent.delivered,
        sends=accepted,
        seconds=seconds,
        latencies_ms=driver.sent.latencies_ms(),
    ).line()
    return {**line, "sends_taken": len(simulator.sends.taken), "kills": killed, "retries": driver.sent.retries}


async def _until_sent(simulator: Simulator, accepted: int) -> None:
    deadline = time.monotonic() + 60
    while len(simulator.sends.taken) < accepted and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    await asyncio.sleep(1)  # a second send of the same message would come now


async def _read(reading: Reading, stack: Stack, messages: list[Message], simulator: Simulator) -> Any:
    people = sorted({m.person for m in messages}, key=lambda person: person.number)
    by_person = await reading.everything(people)
    settings = IngestSettings(**stack.settings.model_dump(include={"env", "kafka", "mongo", "service_key"}))
    ledger = await check(settings, casa.TENANT)
    names = ("accepted", "normalized", "quarantined", "ignored")
    totals = {name: sum(getattr(one, name) for one in ledger.channels.values()) for name in names}
    above_one = sum(times - 1 for times in simulator.sends.above_one().values())
    return read_back(by_person, totals, above_one, await reading.two_open(), await reading.appended_above_one())


def main(words: list[str]) -> int:
    w = wish(words)
    data = Path(tempfile.mkdtemp(prefix="hilo-load-"))
    broker = ApacheBroker(heap="-Xmx1g") if w.kafka == "apache" else None
    ports = free_ports()
    env = {
        "HILO_ACCOUNTS_REFRESH_S": "0.5",
        "HILO_SMTP_TRUSTED_AUTH": "mx.hilo.test",
        "HILO_LOG_LEVEL": "warning",
        "HILO_CHAT_FRAMES_PER_S": "200",
        "HILO_CHAT_ARRIVALS_PER_MIN": "100000",
        "HILO_PROVIDER_ORIGINS": json.dumps(dict(origins(ports.of["simulator"]))),
    }
    stack = Stack(data, ports, broker=broker, env=env, said=lambda what, text, seconds: note(f"{what}: {text} {seconds:.1f} s"))
    try:
        stack.start()
        stack.start_services()
        line = asyncio.run(run(w, stack, broker))
    finally:
        stack.stop()
        shutil.rmtree(data, ignore_errors=True)
    print(json.dumps({"n": w.n, "kafka": w.kafka, **line}))
    return 0 if line["lost"] == line["doubled"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
