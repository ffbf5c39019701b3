"""Jinja, with what the templates may call: words, times, glyphs. Undefined names are errors, everything is escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from services.timeline.console import reasons, texts
from services.timeline.console.backends import Colleague
from services.timeline.console.panels import Clock, Tag, icon
from services.timeline.console.places import Place
from services.timeline.console.session import Language, Signed, Theme
from services.timeline.views import EntryView

HERE = Path(__file__).parent
ENVIRONMENT = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


# Steps of the handoff of which one asks why; the others say it themselves.
ASKED = frozenset(("proven", "declined", "rejected_by_platform", "expired"))
LINK = re.compile(r"https?://[^\s<>\"']{1,2000}[^\s<>\"'.,;:!?)\]]")


class Words:
    """What one reader reads: their language and zone, and the names of the agents."""

    def __init__(self, signed: Signed, agents: Mapping[str, Colleague], now: datetime) -> None:
        self.lang, self.zone, self.now, self._agents = signed.lang, signed.zone, now, agents
        self.t = texts.text(signed.lang)

    # -- who and where

    def by(self, entry: EntryView) -> str:
        """Who said it: the customer by the channel's name for them, ours by agent or house."""
        if entry.direction == "in":
            return (entry.sender.name if entry.sender else None) or self.t("nobody")
        if entry.author:
            return entry.author.name or self.agent(entry.author.id) or self.t("house")
        return self.t("house")

    def agent(self, agent: str) -> str:
        return self._agents[agent].name if agent in self._agents else agent

    def place(self, channel: str, leg: str) -> str:
        name = f"leg_{channel}.{leg}" if channel == "instagram" else f"leg_{channel}"
        return self.t(name) if texts.known(name) else channel.capitalize()

    def verb(self, place: Place) -> str:
        """The button says where: "Enviar por WhatsApp", "Publicar en Instagram", "Guardar nota"."""
        if place.sees == "note":
            return self.t("send_note")
        name, other = f"send_{place.name}", "publish_other" if place.sees == "public" else "send_other"
        return self.t(name) if texts.known(name) else self.t(other, place=place.title)

    def short(self, place: Place) -> str:
        if place.sees == "note":
            return self.t("note")
        name = f"short_{place.name}"
        found = self.t(name) if texts.known(name) else self.place(place.channel, place.leg)
        return f"{found} · {place.which}" if place.which else found

    def hint(self, place: Place) -> str:
        if place.new:
            return self.t("new_leg")
        return f"{self.t('window_open')} {texts.span(place.until - self.now)}" if place.until else ""

    # -- time

    def left(self, clock: Clock) -> str:
        return self.t("late_by", left=texts.span(clock.left)) if clock.kind == "late" else texts.span(clock.left)

    def tag(self, tag: Tag) -> str:
        left = texts.span(tag.left or timedelta(0))
        return self.t(f"tag_{tag.what}", left=left)

    # -- what happened

    def failure(self, entry: EntryView) -> str:
        """Why it is not out, and what happens next, in one line."""
        following = texts.clock(entry.next_at, self.zone) if entry.next_at else "…"
        return self.t(f"fail_{entry.status}", reason=reasons.failure(entry.reason, self.t), next=following)

    def journey(self, entry: EntryView) -> str:
        kind, title = str(entry.data.get("type", "")), entry.data.get("title")
        named = self.t(f"journey_{kind}") if texts.known(f"journey_{kind}") else kind
        return f"{named} «{title}»" if title else named

    def line(self, entry: EntryView) -> str:
        """Something that happened beside the words."""
        state, why = str(entry.data.get("state", "")), str(entry.data.get("why", ""))
        if entry.kind == "handoff":
            return self.t(f"step_{state}")
        if entry.kind == "assignment":
            return self.t(f"line_{state}", agent=self.agent(str(entry.data.get("agent", ""))))
        name = f"line_{state}" if entry.kind == "conversation" else f"line_{entry.kind}"
        if texts.known(name):
            return self.t(name, queue=entry.data.get("queue", ""), why=why)
        return " ".join(filter(None, (entry.kind, state, why)))

    def subject(self, entry: EntryView) -> str:
        """Of a mail."""
        found = (part.data.get("subject", "") for part in entry.parts)
        return next(filter(None, found), "") if entry.channel == "email" else ""

    def because(self, entry: EntryView) -> str:
        """Why it happened, where a reader asks that."""
        why = str(entry.data.get("why", ""))
        if entry.kind == "handoff":
            return self.reason(str(entry.data.get("reason") or why)) if entry.data.get("state") in ASKED else ""
        if entry.kind == "assignment":
            return reasons.assignment(why, self.t) if why else ""
        return reasons.change(why, self.t) if entry.kind == "conversation" else ""

    def assigned(self, why: str) -> str:
        return reasons.assignment(why, self.t)

    def language(self, code: str) -> str:
        return reasons.language(code, self.t)

    def reason(self, code: str) -> str:
        """The sentence of a step of the handoff; nothing where there is none."""
        return self.t(f"hr_{code}") if texts.known(f"hr_{code}") else ""

    def kind_of_found(self, kind: str) -> str:
        return self.t(f"f_{kind}") if texts.known(f"f_{kind}") else self.t("f_pattern")

    def said(self, text: str) -> str:
        """A preview; a message without words is named by its kind."""
        name = f"part_{text[1:-1]}"
        return self.t(name) if text.startswith("[") and texts.known(name) else text

    def globals(self) -> dict[str, Any]:
        lang, zone, now = self.lang, self.zone, self.now
        return {
            "t": self.t,
            "now": now,
            "clock": lambda at: texts.clock(at, zone),
            "when": lambda at: texts.when(at, now, lang, zone),
            "day": lambda at: texts.day(at, lang),
            "span": texts.span,
            "size": texts.size,
            "glyph": icon,
            "lines": lines,
            **{name: getattr(self, name) for name in NAMES},
        }


NAMES = (
    "by", "agent", "place", "verb", "short", "hint", "left", "tag", "failure", "journey", "line", "because", "assigned",
    "language", "reason", "subject", "kind_of_found", "said",
)  # fmt: skip


def lines(text: str) -> Markup:
    """A text with its line breaks and its links, escaped."""
    return Markup("<br>").join(_linked(line) for line in text.splitlines())  # every part is escaped


def _linked(line: str) -> Markup:
    """Only addresses of the web become links, and the page they lead to learns nothing of ours."""
    found, at = [], 0
    for match in LINK.finditer(line):
        link = Markup('<a href="{0}" target="_blank" rel="noopener noreferrer nofollow">{0}</a>').format(match[0])
        found += [escape(line[at : match.start()]), link]
        at = match.end()
    return Markup().join([*found, escape(line[at:])])


def render(template: str, lang: Language, theme: Theme | None, values: Mapping[str, Any]) -> str:
    return ENVIRONMENT.get_template(template).render(lang=lang, theme=theme, **values)


def utcnow() -> datetime:
    return datetime.now(UTC)
