"""The words of the console in Spanish and English, and how times and durations are said."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from services.timeline.console.session import Language

FILE = Path(__file__).parent / "strings.json"
DAYS = {
    "es": ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
MONTHS = {
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre".split(),
    "en": "January February March April May June July August September October November December".split(),
}


@cache
def strings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(FILE.read_text())
    return found


def known(key: str) -> bool:
    return key in strings()


def text(lang: Language) -> Callable[..., str]:
    """`t(key, name=...)`: the words, with what stands in braces filled in. An unknown key is shown as it is, so that a new
    reason from another service is readable before it is translated."""
    index = 0 if lang == "es" else 1

    def t(key: str, **values: object) -> str:
        found = strings().get(key)
        return found[index].format(**values) if found else key

    return t


def clock(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%H:%M}"


def when(at: datetime, now: datetime, lang: Language, zone: ZoneInfo) -> str:
    """As a row says it: the time today, the weekday this week, the date before."""
    local, today = at.astimezone(zone), now.astimezone(zone).date()
    if local.date() == today:
        return f"{local:%H:%M}"
    if today - local.date() < timedelta(days=7):
        return DAYS[lang][local.weekday()][:3]
    return f"{local.day} {MONTHS[lang][local.month - 1][:3]}"


def day(at: date, lang: Language) -> str:
    name, month = DAYS[lang][at.weekday()], MONTHS[lang][at.month - 1]
    return f"{name.capitalize()} {at.day} de {month}" if lang == "es" else f"{name} {at.day} {month}"


def span(left: timedelta) -> str:
    """Two units at most: 6 d 23 h, 23 h 51 min, 11 min, 40 s."""
    seconds = int(abs(left).total_seconds())
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def size(bytes_: int) -> str:
    """14 kB, 2.1 MB."""
    return f"{bytes_ / 1e6:.1f} MB" if bytes_ >= 1e6 else f"{max(1, round(bytes_ / 1000))} kB"
