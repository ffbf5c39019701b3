"""How the command shows what it read: a table for people, JSON lines for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool = False) -> None:
    """A table in a terminal; JSON lines with --json or into a pipe."""
    if as_json or not sys.stdout.isatty():
        for row in rows:
            print(json.dumps(row, ensure_ascii=False, default=str))
        return
    cells = [[_text(row.get(name)) for name in columns] for row in rows]
    widths = [max([len(name), *(len(line[i]) for line in cells)]) for i, name in enumerate(columns)]
    for line in [list(columns), *cells]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def note(text: str) -> None:
    """Progress and remarks, beside the output and never in it."""
    print(text, file=sys.stderr)


def _text(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
