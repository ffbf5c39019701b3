"""The mail door, with real SMTP clients: 250 means kept and on the log, and no mail holds up another."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import smtplib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from services.common import topics as t
from services.common.errors import BrokerAway, StoreAway
from services.common.events import DeadLettered, MessageReceived
from services.common.kafka import Publisher
from services.common.media import FileMediaStore
from services.common.mongo import Mongo
from services.common.settings import CommonSettings
from services.ingest.accounts import Accounts
from services.ingest.settings import IngestSettings
from tests.chatting import chat_settings, connected, doors
from tests.ingesting import events, header, records, running
from tests.waiting import until

T = TypeVar("T")
HELP = "help@shop.example"
MIXED = b"From: ana@example.org\r\nMessage-ID: <bomb@example.org>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"


@pytest.fixture
async def door(settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path) -> AsyncIterator[IngestSettings]:
    """A process with the mail door, served."""
    await connected(mongo, settings)
    one = chat_settings(settings, tmp_path)
    async with running(one, doors()):
        yield one


def letter(number: int = 1, text: str = "¿Tenéis la talla M?") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Ana Müller <ana@example.org>", HELP, "Größe"
    mail["Message-ID"], mail["Date"] = f"<m{number}@example.org>", "Sun, 01 Mar 2026 12:00:00 +0000"
    mail.set_content(text)
    return mail


def post(settings: IngestSettings, mail: bytes | EmailMessage, *to: str, sender: str = "ana@example.org") -> tuple[int, bytes]:
    """The answer to DATA, or to the first recipient that was refused."""
    body = mail if isinstance(mail, bytes) else mail.as_bytes()
    with smtplib.SMTP("127.0.0.1", settings.smtp_port, timeout=300) as client:
        client.ehlo("mail.example.org")
        client.mail(sender)
        for address in to or (HELP,):
            code, answer = client.rcpt(address)
            if code != 250:
                return code, answer
        return client.data(body)


async def posted(settings: IngestSettings, mail: bytes | EmailMessage, *to: str, **more: str) -> int:
    return (await asyncio.to_thread(partial(post, settings, mail, *to, **more)))[0]


def session(settings: IngestSettings, talk: Callable[[smtplib.SMTP], T]) -> T:
    with smtplib.SMTP("127.0.0.1", settings.smtp_port, timeout=300) as client:
        client.ehlo("mail.example.org")
        return talk(client)


async def received(settings: CommonSettings) -> list[MessageReceived]:
    return [e.data for e in await events(settings, t.EVENTS) if isinstance(e.data, MessageReceived)]


async def letters(settings: CommonSettings) -> list[DeadLettered]:
    return [e.data for e in await events(settings, t.DEAD) if isinstance(e.data, DeadLettered)]


# -- a mail comes in ------------------------------------------------------------------------------------------------------


async def test_a_mail_is_kept_whole_and_on_the_log_before_the_250(door: IngestSettings, settings: CommonSettings) -> None:
    mail = letter()
    mail.add_attachment(b"%PDF-1.7 x", maintype="application", subtype="pdf", filename="Rechnung Ä.pdf")
    code = await posted(door, mail)
    (found,), (raw,) = await received(settings), await records(settings, t.RAW)

    assert code == 250
    sha256 = hashlib.sha256(raw.value or b"").hexdigest()
    assert await FileMediaStore(door.media_dir).load("acme", sha256, 10**6, area="mail") == raw.value
    assert found.parts[0].text == "¿Tenéis la talla M?"
    assert (found.parts[1].name, found.parts[1].ref) == ("Rechnung Ä.pdf", f"{sha256}/1")
    came = header(raw, "hilo_input")["headers"]
    assert (came["mail-from"], came["rcpt-to"]) == ("ana@example.org", HELP)


async def test_the_same_mail_again_is_the_same_event(door: IngestSettings, settings: CommonSettings) -> None:
    assert [await posted(door, letter()) for _ in range(2)] == [250, 250]

    found = await events(settings, t.EVENTS)
    assert len(found) == 2
    assert len({event.id for event in found}) == 1


async def test_addresses_are_found_in_any_case_and_with_what_follows_a_plus(
    door: IngestSettings, settings: CommonSettings
) -> None:
    assert await posted(door, letter(1), "HELP@Shop.Example") == 250
    assert await posted(door, letter(2), "help+HILO-7KQ2@shop.example") == 250
    assert [await posted(door, letter(3), to) for to in ("nobody@shop.example", "help@other.example", "help")] == [550] * 3

    raw = await records(settings, t.RAW)
    assert [header(one, "hilo_input")["headers"]["rcpt-to"] for one in raw] == [
        "HELP@Shop.Example",
        "help+HILO-7KQ2@shop.example",
    ]


async def test_an_account_that_another_process_has_just_connected_is_known_at_once(
    settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path
) -> None:
    async with running(door := chat_settings(settings, tmp_path, accounts_refresh_s=3600), doors()):
        assert await posted(door, letter()) == 550
        await connected(mongo, settings)
        assert await posted(door, letter()) == 250


async def test_a_bounce_has_no_sender_and_dots_and_bare_line_feeds_come_as_they_were(
    door: IngestSettings, settings: CommonSettings
) -> None:
    body = b"From: ana@example.org\r\nMessage-ID: <d@example.org>\r\n\r\n.one\r\n..two\r\nthree\n.\r\nfour\n.\nfive\r\n"
    with closing(socket.create_connection(("127.0.0.1", door.smtp_port), timeout=60)) as line:
        sent = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<help@shop.example>\r\nDATA\r\n"
        stuffed = body.replace(b"\r\n.", b"\r\n..") + b".\r\nQUIT\r\n"
        answers = await asyncio.to_thread(talked, line, sent, stuffed)

    assert b"250 2.0.0" in answers
    raw = await records(settings, t.RAW)
    assert [one.value for one in raw] == [body]
    assert header(raw[0], "hilo_input")["headers"]["mail-from"] == "<>"


def talked(line: socket.socket, *pieces: bytes) -> bytes:
    """Everything the server says to these pieces, until it hangs up."""
    for piece in pieces:
        line.sendall(piece)
    answers = b""
    while more := line.recv(65536):
        answers += more
    return answers


async def test_nothing_is_smuggled_behind_a_line_feed_that_only_looks_like_the_end(
    door: IngestSettings, settings: CommonSettings
) -> None:
    for end in (b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r"):
        hidden = b"MAIL FROM:<ceo@shop.example>\r\nRCPT TO:<help@shop.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"
        body = b"From: ana@example.org\r\nSubject: outer\r\n\r\nx" + end + hidden
        sent = b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<help@shop.example>\r\nDATA\r\n" + body + b"\r\n.\r\nQUIT\r\n"
        with closing(socket.create_connection(("127.0.0.1", door.smtp_port), timeout=60)) as line:
            answers = await asyncio.to_thread(talked, line, sent)

        assert answers.count(b"250 2.0.0") == 1, end
    assert len(await records(settings, t.RAW)) == 5


async def test_what_our_own_server_found_out_is_heard_and_what_a_sender_wrote_is_not(
    settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path
) -> None:
    await connected(mongo, settings)
    passed = b"Authentication-Results: mx.shop.example; dmarc=pass header.from=example.org\r\n"
    forged = b"Authentication-Results: evil.example; dmarc=pass\r\n"
    own = chat_settings(settings, tmp_path, smtp_trusted_auth="mx.shop.example")
    async with running(own, doors()):
        assert await posted(own, passed + letter(1).as_bytes()) == 250
        assert await posted(own, forged + letter(2).as_bytes()) == 250
        assert await posted(own, forged + passed + letter(3).as_bytes()) == 250
        assert await posted(own, letter(4).as_bytes()) == 250

    assert [one.sender.proof for one in await received(settings)] == ["channel", "claimed", "channel", "claimed"]


# -- what cannot be taken now ---------------------------------------------------------------------------------------------


async def test_while_a_part_is_away_the_sender_is_asked_to_keep_the_mail(
    door: IngestSettings, settings: CommonSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_broker(*_: Any) -> Any:
        raise BrokerAway("test")

    async def no_store(*_: Any) -> Any:
        raise StoreAway("test")

    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "publish", no_broker)
        assert await posted(door, letter()) == 451
    with monkeypatch.context() as patch:
        patch.setattr(Accounts, "refresh", no_store)
        assert await posted(door, letter(), "perhaps@shop.example") == 451  # it may have just been connected
        assert await posted(door, letter()) == 250  # what is known is taken

    assert len(await received(settings)) == 1


async def test_mail_for_an_account_that_cannot_be_opened_now_is_not_sent_back(
    settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path
) -> None:
    """Its secrets were sealed with another master key; the right key brings it back."""
    await connected(mongo, settings)
    await mongo.database("ingest")["accounts"].update_one({"_id": "email/help"}, {"$set": {"sealed": b"x" * 40}})
    door = chat_settings(settings, tmp_path)
    async with running(door, doors()):
        assert await posted(door, letter()) == 451


async def test_a_full_disk_is_no_250(settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    await connected(mongo, settings)
    door = chat_settings(settings, tmp_path / "file")
    async with running(door, doors()):
        assert await posted(door, letter()) == 451

    assert await records(settings, t.RAW) == []


async def test_a_mail_that_is_too_big_is_refused_before_and_after_it_was_sent(
    settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path
) -> None:
    await connected(mongo, settings)
    door = chat_settings(settings, tmp_path, smtp_max_bytes=100_000)
    big = letter(text="x" * 70 + "\n" * 1).as_bytes() + b"x" * 76 * 2000

    def announced(client: smtplib.SMTP) -> tuple[str, int]:
        return client.esmtp_features["size"], client.mail("ana@example.org", ["SIZE=100001"])[0]

    async with running(door, doors()):
        assert await asyncio.to_thread(session, door, announced) == ("100000", 552)
        assert await posted(door, big) == 552
        assert await posted(door, letter()) == 250
        with closing(socket.create_connection(("127.0.0.1", door.smtp_port), timeout=60)) as line:
            hello = b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<help@shop.example>\r\nDATA\r\n"
            answers = await asyncio.to_thread(flooded, line, hello)

    assert b"552" in answers
    assert len(await records(settings, t.RAW)) == 1


def flooded(line: socket.socket, hello: bytes) -> bytes:
    """A line without end; the server hangs up, and what it said can still be read or was lost with the connection."""
    line.sendall(hello)
    answers = b""
    try:
        while True:
            line.sendall(b"x" * 65536)
    except OSError:
        pass
    try:
        while more := line.recv(65536):
            answers += more
    except OSError:
        pass
    return answers or b"552 lost"


async def test_connections_are_bounded_and_the_next_may_come_when_one_goes(
    settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path
) -> None:
    await connected(mongo, settings)
    door = chat_settings(settings, tmp_path, smtp_connections=3)
    async with running(door, doors()):
        clients = [await asyncio.to_thread(smtplib.SMTP, "127.0.0.1", door.smtp_port) for _ in range(3)]
        with pytest.raises(smtplib.SMTPConnectError) as refused:
            await asyncio.to_thread(smtplib.SMTP, "127.0.0.1", door.smtp_port)
        for client in clients:
            client.close()

        async def taken() -> bool:
            try:
                return await posted(door, letter()) == 250
            except smtplib.SMTPException:
                return False

        assert refused.value.smtp_code == 421
        await until(taken)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine that nobody has signed but itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    chain, secret = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return chain, secret


async def test_with_a_certificate_mails_may_come_encrypted(
    settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path
) -> None:
    await connected(mongo, settings)
    chain, key = certificate(tmp_path)
    door = chat_settings(settings, tmp_path / "media", smtp_tls_cert=chain, smtp_tls_key=key)

    def encrypted(client: smtplib.SMTP) -> int:
        context = ssl.create_default_context(cafile=str(chain))
        context.check_hostname = False
        client.starttls(context=context)
        client.ehlo("mail.example.org")
        client.mail("ana@example.org")
        client.rcpt(HELP)
        return client.data(letter().as_bytes())[0]

    async with running(door, doors()):
        assert await asyncio.to_thread(session, door, encrypted) == 250

    assert len(await received(settings)) == 1


async def test_a_session_that_says_nothing_is_ended(
    settings: CommonSettings, mongo: Mongo, topics: None, tmp_path: Path
) -> None:
    await connected(mongo, settings)
    door = chat_settings(settings, tmp_path, smtp_timeout_s=0.3)
    async with running(door, doors()):
        with closing(socket.create_connection(("127.0.0.1", door.smtp_port), timeout=60)) as line:
            hello = b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<help@shop.example>\r\nDATA\r\nSubject: half a"
            assert (await asyncio.to_thread(talked, line, hello)).count(b"\r\n") > 3  # and then the end

    assert await records(settings, t.RAW) == []


# -- bombs ----------------------------------------------------------------------------------------------------------------


def part(headers: bytes, body: bytes = b"x") -> bytes:
    return MIXED + b"--b\r\n" + headers + b"\r\n\r\n" + body + b"\r\n--b--\r\n"


def base64_of(body: bytes) -> bytes:
    return base64.encodebytes(body).replace(b"\n", b"\r\n")


BOMBS: dict[str, bytes] = {
    "200,000 empty parts": MIXED + b"--b\r\n\r\n" * 200_000,
    "1,500 multiparts in each other": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(1500)
    ),
    "2,000 messages in each other": b"Content-Type: message/rfc822\r\n\r\n" * 2000,
    "a header of 5 MB": b"X-Long: " + b"y" * 5_000_000 + b"\r\n\r\nx",
    "100,000 headers": b"X: y\r\n" * 100_000 + b"\r\nx",
    "20,000 addresses": b"From: a@example.org\r\nTo: " + b"a@b.example,\r\n " * 20_000 + b"\r\n\r\nx",
    "64 KB of nested comments in From": b"From: " + b"(" * 60_000 + b"\r\n\r\nx",
    "64 KB of encoded words": b"From: a@example.org\r\nSubject: " + b"=?utf-8?q?x?=\r\n " * 3500 + b"\r\n\r\nx",
    "half an encoded word, often": b"From: a@example.org\r\nSubject: " + b"=?utf-8?" * 7000 + b"\r\n\r\nx",
    "parameters without end": b"From: a@example.org\r\nContent-Type: text/plain" + b"; a=b" * 12_000 + b"\r\n\r\nx",
    "parameters in pieces": b"From: a@example.org\r\nContent-Type: text/plain"
    + b"".join(b"; n*%d*=x" % n for n in range(4000))
    + b"\r\n\r\nx",
    "garbage in base64": part(b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64", b"=*=\xff\x00" * 400_000),
    "an unknown charset": part(b"Content-Type: text/plain; charset=klingon-8"),
    "a charset that is a codec of Python": part(b"Content-Type: text/plain; charset=zip", b"x" * 1000),
    "NUL everywhere": b"From: a@example.org\r\nSubject: \x00\x00\r\n\r\n" + b"\x00" * 3_000_000,
    "2 MB of nested HTML": part(b"Content-Type: text/html", b"<div>" * 400_000),
    "1 MB of broken HTML": part(b"Content-Type: text/html", b"<a " * 350_000),
    "HTML of entities": part(b"Content-Type: text/html", b"&" * 1_000_000),
    "a million lines of quotes": b"From: a@example.org\r\n\r\n" + b"> x\r\n" * 1_000_000,
    "a border as long as the header": b'Content-Type: multipart/mixed; boundary="' + b"b" * 60_000 + b'"\r\n\r\nx',
    "a border that only the parser reads": b"Content-Type: multipart/mixed; boundary*0=b\r\n\r\n" + b"--b\r\n\r\n" * 50_000,
    "borders behind bare CR": (MIXED + b"--b\r\n\r\n" * 50_000).replace(b"\r\n", b"\r"),
    "10 MB of dashes": MIXED + b"--\r\n" * 2_500_000,
    "a delivery report of 100,000 blocks": b"Content-Type: message/delivery-status\r\n\r\n" + b"A: b\r\n\r\n" * 100_000,
    "references without end": b"From: a@example.org\r\nReferences: " + b"<x@y>" * 12_000 + b"\r\n\r\nx",
    "a date from a nightmare": b"From: a@example.org\r\nDate: " + b"99999999999999999999 " * 3000 + b"\r\n\r\nx",
    "24 MB of base64": part(
        b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64", base64_of(bytes(17_000_000))
    ),
}


@pytest.mark.timeout(600)  # one of them is stopped after 5 s of processor time, however long those take
async def test_no_bomb_breaks_the_door_and_neighbours_get_through(door: IngestSettings, settings: CommonSettings) -> None:
    """Every bomb is answered 250: it is kept, and read or set aside. In between, ordinary mails are read as ever."""
    for number, (name, bomb) in enumerate(BOMBS.items()):
        answered, neighbour = await asyncio.gather(posted(door, bomb), posted(door, letter(number)))

        assert (answered, neighbour) == (250, 250), name
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{door.port}/readyz")).status_code == 200

    kept = {event_id for one in await records(settings, t.RAW) for event_id in header(one, "hilo_verdict").get("event_ids", ())}
    ids = {event.id for event in await events(settings, t.EVENTS)}
    assert kept == ids
    names = {one.provider_id.partition("#")[0] for one in await received(settings)}
    assert {f"<m{number}@example.org>" for number in range(len(BOMBS))} <= names
    set_aside = await letters(settings)
    assert not [one.reason for one in set_aside if one.bug]
    assert len([one for one in set_aside if one.reason.startswith("mime-limit")]) >= 9
