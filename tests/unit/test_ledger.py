"""The ledger's report as a person reads it."""

from __future__ import annotations

from datetime import UTC, datetime

from services.ingest.ledger import Balance, LedgerReport, Missing, render

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOST = Missing("e1", "event", "acme", "pigeon", "main", 0, 7, NOW)


def test_a_balanced_ledger_says_so_in_its_last_line() -> None:
    report = LedgerReport({("acme", "pigeon"): Balance(2, 3, 1, 1, 1)})

    assert report.ok
    assert render(report).splitlines() == [
        "tenant  channel  inputs  accepted  normalized  quarantined  ignored",
        "acme    pigeon   2       3         1           1            1",
        "balanced",
    ]


def test_what_is_missing_stands_with_its_place_and_the_ledger_is_not_balanced() -> None:
    report = LedgerReport(missing=[LOST], in_flight=2, unanswered=1, unreadable=1, unbalanced=["0/3"])

    assert not report.ok
    assert render(report).splitlines()[1:] == [
        "missing: event e1 of acme/pigeon/main at 0/7",
        "does not balance: the input at 0/3",
        "1 records of hilo.raw cannot be read",
        "2 ids of inputs of the last 30 s are not there yet",
        "1 fetches are not answered yet",
        "NOT balanced",
    ]


def test_only_what_was_repaired_counts_as_there() -> None:
    repaired = Missing("e1", "event", "acme", "pigeon", "main", 0, 7, NOW, "repaired")
    left = Missing("e2", "event", "acme", "pigeon", "main", 0, 7, NOW, "its input is no longer kept")

    assert LedgerReport(missing=[repaired]).ok
    assert not LedgerReport(missing=[repaired, left]).ok
    assert "missing: event e2 of acme/pigeon/main at 0/7: its input is no longer kept" in render(LedgerReport(missing=[left]))


def test_a_channel_that_does_not_balance_is_marked() -> None:
    assert not Balance(1, 3, 1, 1, 0).balances
    assert render(LedgerReport({("acme", "pigeon"): Balance(1, 3, 1, 1, 0)})).splitlines()[1].endswith("!")
