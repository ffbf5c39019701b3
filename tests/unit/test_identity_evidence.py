"""What evidence an event carries, and what no event can make evidence."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.common.cloudevents import Event
from services.common.errors import Poison
from services.common.events import Data, Fact, JourneyStep, MessageReceived, MessageSent, Part, ReactionAdded
from services.common.identifiers import Evidence, Identifier, Proof, Sender, Strength
from services.identity.evidence import Carried, carried, micros, moment, stop
from services.identity.rules import LIMITS, Rules, read_rules

RULES = Rules()
AT = datetime(2026, 3, 1, 12, 0, 0, 7, tzinfo=UTC)


def who(scheme: str, value: str, scope: str = "") -> Identifier:
    return Identifier(scheme, value, scope, f"{scheme}-{abs(hash(value)) % 10**6}")


CHAT, TEL, EMAIL = who("telegram", "7"), who("tel", "+491511234567"), who("email", "ana@ejemplo.es")


def event(data: Fact) -> Event[Data]:
    return Event("e1", "acme", data.party.key if data.party else "entry", AT, data, "telegram", "bot")


def said(*also: Evidence, proof: Proof = "channel", sender: Identifier = CHAT, party: Identifier | None = CHAT) -> Carried:
    data = MessageReceived(
        provider_id="m1", party=party, received_at=AT, sender=Sender(sender, "Ana", also, proof), parts=(Part("text", "x"),)
    )
    return carried(event(data), RULES)


def of(identifier: Identifier, strength: Strength = "verified") -> Evidence:
    return Evidence(identifier, strength, "said")


def test_a_message_shows_its_sender_and_what_the_channel_says_of_it() -> None:
    found = said(of(TEL), of(EMAIL, "asserted"))

    assert (found.party, found.anchor, found.at) == (CHAT.key, CHAT.key, micros(AT))
    assert found.members.keys() == {CHAT.key, TEL.key, EMAIL.key}
    assert {(e.strength, e.rule, e.source, e.events) for e in found.edges} == {
        ("verified", "said", "telegram/bot", ((micros(AT), "e1"),)),
        ("asserted", "said", "telegram/bot", ((micros(AT), "e1"),)),
    }
    assert [(p.key, p.name) for p in found.profiles] == [(CHAT.key, "Ana"), (TEL.key, None), (EMAIL.key, None)]


@pytest.mark.parametrize("proof", ["none", "claimed"])
def test_what_a_sender_that_is_only_claimed_says_is_claimed_at_most(proof: Proof) -> None:
    found = said(of(TEL), of(EMAIL, "inferred"), proof=proof)

    assert [e.strength for e in found.edges] == ["claimed", "inferred"]
    assert found.members.keys() == {CHAT.key}


@pytest.mark.parametrize("proof", ["channel", "account"])
def test_what_a_proven_sender_says_counts_as_it_is(proof: Proof) -> None:
    assert [e.strength for e in said(of(TEL), proof=proof).edges] == ["verified"]


def test_a_claimed_identifier_is_a_suggestion_and_no_member() -> None:
    found = said(of(EMAIL, "claimed"))

    assert found.members.keys() == {CHAT.key}
    assert [e.strong for e in found.edges] == [False]


def test_a_value_that_never_links_is_kept_as_a_value_and_is_no_member() -> None:
    role = who("email", "info@ejemplo.es")
    found = said(of(role))

    assert found.members.keys() == {CHAT.key}
    assert role.key in {p.key for p in found.profiles}


def test_a_message_of_ours_shows_its_party_and_says_nothing_about_it() -> None:
    found = carried(event(MessageSent(provider_id="m1", party=CHAT, received_at=AT)), RULES)

    assert (found.party, found.edges, found.members[CHAT.key].proof) == (CHAT.key, (), "none")


def test_what_somebody_else_does_to_the_partys_message_is_no_evidence_about_the_party() -> None:
    stranger = Sender(who("telegram", "99"), "Bo", (of(TEL),))
    found = carried(event(ReactionAdded(provider_id="m1", party=CHAT, received_at=AT, sender=stranger)), RULES)

    assert (found.party, set(found.members), found.edges) == (CHAT.key, {CHAT.key}, ())


def test_evidence_without_a_party_is_heard_and_the_event_belongs_to_nobody() -> None:
    found = said(of(TEL), party=None)

    assert found.party is None
    assert found.members.keys() == {CHAT.key, TEL.key}


def test_an_order_asserts_identities() -> None:
    sender = Sender(who("user", "u1", "shop"), None, (of(EMAIL, "asserted"),), "account")
    step = JourneyStep(type="hilo.order.placed.v1", provider_id="o1", party=sender.id, received_at=AT, sender=sender)

    assert [e.strength for e in carried(event(step), RULES).edges] == ["asserted"]


def test_what_a_sender_says_of_itself_alone_is_no_edge() -> None:
    assert said(of(CHAT)).edges == ()


@pytest.mark.parametrize("key", ["", "a.b", "$set", "x" * 65, "ü"])
def test_a_key_that_cannot_stand_in_a_field_path_is_poison(key: str) -> None:
    with pytest.raises(Poison):
        said(of(replace(TEL, key=key)))


@pytest.mark.parametrize(
    ("scheme", "value", "reason"),
    [
        ("email", "test@test.com", "blocked"),
        ("email", "info@ejemplo.es", "role"),
        ("email", "no-reply@ejemplo.es", "role"),
        ("email", "support+42@ejemplo.es", "role"),
        ("email", "ana@mailinator.com", "disposable"),
        ("email", "ana@x.mailinator.com", "disposable"),
        ("email", "mel***@ejemplo.es", "masked"),
        ("email", "ana@ejemplo.es", ""),
        ("tel", "+10000000000", "blocked"),
        ("tel", "+4900000000", "blocked"),
        ("tel", "+18005551234", "service"),
        ("tel", "+491511234567", ""),
        ("tel", "+493012345678;ext=12", ""),
        ("user", "null", "blocked"),
        ("user", "Undefined", "blocked"),
        ("webchat", "[object Object]", "blocked"),
        ("telegram", "77", ""),
    ],
)
def test_values_that_are_nobodys_never_link(scheme: str, value: str, reason: str) -> None:
    assert stop(Identifier(scheme, value), RULES) == reason


def test_times_keep_their_microseconds() -> None:
    assert moment(micros(AT)) == AT


def test_rules_of_a_file_are_added_to_the_default_ones_and_a_wrong_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("limits: {badge: {per_scope: 1}, tel: {per_customer: 9}}\nshared_from: 4\n")
    rules = read_rules(file)

    assert (rules.limit("badge").per_scope, rules.limit("tel").per_customer, rules.shared_from) == (1, 9, 4)
    assert rules.limit("user") == LIMITS["user"]
    file.write_text("shared_form: 4\n")
    with pytest.raises(ValueError, match="shared_form"):
        read_rules(file)
    with pytest.raises(ValueError, match="HILO_IDENTITY_RULES"):
        read_rules(tmp_path / "nowhere.yaml")
