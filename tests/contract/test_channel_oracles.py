"""Our channels against code that others wrote for the same platforms: their signatures, their models, their links."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from pywa.utils import webhook_updates_validator
from telegram import Update
from telegram.helpers import create_deep_linked_url

from services.common.events import Part
from services.ingest import channels
from services.ingest.channels.email import CHANNEL as EMAIL
from services.ingest.channels.instagram import CHANNEL as INSTAGRAM
from services.ingest.channels.telegram import CHANNEL as TELEGRAM
from services.ingest.channels.telegram import invite as telegram_invite
from services.ingest.channels.webchat import CHANNEL as WEBCHAT
from services.ingest.channels.webchat import WebChat, admit
from services.ingest.channels.whatsapp import CHANNEL as WHATSAPP
from services.ingest.contract import Channel, Outgoing, Raw, Refused, Webhook, request_for, text
from services.ingest.contract import admit as admitted
from services.ingest.contract.kit import Subject, load

ROOT = Path(channels.__file__).parent
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def subject(channel: Channel[Any]) -> Subject:
    return load(channel, ROOT / channel.name / "fixtures")


@pytest.mark.parametrize("channel", [WHATSAPP, INSTAGRAM], ids=lambda channel: channel.name)
def test_meta_signature_is_the_one_that_metas_users_check(channel: Channel[Any]) -> None:
    ours = subject(channel)
    account = ours.accounts[0]
    for fixture in ours.fixtures:
        door = channel.door(fixture.raw.door)
        if isinstance(door, Webhook):
            signed = door.scheme.sign(account, fixture.raw)
            header, secret = signed.headers["x-hub-signature-256"], account.app_secret.reveal()  # type: ignore[attr-defined]

            assert webhook_updates_validator(secret, signed.body, header)
            assert not webhook_updates_validator(secret + "x", signed.body, header)
            assert admitted(channel, account, signed).keep


def telegram_updates() -> list[Any]:
    return [pytest.param(f.raw, id=f.name) for f in subject(TELEGRAM).fixtures if not f.bad]


@pytest.mark.parametrize("raw", telegram_updates())
def test_telegram_fixtures_are_what_telegrams_own_models_read(raw: Raw) -> None:
    """Every update is complete enough for the library, and it finds the same chat, text and person."""
    update = Update.de_json(raw.json(), None)
    outcome = subject(TELEGRAM).outcome(raw)

    assert update.update_id == raw.json()["update_id"]
    for event in outcome.events:
        assert update.effective_user
        assert event.data.party
        assert event.data.party.value == str(update.effective_user.id)
        if update.effective_message and event.data.type == "hilo.message.received.v1" and update.message:
            found = [part.text for part in event.data.parts if part.kind == "text"]  # type: ignore[attr-defined]
            assert found == ([update.message.text] if update.message.text else [])


def test_telegram_link_is_the_one_that_telegrams_library_makes() -> None:
    account = subject(TELEGRAM).accounts[0]

    assert telegram_invite(account, "HILO-2X4P-9KWM") == create_deep_linked_url("acme_help_bot", "HILO-2X4P-9KWM")  # type: ignore[arg-type]


def test_what_we_mail_is_read_by_a_mail_parser_as_it_was_meant() -> None:
    ours = subject(EMAIL)
    context = {"to": "ana@example.org", "subject": "Re: AW: Größe", "references": "<m1@example.org> <m2@example.org>"}
    out = Outgoing(
        "7c9e6679-7425-40de-944b-e07fc1f90ae7", "mail", "ana@example.org", text("Grüße 📦\n.\nEnde"), context=context
    )
    request = request_for(EMAIL, ours.accounts[0], out)
    mail = BytesParser(policy=policy.default).parsebytes(request.body)

    assert isinstance(mail, EmailMessage)
    assert (mail["subject"], mail["message-id"]) == ("Re: Größe", "<7c9e6679-7425-40de-944b-e07fc1f90ae7@acme.example>")
    assert (mail["in-reply-to"], mail["references"]) == ("<m2@example.org>", "<m1@example.org> <m2@example.org>")
    assert mail.get_content().split() == ["Grüße", "📦", ".", "Ende"]
    assert (request.headers["rcpt-to"], request.transport) == ("ana@example.org", "smtp")
    assert request.url == "smtp://help:mail%2Fpass%201@smtp.acme.example:587"


def test_an_answer_to_our_mail_names_our_piece() -> None:
    """What we send comes back quoted: the round trip binds by our own id, whoever wrote the mail program."""
    ours = subject(EMAIL)
    out = Outgoing("8c9e6679-7425-40de-944b-e07fc1f90ae7", "mail", "ana@example.org", text("Hallo"))
    sent = BytesParser(policy=policy.default).parsebytes(request_for(EMAIL, ours.accounts[0], out).body)
    answer = EmailMessage(policy=policy.SMTP)
    answer["From"], answer["Subject"], answer["Message-ID"] = "ana@example.org", f"Re: {sent['subject']}", "<a1@example.org>"
    answer["In-Reply-To"] = sent["message-id"]
    answer.set_content("Danke, schön!")
    raw = Raw(answer.as_bytes(), {"mail-from": "ana@example.org"}, received_at=NOW, door="mail")

    received = ours.outcome(raw).events[0].data

    assert received.reply_to == out.id  # type: ignore[attr-defined]


# -- the web chat's token, signed by the library as a site would ----------------------------------------------------------

SECRET = "site-secret-1-of-more-than-32-bytes"
VISITOR = "0123456789abcdefghijklmn"


def token(claims: dict[str, Any], *, key: str = SECRET, alg: str = "HS256") -> str:
    return jwt.encode({"alg": alg}, claims, OctKey.import_key(key), algorithms=[alg])


def connect(**query: str) -> Raw:
    headers = {"origin": "https://shop.example"}
    return Raw(b"", headers, {"visitor": VISITOR, **query}, "GET", received_at=NOW, door="session")


def account() -> WebChat:
    found = subject(WEBCHAT).accounts[0]
    assert isinstance(found, WebChat)
    return found


EXP = int(NOW.timestamp()) + 60


def test_a_signed_user_is_admitted_with_what_the_site_says() -> None:
    claims = {"sub": "cust-4711", "exp": EXP, "name": "Ana Müller", "email": "ana@example.org", "email_verified": True}
    who = admit(account(), connect(token=token(claims), ref="HILO-2X4P-9KWM"))

    assert {"user": "cust-4711", "email_verified": "yes", "ref": "HILO-2X4P-9KWM"}.items() <= who.items()
    assert who["thread"] != who["visitor"] != VISITOR


def test_the_same_visitor_has_the_same_thread_and_the_secret_is_not_in_it() -> None:
    first, again, other = (
        admit(account(), connect()),
        admit(account(), connect(token="")),
        admit(account(), connect(visitor=VISITOR[::-1])),
    )

    assert first == again
    assert first["thread"] != other["thread"]
    assert VISITOR not in json.dumps(dict(first))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (token({"sub": "cust-4711", "exp": EXP}, key="another-secret-of-more-than-32-bytes"), "not signed"),
        (token({"sub": "cust-4711", "exp": EXP}, alg="HS512"), "not signed"),
        (token({"sub": "cust-4711", "exp": EXP - 3600}), "expired"),
        (token({"sub": "cust-4711"}), "lacks sub or exp"),
        (token({"exp": EXP}), "lacks sub or exp"),
        (token({"sub": {"a": 1}, "exp": EXP}), "sub"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJjdXN0LTQ3MTEifQ.", "not signed"),
        ("x.y.z", "not signed"),
    ],
)
def test_a_bad_token_is_refused_and_not_taken_as_anonymous(wrong: str, told: str) -> None:
    with pytest.raises(Refused, match=told):
        admit(account(), connect(token=wrong))


def test_a_rotating_secret_admits_old_and_new() -> None:
    second = subject(WEBCHAT).accounts[1]
    assert isinstance(second, WebChat)
    for key in second.identity_secret.all():
        raw = replace(connect(token=token({"sub": "u", "exp": EXP}, key=key)), headers={"origin": second.origins[0]})

        assert admit(second, raw)["user"] == "u"


@pytest.mark.parametrize(
    "raw",
    [replace(connect(), headers={"origin": "https://evil.example"}), replace(connect(), headers={}), connect(visitor="short")],
)
def test_other_origins_and_guessable_visitors_are_refused(raw: Raw) -> None:
    with pytest.raises(Refused):
        admit(account(), raw)


def test_whatsapp_requests_have_the_documented_shape() -> None:
    ours = subject(WHATSAPP)

    def body(part: Part, **more: Any) -> Any:
        out = Outgoing(**{"id": "p-1", "leg": "chat", "thread": "DE.2XYZ", "part": part, **more})
        return json.loads(request_for(WHATSAPP, ours.accounts[0], out).body)

    template = body(
        Part("template", name="order_update", data={"language": "de", "2": "4711", "1": "Ana", "10": "x"}), action="template"
    )
    five = {str(n): f"Wahl {n}" for n in range(5)}

    assert body(text("hallo"))["recipient"] == "DE.2XYZ"
    assert body(text("hallo"), thread="+4915112345678")["to"] == "+4915112345678"
    assert [one["text"] for one in template["template"]["components"][0]["parameters"]] == ["Ana", "4711", "x"]
    assert body(Part("buttons", text="?", data={"a": "A"}))["interactive"]["type"] == "button"
    assert len(body(Part("buttons", text="?", data=five))["interactive"]["action"]["sections"][0]["rows"]) == 5
    assert body(Part("image", ref="https://m/1", text="Bild"))["image"] == {"link": "https://m/1", "caption": "Bild"}
    assert body(Part("file", ref="4801", name="a.pdf"))["document"] == {"id": "4801", "filename": "a.pdf"}
    assert body(Part("text"), action="typing", target="wamid.1")["typing_indicator"] == {"type": "text"}
    assert body(Part("text"), action="read", target="wamid.1") == {
        "messaging_product": "whatsapp",
        "status": "read",
        "message_id": "wamid.1",
    }
