"""What the kit looks at: a channel, its example accounts and its fixtures, and how an outcome is told as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.common import events
from services.common.cloudevents import decode, encode
from services.ingest.contract.account import Account, Secret
from services.ingest.contract.channel import Channel
from services.ingest.contract.inputs import Raw
from services.ingest.contract.normalize import FactEvent, Outcome, normalize

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TENANT_KEY = b"the kit's own tenant key, 32 b.."
BODIES = (".json", ".form", ".eml", ".txt")
JUNK = (b"null", b"[]", b"0", b'"x"', b"{}", b"{", b"", b"\xff", b"[" * 20_000, b'{"a":' + b"1" * 1_000_000 + b"}")

Runs = Iterator[tuple[str, Callable[[], None]]]


@dataclass(frozen=True)
class Fixture:
    path: Path
    raw: Raw

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def expected(self) -> Path:
        return self.path.with_suffix(".expected")

    @property
    def bad(self) -> bool:
        """A fixture named bad_* shows what is refused."""
        return self.name.startswith("bad_")


@dataclass(frozen=True)
class Subject:
    channel: Channel[Any]
    accounts: list[Account]
    fixtures: list[Fixture]

    def fail(self, text: str) -> AssertionError:
        return AssertionError(f"{self.channel.name}: {text}")

    def normalized(self, raw: Raw) -> Outcome:
        return normalize(self.channel, self.accounts, raw, TENANT_KEY)

    def outcome(self, raw: Raw) -> Outcome:
        """The outcome, which balances, holds no bug of the channel's, and whose events can be written and read."""
        outcome = self.normalized(raw)
        assert outcome.balances, self.fail("items do not balance")
        for item in outcome.quarantined:
            if item.bug:
                raise self.fail(
                    f"{item.reason} at {item.path or 'unpack'} (kind '{item.kind}'), body {raw.body[:120]!r}. "
                    f"unpack may raise Unreadable only; a handler ValueError, which quarantines its item."
                )
        for event in [*outcome.events, *outcome.live]:
            assert decode(encode("hilo.events", event)).data == event.data, self.fail(f"{event.data.type} changes on the log")
        return outcome

    def said_on(self, leg: str) -> events.Said | None:
        """The first message that a fixture shows on this leg: what the kit answers."""
        for fixture in self.fixtures:
            for event in self.normalized(fixture.raw).events:
                if isinstance(event.data, events.Said) and event.data.leg == leg:
                    return event.data
        return None


def load(channel: Channel[Any], folder: Path) -> Subject:
    accounts = [channel.account.model_validate(one) for one in json.loads((folder / "accounts.json").read_text())]
    bodies = [path for path in sorted(folder.iterdir()) if path.suffix in BODIES and path.stem != "accounts"]
    return Subject(channel, accounts, [Fixture(path, _raw(channel, path)) for path in bodies])


def _raw(channel: Channel[Any], path: Path) -> Raw:
    """Editors end a file with a line break; providers do not."""
    meta_file = path.with_suffix(".meta")
    meta = json.loads(meta_file.read_text()) if meta_file.exists() else {}
    meta.setdefault("door", channel.doors[0].name)
    return Raw(body=path.read_bytes().rstrip(b"\n"), received_at=NOW, **meta)


def secrets(account: Account) -> list[str]:
    return [value for secret in _secrets(account).values() for value in secret.all()]


def changed_secrets(account: Account) -> Account:
    return account.model_copy(update={name: Secret("another-secret") for name in _secrets(account)})


def rotated(account: Account) -> Account:
    return account.model_copy(update={name: Secret("new-secret", *old.all()) for name, old in _secrets(account).items()})


def _secrets(account: Account) -> dict[str, Secret]:
    return {name: value for name in type(account).model_fields if isinstance(value := getattr(account, name), Secret)}


def timeless(event: FactEvent) -> FactEvent:
    """The event without what tells when this copy came."""
    return replace(event, time=event.data.at or NOW, data=event.data.model_copy(update={"received_at": NOW}))


def told(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON, for the reviewed snapshot: no empty fields, no time of receipt, times as ISO."""
    fetches = [f"{fetch.id} {fetch.door}: {fetch.request.method} {fetch.request.url}" for fetch in outcome.fetches]
    found: dict[str, Any] = {
        "events": [_event(event) for event in outcome.events],
        "live": [_event(event) for event in outcome.live],
        "fetches": fetches,
        "quarantined": [{"path": q.path, "kind": q.kind, "reason": q.reason} for q in outcome.quarantined],
        "unused": [{"kind": u.kind, "reason": u.reason, "known": u.known} for u in outcome.unused],
    }
    return {name: value for name, value in found.items() if value}


def _event(event: FactEvent) -> dict[str, Any]:
    data = json.loads(event.data.model_dump_json(exclude_defaults=True, exclude={"received_at"}))
    return {"id": event.id, "type": event.data.type, "account": event.account, "key": event.key, "data": data}
