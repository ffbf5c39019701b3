"""The ledger, read from the topics: every accepted item is normalized, quarantined or ignored, and nothing is missing."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from typing import Annotated

import typer

from services.cli.output import note
from services.ingest.ledger import check, render
from services.ingest.settings import IngestSettings

app = typer.Typer(help="The account of everything that came in.", no_args_is_help=True)


@app.callback()
def nouns() -> None:
    """Keeps `check` a verb of its own."""


@app.command("check")
def ledger_check(
    *,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    repair: Annotated[bool, typer.Option(help="Put back what is missing, from the kept inputs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, as in a pipe.")] = False,
) -> None:
    """Read the topics to their ends and balance them. Exit 1 when something is missing or does not balance."""
    report = asyncio.run(check(IngestSettings(), tenant, channel, repair=repair))
    if as_json or not sys.stdout.isatty():
        channels = [
            {"tenant": key[0], "channel": key[1], **dataclasses.asdict(balance)} for key, balance in report.channels.items()
        ]
        missing = [dataclasses.asdict(one) for one in report.missing]
        more = {name: getattr(report, name) for name in ("in_flight", "unanswered", "unreadable", "unbalanced")}
        print(json.dumps({"ok": report.ok, "channels": channels, "missing": missing, **more}, default=str))
    else:
        print(render(report))
    if not report.ok:
        note("repaired what could be repaired" if repair else "hilo ledger check --repair puts back what is missing")
        raise typer.Exit(1)
