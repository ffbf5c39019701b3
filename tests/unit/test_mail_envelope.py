"""Whom a mail is for, and whose word about its sender is heard."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.accounts import Connected, Stored
from services.ingest.channels.email import CHANNEL, Email
from services.ingest.channels.webchat import CHANNEL as WEBCHAT
from services.ingest.contract import Account
from services.ingest.mail_envelope import authentication, recipient, trusted

OWN = "mx.shop.example"


def mailbox(id: str, address: str) -> Connected:
    account = Email(tenant="acme", id=id, address=address, smtp_url="smtp://x:587")
    return Connected(CHANNEL, account, Stored("acme", "email", id), b"")


ACCOUNTS = [
    Connected(WEBCHAT, Account(tenant="acme", id="chat"), Stored("acme", "webchat", "chat"), b""),
    mailbox("help", "help@shop.example"),
    mailbox("vip", "help+vip@shop.example"),
    mailbox("idn", "hola@peña.example"),
]


@pytest.mark.parametrize(
    ("address", "account"),
    [
        ("help@shop.example", "help"),
        ("HELP@SHOP.EXAMPLE", "help"),
        ("help+HILO-7KQ2@shop.example", "help"),
        ("help+vip@shop.example", "vip"),
        ("help+vip+x@shop.example", "help"),
        ("hola@xn--pea-8ma.example", "idn"),
        ("hola@peña.example", "idn"),
        ("help@shop.example.evil.example", None),
        ("x+help@shop.example", None),
        ("help", None),
        ("", None),
        ("@", None),
    ],
)
def test_a_mail_is_for_the_account_with_its_address(address: str, account: str | None) -> None:
    found = recipient(address, ACCOUNTS)

    assert (found.id if found else None) == account


@pytest.mark.parametrize(
    ("peer", "expected"),
    [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("11.0.0.1", False), ("fd00::1", True), ("", False), ("example", False)],
)
def test_only_our_own_servers_are_heard(peer: str, expected: bool) -> None:
    assert trusted(peer, (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))) is expected


@pytest.mark.parametrize(
    ("headers", "heard"),
    [
        (f"Authentication-Results: {OWN}; dmarc=pass header.from=example.org", "dmarc=pass header.from=example.org"),
        (f"authentication-results:\r\n {OWN} 1;\r\n\tDKIM=pass header.d=x;\r\n spf=fail", "dkim=pass; spf=fail"),
        (f"Authentication-Results: {OWN}; none", ""),
        ("Authentication-Results: evil.example; dmarc=pass", ""),
        (f"Authentication-Results: {OWN}.evil.example; dmarc=pass", ""),
        (f"X-Authentication-Results: {OWN}; dmarc=pass", ""),
        ("", ""),
        # The topmost of ours counts; what stands below it, the sender has written.
        (
            f"Authentication-Results: {OWN}; dmarc=fail\r\nAuthentication-Results: {OWN}; dmarc=pass",
            "dmarc=fail",
        ),
        # What the sender chooses does not become a result.
        (f'Authentication-Results: {OWN}; spf=pass smtp.mailfrom="; dmarc=pass; "@evil.example', "spf=pass"),
        (f"Authentication-Results: {OWN}; dmarc=fail (reason; dmarc=pass)", "dmarc=fail"),
        (
            f"Authentication-Results: {OWN}; dmarc=fail (a (nested); dmarc=pass) header.from=x.example",
            "dmarc=fail header.from=x.example",
        ),
        (f'Authentication-Results: {OWN}; spf=fail "unclosed; dmarc=pass', "spf=fail"),
        (f"Authentication-Results: {OWN}; spf=fail smtp.helo=dmarc=pass", "spf=fail"),
    ],
)
def test_of_authentication_results_only_our_own_are_heard_and_nothing_that_the_sender_chose(headers: str, heard: str) -> None:
    mail = f"{headers}\r\nFrom: a@b.example\r\n\r\nAuthentication-Results: {OWN}; dmarc=pass\r\n".encode()

    assert authentication(mail, OWN) == heard


@given(st.binary(max_size=300))
def test_any_bytes_are_read_as_results_or_as_none(mail: bytes) -> None:
    assert "dmarc=pass" not in authentication(b"Authentication-Results: mx.shop.example; spf=fail\r\n\r\n" + mail, OWN)
    authentication(mail, OWN)
