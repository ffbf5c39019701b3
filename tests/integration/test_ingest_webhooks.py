"""The webhook route through the real process on a real broker and MongoDB: every row of the table of errors that is its own."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.embedded import EmbeddedBroker, EmbeddedMongod
from services.common import topics as t
from services.common.auth import Keyring
from services.common.events import DeadLettered, MessageReceived
from services.common.kafka import create_topics
from services.common.metrics import AWAY, CHANNEL_BUGS, INPUTS, ITEMS, UNKNOWN_KINDS
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.common.vault import DEMO_KEY, Vault
from services.ingest.accounts import Accounts, Wish
from services.ingest.contract import Channel, Raw, Registry, Webhook
from services.ingest.settings import IngestSettings
from tests.ingesting import (
    FIELDS,
    SCHEME,
    Pigeon,
    body,
    channels,
    events,
    header,
    ingest_settings,
    message,
    pigeon,
    records,
    running,
    signed,
)
from tests.waiting import until

URL = "/webhooks/pigeon/main"


async def connect(mongo: Mongo) -> Accounts:
    """Accounts of two tenants, as another process connects them."""
    keyring = Keyring(mongo, Vault(DEMO_KEY))
    for tenant in ("acme", "globex"):
        await keyring.create_tenant(tenant)
    accounts = Accounts(mongo, Vault(DEMO_KEY), keyring, channels())
    await accounts.put("acme", "pigeon", "main", Wish(FIELDS))
    await accounts.put("acme", "flock", "north", Wish({**FIELDS, "number": "N1"}))
    await accounts.put("acme", "flock", "south", Wish({**FIELDS, "number": "S1"}))
    return accounts


@pytest.fixture
async def accounts(mongo: Mongo) -> Accounts:
    return await connect(mongo)


@pytest.fixture
async def own(settings: CommonSettings, topics: None) -> IngestSettings:
    return ingest_settings(settings, public_url="https://hooks.example.com/hilo")


@pytest.fixture
async def doors(own: IngestSettings, accounts: Accounts) -> AsyncIterator[httpx.AsyncClient]:
    async with running(own) as client:
        yield client


async def send(client: httpx.AsyncClient, *items: Any, url: str = URL, **how: Any) -> httpx.Response:
    payload = body(*items)
    return await client.post(url, content=payload, headers=signed(payload, **how))


def counted(metric: Any, *labels: str) -> float:
    return float(metric.labels(*labels)._value.get())


async def test_a_signed_webhook_is_on_the_log_when_it_is_answered(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    payload = body(message(1))
    answer = await doors.post(f"{URL}?page=2", content=payload, headers={**signed(payload), "host": "evil.example"})
    [fact], [raw] = await events(own, t.EVENTS), await records(own, t.RAW)

    assert (answer.status_code, answer.content) == (200, b"")
    assert isinstance(fact.data, MessageReceived)
    assert (fact.tenant, fact.channel, fact.account, fact.origin) == ("acme", "pigeon", "main", "live")
    assert fact.data.parts[0].text == "¿Qué tal? 1"
    assert fact.key == (fact.data.party and fact.data.party.key)
    assert (raw.value, raw.key) == (payload, b"acme/pigeon/main")
    assert raw.attributes["type"] == "hilo.input.received.v1"
    assert header(raw, "hilo_verdict") == {"items": 1, "normalized": 1, "event_ids": [fact.id]}
    came = header(raw, "hilo_input")
    assert (came["url"], came["query"]) == ("https://hooks.example.com/hilo/webhooks/pigeon/main?page=2", {"page": "2"})


async def test_the_same_webhook_twice_is_the_same_event(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    answers = await asyncio.gather(*(send(doors, message(1)) for _ in range(20)))
    found = await events(own, t.EVENTS)

    assert {answer.status_code for answer in answers} == {200}
    assert len(found) == 20
    assert len({event.id for event in found}) == 1
    assert len({raw.attributes["id"] for raw in await records(own, t.RAW)}) == 20


@pytest.mark.parametrize(("key", "late_s"), [("another key", 0), ("key-that-signs", 360), ("key-that-signs", -360)])
async def test_a_bad_signature_or_a_stale_stamp_is_401_and_nothing_is_kept(
    doors: httpx.AsyncClient, own: IngestSettings, key: str, late_s: int
) -> None:
    before = counted(INPUTS, "pigeon", "webhook", "refused")
    answer = await send(doors, message(1), key=key, at=time.time() - late_s)

    assert answer.status_code == 401
    assert answer.json()["code"] == "signature_wrong"
    assert counted(INPUTS, "pigeon", "webhook", "refused") == before + 1
    assert await records(own, t.RAW) == []


async def test_no_malformed_signature_is_answered_otherwise(doors: httpx.AsyncClient) -> None:
    payload = body(message(1))
    for value in ("", "ä", "\xff", "0" * 4000, "sha256=", ",,", "null"):
        answer = await doors.post(URL, content=payload, headers=_latin(signed(payload) | {"x-pigeon-signature": value}))
        assert answer.status_code == 401
    for value in ("", "²", "99999999999999999999", "-1", "1e9", "nan"):
        answer = await doors.post(URL, content=payload, headers=_latin(signed(payload) | {"x-pigeon-time": value}))
        assert answer.status_code == 401


def _latin(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """As bytes: what a provider sends need not be ASCII."""
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


@pytest.mark.parametrize(
    "url", ["/webhooks/pigeon/nobody", "/webhooks/raven/main", "/webhooks/pigeon/main/back", "/webhooks/pigeon/main/fetched"]
)
async def test_an_unknown_channel_account_or_door_is_404(doors: httpx.AsyncClient, own: IngestSettings, url: str) -> None:
    answer = await send(doors, message(1), url=url)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert await records(own, t.RAW) == []


async def test_the_handshake_is_answered_and_reaches_no_log(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    answer = await doors.get(URL, params={"challenge": "1234"})

    assert (answer.status_code, answer.text) == (200, "1234")
    assert await records(own, t.RAW) == []
    assert (await doors.get(URL)).status_code == 401


async def test_another_door_of_the_same_account_has_its_own_proof(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    token = {"x-pigeon-token": "key-of-the-api"}
    assert (await doors.post(f"{URL}/plain", content=body(message(1)), headers=token)).status_code == 200
    assert (await doors.post(URL, content=body(message(1)), headers=token)).status_code == 401
    [raw] = await records(own, t.RAW)

    assert header(raw, "hilo_input")["door"] == "plain"
    assert header(raw, "hilo_input")["headers"]["x-pigeon-token"] == "***"


async def test_secrets_are_masked_on_the_log_wherever_they_stand(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    payload = body(message(1))
    headers = {**signed(payload), "authorization": "Bearer hush-1", "cookie": "hush-2", "x-odd": "a key-of-the-api b"}
    await doors.post(f"{URL}?token=key-that-signs&page=1", content=payload, headers=headers)
    [raw] = await records(own, t.RAW)
    came = json.dumps(header(raw, "hilo_input"))

    assert not [secret for secret in ("hush", "key-of-the-api", "key-that-signs") if secret in came]
    assert header(raw, "hilo_input")["query"] == {"token": "***", "page": "1"}


async def test_a_body_over_the_limit_is_413_before_it_is_read(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    """The answer comes although the body does not: with a length that says too much, and without any."""
    head = f"POST {URL} HTTP/1.1\r\nhost: x\r\n".encode()
    port = doors.base_url.port

    def said(length: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as one:
            one.sendall(head + length + b"\r\n")
            return one.recv(100)

    assert b" 413 " in await asyncio.to_thread(said, b"content-length: 1000001\r\n")

    def chunked() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as one:
            one.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
            for _ in range(11):
                one.sendall(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
            return one.recv(100)

    assert b" 413 " in await asyncio.to_thread(chunked)
    assert await records(own, t.RAW) == []


async def test_the_largest_body_is_taken_whole(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    filler = 1_000_000 - len(body(message(1, text="")))
    payload = body(message(1, text="x" * filler))
    answer = await doors.post(URL, content=payload, headers=signed(payload))

    assert (answer.status_code, len(payload)) == (200, 1_000_000)
    assert [raw.value for raw in await records(own, t.RAW)] == [payload]


async def test_a_compressed_body_is_refused(doors: httpx.AsyncClient) -> None:
    payload = body(message(1))
    answer = await doors.post(URL, content=payload, headers={**signed(payload), "content-encoding": "gzip"})

    assert (answer.status_code, answer.json()["code"]) == (415, "content_encoding")


async def test_a_body_that_does_not_come_is_408(own: IngestSettings, accounts: Accounts) -> None:
    async with running(own.model_copy(update={"webhook_body_s": 0.1})) as client:

        def half() -> bytes:
            with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=10) as one:
                one.sendall(f"POST {URL} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc".encode())
                return one.recv(100)

        assert b" 408 " in await asyncio.to_thread(half)


async def test_an_unreadable_body_with_a_good_signature_is_kept_and_set_aside(
    doors: httpx.AsyncClient, own: IngestSettings
) -> None:
    payload = b'{"events": [\xff'
    answer = await doors.post(URL, content=payload, headers=signed(payload))
    [raw], [letter] = await records(own, t.RAW), await events(own, t.DEAD)

    assert answer.status_code == 200
    assert raw.value == payload
    assert isinstance(letter.data, DeadLettered)
    assert "not JSON" in letter.data.reason
    assert (letter.tenant, letter.data.bug, letter.data.offset) == ("acme", False, raw.offset)


async def test_one_bad_item_is_set_aside_alone_and_its_neighbours_go_on(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    items = (message(1), {**message(2), "sent_at": "yesterday"}, {"type": "message"}, message(4), 7)
    answer = await send(doors, *items)
    facts, letters, [raw] = await events(own, t.EVENTS), await events(own, t.DEAD), await records(own, t.RAW)
    verdict = header(raw, "hilo_verdict")

    assert answer.status_code == 200
    assert [event.data.provider_id for event in facts] == ["m1", "m4"]  # type: ignore[attr-defined]
    assert (verdict["items"], verdict["normalized"], len(verdict["quarantined"])) == (5, 2, 3)
    assert [one["path"] for one in verdict["quarantined"]] == ["events[1]", "events[2]", "events[4]"]
    slices = [json.loads(_bytes(letter.data)) for letter in letters]
    assert slices == [items[1], items[2], 7]
    assert len({letter.id for letter in letters}) == 3


def _bytes(data: object) -> bytes:
    import base64

    assert isinstance(data, DeadLettered)
    return base64.b64decode(data.body)


async def test_an_unknown_kind_and_an_ignored_one_are_counted_by_name(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    before = counted(UNKNOWN_KINDS, "pigeon"), counted(ITEMS, "pigeon", "ignored")
    answer = await send(doors, {"type": "hologram"}, {"type": "heartbeat"}, {"type": "heartbeat"}, {"type": "\ud800"})
    [raw] = await records(own, t.RAW)

    assert answer.status_code == 200
    assert header(raw, "hilo_verdict")["ignored"] == [
        {"kind": "hologram", "reason": "unknown kind"},
        {"kind": "heartbeat", "reason": "sent each minute as a test", "count": 2},
        {"kind": "\ufffd", "reason": "unknown kind"},
    ]
    assert (counted(UNKNOWN_KINDS, "pigeon"), counted(ITEMS, "pigeon", "ignored")) == (before[0] + 2, before[1] + 4)
    assert await events(own, t.DEAD) == []


async def test_an_empty_batch_is_kept_and_counted_as_one_ignored(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    assert (await send(doors)).status_code == 200
    [raw] = await records(own, t.RAW)

    verdict = header(raw, "hilo_verdict")
    assert (verdict["items"], verdict["normalized"], verdict["ignored"][0]["kind"]) == (1, 0, "empty")


async def test_a_bug_in_a_channel_is_set_aside_and_alarms_and_ingest_goes_on(
    doors: httpx.AsyncClient, own: IngestSettings
) -> None:
    before = counted(CHANNEL_BUGS, "pigeon")
    answer = await send(doors, {"type": "crash", "id": "c1"}, message(2))
    [letter], facts = await events(own, t.DEAD), await events(own, t.EVENTS)

    assert answer.status_code == 200
    assert isinstance(letter.data, DeadLettered)
    assert letter.data.reason.startswith("bug: KeyError")
    assert letter.data.bug
    assert counted(CHANNEL_BUGS, "pigeon") == before + 1
    assert len(facts) == 1


def failing(where: str) -> Channel[Pigeon]:
    def fails(account: Pigeon, raw: Raw) -> Any:
        raise RuntimeError("a bug of the channel")

    class Broken:
        def check(self, account: Any, raw: Raw) -> None:
            fails(account, raw)

        def sign(self, account: Any, raw: Raw) -> Raw:
            return raw

    door: Webhook[Pigeon] = {
        "scheme": Webhook(Broken()),
        "handshake": Webhook(SCHEME, handshake=fails),
        "reply": Webhook(SCHEME, reply=fails),
    }[where]
    return replace(pigeon(), doors=(door,))


@pytest.mark.parametrize(("where", "status", "kept"), [("scheme", 503, 0), ("handshake", 200, 1), ("reply", 200, 1)])
async def test_a_bug_in_a_door_keeps_what_is_proven_and_confirms_nothing_else(
    own: IngestSettings, accounts: Accounts, where: str, status: int, kept: int
) -> None:
    async with running(own, Registry({"pigeon": failing(where)}, {})) as client:
        answer = await send(client, message(1))

    assert answer.status_code == status
    assert len(await records(own, t.RAW)) == kept


async def test_a_plug_in_that_cannot_be_loaded_answers_503_and_the_others_run(doors: httpx.AsyncClient) -> None:
    answer = await send(doors, message(1), url="/webhooks/dodo/main")

    assert (answer.status_code, answer.json()["code"]) == (503, "broken")
    assert int(answer.headers["retry-after"]) > 0
    assert (await send(doors, message(1))).status_code == 200


async def test_an_input_of_too_many_items_is_set_aside_whole(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    answer = await send(doors, *([{}] * 2001))
    [letter], [raw] = await events(own, t.DEAD), await records(own, t.RAW)

    assert answer.status_code == 200
    assert isinstance(letter.data, DeadLettered)
    assert letter.data.reason == "more than 2000 items in one input"
    assert _bytes(letter.data) == raw.value


async def test_a_batch_for_two_numbers_reaches_two_accounts(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    items = [message(1, to="S1"), message(2, to="N1"), message(3, to="X9")]
    answer = await send(doors, *items, url="/webhooks/flock/north")
    facts, [letter] = await events(own, t.EVENTS), await events(own, t.DEAD)

    assert answer.status_code == 200
    assert {(event.account, event.data.provider_id) for event in facts} == {  # type: ignore[attr-defined]
        ("south", "m1"),
        ("north", "m2"),
    }
    assert isinstance(letter.data, DeadLettered)
    assert "no account with number" in letter.data.reason


async def test_while_a_secret_is_rotated_both_signatures_pass_and_then_only_the_new(
    doors: httpx.AsyncClient, own: IngestSettings, accounts: Accounts
) -> None:
    async def statuses() -> tuple[int, int]:
        old, new = await send(doors, message(1)), await send(doors, message(1), key="newer")
        return old.status_code, new.status_code

    assert await statuses() == (200, 401)
    await accounts.rotate("acme", "pigeon", "main", "signing_key", add="newer")

    async def both() -> bool:
        return await statuses() == (200, 200)

    await until(both)
    await accounts.rotate("acme", "pigeon", "main", "signing_key", retire=True)

    async def only_new() -> bool:
        return await statuses() == (401, 200)

    await until(only_new)


async def test_typing_is_live_and_on_no_log(doors: httpx.AsyncClient, own: IngestSettings) -> None:
    assert (await send(doors, {"type": "typing", "id": "7"})).status_code == 200

    async def live() -> Any:
        return await events(own, t.LIVE)

    [event] = await until(live)
    assert event.data.type == "hilo.participant.typing.v1"
    assert await events(own, t.EVENTS) == []
    [raw] = await records(own, t.RAW)
    assert header(raw, "hilo_verdict") == {"items": 1, "normalized": 1}


async def test_more_at_once_than_can_be_done_is_503_and_what_was_accepted_is_there(
    own: IngestSettings, accounts: Accounts
) -> None:
    async with running(own.model_copy(update={"webhook_in_flight": 2})) as client:
        answers = await asyncio.gather(*(send(client, message(number)) for number in range(40)))
        again = await send(client, message(99))

    taken = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert taken
    assert refused
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} == {(503, "2")}
    assert again.status_code == 200
    facts = {event.data.provider_id for event in await events(own, t.EVENTS)}  # type: ignore[attr-defined]
    assert facts == {f"m{number}" for number in taken} | {"m99"}


# -- parts that go away: these have a broker or a mongod of their own ------------------------------------------------------


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    one = EmbeddedBroker(tmp_path)
    one.start()
    yield one
    one.stop()


async def test_while_the_broker_is_away_webhooks_are_503_with_retry_after(
    settings: CommonSettings, accounts: Accounts, broker: EmbeddedBroker
) -> None:
    apart = settings.model_copy(update={"kafka": broker.servers})
    await create_topics(apart)
    own = ingest_settings(apart, kafka_publish_timeout_s=1.0)
    async with running(own) as client:
        assert (await send(client, message(1))).status_code == 200
        broker.kill()
        answer = await send(client, message(2))
        ready = await client.get("/readyz")
        await asyncio.to_thread(broker.start)
        await create_topics(apart)  # the embedded broker starts with what it had written down, which may be nothing

        async def back() -> bool:
            return (await send(client, message(2))).status_code == 200

        await until(back, within_s=60)
        facts = [event.data.provider_id for event in await events(own, t.EVENTS)]  # type: ignore[attr-defined]

    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "away", "2")
    assert (ready.status_code, ready.json()["missing"]) == (503, {"broker": "away"})
    assert "m2" in facts


@pytest.fixture
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedMongod]:
    one = EmbeddedMongod(tmp_path_factory.mktemp("apart"))
    one.start()
    yield one
    one.stop()


async def test_while_the_store_is_away_known_accounts_are_served_and_others_are_503(
    settings: CommonSettings, topics: None, mongod: EmbeddedMongod
) -> None:
    own = ingest_settings(settings, mongo=mongod.uri, mongo_timeout_s=0.5, accounts_refresh_s=0.1)
    store = Mongo(own)
    await connect(store)
    async with running(own) as client:
        assert (await send(client, message(1), url="/webhooks/pigeon/nobody")).status_code == 404
        await asyncio.to_thread(mongod.kill)
        unknown = await send(client, message(1), url="/webhooks/pigeon/nobody")
        known = await send(client, message(1))

        await until(lambda: counted(AWAY, "store") == 1)
        ready = await client.get("/readyz")
    await store.stop()

    assert (known.status_code, unknown.status_code) == (200, 503)
    assert unknown.headers["retry-after"] == "2"
    assert ready.status_code == 200
    assert len(await events(own, t.EVENTS)) == 1
