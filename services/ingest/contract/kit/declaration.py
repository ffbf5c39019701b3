"""What a declaration promises before anything comes in."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

from services.ingest.contract.account import Account
from services.ingest.contract.describe import declared, described
from services.ingest.contract.kit.subject import Runs, Subject, secrets

CODE = "HILO-2X4P-9KWM"


def cases(subject: Subject) -> Runs:
    yield "every account field is described", lambda: fields_described(subject)
    yield "every kind has a fixture", lambda: kinds_shown(subject)
    yield "some fixture is not ASCII", lambda: not_ascii(subject)
    yield "no secret is shown", lambda: secrets_hidden(subject)
    yield "an invitation carries its code", lambda: invitation(subject)


def fields_described(subject: Subject) -> None:
    for name, info in subject.channel.account.model_fields.items():
        if name not in Account.model_fields and not info.description:
            raise subject.fail(
                f"account field '{name}' has no description. The console form and the docs are made from it: "
                f"say where the operator finds it, e.g. Field(description='App settings > Basic > App secret')."
            )


def kinds_shown(subject: Subject) -> None:
    seen = {item.kind for fixture in subject.fixtures for item in subject.channel.unpack(fixture.raw)}
    for kind in sorted(subject.channel.kinds.keys() - seen):
        raise subject.fail(
            f"kinds['{kind}'] has no fixture. Add a body whose unpack() gives an item of that kind "
            f"(seen: {', '.join(sorted(seen))})."
        )


def not_ascii(subject: Subject) -> None:
    if not any(re.search(rb"[\x80-\xff]|\\u|%[89A-F]|=[89A-F]", fixture.raw.body) for fixture in subject.fixtures):
        raise subject.fail("no fixture holds a character outside ASCII; many signature and decoding bugs show only there.")


def secrets_hidden(subject: Subject) -> None:
    shown = declared(subject.channel).model_dump_json()
    for account in subject.accounts:
        printed = shown + repr(account) + account.model_dump_json() + described(subject.channel, account).model_dump_json()
        for value in secrets(account):
            assert value not in printed, subject.fail(
                "a secret is printed; declare it as Secret, not str, and keep it out of contact."
            )


def invitation(subject: Subject) -> None:
    if subject.channel.invite is None:
        return
    for account in subject.accounts:
        link = subject.channel.invitation(account, CODE) or ""
        assert CODE in unquote_plus(link), subject.fail("invite gives a link without the code; nobody could be recognised.")
        assert link.startswith(("https://", "mailto:")), subject.fail("invite must be a link that a browser opens.")
