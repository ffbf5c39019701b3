"""Standard Webhooks signatures: only the right one passes, and nothing else is ever an exception."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.journey import signed

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def headers(body: bytes, key: bytes = KEY, at: datetime = NOW, name: str = "msg_1") -> dict[str, str]:
    stamp = str(int(at.timestamp()))
    mac = hmac.new(key, f"{name}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {"webhook-id": name, "webhook-timestamp": stamp, "webhook-signature": "v1," + base64.b64encode(mac).decode()}


@given(st.binary(max_size=100))
def test_a_body_that_was_signed_passes_with_any_of_the_rotating_secrets(body: bytes) -> None:
    other = base64.b64encode(b"other").decode()

    assert signed([SECRET], headers(body), body, NOW)
    assert signed([other, SECRET], headers(body), body, NOW)
    assert not signed([other], headers(body), body, NOW)
    assert not signed([], headers(body), body, NOW)


@given(st.binary(max_size=100), st.integers(0, 99), st.integers(1, 255))
def test_a_changed_byte_does_not_pass(body: bytes, place: int, change: int) -> None:
    given_headers = headers(body)
    changed = bytearray(body or b"x")
    changed[place % len(changed)] ^= change

    assert not signed([SECRET], given_headers, bytes(changed), NOW)


@pytest.mark.parametrize(("age", "passes"), [(-301, False), (-299, True), (0, True), (299, True), (301, False)])
def test_a_stamp_is_good_for_five_minutes_either_way(age: int, passes: bool) -> None:
    assert signed([SECRET], headers(b"x", at=NOW - timedelta(seconds=age)), b"x", NOW) is passes


LATIN = st.text(st.characters(max_codepoint=255), max_size=40)


@given(LATIN, LATIN | st.integers().map(str), LATIN | LATIN.map(lambda text: f"v1,{text}"), st.binary(max_size=20), LATIN)
def test_whatever_is_malformed_is_no_signature(name: str, stamp: str, signature: str, body: bytes, secret: str) -> None:
    given_headers = {"webhook-id": name, "webhook-timestamp": stamp, "webhook-signature": signature}

    assert not signed([SECRET, secret], given_headers, body, NOW)


def test_a_secret_that_is_not_base64_stands_for_its_own_bytes() -> None:
    assert signed(["a plain secret!"], headers(b"x", b"a plain secret!"), b"x", NOW)


def test_an_empty_secret_signs_nothing() -> None:
    assert not signed([""], headers(b"x", b""), b"x", NOW)
    assert not signed(["whsec_"], headers(b"x", b""), b"x", NOW)
