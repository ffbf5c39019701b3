"""Names are what the standard says they are, however they are written out."""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.identifiers import (
    NAMESPACE,
    Identifier,
    NotAnIdentifier,
    derived_event_id,
    event_id,
    keyed,
    normalized,
    piece_id,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = (
    st.sampled_from(["+49 151 1234567", "0151 1234567", " Ana@Example.com ", "e\u0301 ", "", "\0", "Ana", "x" * 513]) | TEXT
)


@given(TEXT, TEXT, st.integers())
def test_an_id_is_the_uuid5_of_its_parts(one: str, other: str, number: int) -> None:
    def plain(*parts: str | int) -> str:
        return str(uuid.uuid5(NAMESPACE, "\0".join(map(str, parts))))

    assert event_id(one, "whatsapp", "main", other, "message.received") == plain(
        "event", one, "whatsapp", "main", other, "message.received", ""
    )
    assert piece_id(one, number) == plain("piece", one, number)
    assert derived_event_id(one, other, number) == plain("derived", one, other, number)


@given(
    key=st.sampled_from([b"k" * 32, b"l" * 32]),
    scheme=st.sampled_from(["tel", "email", "telegram", "whatsapp"]),
    value=VALUES,
    scope=st.sampled_from(["", "waba-1"]),
    region=st.sampled_from([None, "DE", "ES"]),
)
def test_an_identifier_is_keyed_by_its_normal_form_and_its_tenant(
    key: bytes, scheme: str, value: str, scope: str, region: str | None
) -> None:
    named = Identifier(scheme, value, scope)
    try:
        plain = normalized(named, region)
    except NotAnIdentifier:
        with pytest.raises(NotAnIdentifier):
            keyed(key, named, region)
        return
    found = keyed(key, named, region)
    digest = hmac.new(key, f"{scheme}\0{scope}\0{plain.value}".encode(), hashlib.sha256).digest()

    assert found == plain
    assert found.key == base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")
