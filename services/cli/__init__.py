"""The `hilo` command: noun, then verb. Every service brings its own nouns; what reads prints a table in a terminal and JSON
lines in a pipe. Exit 0: fine; 1: it found something; 2: wrong use."""

from __future__ import annotations

import sys

import typer

from services.cli import admin, channel, docs, ledger, remote, tenant
from services.common.errors import Away
from services.common.mongo import PyMongoError
from services.common.settings import wrong
from services.common.vault import Unsealable

app = typer.Typer(
    name="hilo",
    help="One conversation out of many channels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(admin.topics_app, name="topics")
app.add_typer(admin.tenant_app, name="tenant")
admin.tenant_app.add_typer(tenant.pattern_app, name="pattern")
admin.tenant_app.add_typer(tenant.contact_app, name="contact")
app.add_typer(admin.key_app, name="key")
app.add_typer(remote.account_app, name="account")
app.add_typer(remote.dead_app, name="dead")
app.add_typer(ledger.app, name="ledger")
app.add_typer(channel.app, name="channel")
app.add_typer(docs.app, name="docs")
app.command("setup")(admin.setup)


def main() -> None:
    """Run the command. What is away and what is wrongly set end in a sentence, not in a traceback."""
    try:
        app()
    except Away as error:
        sys.exit(_said(f"{error}. Is it running, and do HILO_KAFKA and HILO_MONGO name it?"))
    except Unsealable as error:
        sys.exit(_said(f"{error}. HILO_MASTER_KEY is not the one that this installation was made with."))
    except PyMongoError as error:
        refusal = getattr(error, "details", None) or {}
        sys.exit(_said(f"MongoDB refuses it: {refusal.get('errmsg', error)}"))
    except ValueError as error:
        sys.exit(_said(wrong(error)))


def _said(text: str) -> int:
    print(f"hilo: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
