"""`make load N=2000 KAFKA=embedded KILLS=0 DUPLICATES=10 RATE=0`: prints one JSON line, exits 1 if anything was lost, doubled,
out of order or not accounted for.

KAFKA=apache runs Apache Kafka in a container. KILLS=1 kills every service and the broker once with -9 during the run (the
embedded broker keeps everything in memory and is never killed). WORKERS=2 starts a second identity, router and timeline, and
PAUSES=1 stops each of these once for longer than its session lasts. RATE is messages a second; 0 is as fast as it goes.
WARM of the N go first and are in no figure of speed: what remains shows what is sustained. WEBHOOKS=1 leaves mail and chat out,
BATCH is how many WhatsApp messages one webhook brings, REPLIES how many answers an agent sends (-1: one for fifty messages).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from deploy.local import casa, setup
from deploy.local.containers import ApacheBroker
from deploy.local.stack import Stack, free_ports
from services.common.http import Http
from services.ingest.ledger import check
from services.ingest.settings import IngestSettings
from services.simulator.app import Simulator, origins
from tests.load.answers import Answers
from tests.load.drive import Driver, Webhook, listen
from tests.load.faults import BROKER, SESSION_S, Faults, schedule, second_workers
from tests.load.plan import EVERY, WEBHOOKS, Message, batches, plan
from tests.load.quiet import Lag, quiet
from tests.load.readback import Reading, scopes
from tests.load.report import ReadBack, report


@dataclass(frozen=True)
class Wish:
    n: int = 2000
    kafka: str = "embedded"
    kills: int = 0
    pauses: int = 0
    workers: int = 1
    duplicates: float = 0.1
    rate: float = 0.0
    batch: int = 5
    replies: int = -1
    warm: int = 0
    webhooks: bool = False

    @property
    def answers(self) -> int:
        """How many to send: one for fifty messages, but no more than there are people for sure."""
        return self.replies if self.replies >= 0 else min(max(5, self.n // 50), self.n // 20)


def wish(words: list[str]) -> Wish:
    given = dict(word.split("=", 1) for word in words)
    if unknown := given.keys() - {
        "N",
        "KAFKA",
        "KILLS",
        "PAUSES",
        "WORKERS",
        "DUPLICATES",
        "RATE",
        "REPLIES",
        "BATCH",
        "WARM",
        "WEBHOOKS",
    }:
        raise SystemExit(f"load: unknown {', '.join(sorted(unknown))}")
    w = Wish(
        n=int(given.get("N", 2000)),
        kafka=given.get("KAFKA", "embedded"),
        kills=int(given.get("KILLS", 0)),
        pauses=int(given.get("PAUSES", 0)),
        workers=int(given.get("WORKERS", 1)),
        duplicates=float(given.get("DUPLICATES", 10)) / 100,
        rate=float(given.get("RATE", 0)),
        batch=int(given.get("BATCH", 5)),
        replies=int(given.get("REPLIES", -1)),
        warm=int(given.get("WARM", 0)),
        webhooks=given.get("WEBHOOKS", "0") == "1",
    )
    if w.kafka not in ("embedded", "apache"):
        raise SystemExit("load: KAFKA is embedded or apache")
    if w.kills not in (0, 1) or w.pauses not in (0, 1) or w.workers not in (1, 2) or w.pauses >= w.workers:
        raise SystemExit("load: KILLS and PAUSES are 0 or 1, WORKERS is 1 or 2; PAUSES needs WORKERS=2")
    if not 0 <= w.warm < w.n or (w.warm and w.kills + w.pauses):
        raise SystemExit("load: WARM is less than N, and is for runs without faults")
    if w.kafka == "embedded" and w.workers > 1:
        raise SystemExit("load: WORKERS needs KAFKA=apache; the embedded broker knows no session that ends")
    return w


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


async def run(w: Wish, stack: Stack, broker: ApacheBroker | None) -> dict[str, Any]:
    secrets = casa.Secrets()
    http = Http(stack.settings)
    await http.start()
    keys = await setup.tenant(stack)
    try:
        async with platforms(stack, http, secrets) as simulator:
            await setup.shop(stack, http, keys, secrets)
            return await Run(w, stack, broker, http, keys, simulator).measured()
    finally:
        await http.stop()


class Run:
    def __init__(
        self, w: Wish, stack: Stack, broker: ApacheBroker | None, http: Http, keys: setup.Keys, simulator: Simulator
    ) -> None:
        self.w, self.stack, self.broker, self.simulator = w, stack, broker, simulator
        self.messages = plan(w.n, int(time.time()), shares=WEBHOOKS if w.webhooks else EVERY)
        self.driver = Driver(simulator.accounts, duplicates=w.duplicates, reorder=0.1, rate=w.rate)
        known = scopes(simulator.accounts, casa.PORTFOLIO, casa.SITE)
        self.reading = Reading(stack.settings, http, casa.TENANT, keys.admin, known)
        self.answers = Answers(stack, http, self.reading, keys.agent, w.answers)
        kills = [*stack.services, *([BROKER] if broker else [])] if w.kills else []
        pauses = [name for name in stack.services if name.endswith("-2")] if w.pauses else []
        self.planned = schedule(kills, pauses, last=Driver.LAST)
        self.faults = Faults(stack, broker, self.planned)
        self.url, self.key = stack.url("timeline", "/v1/stream?tenant=1"), keys.admin

    async def measured(self) -> dict[str, Any]:
        for person in {message.person for message in self.messages}:  # they write to us, so the platforms' windows are open
            self.simulator.sends.wrote(person.channel, person.identifier[1])
        opened = asyncio.Event()
        listening = asyncio.create_task(listen(self.url, self.key, self.driver.sent, opened))
        async with asyncio.timeout(60):
            await opened.wait()
        await self.driver.warm(self.driver.ordered(batches(self.messages[: self.w.warm], self.w.batch)))
        ordered = self.driver.ordered(batches(self.messages[self.w.warm :], self.w.batch))
        began = time.perf_counter()
        await self._sent(ordered)
        happened = ", ".join(f"{fault.kind} {fault.name}" for fault in self.faults.done)
        note(f"sent {len(self._promised())} in {time.perf_counter() - began:.1f} s; {happened or 'no faults'}")
        for name in self.stack.services:
            await asyncio.to_thread(self.stack.wait_ready, name, 120)
        states = await self.answers.settled(120)
        async with Lag(self.stack.settings) as lag:
            behind = await quiet(lag, self.driver.sent.seen, self._unpushed, 900)
        note(f"quiet after {time.perf_counter() - began:.1f} s; reading back")
        listening.cancel()
        found = await self._found(states, behind)
        await self.driver.close()
        told = report(
            dict(self.driver.sent.promised),
            self.driver.sent.written,
            self.driver.sent.seen,
            found,
            seconds=max(self.driver.sent.seen.values(), default=began) - began,
            timed=self.w.n - self.w.warm,
            latencies_ms=self.driver.sent.latencies_ms(),
        )
        wrong = told.wrong(duplicates=self.w.duplicates > 0)
        wrong += ["promised"] if told.promised != self.w.n else []
        wrong += ["sends"] if told.sends < self.w.answers else []
        wrong += ["faults"] if len(self.faults.done) < len(self.planned) else []
        faults = {"kills": self.faults.count("kill"), "pauses": self.faults.count("pause")}
        rest = {**faults, "retries": self.driver.sent.retries, "wrong": wrong}
        return {**told.line(), "answers_refused": dict(self.answers.refused), **rest}

    async def _sent(self, ordered: Sequence[Webhook | Message]) -> None:
        """Send everything; answer, kill and pause meanwhile."""
        sent_all = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(self.answers.run(sent_all))
            driving = tasks.create_task(self.driver.run(ordered))
            await self.faults.happen(lambda: self.driver.progress)
            assert not driving.done() or not self.planned, "what happened behind the run would show nothing"
            self.driver.go_on.set()
            await driving
            sent_all.set()
            await answering

    def _promised(self) -> set[str]:
        return {one for ids in self.driver.sent.promised.values() for one in ids}

    def _unpushed(self) -> int:
        return len(self._promised() - self.driver.sent.seen.keys())

    async def _found(self, states: Mapping[str, int], behind: int) -> ReadBack:
        people = sorted({m.person for m in self.messages}, key=lambda person: person.number)
        by_person = await self.reading.everything(people)
        settings = IngestSettings(**self.stack.settings.model_dump(include={"env", "kafka", "mongo", "service_key"}))
        ledger = await check(settings, casa.TENANT)
        names = ("accepted", "normalized", "quarantined", "ignored")
        return ReadBack(
            by_person,
            {name: sum(getattr(one, name) for one in ledger.channels.values()) for name in names},
            ledger.ok,
            await self.reading.arrived(),
            self.answers.read_by_customers(self.simulator, self.driver.visitors.values()),
            states,
            await self.reading.two_open(),
            await self.reading.appended_above_one(),
            behind,
        )


def main(words: list[str]) -> int:
    w = wish(words)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells of every try while a broker starts
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
    if w.kills or w.pauses:
        env["HILO_KAFKA_SESSION_TIMEOUT_S"] = str(SESSION_S)
    stack = Stack(data, ports, broker=broker, env=env, said=lambda what, text, seconds: note(f"{what}: {text} {seconds:.1f} s"))
    try:
        stack.start()
        stack.start_services()
        for name in second_workers(stack) if w.workers > 1 else ():
            stack.wait_ready(name)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            line = runner.run(run(w, stack, broker))
    except BaseException:
        note(f"the logs stay in {data / 'logs'}")
        raise
    finally:
        stack.stop()
    if line["wrong"]:
        note(f"wrong: {', '.join(line['wrong'])}; the logs stay in {data / 'logs'}")
    else:
        shutil.rmtree(data, ignore_errors=True)
    print(json.dumps({"n": w.n, "kafka": w.kafka, **line}))
    return 1 if line["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
