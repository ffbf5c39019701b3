"""`docker compose up --wait` as a new user meets it: keys made, an account connected, a message through, a stop, a start."""

from __future__ import annotations

import base64
import json
import re
import secrets
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.stack import ROOT
from services.simulator import wire
from tests.needs import missing
from tests.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

DOORS = {
    "ingest": 8101,
    "identity": 8102,
    "router": 8103,
    "timeline": 8104,
    "outbound": 8105,
    "media": 8106,
    "prometheus": 9090,
}
TOKEN = "7412345678:AAFexampleexampleexampleexampleexamp"
SECRET = "a-webhook-secret"
CUSTOMER = 50_123


class Installation:
    """The compose file with a name and ports of its own, so that it runs beside whatever runs here."""

    def __init__(self, folder: Path) -> None:
        self.name = f"hilo-test-{uuid.uuid4().hex[:8]}"
        self.env = folder / ".env"
        values = {
            "HILO_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "HILO_SERVICE_KEY": secrets.token_hex(32),
        }
        text = (ROOT / ".env.example").read_text()
        for name, value in values.items():
            assert f"\n{name}=\n" in text
            text = text.replace(f"\n{name}=\n", f"\n{name}={value}\n")
        self.env.write_text(text)
        ports = {name: {"ports": f"127.0.0.1::{port}"} for name, port in DOORS.items()}
        lines = "".join(f"  {name}:\n    ports: !override ['{one['ports']}']\n" for name, one in ports.items())
        self.override = folder / "ports.yml"
        self.override.write_text(f"services:\n{lines}")

    def compose(self, *words: str, check: bool = True) -> str:
        files = ["-f", str(ROOT / "docker-compose.yml"), "-f", str(self.override)]
        command = ["docker", "compose", "-p", self.name, "--env-file", str(self.env), *files, *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0 or not check, f"{' '.join(words)}: {done.stderr[-2000:]}\n{self._said()}"
        return done.stdout

    def _said(self) -> str:
        return self.compose("logs", "--tail", "15", check=False)[-8000:]

    def hilo(self, *words: str, key: str = "") -> str:
        return self.compose("exec", "-T", "-e", f"HILO_KEY={key}", "ingest", "hilo", *words).strip()

    def url(self, service: str) -> str:
        return "http://" + self.compose("port", service, str(DOORS[service])).strip()

    def states(self) -> dict[str, dict[str, Any]]:
        lines = self.compose("ps", "-a", "--format", "json").splitlines()
        return {one["Service"]: one for one in map(json.loads, lines)}


@pytest.fixture
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        raise missing(request.config, "docker", "needs docker compose")
    one = Installation(tmp_path)
    yield one
    one.compose("down", "-v", "--timeout", "5", check=False)


def webhook(number: int) -> tuple[bytes, dict[str, str]]:
    message = wire.telegram_message(number, int(time.time()), CUSTOMER, "Añá", {"text": f"¿dónde está mi pedido? {number}"})
    return wire.telegram_body(number, "message", message), wire.telegram_headers(SECRET)


def texts(timeline: str, key: str) -> list[str]:
    with httpx.Client(base_url=timeline, headers={"authorization": f"Bearer {key}"}) as http:
        found = http.get("/v1/lookup", params={"scheme": "telegram", "value": str(CUSTOMER)})
        if found.status_code != 200:
            return []
        page = http.get(f"/v1/customers/{found.json()['customer_id']}/timeline").json()
        return [one["text"] for one in page["items"] if one["direction"] == "in"]


def targets(prometheus: str) -> dict[str, str]:
    found = httpx.get(f"{prometheus}/api/v1/targets").json()["data"]["activeTargets"]
    return {one["scrapeUrl"]: one["health"] for one in found}


async def test_a_new_user_gets_a_message_to_the_timeline_and_it_outlives_a_stop(installation: Installation) -> None:
    one = installation
    one.compose("up", "--build", "--wait")

    states = one.states()
    assert states.pop("setup")["ExitCode"] == 0
    assert {state["State"] for state in states.values()} == {"running"}
    assert {state["Health"] for name, state in states.items() if name != "prometheus"} == {"healthy"}

    admin = re.findall(r"^hilo_[\w-]{43}$", one.compose("logs", "--no-log-prefix", "setup"), re.MULTILINE)
    assert len(admin) == 1
    assert one.hilo("tenant", "list") == '{"tenant": "demo"}'
    assert re.fullmatch(r"hilo_[\w-]{43}", one.hilo("tenant", "create", "otra"))
    reader = one.hilo("key", "create", "demo", "reader", "--scope", "read")
    fields = ["bot=shop_bot", f"token={TOKEN}", f"webhook_secret={SECRET}"]
    hook = one.hilo("account", "add", "telegram", "shopbot", *fields, "--title", "Shop", key=admin[0])
    assert hook == "https://hilo.example.org/webhooks/telegram/shopbot"
    assert '"state": "active"' in one.hilo("account", "list", key=admin[0])

    door = one.url("ingest") + "/webhooks/telegram/shopbot"
    body, headers = webhook(1)
    assert httpx.post(door, content=body, headers={**headers, **wire.telegram_headers("wrong")}).status_code in (401, 403)
    assert httpx.post(door, content=body, headers=headers).status_code == 200
    timeline = one.url("timeline")
    await until(lambda: len(texts(timeline, reader)) == 1, within_s=60)
    prometheus = one.url("prometheus")
    await until(lambda: set(targets(prometheus).values()) == {"up"}, within_s=60)
    assert len(targets(prometheus)) == 6

    one.compose("stop")
    assert {name: s["ExitCode"] for name, s in one.states().items() if name in DOORS} == dict.fromkeys(DOORS, 0)
    one.compose("start")
    one.compose("up", "--wait")  # nothing to create; waits for what has started

    timeline, door = one.url("timeline"), one.url("ingest") + "/webhooks/telegram/shopbot"
    assert [text[-1] for text in texts(timeline, reader)] == ["1"]
    assert httpx.post(door, content=body, headers=headers).status_code == 200  # the provider's second try
    body, headers = webhook(2)
    assert httpx.post(door, content=body, headers=headers).status_code == 200
    await until(lambda: len(texts(timeline, reader)) > 1, within_s=60)
    assert sorted(text[-1] for text in texts(timeline, reader)) == ["1", "2"]
    assert json.loads(one.hilo("ledger", "check"))["ok"]

    one.compose("down", "-v", "--timeout", "10")
    left = [
        subprocess.run(
            ["docker", kind, "ls", "-q", "--filter", f"name={one.name}", *all_], capture_output=True, text=True, check=True
        )
        for kind, *all_ in (("container", "-a"), ("volume",), ("network",))
    ]
    assert [done.stdout for done in left] == ["", "", ""]
