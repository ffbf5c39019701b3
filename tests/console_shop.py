"""The whole of Hilo with its platforms' stand-ins, for tests that look at the console in a browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn

from deploy.local import casa, setup
from deploy.local.stack import Stack, free_ports
from services.common.http import Http
from services.simulator import wire
from services.simulator.app import Simulator, origins
from services.simulator.shop import Shop as Reports
from tests.waiting import until


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Shop:
    """Casa Lumbre, running. Every customer of a test is a new one."""

    stack: Stack
    http: Http
    simulator: Simulator

    @property
    def url(self) -> str:
        return self.stack.url("timeline")

    # -- customers

    def telegram(self, user: int, name: str, text: str) -> None:
        self.simulator.telegram.receive(self.simulator.accounts.telegram[0], user, name, {"text": text})

    def comment(self, user: str, name: str, text: str) -> str:
        return self.simulator.instagram.comment(self.simulator.accounts.instagram[0], user, name, text)

    def whatsapp(self, phone: str, name: str, text: str) -> None:
        account, said = self.simulator.accounts.whatsapp[0], {"type": "text", "text": {"body": text}}
        self.simulator.whatsapp.receive(account, name, said, phone=phone, user_id=f"ES.{phone}")

    def broken_comment(self, text: str) -> None:
        """A comment without its author's id, which nobody can understand."""
        bad = wire.instagram_comment(f"18{time.time_ns()}", "x", "cafe.norte", text, "m1")
        del bad["value"]["from"]["id"]
        account = self.simulator.accounts.instagram[0]
        self.simulator.instagram.post(account, wire.instagram_body(account.ig_id, int(time.time()), changes=[bad]), 1)

    async def ordered(self, phone: str, email: str) -> None:
        """The shop signs that this number and this address are one customer's."""
        her = [{"scheme": "tel", "value": f"+{phone}"}, {"scheme": "email", "value": email}]
        now = datetime.now(UTC).isoformat()
        step = {"id": uuid.uuid4().hex, "type": "order.delivered", "at": now, "identities": her, "title": "Hervidor Alba"}
        await Reports(self.simulator.accounts.journey[0], self.http).report({**step, "data": {"order": "48213"}})

    # -- what the timeline knows

    async def read(self, path: str) -> Any:
        answer = await self.http.service("GET", self.url + path, casa.TENANT, credential=casa.AGENT_KEY, tries=3)
        return answer.json() if answer.status == 200 else None

    async def conversation(self, text: str, *, view: str = "open", within_s: float = 60) -> str:
        """The conversation in which this was said last."""

        async def found() -> str | None:
            rows = (await self.read(f"/v1/conversations?view={view}&limit=100") or {}).get("items", [])
            return next((one["id"] for one in rows if one["last"] and one["last"]["text"] == text), None)

        return str(await until(found, within_s=within_s, what=f"a conversation with {text!r}"))

    async def head(self, conversation: str, wanted: Callable[[dict[str, Any]], object], within_s: float = 60) -> dict[str, Any]:
        async def found() -> dict[str, Any] | None:
            row = await self.read(f"/v1/conversations/{conversation}")
            return row["head"] if row and wanted(row["head"]) else None

        seen = await until(found, within_s=within_s, what=f"{conversation} as wanted")
        return dict(seen or {})

    async def command(self, conversation: str, verb: str, body: dict[str, Any]) -> int:
        """What somebody else does, with a key of their own."""
        url = self.stack.url("router", f"/v1/conversations/{conversation}/{verb}")
        headers = {"idempotency-key": str(uuid.uuid4())}
        answer = await self.http.service("POST", url, casa.TENANT, body, credential=casa.AGENT_KEY, headers=headers, tries=3)
        return answer.status

    async def restart_timeline(self) -> Callable[[], Any]:
        """Ends it as a deployment does; its supervisor starts it again. What is returned waits until it is there again."""
        service = self.stack.services["timeline"]
        before = service.process
        assert before
        before.terminate()

        async def back() -> None:
            await until(lambda: service.process is not before, within_s=60, what="the timeline's restart")
            await asyncio.to_thread(self.stack.wait_ready, "timeline", 90)

        return back


@asynccontextmanager
async def opened(data: Path) -> AsyncIterator[Shop]:
    ports, secrets = free_ports(), casa.Secrets()
    env = {
        "HILO_STOP_S": "6",
        "HILO_ACCOUNTS_REFRESH_S": "0.5",
        "HILO_DEMO_KEY": casa.AGENT_KEY,
        "HILO_SMTP_TRUSTED_AUTH": "mx.hilo.test",
        "HILO_PROVIDER_ORIGINS": json.dumps(dict(origins(ports.of["simulator"]))),
    }
    stack = Stack(data, ports, env=env)
    await asyncio.to_thread(stack_up, stack)
    http = Http(stack.settings)
    await http.start()
    simulator = Simulator(casa.simulated(ports, secrets), http, mail_port=ports.of["mailbox"])
    server = _Quiet(uvicorn.Config(simulator.app, "127.0.0.1", ports.of["simulator"], log_config=None, lifespan="off"))
    await simulator.start()
    serving = asyncio.create_task(server.serve())
    try:
        keys = await setup.tenant(stack)
        await setup.shop(stack, http, keys, secrets)
        room = {**casa.TEAM[casa.AGENT], "capacity": 1000}  # for the customers of all tests
        agent = stack.url("router", f"/v1/agents/{casa.AGENT}")
        await http.service("PUT", agent, casa.TENANT, room, credential=keys.admin, tries=3)
        yield Shop(stack, http, simulator)
    finally:
        server.should_exit = True
        await serving
        await simulator.stop()
        await http.stop()
        await asyncio.to_thread(stack.stop)


def stack_up(stack: Stack) -> None:
    stack.start()
    try:
        stack.start_services(120)
    except BaseException:
        stack.stop()
        raise
