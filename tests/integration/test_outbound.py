"""The outbound worker, whole, on a real broker and mongod, with a provider and a gate that really listen: a message leaves
once, after the gate has said yes, in the order of its leg, and what became of it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession

from services.common import topics
from services.common.cloudevents import Event, Record, decode, encode
from services.common.events import (
    AccountHealth,
    Author,
    CustomerChanged,
    DeadLettered,
    MessageDelivered,
    MessageFailed,
    MessageSent,
    Part,
)
from services.common.identifiers import outbound_id
from services.common.kafka import Publisher, View
from services.common.media import FileMediaStore, upload_ref
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.ingest.accounts import Wish
from services.ingest.outbound.sends import document
from tests.outbound_world import OWL, PIGEON, World, piece, world
from tests.waiting import until

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 100


@pytest.fixture
async def w(settings: CommonSettings, mongo: Mongo, publisher: Publisher, tmp_path: Path) -> AsyncIterator[World]:
    one = world(settings, mongo, publisher, tmp_path, (PIGEON, OWL))
    await one.begin()
    yield one
    await one.end()


# -- once


async def test_a_message_is_sent_after_the_gate_and_told_with_the_provider_s_id(w: World) -> None:
    await w.worker()
    await w.ask(w.request("m1", "¡Hola, Añá!", reply_to="p0"))
    (sent,) = await w.heard("m1", "sent")

    assert isinstance(sent, MessageSent)
    assert (sent.provider_id, sent.piece, sent.pieces, sent.correlation) == ("p1", 1, 1, piece("m1"))
    assert (sent.parts, sent.reply_to, sent.author) == (
        (Part("text", text="¡Hola, Añá!"),),
        "p0",
        Author("agent", "ana", "Ana"),
    )
    assert (sent.leg, sent.thread, sent.visibility) == ("sms", "+49151", "private")
    assert sent.party
    assert w.provider.messages[0]["reference"] == piece("m1")
    assert (w.provider.asked, w.provider.tenants) == ([outbound_id("c1", "m1")], {"acme"})

    event = next(one for one in w.told if one.data == sent)

    assert (event.key, event.channel, event.account, event.tenant) == (sent.party.key, "pigeon", "main", "acme")


async def test_what_is_delivered_again_and_polled_by_two_workers_is_sent_once(w: World) -> None:
    workers = [await w.worker(), await w.worker()]
    events = [w.request(f"m{n}", f"text {n}", thread=f"+49{n}") for n in range(20)]
    await w.ask(*events, *events)
    await w.ask(*events)
    for n in range(20):
        await w.state(f"m{n}", "sent")
    await w.ask(*events, w.request("last", "x"))
    await w.state("last", "sent")

    assert set(w.provider.calls.values()) == {1}
    assert len(w.provider.calls) == 21
    assert [one.readiness.missing() for one in workers] == [{}, {}]


async def test_a_long_message_leaves_in_pieces_that_are_told_as_n_of_m(w: World) -> None:
    await w.worker()
    text = " ".join(f"word{n}" for n in range(500))
    w.provider.answers.extend([(200, {"id": "p1"}), (400, {"error": "busy"})])
    await w.ask(w.request("m1", text))
    await w.heard("m1", "retrying")
    w.clock.forward(20)
    told = await w.heard("m1", "sent", 3)

    assert [(one.piece, one.pieces) for one in told] == [(1, 3), (2, 3), (3, 3)]
    assert " ".join(one.parts[0].text for one in told) == text
    assert w.provider.calls == {piece("m1", 1): 1, piece("m1", 2): 2, piece("m1", 3): 1}
    assert len(w.provider.asked) == 4


# -- crashes and lost answers


class Crash:
    """Ends the work on a message at a step, as a kill would: nothing after that step happens."""

    def __init__(self, step: str) -> None:
        self.step, self.times = step, 0

    def __call__(self, step: str) -> None:
        if step == self.step and self.times == 0:
            self.times += 1
            raise asyncio.CancelledError


async def test_a_crash_after_the_call_makes_a_message_unknown_and_it_is_not_sent_again(w: World) -> None:
    crash = Crash("called")
    await w.worker(crash)
    await w.ask(w.request("m1", "once"))
    await until(lambda: crash.times)
    w.clock.forward(61)
    await w.state("m1", "unknown")
    (unknown,) = await w.heard("m1", "unknown")
    w.clock.forward(31)
    await w.ask(w.request("m2", "next in the same thread"))
    await w.state("m2", "sent")

    assert w.provider.texts == ["once", "next in the same thread"]
    assert unknown.reason == "the worker stopped during the call"


async def test_a_crash_after_the_call_is_retried_where_the_provider_drops_a_second(w: World) -> None:
    crash = Crash("called")
    await w.worker(crash)
    await w.ask(w.request("m1", "again", context={"idempotent": "yes"}))
    await until(lambda: crash.times)
    w.clock.forward(61)
    (sent,) = await w.heard("m1", "sent")

    assert w.provider.calls == {piece("m1"): 2}
    assert sent.provider_id == "p2"


async def test_a_crash_before_the_call_leaves_nobody_in_doubt_of_a_second_one(w: World) -> None:
    crash = Crash("begun")
    await w.worker(crash)
    await w.ask(w.request("m1", "perhaps"))
    await until(lambda: crash.times)
    w.clock.forward(61)
    await w.state("m1", "unknown")

    assert w.provider.texts == []


async def test_what_a_crash_left_untold_is_told_by_the_poll(w: World) -> None:
    crash = Crash("written")
    await w.worker(crash)
    await w.ask(w.request("m1", "hi"))
    found = await w.state("m1", "sent")

    assert found.told
    assert w.events("m1") == []

    w.clock.forward(6)
    (sent,) = await w.heard("m1", "sent")

    assert sent.provider_id == "p1"
    assert w.provider.calls == {piece("m1"): 1}


@pytest.mark.parametrize("by", ["delivered", "echo", "failed"])
async def test_a_lost_answer_is_unknown_until_a_receipt_or_an_echo_tells(w: World, by: str) -> None:
    await w.worker()
    w.provider.answers.append("lost")
    await w.ask(w.request("m1", "hi"))
    await w.heard("m1", "unknown")
    now = w.clock()
    facts = {
        "delivered": MessageDelivered(provider_id="p77", received_at=now, correlation=piece("m1")),
        "echo": MessageSent(provider_id="p77", received_at=now, correlation=piece("m1"), echo=True),
        "failed": MessageFailed(provider_id="p77", received_at=now, correlation=piece("m1"), reason="no such number"),
    }
    await w.say(facts[by])
    found = await w.state("m1", "sent", "failed")

    assert found.state == ("failed" if by == "failed" else "sent")
    assert w.provider.calls == {piece("m1"): 1}
    if by == "failed":
        assert (await w.heard("m1", "failed"))[0].reason == "no such number"
    else:
        assert (await w.heard("m1", "sent"))[0].provider_id == "p77"


async def test_what_stays_unknown_says_so_in_the_end_and_is_never_sent_again(w: World) -> None:
    await w.worker()
    w.provider.answers.append("lost")
    await w.ask(w.request("m1", "hi"))
    await w.state("m1", "unknown")
    w.clock.forward(31)
    await until(lambda: _released(w, "m1"))
    w.clock.forward(73 * 3600)
    told = await w.heard("m1", "unknown", 2)
    found = await w.state("m1", "unknown")

    assert "nothing was heard of it in 72 h" in told[1].reason
    assert found.closed
    assert w.provider.calls == {piece("m1"): 1}


async def _released(w: World, name: str) -> bool:
    found = await w.send(name)
    return found is not None and not found.blocks


async def test_a_zombie_whose_lease_is_over_does_not_call(w: World) -> None:
    paused = 0

    def pause(step: str) -> None:
        nonlocal paused
        if step == "begun" and not paused:
            paused += 1
            w.clock.forward(120)

    await w.worker(pause)
    await w.ask(w.request("m1", "hi"))
    await w.state("m1", "unknown")

    assert paused
    assert w.provider.texts == []


async def test_a_zombie_that_paused_after_the_gate_s_answer_asks_again(w: World) -> None:
    paused = 0

    def pause(step: str) -> None:
        nonlocal paused
        if step == "begun" and not paused:
            paused += 1
            w.clock.forward(10)

    await w.worker(pause)
    await w.ask(w.request("m1", "hi"))
    await w.state("m1", "sent")

    assert len(w.provider.asked) == 2
    assert w.provider.calls == {piece("m1"): 1}


async def test_a_zombie_with_an_answer_writes_nothing_over_its_successor_but_what_settles_it(w: World) -> None:
    """The lease passes while the call is under way, another worker finds the message: one call, and the truth in the end."""
    paused = 0

    def pause(step: str) -> None:
        nonlocal paused
        if step == "called" and not paused:
            paused += 1
            w.clock.forward(120)

    await w.worker(pause)
    await w.worker()
    await w.ask(w.request("m1", "hi"))
    (sent,) = await w.heard("m1", "sent")
    found = await w.state("m1", "sent")

    assert sent.provider_id == "p1"
    assert found.piece(1).attempts == 1
    assert w.provider.calls == {piece("m1"): 1}


# -- answers


async def test_too_fast_is_tried_again_when_the_provider_says_and_holds_the_account(w: World) -> None:
    await w.worker()
    w.provider.answers.append((429, {}, {"retry-after": "30"}))
    await w.ask(w.request("m1", "first"))
    (retrying,) = await w.heard("m1", "retrying")
    await w.ask(w.request("m2", "another thread", thread="+492"))
    await w.held("m2", "rate")

    assert retrying.next_try_at - retrying.received_at >= timedelta(seconds=30)
    assert (retrying.attempt, retrying.reason) == (1, "429")
    assert w.provider.texts == ["first"]

    w.clock.forward(40)
    await w.state("m1", "sent")
    await w.state("m2", "sent")

    assert w.provider.calls == {piece("m1"): 2, piece("m2"): 1}


async def test_a_final_error_is_told_with_what_to_do_and_the_leg_goes_on(w: World) -> None:
    await w.worker()
    w.provider.answers.append((400, {"error": "opted_out"}))
    await w.ask(w.request("m1", "first"), w.request("m2", "second"))
    (failed,) = await w.heard("m1", "failed")
    await w.state("m2", "sent")

    assert (failed.reason, failed.then, failed.attempt, failed.piece, failed.pieces) == ("opted out", "stop_contact", 1, 1, 1)
    assert w.provider.texts == ["first", "second"]


async def test_a_refused_account_is_told_once_holds_its_messages_and_goes_on_when_it_works(w: World) -> None:
    await w.worker()
    w.provider.me = 401
    w.provider.answers.append((401, {}))
    await w.ask(w.request("m1", "first"))
    (failed,) = await w.heard("m1", "failed")
    await w.ask(w.request("m2", "second"), w.request("m3", "elsewhere", thread="+492"))
    await w.held("m2", "account")
    await w.held("m3", "account")

    assert failed.then == "fix_account"
    assert w.provider.texts == ["first"]

    w.clock.forward(61)
    await w.held("m2", "account")
    w.provider.me = 200
    w.clock.forward(61)
    await w.state("m2", "sent")
    await w.state("m3", "sent")
    await until(lambda: len(_healths(w)) == 2)

    assert [one.state for one in _healths(w)] == ["broken", "ok"]


def _healths(w: World) -> list[AccountHealth]:
    return [one.data for one in w.told if isinstance(one.data, AccountHealth)]


async def test_a_changed_account_is_tried_at_once_with_one_message_where_there_is_no_health_check(w: World) -> None:
    await w.worker()
    w.provider.answers.extend([(401, {}), (401, {})])
    await w.ask(w.request("m1", "first", channel="owl"))
    await w.state("m1", "failed")
    await w.ask(w.request("m2", "second", channel="owl"))
    await w.held("m2", "account")
    await w.accounts.put("acme", "owl", "main", Wish(fields={"api_key": "another wrong one"}))
    await until(lambda: len(w.provider.messages) == 2)
    waiting = await w.held("m2", "account")

    assert waiting.piece(1).attempts == 0

    await w.accounts.put("acme", "owl", "main", Wish(fields={"api_key": "the right one"}))
    await w.state("m2", "sent")

    await until(lambda: len(_healths(w)) == 2)

    assert w.provider.calls[piece("m2")] == 2
    assert [one.state for one in _healths(w)] == ["broken", "ok"]


# -- the gate


async def test_what_the_gate_refuses_is_told_and_never_sent(w: World) -> None:
    await w.worker()
    w.provider.gate[outbound_id("c1", "m1")] = [{"allow": False, "reason": "stopped", "final": True, "retry_after_s": None}]
    await w.ask(w.request("m1", "sorry!"), w.request("m2", "second"))
    (refused,) = await w.heard("m1", "refused")
    await w.state("m2", "sent")

    assert refused.reason == "stopped"
    assert w.provider.texts == ["second"]


async def test_what_the_gate_holds_waits_as_long_as_it_says(w: World) -> None:
    await w.worker()
    w.provider.gate[outbound_id("c1", "m1")] = [{"allow": False, "reason": "too_early", "final": False, "retry_after_s": 60}]
    await w.ask(w.request("m1", "hi"))
    held = await w.held("m1", "gate")

    assert (held.state, held.reason) == ("held", "too_early")
    assert w.provider.texts == []

    w.clock.forward(61)
    await w.state("m1", "sent")

    assert len(w.provider.asked) == 2


@pytest.mark.parametrize("away", ["gone", "wrong key", "nonsense"])
async def test_without_a_clear_answer_of_the_router_nothing_is_sent(w: World, away: str) -> None:
    if away == "gone":
        w.settings = w.settings.model_copy(update={"router_url": "http://127.0.0.1:9"})
    elif away == "wrong key":
        w.settings = w.settings.model_copy(update={"service_key": None})
    else:
        w.provider.gate_status = 500
    first = await w.worker()
    await w.ask(w.request("m1", "hi"))
    await w.held("m1", "router")

    assert w.provider.texts == []

    await w.stop(first)
    w.provider.gate_status = 200
    w.settings = w.settings.model_copy(
        update={"router_url": w.provider.url, "service_key": CommonSettings(service_key="service").service_key}
    )
    w.clock.forward(10)
    await w.worker()
    await w.state("m1", "sent")

    assert w.provider.calls == {piece("m1"): 1}


async def test_a_private_message_for_a_public_leg_is_never_sent(w: World) -> None:
    await w.worker()
    await w.ask(w.request("m1", "your order 4711", leg="wall", visibility="private"))
    (failed,) = await w.heard("m1", "failed")

    assert "would be public" in failed.reason
    assert (w.provider.texts, w.provider.asked) == ([], [])


# -- waiting


async def test_a_message_waits_for_its_time_and_only_then_asks_the_gate(w: World) -> None:
    await w.worker()
    await w.ask(w.request("m1", "public answer", not_before=w.clock() + timedelta(seconds=100)))
    await w.ask(w.request("m2", "meanwhile", thread="+492"))
    await w.state("m2", "sent")

    assert (await w.held("m1", "time")).state == "queued"
    assert w.provider.asked == [outbound_id("c1", "m2")]

    w.clock.forward(101)
    await w.state("m1", "sent")


async def test_a_leg_keeps_its_order_while_other_legs_go_on(w: World) -> None:
    await w.worker()
    w.provider.answers.append((400, {"error": "busy"}))
    await w.ask(*(w.request(f"m{n}", f"text {n}") for n in range(5)))
    await w.state("m0", "retrying")
    await w.ask(w.request("other", "other thread", thread="+492"))
    await w.state("other", "sent")
    for n in range(1, 5):
        await w.held(f"m{n}", "order")

    assert w.provider.texts == ["text 0", "other thread"]

    w.clock.forward(20)
    await w.state("m4", "sent")

    assert w.provider.texts == ["text 0", "other thread", "text 0", "text 1", "text 2", "text 3", "text 4"]


async def test_a_thread_s_rate_is_kept(w: World) -> None:
    await w.worker()
    await w.ask(w.request("m1", "one", leg="slow"), w.request("m2", "two", leg="slow"))
    await w.state("m1", "sent")
    await w.held("m2", "rate")

    assert w.provider.texts == ["one"]

    w.clock.forward(601)
    await w.state("m2", "sent")


async def test_a_paused_account_sends_nothing_and_a_removed_one_fails(w: World) -> None:
    await w.accounts.put("acme", "pigeon", "main", Wish(state="paused"))
    await w.accounts.remove("acme", "owl", "main")
    await w.worker()
    await w.ask(w.request("m1", "hi"), w.request("m2", "hi", channel="owl"))
    failed = await w.state("m2", "failed", "sent")
    held = await w.state("m1", "held", "sent")

    assert (failed.state, failed.reason) == ("failed", "the account is not connected any more")
    assert (held.state, held.hold, held.reason) == ("held", "account", "the account is paused")
    assert w.provider.texts == []


# -- files, typing, people


async def test_a_file_is_uploaded_first_and_once_where_the_channel_has_an_upload(w: World) -> None:
    await w.worker()
    stored = await FileMediaStore(w.settings.media_dir).put("acme", PNG)
    w.provider.answers.append((400, {"error": "busy"}))
    picture = Part("image", text="look", ref=upload_ref(stored.sha256))
    await w.ask(w.request("m1", parts=(picture,), channel="owl"))
    await w.state("m1", "retrying")
    w.clock.forward(20)
    (sent,) = await w.heard("m1", "sent")

    assert w.provider.uploads == [PNG]
    assert [one["ref"] for one in w.provider.messages] == ["file-1", "file-1"]
    assert (sent.parts[0].ref, sent.parts[0].media_type, sent.parts[0].size) == (picture.ref, "image/png", len(PNG))


async def test_elsewhere_a_file_is_a_signed_address_and_one_that_is_not_there_fails(w: World) -> None:
    await w.worker()
    stored = await FileMediaStore(w.settings.media_dir).put("acme", PNG)
    await w.ask(w.request("m1", parts=(Part("image", ref=upload_ref(stored.sha256)),)))
    await w.ask(w.request("m2", parts=(Part("image", ref=upload_ref("0" * 64)),)))
    await w.state("m1", "sent")
    failed = await w.state("m2", "failed")

    assert w.provider.messages[0]["ref"].startswith(f"https://media.hilo.example/media/acme/{stored.sha256}?until=")
    assert failed.reason == "a file of the message is not in the media store"


async def test_typing_needs_no_gate_and_no_journal(w: World) -> None:
    await w.worker()
    await w.ask(w.request("t1", action="typing"))
    await until(lambda: w.provider.typing)

    assert w.provider.asked == []
    assert await w.send("t1") is None


async def test_an_erased_person_gets_nothing_more_and_the_journal_keeps_no_word(w: World) -> None:
    await w.worker()
    request = w.request("m1", "my secret", not_before=w.clock() + timedelta(hours=1))
    assert request.data.party
    await w.ask(request)
    await w.held("m1", "time")
    erased = CustomerChanged(
        type="hilo.customer.erased.v1", customer_id="x", identifiers=(request.data.party.key,), version=1, at=w.clock()
    )
    await w.publisher.publish([_record(topics.IDENTITY_CHANGES, erased)])
    found = await w.state("m1", "refused")
    w.clock.forward(7200)

    assert "my secret" not in str(document(found))
    assert w.provider.texts == []


def _record(topic: topics.Topic, data: CustomerChanged) -> Record:
    return encode(topic.name, Event("ch1", "acme", "x", data.at, data))


async def test_a_sent_message_leaves_only_its_ids_in_the_journal(w: World) -> None:
    await w.worker()
    await w.ask(w.request("m1", "my secret"))
    await w.heard("m1", "sent")

    async def bare() -> bool:
        found = await w.send("m1")
        return found is not None and "my secret" not in str(document(found))

    await until(bare)


async def test_what_is_no_message_goes_to_the_dead_letters_and_what_is_replayed_is_not_sent(w: World) -> None:
    await w.worker()
    junk = Record(topics.OUTBOUND.name, b"k", b"\xff", encode(topics.OUTBOUND.name, w.request("m1", "x")).headers)
    replayed = w.request("m2", "old")
    object.__setattr__(replayed, "origin", "replay")
    await w.publisher.publish([junk])
    await w.ask(replayed, w.request("m3", "new"))
    await w.state("m3", "sent")
    letters: list[Record] = []
    view = View(w.settings, topics.DEAD, letters.append)
    await view.start()
    await view.stop()
    letter = decode(letters[0]).data

    assert isinstance(letter, DeadLettered)
    assert (letter.topic, letter.stage) == ("hilo.outbound", "outbound")
    assert w.provider.texts == ["new"]
    assert await w.send("m2") is None


async def test_operators_see_what_became_of_their_own_messages_without_their_content(w: World) -> None:
    process = await w.worker()
    w.provider.answers.append("lost")
    await w.ask(w.request("m1", "my secret"))
    await w.state("m1", "unknown")
    at, base = outbound_id("c1", "m1"), f"http://127.0.0.1:{process.port}/v1/sends"
    async with ClientSession() as session:
        mine, others = ({"authorization": f"Bearer {w.keys[one]}"} for one in ("acme", "other"))
        async with session.get(f"{base}/{at}", headers=mine) as answer:
            text, shown = await answer.text(), await answer.json()
        async with session.get(f"{base}?state=unknown", headers=mine) as answer:
            listed = await answer.json()
        async with session.get(f"{base}?state=unknown", headers=others) as answer:
            theirs = await answer.json()
        statuses = [
            (await session.get(f"{base}/{at}", headers=others)).status,
            (await session.get(f"{base}/{at}")).status,
            (await session.get(f"{base}?state=lost", headers=mine)).status,
        ]

    assert (shown["state"], shown["hold"], shown["pieces"][0]["attempts"]) == ("unknown", "receipt", 1)
    assert "my secret" not in text
    assert ([one["outbound_id"] for one in listed["sends"]], theirs["sends"]) == ([at], [])
    assert statuses == [404, 401, 422]
