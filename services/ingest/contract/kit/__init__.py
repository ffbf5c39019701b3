"""The conformance kit: from a channel and its fixtures folder, the list of cases it must pass. A channel writes no test code.

fixtures/accounts.json              example accounts; the first owns the door
fixtures/<case>.json|form|eml|txt   a body as the provider sends it
fixtures/<case>.meta                optional JSON: door, method, headers, query, url
fixtures/<case>.expected            the outcome, written by `accept` and reviewed by a person
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.events import short
from services.ingest.contract.channel import Channel
from services.ingest.contract.doors import Webhook
from services.ingest.contract.kit import declaration, inbound, neighbours, pulling, sending, webhook
from services.ingest.contract.kit.subject import NOW, TENANT_KEY, Fixture, Subject, load, told

__all__ = ["NOW", "TENANT_KEY", "Case", "Fixture", "Subject", "accept", "cases", "conformance", "load", "receives", "told"]


@dataclass(frozen=True)
class Case:
    name: str
    run: Callable[[], None]

    def __str__(self) -> str:
        return self.name


def cases(channel: Channel[Any], folder: Path) -> list[Case]:
    """Every case for this channel, named `group/what[fixture]`."""
    subject = load(channel, folder)
    found = [Case(f"declaration/{name}", run) for name, run in declaration.cases(subject)]
    for fixture in subject.fixtures:
        found += [Case(f"inbound/{name}[{fixture.name}]", run) for name, run in inbound.cases(subject, fixture)]
        found += [Case(f"items/{name}[{fixture.name}]", run) for name, run in neighbours.cases(subject, fixture)]
        if isinstance(channel.door(fixture.raw.door), Webhook):
            found += [Case(f"webhook/{name}[{fixture.name}]", run) for name, run in webhook.cases(subject, fixture)]
    found += [Case(f"door/{name}", run) for name, run in pulling.cases(subject)]
    if channel.send:
        found += [Case(f"send/{name}", run) for name, run in sending.cases(subject)]
    return found


def conformance(channel: Channel[Any], folder: Path) -> Callable[..., None]:
    """The whole test module of a channel: `test_conformance = conformance(CHANNEL, Path(__file__).parent / "fixtures")`."""
    import pytest

    @pytest.mark.parametrize("case", cases(channel, folder), ids=str)
    def test(case: Case) -> None:
        case.run()

    return test


def accept(channel: Channel[Any], folder: Path) -> list[str]:
    """Write the outcome of each fixture beside it and say which changed; the author reads the difference and commits it."""
    subject = load(channel, folder)
    changed = []
    for fixture in subject.fixtures:
        written = json.dumps(told(subject.normalized(fixture.raw)), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        if not fixture.expected.exists() or fixture.expected.read_text() != written:
            fixture.expected.write_text(written)
            changed.append(fixture.name)
    return changed


def receives(channel: Channel[Any], folder: Path) -> set[str]:
    """The kinds of events that the fixtures show: what a channel receives is counted, not declared."""
    subject = load(channel, folder)
    outcomes = [subject.normalized(fixture.raw) for fixture in subject.fixtures]
    return {short(event.data.type) for outcome in outcomes for event in (*outcome.events, *outcome.live)}
