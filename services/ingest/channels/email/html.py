"""A mail's HTML as the text that a reader sees; quotations keep a mark in front, as in plain mails."""

from __future__ import annotations

import re
from html.parser import HTMLParser

MAX_HTML = 400_000
HIDDEN = frozenset({"script", "style", "head", "title", "template"})
BREAKS = frozenset({"br", "p", "div", "li", "tr", "ul", "ol", "table", "h1", "h2", "h3", "h4", "hr", "blockquote", "pre"})


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = [""]
        self._hidden = 0
        self._quoted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in HIDDEN
        if tag in BREAKS:
            self._quoted += tag == "blockquote"
            self._break()
        if tag == "li":
            self.lines[-1] += "- "

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in HIDDEN))
        if tag in BREAKS:
            self._quoted = max(0, self._quoted - (tag == "blockquote"))
            self._break()

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.lines[-1] += re.sub(r"\s+", " ", data)

    def _break(self) -> None:
        mark = "> " * min(self._quoted, 5)
        if self.lines[-1].strip("> "):
            self.lines.append(mark)
        else:
            self.lines[-1] = mark


def text_of(html: str) -> str:
    reader = _Reader()
    reader.feed(html[:MAX_HTML])
    reader.close()
    text = "\n".join(line.strip() for line in reader.lines)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
