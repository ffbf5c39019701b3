"""The contract's pure parts: completing facts, planning and reading sends, schemes, registry, texts of errors."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from services.common import events
from services.common.cloudevents import decode, encode
from services.common.events import AccountDescribed, Part
from services.common.identifiers import Evidence, Identifier, Sender, entry_id, event_id, keyed
from services.ingest.channels import BUILT_IN
from services.ingest.channels.email import CHANNEL as EMAIL
from services.ingest.channels.instagram import CHANNEL as INSTAGRAM
from services.ingest.channels.telegram import CHANNEL as TELEGRAM
from services.ingest.channels.webchat import CHANNEL as WEBCHAT
from services.ingest.channels.whatsapp import CHANNEL as WHATSAPP
from services.ingest.contract import (
    GROUP,
    Account,
    BasicAuth,
    CamelPayload,
    Can,
    Channel,
    Ed25519,
    Facts,
    Failed,
    Hmac,
    Leg,
    Misdeclared,
    Moment,
    Node,
    NotPossible,
    Outgoing,
    Payload,
    Raw,
    Reacted,
    Receipt,
    Received,
    Refused,
    Request,
    Response,
    Result,
    Retry,
    Secret,
    Sent,
    Token,
    Typing,
    Unknown,
    Webhook,
    admit,
    complete,
    declared,
    described,
    each,
    fit,
    form,
    load,
    masked,
    matrix_row,
    normalize,
    plan,
    read,
    registry,
    split,
    tel,
    text,
)
from services.ingest.contract.facts import Fact
from tests.contract.examples.nimbus import CHANNEL as NIMBUS
from tests.contract.examples.pigeon import CHANNEL as PIGEON
from tests.contract.examples.pigeon import Pigeon

KEY = b"a tenant's key for these tests.."
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
OURS = Pigeon(tenant="acme", id="main", number="+4930123456", api_key=Secret("k"), signing_key=Secret("s"))
YAML = Path(__file__).parent.parent / "contract" / "examples" / "nimbus" / "channel.yaml"


def events_of(*facts: Fact, place: int = 0) -> list[Any]:
    return [complete(PIGEON, OURS, fact, KEY, NOW, place).data for fact in facts]


def said(**more: Any) -> Received:
    return Received(**{"id": "p-1", "at": NOW, "sender": Sender(tel("+49 1511 2345678")), "parts": (text("Grüße"),), **more})


# -- facts to events ----------------------------------------------------------------------------------------------------


def test_an_event_has_all_that_only_the_core_decides() -> None:
    event = complete(PIGEON, OURS, said(at=None), KEY, NOW, place=3)
    party = keyed(KEY, Identifier("tel", "+4915112345678"))

    assert (event.id, event.key) == (event_id("acme", "pigeon", "main", "p-1", "message.received"), party.key)
    assert (event.time, event.data.at, event.data.received_at, event.data.place) == (NOW, None, NOW, 3)
    assert (event.data.party, event.data.leg, event.data.thread) == (party, "sms", "+4915112345678")
    assert event.data.visibility == "private"
    assert decode(encode("hilo.events", event)).data == event.data


def test_a_fact_without_a_party_is_keyed_by_its_entry() -> None:
    event = complete(PIGEON, OURS, Receipt(id="p-9", at=NOW, state="read"), KEY, NOW)

    assert event.key == entry_id("acme", "pigeon", "main", "p-9")


def test_evidence_that_is_no_identifier_is_dropped_and_the_message_stays() -> None:
    wrong, right = Identifier("email", "no address"), Identifier("email", "Ana@Example.org")
    sender = Sender(tel("+4915112345678"), also=(Evidence(wrong, "claimed", "r"), Evidence(right, "asserted", "r")))

    (data,) = events_of(said(sender=sender))

    assert [one.identifier.value for one in data.sender.also] == ["ana@example.org"]


@pytest.mark.parametrize(
    ("fact", "told"),
    [
        (said(sender=Sender(tel("12"))), "not a phone number"),
        (said(id="a\0b"), "no NUL"),
        (said(at=datetime(2026, 1, 1)), "without zone"),
        (said(at=datetime(1, 1, 1, tzinfo=UTC)), "before 1990"),
        (said(leg="mms"), "leg 'mms' is not declared; legs are sms"),
        (said(parts=(Part("contact", data={"a\0": "x"}),)), "holds NUL"),
    ],
)
def test_what_cannot_be_an_event_says_why(fact: Fact, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        events_of(fact)


def test_a_stranger_to_the_contract_is_a_bug_of_the_channel() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Invented(Fact):
        pass

    with pytest.raises(TypeError, match="Invented is not a fact of the contract"):
        events_of(Invented(id="1", at=None))


def test_national_numbers_are_read_by_the_accounts_country_alone() -> None:
    german = OURS.model_copy(update={"region": "DE"})
    fact = said(sender=Sender(tel("01511 2345678")))

    assert complete(PIGEON, german, fact, KEY, NOW).data.party == keyed(KEY, tel("+4915112345678"))
    with pytest.raises(ValueError, match="with its country"):
        events_of(fact)


def test_a_reaction_taken_back_and_given_again_is_three_events() -> None:
    who = Sender(tel("+4915112345678"))
    facts = [Reacted(id="p-1", at=None, sender=who, emoji=e, revision=r) for e, r in (("👍", "1"), ("", "2"), ("👍", "3"))]
    found = [complete(PIGEON, OURS, fact, KEY, NOW) for fact in facts]

    assert len({event.id for event in found}) == 3
    assert [event.data.type for event in found] == [
        "hilo.reaction.added.v1",
        "hilo.reaction.removed.v1",
        "hilo.reaction.added.v1",
    ]


def test_an_echo_and_our_own_report_of_a_message_are_two_events_about_one_entry() -> None:
    """Neither may hide the other: the report knows our id, the echo the provider's text."""
    from services.ingest.contract import Echoed

    echo = complete(PIGEON, OURS, Echoed(id="x", at=NOW, party=tel("+4915112345678"), parts=(text("a"),)), KEY, NOW)

    assert echo.id != event_id("acme", "pigeon", "main", "x", "message.sent")
    assert isinstance(echo.data, events.MessageSent)
    assert echo.data.echo


class Mine(Account):
    number: str


class Said(Payload):
    id: str
    who: str = "+4915112345678"


def fine(account: Mine, m: Said) -> Facts:
    yield Typing(id="t", at=None, sender=Sender(tel(m.who)))
    yield Received(id=m.id, at=None, sender=Sender(tel(m.who)), parts=(text("x"),))


def unannotated(account, said):  # type: ignore[no-untyped-def]
    return []


def channel(**more: Any) -> Channel[Mine]:
    values: dict[str, Any] = {
        "name": "mine",
        "title": "Mine",
        "docs": "https://x",
        "account": Mine,
        "legs": {"a": Leg("private")},
        "doors": (Webhook(Token("x", "y")),),
        "unpack": each("items[]", kind="type"),
        "kinds": {"said": fine},
    }
    return Channel(**{**values, **more})


MINE = Mine(tenant="acme", id="m", number="1")


def raw(*items: Any) -> Raw:
    return Raw(json.dumps({"items": items}).encode(), received_at=NOW)


def test_typing_is_told_apart_and_never_among_the_events() -> None:
    outcome = normalize(channel(), [MINE], raw({"type": "said", "id": "1"}), KEY)

    assert [event.data.type for event in outcome.live] == ["hilo.participant.typing.v1"]
    assert [event.data.type for event in outcome.events] == ["hilo.message.received.v1"]


def test_each_item_is_counted_once_and_alone() -> None:
    items = ({"type": "said", "id": "1"}, {"type": "new"}, {"type": "said"}, "junk", {"type": "said", "id": "2", "who": "x"})
    outcome = normalize(channel(), [MINE], raw(*items), lambda *_: KEY)

    assert (outcome.items, outcome.normalized, len(outcome.quarantined), len(outcome.unused)) == (5, 1, 3, 1)
    assert [one.path for one in outcome.quarantined] == ["items[2]", "items[3]", "items[4]"]
    assert outcome.events[0].data.place == 0
    assert outcome.balances


@pytest.mark.parametrize("body", [b'{"items": []}', b"{}"])
def test_an_empty_input_counts_as_one_that_was_ignored(body: bytes) -> None:
    outcome = normalize(channel(), [MINE], Raw(body, received_at=NOW), KEY)

    assert (outcome.items, outcome.unused[0].kind, outcome.balances) == (1, "empty", True)


def test_a_bug_is_quarantined_and_told_apart_from_bad_data() -> None:
    def broken(account: Mine, m: Said) -> Facts:
        raise KeyError(m.id)

    one = normalize(channel(kinds={"said": broken}), [MINE], raw({"type": "said", "id": "1"}), KEY).quarantined[0]

    assert one.bug
    assert one.slice == {"type": "said", "id": "1"}


def test_reasons_never_repeat_what_was_sent() -> None:
    outcome = normalize(channel(), [MINE], raw({"type": "said", "id": ["ana@example.org"]}), KEY)

    assert "ana" not in outcome.quarantined[0].reason


WORDS = st.sampled_from(
    "entry changes value messages metadata message id from text chat type messaging items update_id".split()
)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6) | WORDS, inner, max_size=5),
    max_leaves=25,
)


@given(document=JSONS, index=st.integers(0, len(BUILT_IN) - 1))
@settings(max_examples=300, deadline=None)
def test_any_document_balances_and_finds_no_bug(document: Any, index: int) -> None:
    one = BUILT_IN[index]
    account = one.account.model_construct(tenant="acme", id="x", region=None, **dict.fromkeys(_own(one), "x"))
    outcome = normalize(one, [account], Raw(json.dumps(document).encode(), received_at=NOW, door=one.doors[0].name), KEY)

    assert outcome.balances
    assert not [found for found in outcome.quarantined if found.bug]
    for event in outcome.events:
        encode("hilo.events", event)


def _own(one: Channel[Any]) -> list[str]:
    return [name for name in one.account.model_fields if name not in ("tenant", "id", "region")]


@given(document=JSONS, path=st.text("a.[]0", max_size=10))
def test_a_node_never_raises(document: Any, path: str) -> None:
    node = Node(document)
    list(node.walk(path))
    list(node.each(path, kind="type"))
    list(node.others("a"))
    node.get(path)


# -- planning and reading ------------------------------------------------------------------------------------------------


@given(
    value=st.text(st.sampled_from("aé🙂 \n"), max_size=300),
    size=st.integers(4, 40),
    unit=st.sampled_from(["chars", "utf16", "bytes"]),
)
def test_pieces_fit_and_nothing_but_space_is_lost(value: str, size: int, unit: Any) -> None:
    can = Can("text", size, unit)
    pieces = list(split(value, can))

    assert all(fit(piece, can) == len(piece) and piece.strip() for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(value.split())


def test_long_texts_are_split_in_the_unit_of_the_leg() -> None:
    pieces = plan(TELEGRAM, "chat", (text("🙂" * 3000),))

    assert [len(piece.text or "") for piece in pieces] == [2048, 952]


def test_what_a_leg_cannot_carry_is_refused_with_what_it_can() -> None:
    with pytest.raises(NotPossible, match="instagram: leg 'comment' cannot send image; it sends text"):
        plan(INSTAGRAM, "comment", (Part("image", ref="r"),))
    with pytest.raises(NotPossible, match="takes image up to 5 MB"):
        plan(WHATSAPP, "chat", (Part("image", ref="r", media_type="image/png", size=6_000_000),))


def test_a_caption_that_does_not_fit_follows_as_text() -> None:
    picture = Part("image", text="ä" * 1100, ref="r", media_type="image/png")

    assert [part.kind for part in plan(WHATSAPP, "chat", (picture,))] == ["image", "text"]
    assert plan(WHATSAPP, "chat", (replace(picture, text="kurz"),)) == [replace(picture, text="kurz")]


def test_buttons_are_written_out_where_there_are_none() -> None:
    asked = Part("buttons", text="Passt das?", data={"yes": "Ja", "no": "Nein"})

    assert plan(INSTAGRAM, "comment", (asked,)) == [text("Passt das?\n- Ja\n- Nein")]
    assert plan(WHATSAPP, "chat", (asked,)) == [asked]
    many = replace(asked, data={str(n): f"Wahl {n}" for n in range(11)})
    assert plan(WHATSAPP, "chat", (many,))[0].kind == "text"
    assert [part.kind for part in plan(WHATSAPP, "chat", (replace(asked, text="ä " * 1000),))] == ["text", "buttons"]


def out(leg: str) -> Outgoing:
    return Outgoing("o-1", leg, "t-1", text("hallo"))


@pytest.mark.parametrize(
    ("channel", "response", "expected"),
    [
        (WHATSAPP, Response(200, b'{"messages":[{"id":"wamid.9"}]}'), Sent("wamid.9")),
        (WHATSAPP, Response(200, b'{"messages":[{"id":{"a":1}}]}'), Unknown("accepted, but the answer names no id")),
        (WHATSAPP, Response(200, b"{}"), Unknown("accepted, but the answer names no id")),
        (
            WHATSAPP,
            Response(400, b'{"error":{"code":131047}}'),
            Failed("more than 24 h since the last message", then="template"),
        ),
        (WHATSAPP, Response(400, b'{"error":{"code":131056}}'), Retry("too fast for this person", 6)),
        (WHATSAPP, Response(400, b'{"error":{"code":[]}}'), Failed("400")),
        (WHATSAPP, Response(401, b'{"error":{"code":190}}'), Failed("token expired", then="fix_account")),
        (WHATSAPP, Response(502, b"<html>"), Unknown("502")),
        (WHATSAPP, None, Unknown("no answer")),
        (TELEGRAM, Response(429, b'{"error_code":429,"parameters":{"retry_after":17}}'), Retry("too fast", 17)),
        (TELEGRAM, Response(200, b'{"result":{"message_id":5}}'), Sent("t-1:5")),
        (TELEGRAM, Response(403, b'{"error_code":403}'), Failed("blocked by the user", then="other_leg")),
        (EMAIL, Response(250), Sent("o-1")),
        (EMAIL, Response(450), Retry("the mail server is busy")),
        (EMAIL, Response(550), Failed("no such mailbox", then="other_leg")),
        (WEBCHAT, Response(200, b'{"n":3}'), Sent("o-1")),
        (PIGEON, Response(500), Unknown("500")),
    ],
)
def test_answers_are_read_from_a_table(channel: Channel[Any], response: Response | None, expected: Result) -> None:
    leg = next(name for name, leg in channel.legs.items() if leg.sends and leg.visibility == "private")

    assert read(channel, out(leg), Request("POST", "u"), response) == expected


def test_a_lost_answer_may_be_tried_again_only_where_a_second_one_is_dropped() -> None:
    assert read(PIGEON, out("sms"), Request("POST", "u", idempotent=True), None) == Retry("no answer")
    assert read(PIGEON, out("sms"), Request("POST", "u", idempotent=True), Response(503)) == Retry("503")


# -- declarations --------------------------------------------------------------------------------------------------------


def test_form_matrix_and_record_come_from_the_declaration() -> None:
    told = declared(INSTAGRAM)

    assert form(TELEGRAM)["properties"]["token"]["writeOnly"] is True
    assert matrix_row(INSTAGRAM, ())["private_reply"] == ["comment -> dm", "live -> dm"]
    assert (told.handoffs[0].within_s, told.legs["dm"].window_s) == (7 * 24 * 3600, 24 * 3600)
    assert told.legs["live"].actions == ()
    assert {"kind": "text", "size": 2200} in told.legs["comment"].sends
    assert decode(encode("hilo.channels", _as_event(told))).data == told


def _as_event(data: Any) -> Any:
    from services.common.cloudevents import Event

    return Event(id="1", tenant="", key="k", time=NOW, data=data)


def test_an_account_is_described_with_its_invitation_and_no_secret() -> None:
    account = TELEGRAM.account(tenant="acme", id="bot", bot="acme_bot", token=Secret("1:x"), webhook_secret=Secret("w"))
    told = described(TELEGRAM, account, title="Hilfe", hours={"mon": "9-17"})

    assert isinstance(told, AccountDescribed)
    assert (told.invite, told.contact) == ("https://t.me/acme_bot?start={code}", ("@acme_bot",))
    assert "1:x" not in told.model_dump_json() + repr(account)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kinds": {"said": unannotated}}, "mine: kinds['said'] is unannotated(...): annotate its second parameter"),
        ({"address": "phone"}, "mine: address='phone' is not a field of Mine; it has id, number, region, tenant."),
        ({"ignores": {"said": "no use"}}, "mine: said stand in both `kinds` and `ignores`; keep one."),
        ({"doors": (Webhook(Token("x", "y")),) * 2}, "mine: two doors share a name"),
    ],
)
def test_a_wrong_declaration_says_what_to_write(change: dict[str, Any], told: str) -> None:
    with pytest.raises(Misdeclared) as error:
        channel(**change)

    assert str(error.value).startswith(told)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("leg: sms", "leg: mms", "kinds.inbound.leg is 'mms'; legs are sms."),
        (
            "secret: signing_key",
            "secret: key",
            "webhook.verify.secret is 'key'; the secrets of account are api_key, signing_key.",
        ),
        ("{thread}", "{recipient}", "send.requests.message uses {recipient}; it can use account.api_key"),
        ("fact: receipt", "fact: recept", "kinds.report"),
        ("title: Nimbus SMS", "titel: x", "title: Field required"),
        ("channel: nimbus", "channel: [", "is not a channel yet"),
    ],
)
def test_a_wrong_yaml_file_says_where(tmp_path: Path, old: str, new: str, told: str) -> None:
    file = tmp_path / "channel.yaml"
    file.write_text(YAML.read_text().replace(old, new))

    with pytest.raises(Misdeclared) as error:
        load(file)

    assert told in str(error.value)


def test_channels_come_from_three_places_and_a_broken_one_stops_no_other(tmp_path: Path) -> None:
    shutil.copy(YAML, tmp_path / "nimbus.yaml")
    (tmp_path / "storm.yaml").write_text("channel: storm\n")
    (tmp_path / "rain.yaml").write_text("{")
    points = [
        EntryPoint("telegram", "services.ingest.channels.telegram:CHANNEL", GROUP),
        EntryPoint("gone", "no_such_package:CHANNEL", GROUP),
        EntryPoint("slack", "services.ingest.channels.email:CHANNEL", GROUP),
        EntryPoint("mail", "services.ingest.channels.email:Email", GROUP),
        EntryPoint("pigeon", "tests.contract.examples.pigeon:CHANNEL", GROUP),
    ]

    found = registry([PIGEON], points, tmp_path)

    assert {"pigeon", "telegram", "nimbus"} == set(found.channels)
    assert {"gone", "slack", "mail", "pigeon", "storm", "rain"} == set(found.broken)
    assert "both must be the same" in found.broken["slack"]
    assert "point to the CHANNEL value" in found.broken["mail"]
    assert "title: Field required" in found.broken["storm"]


def test_a_yaml_channel_reads_the_same_event_as_one_in_python() -> None:
    account = NIMBUS.account.model_validate(
        {"tenant": "acme", "id": "n", "number": "+4930123", "api_key": "a", "signing_key": "b"}
    )
    item = {"type": "inbound", "message_id": "1", "from": "+4915112345678", "body": "Grüße", "sent_at": 1772366300}
    (event,) = normalize(NIMBUS, [account], Raw(json.dumps({"messages": [item]}).encode(), received_at=NOW), KEY).events

    assert isinstance(event.data, events.MessageReceived)
    assert (event.data.parts, event.data.at) == ((text("Grüße"),), datetime(2026, 3, 1, 11, 58, 20, tzinfo=UTC))


# -- secrets and schemes -------------------------------------------------------------------------------------------------


def test_secrets_are_shown_nowhere() -> None:
    account = Pigeon(tenant="a", id="b", number="+49", api_key=Secret("hush-1", "hush-0"), signing_key=Secret("hush-2"))

    assert "hush" not in f"{account!r} {account} {account.model_dump()} {account.model_dump_json()}"
    for wrong in ("", [], [""], 7, ["a", 7], None):
        with pytest.raises(ValidationError):
            Pigeon.model_validate({"tenant": "a", "id": "b", "number": "+49", "api_key": wrong, "signing_key": "s"})


class Keys(Account):
    secret: Secret
    public_key: str = ""


def signed(scheme: Any, account: Keys, message: Raw) -> Raw:
    found = scheme.sign(account, message)
    scheme.check(account, found)
    assert isinstance(found, Raw)
    return found


@pytest.mark.parametrize(
    "scheme",
    [
        Hmac("x-sig", "secret"),
        Hmac("x-sig", "secret", digest="sha1", encoding="base64", prefix="v0="),
        Hmac("x-sig", "secret", stamp="x-stamp", over=lambda raw: raw.headers["x-stamp"].encode() + b"." + raw.body),
        Token("x-token", "secret"),
        BasicAuth("hilo", "secret"),
    ],
)
def test_a_scheme_accepts_what_was_signed_and_nothing_else(scheme: Any) -> None:
    account, message = Keys(tenant="a", id="b", secret=Secret("new", "old")), Raw("Grüße".encode(), received_at=NOW)
    by_old = scheme.sign(Keys(tenant="a", id="b", secret=Secret("old")), message)
    header = (scheme.header if hasattr(scheme, "header") else "authorization").lower()
    found = signed(scheme, account, message)
    scheme.check(account, by_old)

    for wrong in ({}, {header: ""}, {header: "\udcff"}, {**found.headers, header: found.headers[header] + "x"}):
        with pytest.raises(Refused):
            scheme.check(account, replace(found, headers=wrong))
    with pytest.raises(Refused):
        scheme.check(Keys(tenant="a", id="b", secret=Secret("other")), found)


def test_ed25519_covers_stamp_and_body() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
    public = private.public_key().public_bytes_raw().hex()
    scheme = Ed25519("x-signature", "x-stamp", "public_key", signer=lambda _, message: private.sign(message))
    account = Keys(tenant="a", id="b", secret=Secret("x"), public_key=public)
    found = signed(scheme, account, Raw(b"{}", received_at=NOW))

    for wrong in (
        replace(found, body=b"{ }"),
        replace(found, headers={**found.headers, "x-stamp": "1"}),
        replace(found, headers={**found.headers, "x-signature": "zz"}),
        replace(found, received_at=NOW + timedelta(hours=1)),
    ):
        with pytest.raises(Refused):
            scheme.check(account, wrong)


def test_a_handshake_echoes_the_challenge_and_reaches_no_log() -> None:
    account = WHATSAPP.account(
        tenant="a", id="b", phone_number_id="1", number="+49", portfolio="p",
        access_token=Secret("t"), app_secret=Secret("s"), verify_token=Secret("new", "old"),
    )  # fmt: skip
    query = {"hub.mode": "subscribe", "hub.verify_token": "old", "hub.challenge": "42"}
    verdict = admit(WHATSAPP, account, Raw(b"", query=query, method="GET"))

    assert (verdict.reply.body, verdict.keep) == (b"42", False)
    assert admit(WHATSAPP, account, Raw(b"", query={**query, "hub.verify_token": "no"})).reply.status == 401
    assert admit(WEBCHAT, account, Raw(b"", door="session")).reply.status == 404


def test_only_declared_fields_are_shown() -> None:
    body = {"type": "message", "text": "geheim", "more": [{"type": "x", "name": "Ana"}], "empty": None, "yes": True}

    assert json.loads(masked(channel(), Raw(json.dumps(body).encode()))) == {
        "type": "message",
        "text": "***",
        "more": [{"type": "x", "name": "***"}],
        "empty": None,
        "yes": True,
    }
    assert masked(channel(), Raw(b"From: ana@example.org")) == "(21 bytes)"


def test_an_id_that_is_written_as_a_number_is_a_text_and_names_in_camel_case_are_read() -> None:
    class Wire(CamelPayload):
        message_id: str
        sent_at: Moment

    found = Wire.model_validate({"messageId": 12345678901234567890, "sentAt": "2026-03-01T12:00:00"})

    assert (found.message_id, found.sent_at) == ("12345678901234567890", datetime(2026, 3, 1, 12, tzinfo=UTC))


def test_half_an_emoji_becomes_a_mark_and_can_be_written() -> None:
    assert Raw(b'{"a": "cut \\ud83d", "b": "\\ud83d\\ude00"}').json() == {"a": "cut \ufffd", "b": "😀"}
