"""Every sentence of the console in both languages, and the short codes of other services in words."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Formatter
from typing import get_args
from zoneinfo import ZoneInfo

import pytest

from services import router
from services.common.events import JourneyType, MessageFailed, PartKind, short
from services.router import reasons as why
from services.router.invitations import REFUSALS
from services.router.shapes import Kind
from services.timeline.console import reasons, texts
from services.timeline.console.texts import known, strings, text
from services.timeline.views import Status

CONSOLE = Path(texts.__file__).parent
SOURCES = [*CONSOLE.glob("templates/*.html"), *CONSOLE.glob("*.py")]
CALLS = re.compile(r"""\bt\(\s*f?["']([\w.-]+)["']""")
FAMILIES = (
    "e_", "f_", "fail_", "hr_", "hs_", "journey_", "lang_", "leg_", "line_", "part_", "r_", "send_", "short_", "st_", "step_",
    "tag_", "then_", "why_", "closed_", "dead_state_", "ck_", "v_", "p_", "h1", "h2", "h3", "h4", "h5", "invite_private",
)  # fmt: skip
es, en = text("es"), text("en")
# What the router refuses a command with. The console does not give work to others, govern queues or sign in there, and it
# shows private data, a lost version and a join in their own way.
REFUSED = {
    code
    for file in Path(router.__file__).parent.glob("*.py")
    for code in re.findall(r"Problem\(\s*\d+,\s*\"(\w+)\"", file.read_text())
}
NOT_FROM_HERE = {
    "force_refused", "hours_invalid", "not_offered", "not_you", "one_of", "tenant_missing", "private_data", "version_lost",
    "joined",
}  # fmt: skip
CODES = [
    code
    for family in (why.Ended, why.Reopened, why.Breached, why.Answered, why.Proven, why.Released)
    for code in get_args(family)
]


def named() -> set[str]:
    """Keys that templates and modules name in full."""
    return {key for file in SOURCES for key in CALLS.findall(file.read_text()) if not key.endswith("_")}


def test_every_sentence_that_is_named_is_there() -> None:
    assert {key for key in named() if not known(key)} == set()


def test_every_sentence_is_used() -> None:
    whole = "".join(file.read_text() for file in SOURCES)
    unused = {key for key in strings() if not key.startswith(FAMILIES) and f'"{key}"' not in whole and f"'{key}'" not in whole}

    assert unused == set()


def test_both_languages_say_something_and_fill_in_the_same() -> None:
    def fields(template: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(template) if name}

    assert [key for key, pair in strings().items() if len(pair) != 2 or not all(pair)] == []
    assert [key for key, (one, other) in strings().items() if fields(one) != fields(other)] == []


@pytest.mark.parametrize(
    ("family", "members"),
    [
        ("e_", sorted(REFUSED - NOT_FROM_HERE)),
        ("e_", [*REFUSALS, "closed", "taken", "no_room", "unproven", "window_closed", "consent_withdrawn", "not_stoppable"]),
        ("f_", get_args(Kind)),
        ("part_", [kind for kind in get_args(PartKind) if kind not in ("text", "unsupported")]),
        ("journey_", [short(name) for name in get_args(JourneyType)]),
        ("then_", [then for then in get_args(MessageFailed.model_fields["then"].annotation) if then != "nothing"]),
        ("fail_", [one for one in get_args(Status) if one in ("failed", "refused", "retrying", "unknown", "stopped")]),
        ("st_", get_args(Status)),
        ("why_by_", get_args(why.By)),
        ("why_rule_", get_args(why.Rule)),
        ("why_", get_args(why.Weighed)),
        ("why_", CODES),
    ],
)
def test_every_code_that_can_come_has_words(family: str, members: list[str]) -> None:
    assert [one for one in members if not known(family + one)] == []


@pytest.mark.parametrize(
    ("said", "spanish", "english"),
    [
        (
            "by=auto rule=longest_free language=es load=2/12 of=3",
            "Llevaba más rato libre; habla español; llevaba 2 de 12; entre 3 libres",
            "Free for the longest time; speaks Spanish; had 2 of 12; of 3 who were free",
        ),
        ("by=auto rule=sticky load=0/8 of=1", "Ya la llevaba antes; llevaba 0 de 8", "Had it before; had 0 of 8"),
        (
            "by=auto rule=longest_free nobody_speaks=de load=1/8 overflow=redes",
            "Llevaba más rato libre; nadie libre habla alemán; llevaba 1 de 8; viene de otra cola llena",
            "Free for the longest time; nobody who is free speaks German; had 1 of 8; came over from a full queue",
        ),
        (
            "by=manual load=12/12 forced",
            "A mano; llevaba 12 de 12; por encima de su carga",
            "By hand; had 12 of 12; beyond their load",
        ),
        ("rejected", "No la aceptó", "It was not accepted"),
        ("I am on lunch", "I am on lunch", "I am on lunch"),
    ],
)
def test_why_somebody_got_it_is_said_in_words(said: str, spanish: str, english: str) -> None:
    assert reasons.assignment(said, es) == spanish
    assert reasons.assignment(said, en) == english


def test_an_end_says_its_reason_in_words_or_in_the_words_of_who_ended_it() -> None:
    assert reasons.change("legs_left", en) == "All its channels went on to other conversations"
    assert reasons.change("solved by phone", en) == "solved by phone"
    assert reasons.change("", en) == ""


def test_a_code_without_a_sentence_is_shown_as_the_service_said_it() -> None:
    assert reasons.refusal({"code": "new_code", "detail": "Something new."}, 409, en) == "Something new."
    assert reasons.refusal({}, 500, en) == "500"
    assert reasons.failure("user cannot receive messages (551)", en) == "user cannot receive messages (551)"
    assert reasons.failure(None, en) == "no reason given"
    assert reasons.language("zh-TW", en) == "zh-TW"


def test_times_are_said_in_the_readers_zone_and_durations_in_two_units() -> None:
    zone, now = ZoneInfo("Europe/Madrid"), datetime(2026, 11, 22, 23, 30, tzinfo=UTC)

    assert texts.clock(now, zone) == "00:30"
    assert texts.when(now - timedelta(hours=1), now, "es", zone) == "dom"
    assert texts.when(now - timedelta(days=30), now, "en", zone) == "24 Oct"
    assert texts.day(datetime(2026, 11, 22, tzinfo=UTC).date(), "es") == "Domingo 22 de noviembre"
    spans = [texts.span(timedelta(seconds=one)) for one in (40, 660, 85860, 600_000, -540)]
    assert spans == ["40 s", "11 min", "23 h 51 min", "6 d 22 h", "9 min"]
    assert [texts.size(one) for one in (12, 14_000, 2_100_000)] == ["1 kB", "14 kB", "2.1 MB"]
