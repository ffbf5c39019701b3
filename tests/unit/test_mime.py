"""Mails are measured before they are parsed: never less than the parser would find, in linear time."""

from __future__ import annotations

from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.mime import Limits, Measured, TooMuch, measure

MIXED = b"Content-Type: multipart/mixed; boundary=b\n\n"
NO_LIMITS = Limits(10**9, 10**9, 10**9, 10**9, 10**9, 10**9, 10**6)
FRAGMENTS = [
    b"\n",
    b"\n\n",
    b"\r",
    b"\r\n",
    b"text\n",
    b"X: y\n",
    b" continued\n",
    b"From a\n",
    b"--\n",
    b"--a\n",
    b"--a \t\n",
    b"--a--\n",
    b"--b\n",
    b"--b--\n",
    b"--a--b\n",
    b"--:\n",
    b"A:\n\n",
    b"Content-Type: multipart/mixed; boundary=a\n\n",
    b"content-type:multipart/MIXED;\n\tBOUNDARY = b \n\n",
    b'Content-Type: multipart/digest; boundary="b"\n\n',
    b'Content-Type: multipart/mixed; boundary=":"\n\n',
    b"Content-Type: multipart/mixed; boundary*=us-ascii''%61\n\n",
    b"Content-Type: multipart/mixed; boundary*0=a; boundary*1=b\n\n",
    b"Content-Type: (a comment) multipart/mixed; boundary=a\n\n",
    b"Content-Type: multipart/mixed\n\n",
    b"Content-Type: text/plain; name*=utf-8''x\n\n",
    b"Content-Type: message/rfc822\n\n",
    b"Content-Type: message/delivery-status\n\n",
]


def depth(mail: Message) -> int:
    inner = mail.get_payload()
    return 1 + max(map(depth, inner), default=0) if isinstance(inner, list) and mail.is_multipart() else 0


def parsed(mail: bytes) -> Measured:
    found = BytesParser(policy=policy.default).parsebytes(mail)
    return Measured(len(list(found.walk())), depth(found))


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(b"".join))
def test_whatever_is_in_a_mail_the_parser_never_finds_more(mail: bytes) -> None:
    try:
        ours = measure(mail, NO_LIMITS)
    except TooMuch:
        return
    theirs = parsed(mail)

    assert ours.parts >= theirs.parts
    assert ours.depth >= theirs.depth


@given(st.binary(max_size=400))
def test_any_bytes_are_measured_or_refused_by_name(mail: bytes) -> None:
    try:
        measure(mail, Limits(2, 1, 40, 5, 60, 2, 3))
    except TooMuch as error:
        assert str(error).startswith(("more than", "parts within", "a header", "headers of", "a border", "a delivery report"))


def nested(levels: int) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = f"Größe {levels}"
    mail.set_content("Hola -- qué tal\n-- \nInés\n--- a/file\n+++ b/file\n")
    if levels:
        mail.add_attachment(nested(levels - 1))
    mail.add_attachment(b"\x00\xff" * 99, maintype="image", subtype="png", filename="Señal (1).png")
    return mail


@pytest.mark.parametrize("levels", range(5))
def test_what_mail_programs_write_is_measured_exactly(levels: int) -> None:
    mail = nested(levels).as_bytes(policy=policy.SMTP)

    assert measure(mail) == parsed(mail)


def test_a_text_about_borders_has_no_parts() -> None:
    mail = b"Subject: x\r\n\r\n" + b"--b\r\n" * 150_000

    assert measure(mail) == Measured(1, 0)


def test_a_border_that_begins_as_another_is_told_apart() -> None:
    inner = b"Content-Type: multipart/alternative; boundary=b1\n\n--b1\n\nx\n--b1\n\ny\n--b1--\n"
    mail = MIXED + b"--b\n" + inner + b"--b\n\nz\n--b--\n"

    assert measure(mail) == parsed(mail) == Measured(5, 2)


@pytest.mark.parametrize(
    ("name", "mail"),
    {
        "200 MIME parts": MIXED + b"--b\n\n" * 200_000,
        "200 MIME parts in messages": b"Content-Type: multipart/digest; boundary=b\n\n" + b"--b\n\nSubject: x\n\n" * 150,
        "20 deep": b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(1500)),
        "20 deep in messages": b"Content-Type: message/rfc822\n\n" * 2000,
        "65536 bytes": b"X: " + b"y" * 10_000_000,
        "2000 lines": b"X: y\n" * 100_000,
        "in all parts": MIXED + (b"--b\nX: " + b"y" * 60_000 + b"\n\n") * 100,
        "500 addresses": b"To: " + b"a@b.example,\n " * 501,
        "100000 lines that look": MIXED + b"--\n" * 1_000_000,
        "with parts inside": b"Content-Type: message/delivery-status\n\nA: b\nContent-Type: multipart/mixed\n\n",
        "200 MIME parts in a report": b"Content-Type: message/delivery-status\n\n" + b"A: b\n\n" * 150,
        "200 MIME parts behind bare CR": (MIXED + b"--b\n\n" * 1000).replace(b"\n", b"\r"),
        "a border of parts in RFC 2231": b"Content-Type: multipart/mixed; boundary*0=a\n\n" + b"--a\n\n" * 300,
        "a border of parts in a comment": b"Content-Type: multipart/mixed; (x) boundary=a\n\n" + b"--a\n\n" * 300,
    }.items(),
)
def test_a_mail_that_is_too_much_is_refused_by_the_name_of_the_limit(name: str, mail: bytes) -> None:
    with pytest.raises(TooMuch, match=name.partition(" in ")[0].partition(" behind")[0]):
        measure(mail)
