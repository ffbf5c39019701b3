"""The `hilo` command as an operator types it, against a real ingest, broker and database: what it prints, and how it ends."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.local.embedded import free_port
from services import cli
from services.common.kafka import create_topics
from services.common.settings import CommonSettings

SECRET = "hook-secret"
MASTER = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return [json.loads(line) for line in self.out.splitlines()]


Hilo = Callable[..., Ended]


@pytest.fixture(scope="module")
def installation(mongo_uri: str, kafka_servers: str) -> Iterator[Mapping[str, str]]:
    """Settings of an installation whose ingest runs."""
    unique, port = f"t{uuid.uuid4().hex[:10]}", free_port()
    env = {
        "HILO_ENV": "test",
        "HILO_KAFKA": kafka_servers,
        "HILO_MONGO": mongo_uri,
        "HILO_KAFKA_PREFIX": f"{unique}.",
        "HILO_MONGO_PREFIX": f"{unique}_",
        "HILO_MASTER_KEY": MASTER,
        "HILO_INGEST_URL": f"http://127.0.0.1:{port}",
        "HILO_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    settings = CommonSettings(env="test", kafka=kafka_servers, mongo=mongo_uri, kafka_prefix=f"{unique}.")
    asyncio.run(create_topics(settings))
    own = {"HILO_PORT": str(port), "HILO_SMTP_PORT": str(free_port()), "HILO_HOST": "127.0.0.1", "HILO_SMTP_HOST": "127.0.0.1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.ingest"], env={**os.environ, **env, **own}, stderr=subprocess.DEVNULL
    )
    try:
        _until(lambda: _get(f"{env['HILO_INGEST_URL']}/readyz") == 200)
        yield env
    finally:
        process.terminate()
        process.wait(30)


def _get(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _until(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


@pytest.fixture
def hilo(installation: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hilo:
    """Runs the command in this process; keyword arguments are further environment variables."""

    def run(*words: str, **env: str) -> Ended:
        with monkeypatch.context() as here:
            for name, value in {**installation, **env}.items():
                here.setenv(name, value)
            here.setattr(sys, "argv", ["hilo", *words])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        said = capsys.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def admin(hilo: Hilo) -> Mapping[str, str]:
    """The environment of an operator of a new tenant."""
    return {"HILO_KEY": hilo("tenant", "create", f"t{uuid.uuid4().hex[:10]}").out.strip()}


@pytest.fixture
def bot(hilo: Hilo, admin: Mapping[str, str], tmp_path: Path) -> str:
    """A connected Telegram bot."""
    name = f"bot{uuid.uuid4().hex[:8]}"
    (tmp_path / "token").write_text("7412345678:AAE\n")
    made = hilo(
        *("account", "add", "telegram", name, f"bot={name}", f"token=@{tmp_path}/token", f"webhook_secret={SECRET}"), **admin
    )
    assert (made.code, made.out.strip().rpartition("/webhooks/")[2]) == (0, f"telegram/{name}")
    return name


def update(number: int, **message: Any) -> bytes:
    said = {"message_id": number, "date": 1772366300, "chat": {"id": 70011, "type": "private"}, "text": "Grüße", **message}
    return json.dumps({"update_id": number, "message": said}).encode()


def post(installation: Mapping[str, str], bot: str, body: bytes, secret: str = SECRET) -> int:
    headers = {"content-type": "application/json", "x-telegram-bot-api-secret-token": secret}
    request = urllib.request.Request(f"{installation['HILO_INGEST_URL']}/webhooks/telegram/{bot}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


# -- an installation ------------------------------------------------------------------------------------------------------


def test_setup_may_run_again_and_shows_the_first_key_once(hilo: Hilo) -> None:
    first, again = hilo("setup", "--tenant", "set-up"), hilo("setup", "--tenant", "set-up")

    assert (first.code, again.code) == (0, 0)
    assert first.out.startswith("hilo_")
    assert again.out == ""
    assert {"tenant": "set-up"} in hilo("tenant", "list").json


def test_topics_that_exist_are_kept(hilo: Hilo) -> None:
    ended = hilo("topics", "create")

    assert (ended.code, ended.out, ended.err) == (0, "", "0 created, 11 were there\n")
    assert [row["topic"] for row in hilo("topics", "list").json][:2] == ["hilo.raw", "hilo.events"]


def test_a_key_is_made_listed_by_its_digest_and_revoked(hilo: Hilo) -> None:
    hilo("tenant", "create", "keys")
    value = hilo("key", "create", "keys", "shop", "--scope", "ingest", "--days", "30").out.strip()
    row = next(one for one in hilo("key", "list", "keys").json if one["name"] == "shop")

    assert (value.startswith("hilo_"), row["scopes"], value in json.dumps(row)) == (True, ["ingest"], False)
    assert hilo("key", "revoke", "keys", row["id"][:4]).code == 2
    assert hilo("key", "revoke", "keys", row["id"]).code == 0
    assert hilo("key", "revoke", "keys", row["id"]).code == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("tenant", "create", "Not A Name"), "a-z, 0-9 and -"),
        (("key", "create", "nobody", "x"), "there is no tenant nobody"),
        (("key", "list", "nobody"), "there is no tenant nobody"),
        (("key", "create", "twice", "x", "--scope", "everything"), "scopes are read"),
        (("account", "add", "telegram", "x", "token"), "as name=value"),
        (("account", "add", "telegram", "x", "token=@/nowhere/token"), "/nowhere/token cannot be read"),
        (("dead", "replay", "x", "--edit", "/nowhere/slice"), "/nowhere/slice cannot be read"),
        (("account", "list"), "set HILO_KEY"),
        (("nonsense",), "No such command"),
    ],
)
def test_wrong_use_ends_with_2_and_a_sentence(hilo: Hilo, words: tuple[str, ...], says: str) -> None:
    hilo("tenant", "create", "twice")
    ended = hilo(*words, HILO_KEY="" if words == ("account", "list") else "x")
    said = " ".join(ended.err.replace("│", " ").split())

    assert (ended.code, ended.out) == (2, "")
    assert says in said
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("words", "env", "says"),
    [
        (("tenant", "list"), {"HILO_MONGO": "mongodb://127.0.0.1:1", "HILO_MONGO_TIMEOUT_S": "0.5"}, "store is away"),
        (("topics", "create"), {"HILO_KAFKA": "127.0.0.1:1"}, "broker is away"),
        (("ledger", "check"), {"HILO_KAFKA": "127.0.0.1:1"}, "broker is away"),
        (("account", "list"), {"HILO_INGEST_URL": "http://127.0.0.1:1", "HILO_KEY": "x"}, "ingest does not answer"),
        (("tenant", "create", "sealed"), {"HILO_MASTER_KEY": "abc"}, "HILO_MASTER_KEY must be 32 bytes"),
        (("tenant", "create", "sealed"), {"HILO_MASTER_KEY": "", "HILO_ENV": "production"}, "HILO_MASTER_KEY is not set"),
        (("key", "list", "twice"), {"HILO_MASTER_KEY": MASTER[::-1].replace("=", "") + "="}, "sealed with another master key"),
        (("tenant", "list"), {"HILO_ENV": "prod"}, "HILO_ENV: Input should be 'demo', 'test' or 'production'"),
        (("tenant", "list"), {"HILO_MONGO": "mongodb://["}, "IPv6"),
    ],
)
def test_what_is_away_or_wrongly_set_ends_with_2_and_a_sentence(
    hilo: Hilo, words: tuple[str, ...], env: Mapping[str, str], says: str
) -> None:
    hilo("tenant", "create", "twice")
    ended = hilo(*words, **env)

    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
    assert "Traceback" not in ended.err


def test_a_wrong_setting_is_named_and_its_value_is_not_shown(hilo: Hilo) -> None:
    ended = hilo("tenant", "list", HILO_KAFKA_BATCH="s3cret")

    assert "HILO_KAFKA_BATCH" in ended.err
    assert "s3cret" not in ended.err


# -- accounts -------------------------------------------------------------------------------------------------------------


def test_a_key_that_nobody_gave_out_or_that_may_not_is_refused(hilo: Hilo, bot: str) -> None:
    hilo("tenant", "create", "weak")
    reader = hilo("key", "create", "weak", "reader").out.strip()

    assert "key_unknown" in hilo("account", "list", HILO_KEY="nobody").err
    refused = hilo("account", "add", "telegram", "mine", HILO_KEY=reader)
    assert (refused.code, "scope_missing" in refused.err) == (1, True)
    assert hilo("account", "list", HILO_KEY=reader).out == ""
    assert "not_found" in hilo("account", "show", "telegram", bot, HILO_KEY=reader).err


def test_an_account_without_what_it_needs_says_which_fields(hilo: Hilo, admin: Mapping[str, str]) -> None:
    ended = hilo("account", "add", "telegram", "half", "bot=half_bot", **admin)

    assert ended.code == 1
    assert "token: Field required" in ended.err
    assert "webhook_secret: Field required" in ended.err


def test_while_a_secret_is_rotated_both_values_are_taken_then_the_new_one_alone(
    hilo: Hilo, admin: Mapping[str, str], bot: str, installation: Mapping[str, str]
) -> None:
    person = {"from": {"id": 70011, "is_bot": False, "first_name": "Ana"}}
    added = hilo("account", "rotate", "telegram", bot, "webhook_secret", "--add", "new-secret", **admin)
    both = [post(installation, bot, update(n, **person), secret) for n, secret in ((1, SECRET), (2, "new-secret"))]
    retired = hilo("account", "rotate", "telegram", bot, "webhook_secret", "--retire", **admin)
    after = [post(installation, bot, update(n, **person), secret) for n, secret in ((3, SECRET), (4, "new-secret"))]

    assert (added.err, retired.err) == ("webhook_secret: 2 valid\n", "webhook_secret: 1 valid\n")
    assert (both, after) == ([200, 200], [401, 200])


def test_an_account_is_shown_without_its_secrets_and_removed_only_when_told_so(
    hilo: Hilo, admin: Mapping[str, str], bot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = hilo("account", "show", "telegram", bot, **admin)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))

    assert json.loads(shown.out)["secrets"] == {"token": 1, "webhook_secret": 1}
    assert SECRET not in shown.out
    assert hilo("account", "remove", "telegram", bot, **admin).code == 1
    assert [row["id"] for row in hilo("account", "list", **admin).json] == [bot]
    assert hilo("account", "remove", "telegram", bot, "--yes", **admin).code == 0
    assert hilo("account", "remove", "telegram", bot, "--yes", **admin).code == 1


# -- dead letters and the ledger ------------------------------------------------------------------------------------------


def test_a_dead_letter_is_listed_mended_tried_and_replayed_and_the_ledger_balances(
    hilo: Hilo, admin: Mapping[str, str], bot: str, installation: Mapping[str, str], tmp_path: Path
) -> None:
    assert post(installation, bot, update(10, **{"from": {"is_bot": False, "first_name": "Ana"}})) == 200
    _until(lambda: bool(hilo("dead", "list", **admin).json))
    (row,) = hilo("dead", "list", **admin).json
    mended = tmp_path / "mended.json"
    slice_ = json.loads(hilo("dead", "show", row["id"], **admin).out)["slice"]

    assert (row["channel"], row["state"], "id" in row["reason"]) == ("telegram", "open", True)
    still = hilo("dead", "replay", row["id"], "--dry-run", **admin)
    assert (still.code, "still_unreadable" in still.err) == (1, True)
    text = json.dumps(slice_).replace('"is_bot": false', '"is_bot": false, "id": 70011')
    mended.write_text(text)
    tried = json.loads(hilo("dead", "replay", row["id"], "--edit", str(mended), "--dry-run", **admin).out)
    assert (tried["dry_run"], [one["type"] for one in tried["events"]]) == (True, ["hilo.message.received.v1"])
    assert hilo("dead", "replay", row["id"], "--edit", str(mended), **admin).code == 0
    _until(lambda: not hilo("dead", "list", **admin).json)

    balance = json.loads(hilo("ledger", "check").out)
    assert balance["ok"]
    assert balance["missing"] == []


def test_a_dead_letter_is_discarded_with_a_reason(
    hilo: Hilo, admin: Mapping[str, str], bot: str, installation: Mapping[str, str]
) -> None:
    assert post(installation, bot, b"not json") == 200
    _until(lambda: bool(hilo("dead", "list", **admin).json))
    (row,) = hilo("dead", "list", **admin).json

    assert hilo("dead", "discard", row["id"], "--why", "a test of the provider's", **admin).code == 0
    _until(lambda: [one["id"] for one in hilo("dead", "list", "--state", "discarded", **admin).json] == [row["id"]])


# -- channels -------------------------------------------------------------------------------------------------------------


def test_a_channel_is_checked_by_its_name_its_folder_and_its_file(hilo: Hilo) -> None:
    examples = Path(__file__).parents[1] / "contract/examples"
    for which in ("journey", str(examples / "pigeon"), str(examples / "nimbus"), str(examples / "nimbus/channel.yaml")):
        ended = hilo("channel", "check", which)
        assert (ended.code, ended.out, " 0 failed" in ended.err) == (0, "", True)


def test_a_channel_that_is_nowhere_is_wrong_use(hilo: Hilo, tmp_path: Path) -> None:
    assert [hilo("channel", "check", which).code for which in ("nowhere", str(tmp_path))] == [2, 2]


def test_example_accounts_that_lack_a_field_are_told_with_their_place(hilo: Hilo, tmp_path: Path) -> None:
    folder = tmp_path / "pigeon_sms"
    shutil.copytree(Path(__file__).parents[1] / "contract/examples/pigeon", folder)
    (folder / "fixtures/accounts.json").write_text('[{"tenant": "acme", "id": "main"}]')
    ended = hilo("channel", "check", str(folder))

    assert ended.code == 2
    assert "signing_key: Field required" in " ".join(ended.err.replace("│", " ").split())


def test_a_changed_fixture_fails_until_it_is_accepted(hilo: Hilo, tmp_path: Path) -> None:
    folder = tmp_path / "pigeon_sms"
    shutil.copytree(Path(__file__).parents[1] / "contract/examples/pigeon", folder)
    body = folder / "fixtures/batch.json"
    body.write_text(body.read_text().replace('"text": "', '"text": "¡'))

    assert hilo("channel", "check", str(folder)).code == 1
    assert hilo("channel", "accept", str(folder)).out == f"{folder}/fixtures/batch.expected\n"
    assert hilo("channel", "check", str(folder)).code == 0


def test_a_broken_plugin_is_told_with_its_reason(hilo: Hilo, tmp_path: Path) -> None:
    (tmp_path / "crow.yaml").write_text("channel: rook\n")
    ended = hilo("channel", "list", HILO_CHANNELS_DIR=str(tmp_path))

    assert ended.code == 1
    assert "crow is broken: " in ended.err
    assert next(row["channel"] for row in ended.json) == "whatsapp"
