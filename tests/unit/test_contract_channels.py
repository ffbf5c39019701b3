"""What the kit cannot ask of every channel: whom each platform's oddities must not confuse, and what must not be believed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.common import events
from services.common.identifiers import piece_id
from services.ingest import channels
from services.ingest.channels.email import CHANNEL as EMAIL
from services.ingest.channels.email import attachment
from services.ingest.channels.email.html import text_of
from services.ingest.channels.email.replies import newest
from services.ingest.channels.instagram import CHANNEL as INSTAGRAM
from services.ingest.channels.journey import CHANNEL as JOURNEY
from services.ingest.channels.telegram import CHANNEL as TELEGRAM
from services.ingest.channels.webchat import CHANNEL as WEBCHAT
from services.ingest.channels.whatsapp import CHANNEL as WHATSAPP
from services.ingest.channels.whatsapp.payloads import Contact
from services.ingest.contract import Channel, Outcome, Outgoing, Raw, Response, described, media_link, request_for, text
from services.ingest.contract.kit import Subject, load, receives

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(channels.__file__).parent


def subject(channel: Channel[Any]) -> Subject:
    return load(channel, ROOT / channel.name / "fixtures")


def outcome(channel: Channel[Any], fixture: str) -> Outcome:
    ours = subject(channel)
    return ours.outcome(next(one.raw for one in ours.fixtures if one.name == fixture))


def given(channel: Channel[Any], document: object, headers: Mapping[str, str] | None = None) -> Outcome:
    door = channel.doors[0].name
    return subject(channel).outcome(Raw(json.dumps(document).encode(), headers or {}, received_at=NOW, door=door))


def whatsapp(contacts: list[Any], *messages: Any) -> list[events.Fact]:
    value = {"metadata": {"phone_number_id": "1055"}, "contacts": contacts, "messages": list(messages)}
    body = {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}]}
    return [event.data for event in given(WHATSAPP, body).events]


def word(number: int, **who: str) -> dict[str, Any]:
    return {"id": f"wamid.{number}", "timestamp": "1772366300", "type": "text", "text": {"body": "Grüße"}, **who}


# -- WhatsApp: who is who in a batch --------------------------------------------------------------------------------------


def test_the_contact_of_a_batch_is_matched_by_an_id_that_is_present() -> None:
    """Ana has no user id and Bob no phone. Were None equal to None, each would be taken for the other, and two strangers
    would become one customer."""
    ana = {"wa_id": "4915112345678", "profile": {"name": "Ana"}}
    bob = {"user_id": "DE.2XYZ", "profile": {"name": "Bob"}}
    for contacts in ([ana, bob], [bob, ana]):
        first, second = whatsapp(contacts, word(1, **{"from": "4915112345678"}), word(2, from_user_id="DE.2XYZ"))
        assert isinstance(first, events.Said)
        assert isinstance(second, events.Said)

        assert (first.sender.id.scheme, first.sender.name, first.sender.also) == ("tel", "Ana", ())
        assert (second.sender.id.scheme, second.sender.name, second.sender.also) == ("whatsapp", "Bob", ())


@pytest.mark.parametrize("contact", [Contact(), Contact(wa_id=""), Contact(user_id=""), Contact(wa_id="49151", user_id="DE.1")])
def test_an_absent_id_is_nobodys(contact: Contact) -> None:
    assert not contact.is_of(None, None)
    assert not contact.is_of("", "")
    assert not contact.is_of("DE.2", "49152")


def test_a_stranger_beside_a_contact_does_not_inherit_its_name_or_number() -> None:
    ana = {"wa_id": "4915112345678", "user_id": "DE.1", "profile": {"name": "Ana"}}
    (fact,) = whatsapp([ana], word(3, from_user_id="DE.2XYZ"))

    assert isinstance(fact, events.Said)
    assert (fact.sender.name, fact.sender.also) == (None, ())


def test_with_both_ids_the_number_is_verified_evidence_for_the_user_id() -> None:
    (fact,) = whatsapp([], word(4, from_user_id="DE.1", **{"from": "4915112345678"}))

    assert isinstance(fact, events.Said)
    assert (fact.sender.id.scheme, fact.sender.id.scope, fact.thread) == ("whatsapp", "bp1", "DE.1")
    assert [(e.identifier.value, e.strength) for e in fact.sender.also] == [("+4915112345678", "verified")]


def test_a_changed_number_links_the_ids_and_trusts_the_old_number_less() -> None:
    found = [event.data for event in outcome(WHATSAPP, "system").events]
    assert isinstance(found[0], events.IdentityAsserted)

    assert {(e.rule, e.strength) for e in found[0].sender.also} == {
        ("whatsapp-changed-id", "verified"),
        ("whatsapp-phone", "verified"),
        ("whatsapp-changed-number", "asserted"),
    }


def test_one_batch_for_two_numbers_reaches_two_accounts() -> None:
    assert {event.account for event in outcome(WHATSAPP, "batch").events} == {"main", "second"}


def test_what_a_colleague_wrote_in_the_app_belongs_to_the_customer() -> None:
    echoes = [event.data for event in outcome(WHATSAPP, "echoes").events]

    assert [(one.party and one.party.value, one.thread) for one in echoes] == [
        ("DE.1ABCDEF", "DE.1ABCDEF"),
        ("DE.2XYZ", "DE.2XYZ"),
    ]
    assert all(isinstance(one, events.MessageSent) and one.echo for one in echoes)


def test_a_group_is_public_and_never_the_private_leg() -> None:
    (event,) = outcome(WHATSAPP, "group").events

    assert (event.data.leg, event.data.visibility, event.data.thread) == ("group", "public", "grp-1")


def test_our_piece_comes_back_in_every_status() -> None:
    found = outcome(WHATSAPP, "statuses").events
    first = [event.data for event in found[:3]]

    assert {getattr(one, "correlation", None) for one in first} == {"7c9e6679-7425-40de-944b-e07fc1f90ae7"}
    assert [event.data.then for event in found if isinstance(event.data, events.MessageFailed)] == ["template", "stop_contact"]


# -- Instagram: public and private ----------------------------------------------------------------------------------------


def test_a_comment_is_public_a_message_private_and_the_person_the_same() -> None:
    comments, direct = (outcome(INSTAGRAM, name).events for name in ("comments", "direct"))

    assert {event.data.visibility for event in comments} == {"public"}
    assert {event.data.visibility for event in direct} == {"private"}
    assert comments[0].key == direct[0].key


def test_the_same_id_on_two_accounts_is_two_people() -> None:
    def dm(ours: str) -> dict[str, Any]:
        message = {"mid": f"m-{ours}", "text": "hi"}
        return {
            "id": ours,
            "time": 1772366300,
            "messaging": [{"sender": {"id": "5"}, "recipient": {"id": ours}, "timestamp": 1772366300123, "message": message}],
        }

    first, second = given(INSTAGRAM, {"entry": [dm("17841400001"), dm("17841400002")]}).events

    assert {first.account, second.account} == {"main", "outlet"}
    assert first.key != second.key


def test_the_private_reply_goes_to_the_comment_and_later_ones_to_the_person() -> None:
    account = subject(INSTAGRAM).accounts[0]

    def recipient(**more: Any) -> Any:
        out = Outgoing(**{"id": piece_id("o", 1), "leg": "dm", "thread": "7788001", "part": text("hallo"), **more})
        return json.loads(request_for(INSTAGRAM, account, out).body)["recipient"]

    assert recipient(opens="17900001") == {"comment_id": "17900001"}
    assert recipient() == {"id": "7788001"}


def test_a_link_in_a_new_thread_and_in_an_old_one_are_both_seen() -> None:
    refs = [event.data.ref for event in outcome(INSTAGRAM, "links").events if isinstance(event.data, events.ReferralFollowed)]

    assert refs == ["HILO-2X4P-9KWM", "HILO-7QRT-3BCD"]


# -- Telegram: whose number ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fixture", "proven"), [("own_contact", 1), ("other_contact", 0), ("forwarded_contact", 0)])
def test_a_phone_number_is_proven_only_by_its_owners_own_card(fixture: str, proven: int) -> None:
    (event,) = outcome(TELEGRAM, fixture).events

    assert isinstance(event.data, events.Said)
    assert len(event.data.sender.also) == proven


def test_the_same_number_in_two_chats_is_two_messages_in_order() -> None:
    first, second = (outcome(TELEGRAM, name).events[0] for name in ("text", "same_number_elsewhere"))

    assert first.id != second.id
    assert (first.data.sequence, second.data.sequence) == (7, 7)


def test_a_file_is_fetched_from_the_path_that_telegram_names() -> None:
    account = subject(TELEGRAM).accounts[0]

    told = media_link(TELEGRAM, account, Response(200, b'{"ok":true,"result":{"file_path":"photos/file 1.jpg"}}'))

    assert told == "https://api.telegram.org/file/bot110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/photos/file%201.jpg"
    assert media_link(TELEGRAM, account, Response(400, b"{}")) is None
    assert (
        media_link(WHATSAPP, account, Response(200, b'{"url": "https://lookaside.example/1"}')) == "https://lookaside.example/1"
    )
    assert media_link(EMAIL, account, Response(200)) is None


# -- email: who wrote, and what --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fixture", "address", "proof"),
    [
        ("first", "ana@example.org", "channel"),
        ("spoofed", "mallory@example.com", "claimed"),
        ("two_authors", "ana@example.org", "claimed"),
        ("no_message_id", "ana@example.org", "channel"),
    ],
)
def test_a_sender_is_as_sure_as_what_was_authenticated(fixture: str, address: str, proof: str) -> None:
    data = outcome(EMAIL, fixture).events[0].data
    assert isinstance(data, events.Said)

    assert (data.sender.id.value, data.sender.proof) == (address, proof)


def mail(body: str, *, headers: str = "", auth: str = "dmarc=pass", **envelope: str) -> Outcome:
    written = f"From: ana@example.org\nMessage-ID: <z1@example.org>\n{headers}\n{body}".encode()
    told = {"mail-from": "ana@example.org", "rcpt-to": "help@acme.example", "auth-results": auth, **envelope}
    return subject(EMAIL).outcome(Raw(written, told, received_at=NOW, door="mail"))


@pytest.mark.parametrize("auth", ["", "dmarc=fail", "dmarc=none", "x-dmarc=passed; dmarc=temperror", "dmarc=passable"])
def test_only_an_exact_pass_authenticates(auth: str) -> None:
    (event,) = mail("Hallo", auth=auth).events

    assert isinstance(event.data, events.Said)
    assert event.data.sender.proof == "claimed"


def test_an_authentication_result_inside_the_mail_is_not_believed() -> None:
    (event,) = mail("Hallo", headers="Authentication-Results: mx; dmarc=pass\n", auth="dmarc=fail").events

    assert isinstance(event.data, events.Said)
    assert event.data.sender.proof == "claimed"


@pytest.mark.parametrize(("fixture", "told"), [("away", "an automatic"), ("newsletter", "mass mail"), ("own", "of our own")])
def test_machines_are_not_answered(fixture: str, told: str) -> None:
    found = outcome(EMAIL, fixture)

    assert not found.events
    assert told in found.unused[0].reason


def test_a_mail_through_a_list_is_somebodys_mail() -> None:
    assert mail("Hallo", headers="Precedence: list\nList-Id: <support.example.org>\n").events


def test_a_message_id_that_was_used_before_keeps_no_other_mail_out() -> None:
    first, second = mail("Hallo"), mail("Etwas ganz anderes")

    assert first.events[0].id != second.events[0].id
    assert first.events[0].id == mail("Hallo", **{"rcpt-to": "info@acme.example"}).events[0].id


def test_a_bounce_fails_the_piece_that_it_is_about_and_no_other() -> None:
    (event,) = outcome(EMAIL, "bounce").events

    assert isinstance(event.data, events.MessageFailed)
    assert (event.data.correlation, event.data.then) == ("7c9e6679-7425-40de-944b-e07fc1f90ae7", "other_leg")
    assert not outcome(EMAIL, "bounce_foreign").events
    assert not outcome(EMAIL, "bounce_delayed").events


def test_the_whole_mail_stays_beside_the_new_words() -> None:
    said = outcome(EMAIL, "reply").events[0].data
    assert isinstance(said, events.Said)

    assert said.parts[0].text == "Grüße, hier das Foto und der Beleg."
    assert "haben Sie ein Foto?" in said.parts[0].data["full"]


def test_an_attachment_is_found_again_by_its_reference() -> None:
    ours = subject(EMAIL)
    raw = next(one.raw for one in ours.fixtures if one.name == "reply")
    said = ours.outcome(raw).events[0].data
    assert isinstance(said, events.Said)
    for part in said.parts[1:]:
        content, media_type, name = attachment(raw.body, int((part.ref or "").rpartition("/")[2]))

        assert (len(content), media_type, name) == (part.size, part.media_type, part.name)
    with pytest.raises(IndexError):
        attachment(raw.body, 99)


@pytest.mark.parametrize("unit", ["On ", "\n \n", "Am ", "> ", "Il giorno ", "From: a\n", "On a wrote "])
def test_words_made_to_hold_up_the_library_do_not(unit: str) -> None:
    """Unbounded, the library needs minutes for 60 kB of some of these: longer than a test may take."""
    text = unit * (60_000 // len(unit))

    assert len(newest(text)) <= len(text)


def test_nothing_but_a_quotation_is_kept_whole() -> None:
    assert newest("> nur zitiert\n> mehr") != ""
    long = "Zeile\n" * 2000
    assert newest(long) == long.strip()


def test_html_is_read_as_it_is_seen() -> None:
    html = "<style>x{}</style><p>Gr&uuml;&szlig;e<br>zwei</p><script>1</script><ul><li>a<li>b</ul><blockquote>alt</blockquote>"

    assert text_of(html) == "Grüße\nzwei\n- a\n- b\n> alt"


def test_headers_cannot_be_smuggled_into_a_mail() -> None:
    account = subject(EMAIL).accounts[0]
    context = {"to": "ana@example.org", "subject": "x\r\nBcc: all@example.org"}
    out = Outgoing("7c9e6679-7425-40de-944b-e07fc1f90ae7", "mail", "ana@example.org", text("a"), context=context)

    assert b"\nBcc:" not in request_for(EMAIL, account, out).body
    with pytest.raises(ValueError, match="address"):
        request_for(EMAIL, account, Outgoing("i", "mail", "ana@example.org\r\nRCPT TO:<x@y>", text("a")))


# -- web chat and journey: what the browser says ---------------------------------------------------------------------------


def test_a_visitor_and_a_user_have_threads_of_their_own() -> None:
    """After a logout the browser must not go on in the user's thread."""
    visitor, user = (outcome(WEBCHAT, name).events[0].data for name in ("hello", "known"))
    assert isinstance(visitor, events.Said)
    assert isinstance(user, events.Said)

    assert (visitor.sender.id.scheme, visitor.sender.proof) == ("webchat", "channel")
    assert (user.sender.id.scheme, user.sender.proof) == ("user", "account")
    assert visitor.thread != user.thread
    assert {e.strength for e in user.sender.also if e.rule == "signed-phone"} == {"claimed"}


def test_the_same_frame_id_of_two_visitors_is_two_messages() -> None:
    assert outcome(WEBCHAT, "hello").events[0].id != outcome(WEBCHAT, "known").events[0].id


def test_only_a_signed_order_is_believed() -> None:
    signed, claimed = (outcome(JOURNEY, name).events[0].data for name in ("orders", "claimed_order"))
    assert isinstance(signed, events.JourneyStep)
    assert isinstance(claimed, events.JourneyStep)

    assert ({e.strength for e in signed.sender.also}, signed.sender.proof) == ({"asserted"}, "channel")
    assert ({e.strength for e in claimed.sender.also}, claimed.sender.proof) == ({"claimed"}, "claimed")
    assert signed.provider_id != claimed.provider_id


@pytest.mark.parametrize("headers", [{}, {"hilo-proof": "browser"}])
def test_without_the_doors_word_a_step_is_only_claimed(headers: dict[str, str]) -> None:
    step = {"id": "1", "type": "order.placed", "identities": [{"scheme": "email", "value": "ana@example.org"}]}
    (event,) = given(JOURNEY, step, headers).events

    assert isinstance(event.data, events.JourneyStep)
    assert event.data.sender.proof == "claimed"


def test_a_step_cannot_bring_its_own_proof() -> None:
    step = {
        "id": "1",
        "type": "order.placed",
        "identities": [{"scheme": "email", "value": "a@b.org"}],
        "around": {"proof": "signed"},
    }
    (event,) = given(JOURNEY, {"items": [step]}, {"hilo-proof": "browser"}).events

    assert isinstance(event.data, events.JourneyStep)
    assert event.data.sender.proof == "claimed"
    assert given(JOURNEY, step, {"hilo-proof": "nonsense"}).quarantined


def test_a_frame_cannot_bring_its_own_visitor() -> None:
    frame = {"type": "message", "id": "1", "text": "x", "around": {"thread": "t", "visitor": "v", "user": "admin"}}
    (event,) = given(WEBCHAT, frame, {"thread": "mine", "visitor": "mine"}).events

    assert event.data.party
    assert (event.data.party.scheme, event.data.party.value) == ("webchat", "mine")


def test_what_a_channel_receives_is_counted_from_its_fixtures() -> None:
    assert receives(TELEGRAM, ROOT / "telegram" / "fixtures") == {
        "consent.given",
        "consent.withdrawn",
        "message.edited",
        "message.received",
        "reaction.added",
        "reaction.removed",
        "referral.followed",
    }


@pytest.mark.parametrize("channel", [c for c in channels.BUILT_IN if c.invite], ids=lambda c: c.name)
def test_the_invitation_of_a_described_account_has_room_for_the_code(channel: Channel[Any]) -> None:
    account = subject(channel).accounts[0]

    invite = described(channel, account).invite

    assert invite is not None
    assert invite.count("{code}") == 1
    assert invite.replace("{code}", "HILO-AB12-CD34") == channel.invitation(account, "HILO-AB12-CD34")
