"""What hilo.raw keeps comes back as it was, but for secrets; and whatever a channel says fits into it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.common.identifiers import dead_id
from services.ingest import rawlog
from services.ingest.contract import Fetch, Item, Outcome, Quarantined, Raw, Unused, get
from tests.ingesting import FIELDS, Pigeon

ACCOUNT = Pigeon(tenant="acme", id="main", **FIELDS)
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ANY_TEXT = st.text(st.characters(), max_size=30)  # lone surrogates included
LATIN = st.text(st.characters(max_codepoint=255), max_size=30)
OPEN_NAMES = st.text("abcdefghij-", min_size=1, max_size=10)


def written(raw: Raw, outcome: Outcome | None = None) -> rawlog.Logged:
    record = rawlog.record("pigeon", ACCOUNT, raw, outcome or Outcome(1, 1))
    return rawlog.logged(replace(record, partition=2, offset=7))


@given(body=st.binary(max_size=200), headers=st.dictionaries(OPEN_NAMES, LATIN, max_size=4), url=LATIN)
def test_an_input_comes_back_as_it_was(body: bytes, headers: dict[str, str], url: str) -> None:
    raw = Raw(body, headers, {"page": "2"}, "PUT", f"https://x.example/{url}", NOW, "plain")
    back = written(raw)

    assert back.raw == raw
    assert (back.tenant, back.channel, back.account, back.origin) == ("acme", "pigeon", "main", "live")


@given(before=LATIN, after=LATIN, secret=st.sampled_from(["key-of-the-api", "key-that-signs"]), name=OPEN_NAMES)
def test_no_secret_stands_in_a_header_whatever_is_around_it(before: str, after: str, secret: str, name: str) -> None:
    hidden = f"{before}{secret}{after}"
    raw = Raw(b"", {name: hidden}, {name: hidden}, url=f"https://x.example/?a={secret}", received_at=NOW)
    record = rawlog.record("pigeon", ACCOUNT, raw, Outcome(1, 1))

    assert not [value for _, value in record.headers if secret.encode() in value]


def test_an_address_without_a_secret_stays_as_it_came_when_a_header_holds_one() -> None:
    raw = Raw(b"", {"x-token": "key-of-the-api"}, url="https://x.example/webhooks/pigeon/main", received_at=NOW)
    back = written(raw).raw

    assert (back.url, back.headers) == (raw.url, {"x-token": "***"})


def test_credentials_are_masked_by_name_and_signatures_are_kept() -> None:
    names = ["authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"]
    raw = Raw(b"", {**dict.fromkeys(names, "Bearer x"), "x-pigeon-signature": "abc"}, received_at=NOW)

    assert written(raw).raw.headers == {**dict.fromkeys(names, "***"), "x-pigeon-signature": "abc"}


QUARANTINED = st.builds(Quarantined, path=ANY_TEXT, kind=ANY_TEXT, reason=ANY_TEXT, slice=st.just({}))
UNUSED = st.builds(Unused, kind=ANY_TEXT, reason=ANY_TEXT, known=st.booleans())


@given(st.lists(QUARANTINED, max_size=5), st.lists(UNUSED, max_size=5), st.lists(ANY_TEXT, max_size=3), st.integers(0, 9))
def test_whatever_a_channel_says_of_its_items_the_verdict_balances_and_is_read_back(
    quarantined: list[Quarantined], unused: list[Unused], fetches: list[str], normalized: int
) -> None:
    asked = [Fetch(name, get("https://x.example"), "fetched") for name in fetches]
    items = len(quarantined) + len(unused) + normalized
    outcome = Outcome(items, normalized, quarantined=quarantined, unused=unused, fetches=asked)
    back = written(Raw(b"", received_at=NOW), outcome)

    assert back.verdict == rawlog.verdict(outcome)
    assert back.verdict.balances
    assert back.verdict.ignored_count == len(unused)
    assert len(back.dead_ids) == len(quarantined)


def test_items_of_the_same_path_have_dead_letters_of_their_own() -> None:
    same = [Quarantined("events[0]", "message", reason, {}) for reason in ("one", "two")]
    back = written(Raw(b"", received_at=NOW), Outcome(2, quarantined=same))

    assert back.dead_ids == {
        "events[0]": dead_id("hilo.raw", 2, 7, "events[0]"),
        "events[0]#2": dead_id("hilo.raw", 2, 7, "events[0]#2"),
    }


def test_the_same_bytes_at_another_time_are_another_input() -> None:
    first, later = Raw(b"x", received_at=NOW), Raw(b"x", received_at=NOW.replace(microsecond=0))
    ids = {rawlog.record("pigeon", ACCOUNT, raw, Outcome()).attributes["id"] for raw in (first, first, later)}

    assert len(ids) == 2


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=5,
)


@given(data=JSON, to=st.none() | ANY_TEXT, place=st.integers(0, 2000))
def test_a_dead_letter_tells_what_its_slice_does_not(data: Any, to: str | None, place: int) -> None:
    record = rawlog.record("pigeon", ACCOUNT, Raw(b"", received_at=NOW), Outcome())
    letter = rawlog.letter_of(record, Item("message", data, "events[3]", to), place)
    headers = {name: value.decode() for name, value in letter.headers}

    assert rawlog.set_apart(headers) == rawlog.SetApart(place=place, to=to and rawlog.plain(to, 2000))
    assert rawlog.VERDICT not in headers
    assert rawlog.raw_of(headers, b"").received_at == NOW
    assert json.loads(rawlog.slice_of(Quarantined("", "", "", data))) == data


def test_without_an_item_the_letter_is_of_the_whole_input() -> None:
    record = rawlog.record("pigeon", ACCOUNT, Raw(b"{", received_at=NOW), Outcome())
    headers = {name: value.decode() for name, value in rawlog.letter_of(record, None, 0).headers}

    assert rawlog.set_apart(headers) == rawlog.SetApart(whole=True)
    assert rawlog.slice_of(Quarantined("", "?", "", b"{\xff")) == b"{\xff"
    assert rawlog.set_apart({}) is None
