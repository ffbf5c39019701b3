"""The little Markdown that the generated pages need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

GENERATED = "<!-- Written by `hilo docs write` from the code; change that, not this page. -->"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell(one) for one in line)} |" for line in lines)


def cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def code(*words: object) -> str:
    """Each word as code, separated by commas."""
    return ", ".join(f"`{word}`" for word in words)


def page(*blocks: str) -> str:
    return "\n\n".join(block.strip("\n") for block in blocks if block) + "\n"


def anchor(title: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def between(text: str, name: str, content: str) -> str:
    """`text` with `content` between the comments `<!-- name -->` and `<!-- /name -->`. ValueError where they are missing."""
    begin, end = f"<!-- {name}: written by `hilo docs write` -->", f"<!-- /{name} -->"
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{begin} and {end} are missing")
    return f"{head}{begin}\n{content}\n{end}{tail}"


def sentence(text: str | None) -> str:
    """A docstring on one line."""
    return " ".join((text or "").split())
