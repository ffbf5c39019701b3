"""A body is read by a fast parser, and by the standard library's where that one refuses: the document is the same."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.ingest.contract import Raw, Unreadable

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


def reference(body: bytes) -> Any:
    """As the standard library reads it, half a surrogate pair replaced."""
    document = json.loads(body)
    text = json.dumps(document, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def outcome(body: bytes) -> Any:
    try:
        return Raw(body).json()
    except Unreadable:
        return Unreadable


def expected(body: bytes) -> Any:
    try:
        return reference(body)
    except (ValueError, RecursionError):
        return Unreadable


@given(DOCUMENTS, st.booleans(), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_what_is_written_is_read(document: Any, escaped: bool, encoding: str) -> None:
    body = json.dumps(document, ensure_ascii=escaped).encode(encoding, "surrogatepass")

    assert outcome(body) == expected(body)


@given(DOCUMENTS, st.data())
def test_a_mangled_body_is_read_or_refused_as_before(document: Any, data: st.DataObject) -> None:
    body = bytearray(json.dumps(document).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body)))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))

    assert _alike(outcome(bytes(body)), expected(bytes(body)))


@given(st.text(alphabet='0123456789-+.eE[]{}",:\\u dD8cCtrfalsn NIy', max_size=24))
@example("[1e999, -0, -0.0, 123456789012345678901234567890]")
@example('{"a": 1, "a": 2}')
@example('["\\ud83d", "\\ude00\\ud83d", "\\ud83d\\ude00"]')
@example("[NaN, Infinity, -Infinity]")
@example("[" * 400 + "]" * 400)
@example("[" * 100_000)
@example("1" * 5000)
@example('"\t"')
@example("[01]")
def test_edges_of_the_grammar(text: str) -> None:
    body = text.encode()

    assert _alike(outcome(body), expected(body))


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"{", b'{"a":}', b"nul", b'"\x80"'])
def test_what_is_no_document_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        Raw(body).json()


def _alike(one: Any, other: Any) -> bool:
    """Equal, of the same types, where NaN equals NaN."""
    match one, other:
        case dict(), dict():
            return list(one) == list(other) and all(_alike(one[name], other[name]) for name in one)
        case list(), list():
            return len(one) == len(other) and all(map(_alike, one, other))
        case float(), float() if math.isnan(one):
            return math.isnan(other)
    return type(one) is type(other) and bool(one == other)
