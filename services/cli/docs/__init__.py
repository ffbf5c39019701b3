"""`hilo docs write`: the pages under docs/ that are generated from the code. A test fails when one of them has drifted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.output import note

ROOT = Path(__file__).resolve().parents[3]

app = typer.Typer(help="The generated pages of the documentation.", no_args_is_help=True)


@app.callback()
def nouns() -> None:
    """Keeps `write` a verb of its own."""


@app.command("write")
def write(root: Annotated[Path, typer.Option(help="The source tree whose pages are written.")] = ROOT) -> None:
    """Write docs/channels.md, docs/settings.md, docs/metrics.md, docs/events and the README's matrix anew."""
    from services.cli.docs.pages import obsolete, pages

    if not (root / "docs").is_dir():
        raise typer.BadParameter(f"{root} is no source tree of Hilo: it has no docs folder")
    changed = 0
    for name, text in pages(root).items():
        file = root / name
        file.parent.mkdir(exist_ok=True)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
            changed += 1
            print(name)
    for file in obsolete(root):
        file.unlink()
        changed += 1
        print(file.relative_to(root))
    note(f"{changed} changed")
