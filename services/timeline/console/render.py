"""Jinja, with what the templates may call: words, times, glyphs. Undefined names are errors, everything is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from services.common.events import short
from services.timeline.console import texts
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


class Words:
    """What one reader reads: their language and zone, and the names of the agents."""

    def __init__(self, signed: Signed, agents: Mapping[str, str], now: datetime) -> None:
        self.lang, self.zone, self.now, self._agents = signed.lang, signed.zone, now, agents
        self.t = texts.text(signed.lang)

    def by(self, entry: EntryView) -> str:
        """Who said it: the customer by the channel's name for them, ours by agent or house."""
        if entry.direction == "in":
            return (entry.sender.name if entry.sender else None) or self.t("nobody")
        if entry.author:
            return entry.author.name or self.agent(entry.author.id) or entry.author.kind
        return self.t("leg_" + entry.channel) if entry.channel else ""

    def agent(self, agent: str) -> str:
        return self._agents.get(agent, agent)

    def place(self, channel: str, leg: str) -> str:
        name = f"leg_{channel}.{leg}" if channel == "instagram" else f"leg_{channel}"
        found = self.t(name)
        return channel.capitalize() if found == name else found

    def verb(self, place: Place) -> str:
        """The button says where: "Enviar por WhatsApp", "Publicar en Instagram", "Guardar nota"."""
        if place.sees == "note":
            return self.t("send_note")
        name = f"send_{place.name}"
        found = self.t(name)
        other = "publish_other" if place.sees == "public" else "send_other"
        return self.t(other, place=place.title) if found == name else found

    def short(self, place: Place) -> str:
        if place.sees == "note":
            return self.t("note")
        found = self.t(f"short_{place.name}")
        return self.place(place.channel, place.leg) if found == f"short_{place.name}" else found

    def hint(self, place: Place) -> str:
        return f"{self.t('window_open')} {texts.span(place.until - self.now)}" if place.until else ""

    def left(self, clock: Clock) -> str:
        return self.t("late_by", left=texts.span(clock.left)) if clock.kind == "late" else texts.span(clock.left)

    def tag(self, tag: Tag) -> str:
        match tag.what:
            case "late":
                return self.t("late_by", left=texts.span(tag.left or timedelta(0)))
            case "not_opened":
                return self.t("hs_offered")
            case "close_public":
                return self.t("hs_resolved")
            case "private":
                return self.t("private")
        return texts.span(tag.left or timedelta(0))

    def failure(self, entry: EntryView) -> str:
        """Why it is not out, and what happens next, in one line."""
        following = texts.clock(entry.next_at, self.zone) if entry.next_at else "…"
        return self.t(f"fail_{entry.status}", reason=entry.reason or "", next=following)

    def journey(self, entry: EntryView) -> str:
        kind = short(str(entry.data.get("type", ""))) or str(entry.data.get("state", ""))
        title = entry.data.get("title")
        return f"{self.t('journey_' + kind)}{f' «{title}»' if title else ''}"

    def line(self, entry: EntryView) -> str:
        """Something that happened beside the words."""
        state = str(entry.data.get("state", ""))
        if entry.kind == "handoff":
            return self.t(f"step_{state}")
        if entry.kind == "assignment":
            return self.t(f"line_{state}", agent=self.agent(str(entry.data.get("agent", ""))))
        if entry.kind == "conversation":
            return self.t(f"line_{state}", queue=entry.data.get("queue", ""))
        key = f"line_{entry.kind}"
        found = self.t(key, why=entry.data.get("why", ""))
        return entry.kind if found == key else found

    def said(self, text: str) -> str:
        """A preview; a message without words is named by its kind."""
        return self.t(f"part_{text[1:-1]}") if text.startswith("[") and text.endswith("]") else text

    def globals(self) -> dict[str, Any]:
        lang, zone, now = self.lang, self.zone, self.now
        return {
            "t": self.t,
            "now": now,
            "clock": lambda at: texts.clock(at, zone),
            "when": lambda at: texts.when(at, now, lang, zone),
            "day": lambda at: texts.day(at, lang),
            "span": texts.span,
            "glyph": icon,
            "lines": lines,
            **{name: getattr(self, name) for name in NAMES},
        }


NAMES = ("by", "place", "verb", "short", "hint", "left", "tag", "failure", "journey", "line", "said")


def lines(text: str) -> Markup:
    """A text with its line breaks, escaped."""
    return Markup("<br>").join(escape(line) for line in text.splitlines())  # every part is escaped


def render(template: str, lang: Language, theme: Theme | None, values: Mapping[str, Any]) -> str:
    return ENVIRONMENT.get_template(template).render(lang=lang, theme=theme, **values)


def utcnow() -> datetime:
    return datetime.now(UTC)
