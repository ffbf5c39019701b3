"""The smaller decisions of the outbound worker: rates, the gate's answers, mail servers, what can be sent at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.cloudevents import Event, Record
from services.common.events import Author, MessageDelivered, MessageFailed, MessageSent, Part, SendRequested
from services.common.http import Answer
from services.common.identifiers import Identifier
from services.ingest.contract import Can, Failed, Left, Rate
from services.ingest.outbound import gate, rates
from services.ingest.outbound.intake import accepted
from services.ingest.outbound.prepare import cut, outgoing
from services.ingest.outbound.receipts import told
from services.ingest.outbound.sends import Policy, Seen, Sending, document, sending
from services.ingest.outbound.settings import OutboundSettings
from services.ingest.outbound.smtp import server
from tests.outbound_world import PIGEON

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = Policy()


def request(**more: Any) -> SendRequested:
    return SendRequested(
        **{
            "outbound_id": "o1",
            "conversation_id": "c1",
            "leg_key": "k",
            "leg": "sms",
            "thread": "t",
            "visibility": "private",
            "need": "none",
            "epoch": 0,
            "parts": (Part("text", text="hi"),),
            "author": Author("agent"),
            **more,
        }
    )


def message(**more: Any) -> Sending:
    return Sending("o1", "acme", "pigeon", "main", 1, request(**more), NOW, next_at=NOW)


# -- rates


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 3)), min_size=1, max_size=60),
    st.floats(0.2, 50),
)
def test_calls_in_a_lane_are_never_closer_than_the_rate(asks: list[tuple[str, float]], rate: float) -> None:
    lanes, now, gone = rates.Rates(), 1000.0, list[float]()
    for who, pause in asks:
        now += pause
        if lanes.wait("pigeon/main", "t", [Rate(rate)], who, now) == 0:
            gone.append(now)

    assert all(after - before >= 1 / rate - 1e-6 for before, after in pairwise(gone))


@given(st.integers(1, 20), st.floats(0.5, 20))
def test_everybody_who_waits_as_told_gets_a_turn_in_the_order_of_asking(count: int, rate: float) -> None:
    lanes, waits = rates.Rates(), dict[str, float]()
    for number in range(count):
        waits[f"m{number}"] = 1000.0 + lanes.wait("pigeon/main", "t", [Rate(rate)], f"m{number}", 1000.0)
    order = sorted(waits, key=lambda who: waits[who])
    late = [who for who in order[1:] if lanes.wait("pigeon/main", "t", [Rate(rate)], who, waits[who] + 1e-6) > 1e-3]

    assert order == [f"m{number}" for number in range(count)]
    assert late == []


def test_threads_have_lanes_of_their_own_and_the_account_one_for_all() -> None:
    lanes, both = rates.Rates(), [Rate(10), Rate(1, of="thread")]

    assert lanes.wait("pigeon/main", "ana", both, "m1", 0) == 0
    assert lanes.wait("pigeon/main", "ana", both, "m2", 0.5) == pytest.approx(0.5)
    assert lanes.wait("pigeon/main", "ben", both, "m3", 0.5) == 0
    assert lanes.wait("pigeon/other", "ana", both, "m4", 0.5) == 0


def test_with_two_workers_each_takes_half_of_an_account_s_rate() -> None:
    lanes = rates.Rates(workers=2)

    assert lanes.wait("a", "t", [Rate(10)], "m1", 0) == 0
    assert lanes.wait("a", "t", [Rate(10)], "m2", 0) == pytest.approx(0.2)


def test_too_fast_closes_the_account_and_then_all_queue_anew() -> None:
    lanes = rates.Rates()
    lanes.wait("a", "t", [Rate(1)], "m1", 0)
    lanes.wait("a", "t", [Rate(1)], "m2", 0)
    lanes.close("a", 30)

    assert lanes.wait("a", "t", [Rate(1)], "m2", 1) == pytest.approx(29)
    assert lanes.wait("a", "t", [Rate(1)], "m3", 1) == pytest.approx(30)
    assert lanes.wait("a", "t", [Rate(1)], "m2", 30) == 0
    assert lanes.wait("a", "t", [Rate(1)], "m3", 30) == pytest.approx(1)


def test_what_is_left_of_a_budget_is_spread_and_an_empty_one_is_waited_for() -> None:
    lanes = rates.Rates()
    lanes.left("a", 2, until=20, now=0)

    assert lanes.wait("a", "t", [], "m1", 0) == 0
    assert lanes.wait("a", "t", [], "m2", 1) == pytest.approx(9)

    lanes.left("b", 0, until=20, now=0)

    assert lanes.wait("b", "t", [], "m1", 5) == pytest.approx(15)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        (str(int(NOW.timestamp()) + 60), 60),
        ("2026-03-01T12:05:00Z", 300),
        ("2026-03-01T12:05:00", 300),
        ("soon", None),
        ("", None),
        ("-5", None),
        ("nan", None),
        ("99999999999999", None),
        ("2031-01-01T00:00:00Z", None),
    ],
)
def test_the_end_of_a_budget_is_read_however_it_is_written(text: str, seconds: int | None) -> None:
    assert rates.until(Left(1, text), NOW) == (None if seconds is None else NOW + timedelta(seconds=seconds))


def test_lanes_that_nobody_uses_are_forgotten() -> None:
    lanes = rates.Rates()
    lanes.wait("a", "t", [Rate(1)], "m1", 0)
    lanes.forget(before=-1)

    assert lanes.wait("a", "t", [Rate(1)], "m2", 0) == pytest.approx(1)

    lanes.forget(before=100)

    assert lanes.wait("a", "t", [Rate(1)], "m2", 0) == 0


# -- the gate


def answer(status: int, said: object) -> Answer:
    return Answer(status, orjson.dumps(said))


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (200, {"allow": True, "reason": ""}, gate.Allow(NOW)),
        (200, {"allow": False, "reason": "stopped", "final": True, "retry_after_s": None}, gate.Refuse("stopped")),
        (200, {"allow": False, "reason": "x", "final": False, "retry_after_s": None}, gate.Hold("x", gate.HOLD_S)),
        (200, {"allow": False, "reason": "x", "final": "yes"}, gate.Hold("x", gate.HOLD_S)),
        (200, {"allow": False, "reason": "not due", "retry_after_s": 3}, gate.Hold("not due", 3)),
        (200, {"allow": False, "reason": "not due", "retry_after_s": 1e9}, gate.Hold("not due", gate.LONGEST_HOLD_S)),
        (200, {"allow": False, "reason": "x", "retry_after_s": "soon"}, gate.Hold("x", gate.HOLD_S)),
        (200, {"allow": "true"}, gate.Hold("the gate answered 200", away=True)),
        (200, ["allow"], gate.Hold("the gate answered 200", away=True)),
        (404, {"allow": True}, gate.Hold("the gate answered 404", away=True)),
        (401, {"allow": False, "reason": "x"}, gate.Hold("the gate answered 401", away=True)),
    ],
)
def test_only_a_clear_yes_is_a_yes_and_only_a_clear_no_is_final(status: int, said: object, expected: gate.Verdict) -> None:
    assert gate.judged(answer(status, said), NOW) == expected


@given(st.integers(100, 599), st.binary(max_size=60))
def test_no_junk_ever_opens_or_shuts_the_gate(status: int, body: bytes) -> None:
    assert isinstance(gate.judged(Answer(status, body), NOW), gate.Hold)


def test_an_answer_of_the_gate_is_good_for_a_moment_only() -> None:
    allow = gate.Allow(NOW)

    assert not allow.stale(NOW + timedelta(seconds=1), 2)
    assert allow.stale(NOW + timedelta(seconds=3), 2)
    assert allow.stale(NOW - timedelta(seconds=1), 2)


# -- what can be sent


def test_a_private_message_is_never_cut_for_a_public_leg() -> None:
    found = cut(message(leg="wall"), PIGEON, (Part("text", text="your order 4711"),))

    assert found == Failed("this private message would be public on 'wall'", then="other_leg")


@pytest.mark.parametrize(
    ("more", "parts", "reason"),
    [
        ({"leg": "fax"}, (Part("text", text="x"),), "no leg 'fax'"),
        ({}, (Part("location"),), "cannot send location"),
        ({}, (), "nothing in it"),
        ({"action": "edit", "target": "p1"}, (Part("text", text="x" * 2000),), "too long for one"),
        ({"opens": "post-1"}, (Part("text", text="x" * 2000),), "one private reply only"),
    ],
)
def test_what_a_leg_cannot_carry_fails_before_any_call(more: dict[str, Any], parts: tuple[Part, ...], reason: str) -> None:
    found = cut(message(**more), PIGEON, parts)

    assert isinstance(found, Failed)
    assert reason in found.reason
    assert found.then in ("other_leg", "nothing")


def test_the_first_word_on_a_leg_goes_to_the_person() -> None:
    to = Identifier("tel", "+4915112345678", key="k" * 22)
    found = cut(message(thread="", party=to), PIGEON, (Part("text", text="hello"),))

    assert isinstance(found, Sending)
    assert outgoing(found, found.pieces[0], found.pieces[0].part, NOW).thread == "+4915112345678"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8000).filter(str.strip))
def test_pieces_say_all_that_the_message_says_in_order_and_each_fits(text: str) -> None:
    found = cut(message(), PIGEON, (Part("text", text=text),))
    limit = next(can.size for can in PIGEON.legs["sms"].sends if can == Can("text", 1600))

    assert isinstance(found, Sending)
    assert "".join("".join((one.part.text or "").split()) for one in found.pieces) == "".join(text.split())
    assert all(len(one.part.text or "") <= (limit or 0) for one in found.pieces)
    assert sending(document(found)) == found


def test_a_request_older_than_the_journal_s_memory_is_not_sent() -> None:
    event = Event("e1", "acme", "k", NOW, request(), "pigeon", "main")
    old = Record("hilo.outbound", b"k", b"", offset=3, timestamp_ms=int((NOW - timedelta(days=29, hours=1)).timestamp() * 1000))
    found = accepted(event, request(), old, NOW, POLICY)
    fresh = accepted(event, request(), replace(old, timestamp_ms=None), NOW, POLICY)

    assert (found.state, found.closed, found.told[0].kind) == ("failed", True, "failed")
    assert (fresh.state, fresh.next_at) == ("queued", NOW)


# -- receipts


def test_only_what_others_say_of_our_pieces_is_evidence() -> None:
    common: dict[str, Any] = {"provider_id": "p1", "received_at": NOW}

    assert told(MessageSent(**common, correlation="x")) == ("x", Seen("sent", "p1"))
    assert told(MessageDelivered(**common, correlation="x")) == ("x", Seen("sent", "p1"))
    assert told(MessageFailed(**common, correlation="x", reason="gone", then="other_leg")) == (
        "x",
        Seen("failed", "p1", "gone", "other_leg"),
    )
    assert told(MessageSent(**common, correlation="x", outbound_id="o1")) is None
    assert told(MessageDelivered(**common)) is None


# -- settings and servers


def test_a_lease_shorter_than_calls_is_a_wrong_setting() -> None:
    with pytest.raises(ValueError, match="HILO_OUTBOUND_LEASE_S"):
        OutboundSettings(env="test", outbound_lease_s=20)


def test_mail_servers_are_read_with_their_defaults() -> None:
    assert (server("smtp://mail.example").port, server("smtps://mail.example").port) == (587, 465)
    assert server("smtps://ana%40x.example:p%3Aw@mail.example").password == "p:w"
    for wrong in ("https://mail.example", "smtp://", "mail.example"):
        with pytest.raises(ValueError, match="smtp://"):
            server(wrong)
