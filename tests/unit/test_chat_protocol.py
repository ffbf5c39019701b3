"""What web chat and its widget say to each other, as values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.chat_out import Said, Thread
from services.ingest.chat_protocol import (
    ForChannel,
    Junk,
    Pong,
    Seen,
    TypingNow,
    Visit,
    frame,
    numbered,
    resume_token,
    resumes,
    visit,
)
from services.ingest.contract import Secret
from services.ingest.rate import Bucket, Buckets, caller

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANA, EVA = Thread("acme", "shop", "ana"), Thread("acme", "shop", "eva")
VISITOR = "v" * 32


def test_a_resume_token_opens_its_own_thread_until_it_is_too_old_or_its_secret_is_gone() -> None:
    old, new = Secret("old"), Secret("new", "old")
    token = resume_token(old, ANA, NOW)

    assert resumes(old, ANA, token, NOW)
    assert resumes(new, ANA, token, NOW + timedelta(days=399))
    assert not resumes(new, ANA, token, NOW + timedelta(days=401))
    assert not resumes(Secret("new"), ANA, token, NOW)
    assert not resumes(old, EVA, token, NOW)
    assert not resumes(old, Thread("acme", "other", "ana"), token, NOW)
    assert not resumes(old, Thread("other", "shop", "ana"), token, NOW)


@given(st.text(max_size=80))
def test_no_other_text_is_a_token(text: str) -> None:
    assert not resumes(Secret("secret"), ANA, text, NOW)


@given(st.integers(0, 60), st.characters())
def test_a_token_with_one_other_character_is_none(place: int, char: str) -> None:
    token = resume_token(Secret("secret"), ANA, NOW)
    changed = token[:place] + char + token[place + 1 :]

    assert resumes(Secret("secret"), ANA, changed, NOW) is (changed == token)


def test_secrets_come_as_subprotocols_or_in_the_query() -> None:
    offered = ["hilo.chat.1", f"visitor.{VISITOR}", "resume.1.abc", "token.a.b.c"]

    assert visit({"after": "7"}, offered) == Visit(VISITOR, 7, "1.abc", "a.b.c")
    assert visit({"visitor": VISITOR, "ref": "HILO-7KQ2-M4T9"}, []) == Visit(VISITOR, ref="HILO-7KQ2-M4T9")


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"visitor": "short"},
        {"visitor": "ñ" * 30},
        {"visitor": VISITOR, "after": "-1"},
        {"visitor": VISITOR, "after": "１"},
        {"visitor": VISITOR, "after": "1" * 16},
        {"visitor": VISITOR, "ref": "x" * 257},
    ],
)
def test_what_no_widget_asks_is_no_visit(query: dict[str, str]) -> None:
    assert visit(query, []) is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"type":"message","id":"c1","text":"x"}', ForChannel("c1")),
        (
            '{"type":"message","id":"c1","file":{"ref":"upload:x","media_type":"image/png"}}',
            ForChannel("c1", "upload:x", "image/png"),
        ),
        ('{"type":"delete","id":"c1"}', ForChannel("c1")),
        ('{"type":"typing"}', TypingNow()),
        ('{"type":"ack","n":3}', Seen(3, "delivered")),
        ('{"type":"read","n":3}', Seen(3, "read")),
        ('{"type":"pong"}', Pong()),
        ('{"type":"delivered","id":"p"}', Junk("a frame of a type that is not known here", "p")),
        ('{"type":"start"}', Junk("a frame of a type that is not known here")),
        ('{"type":"ack","n":true}', Junk("a frame is a JSON object with a type")),
        ('{"type":"message","id":""}', Junk("a message has an id of 1 to 64 characters")),
    ],
)
def test_a_frame_is_what_it_says(body: str, expected: object) -> None:
    assert frame(body.encode()) == expected


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_junk(body: bytes) -> None:
    assert isinstance(frame(body), ForChannel | TypingNow | Seen | Pong | Junk)


def test_what_we_say_has_its_number_and_typing_is_over_after_a_while() -> None:
    said = Said(4, "p", {"type": "message", "id": "p", "text": "¿Sí?"}, NOW)
    typing = Said(5, "t", {"type": "typing"}, NOW)

    assert numbered(said, NOW) == {"type": "message", "id": "p", "text": "¿Sí?", "n": 4, "at": "2026-03-01T12:00:00+00:00"}
    assert numbered(typing, NOW) is not None
    assert numbered(typing, NOW + timedelta(seconds=11)) is None


@given(st.lists(st.floats(0, 5), max_size=200))
def test_a_bucket_never_gives_more_than_burst_and_rate(steps: list[float]) -> None:
    bucket, now, given = Bucket(2, 5, 5, 0), 0.0, 0
    for step in steps:
        now += step
        given += bucket.take(now)

    assert given <= 5 + 2 * now + 1e-6


def test_buckets_are_one_a_name_and_the_longest_unused_goes_first() -> None:
    buckets = Buckets(1, 1, lambda: 0.0, most=2)

    assert [buckets.take(name) for name in ("a", "a", "b", "c", "a")] == [True, False, True, True, True]
    assert (buckets.spent("a"), buckets.spent("never")) == (True, False)


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "expected"),
    [
        ("9.9.9.9", "1.1.1.1", 0, "9.9.9.9"),
        ("9.9.9.9", "6.6.6.6, 1.1.1.1", 1, "1.1.1.1"),
        ("9.9.9.9", "6.6.6.6, 1.1.1.1, 2.2.2.2", 2, "1.1.1.1"),
        ("9.9.9.9", "", 1, "9.9.9.9"),
        ("2001:db8:1:2:3:4:5:6", "", 0, "2001:db8:1:2"),
        (None, "", 0, ""),
    ],
)
def test_a_caller_is_whom_our_own_proxies_name(peer: str | None, forwarded: str, proxies: int, expected: str) -> None:
    assert caller(peer, {"x-forwarded-for": forwarded}, proxies) == expected
