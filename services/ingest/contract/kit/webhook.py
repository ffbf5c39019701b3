"""Each webhook door: what is signed is accepted, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from services.ingest.contract.account import Account
from services.ingest.contract.admission import admit
from services.ingest.contract.doors import Webhook
from services.ingest.contract.inputs import Raw
from services.ingest.contract.kit.subject import NOW, Fixture, Runs, Subject, changed_secrets, rotated
from services.ingest.contract.schemes import BasicAuth, Token, Unsigned


def cases(subject: Subject, fixture: Fixture) -> Runs:
    scheme = _door(subject, fixture).scheme
    yield "signed is accepted", partial(answers, subject, fixture, accepted=True)
    if isinstance(scheme, Unsigned):
        return
    yield "unsigned is refused", partial(answers, subject, fixture, signed=False, accepted=False)
    yield "another account's secret is refused", partial(other_account, subject, fixture)
    yield "old and new secret are accepted", partial(old_and_new, subject, fixture)
    if not isinstance(scheme, Token | BasicAuth):  # a shared token proves the sender only; it does not cover the body
        yield "one byte changed is refused", partial(tampered, subject, fixture)
    if getattr(scheme, "stamp", None):
        yield "a stale stamp is refused", partial(stale, subject, fixture)


def _door(subject: Subject, fixture: Fixture) -> Webhook[Any]:
    door = subject.channel.door(fixture.raw.door)
    if not isinstance(door, Webhook):
        raise TypeError(f"{door.name} is no webhook")
    return door


def _signed(subject: Subject, fixture: Fixture) -> Raw:
    return _door(subject, fixture).scheme.sign(subject.accounts[0], fixture.raw)


def _judge(subject: Subject, raw: Raw, account: Account, *, accepted: bool) -> None:
    verdict = admit(subject.channel, account, raw)
    assert (verdict.reply.status < 300 and verdict.keep) == accepted, subject.fail(
        f"answered {verdict.reply.status}: {verdict.reply.body.decode()}"
    )


def answers(subject: Subject, fixture: Fixture, *, accepted: bool, signed: bool = True) -> None:
    raw = _signed(subject, fixture) if signed else fixture.raw
    _judge(subject, raw, subject.accounts[0], accepted=accepted)


def other_account(subject: Subject, fixture: Fixture) -> None:
    _judge(subject, _signed(subject, fixture), changed_secrets(subject.accounts[0]), accepted=False)


def old_and_new(subject: Subject, fixture: Fixture) -> None:
    _judge(subject, _signed(subject, fixture), rotated(subject.accounts[0]), accepted=True)


def tampered(subject: Subject, fixture: Fixture) -> None:
    raw = _signed(subject, fixture)
    middle = len(raw.body) // 2
    changed = raw.body[:middle] + bytes([raw.body[middle] ^ 1]) + raw.body[middle + 1 :]
    _judge(subject, replace(raw, body=changed), subject.accounts[0], accepted=False)


def stale(subject: Subject, fixture: Fixture) -> None:
    late = replace(_signed(subject, fixture), received_at=NOW + timedelta(hours=1))
    _judge(subject, late, subject.accounts[0], accepted=False)
