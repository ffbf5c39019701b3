"""What the demo prints: columns, colours only where somebody sees them, and one line for every step that was missed."""

from __future__ import annotations

import pytest

from deploy.local.demo import Screen
from deploy.local.story import Missed, clock


@pytest.fixture
def screen() -> Screen:
    one = Screen()
    one.terminal, one.colour = True, False
    return one


def test_what_has_started_stands_in_columns_and_workers_under_their_service(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.step("environment", ".venv, 61 packages (only the first time)", 41.2)
    screen.step("broker", "127.0.0.1:9092, 11 topics", 1.1)
    screen.step("services", "ingest  outbound  media  identity  router  timeline", 2.3)

    assert capsys.readouterr().out == (
        "  ✓ environment   .venv, 61 packages (only the first time)      41.2 s\n"
        "  ✓ broker        127.0.0.1:9092, 11 topics                      1.1 s\n"
        "  ✓ services      ingest  identity  router  timeline             2.3 s\n"
    )


def test_a_step_of_the_story_stands_in_columns(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen.told(5, "instagram", "PUBLIC", "Marta", "Segundo hervidor Alba que se me rompe en un mes…")
    screen.told(28, "handoff", "claimed", "", "someone opened the link; nothing private is shown")

    assert capsys.readouterr().out == (
        "  0:05  instagram  PUBLIC   Marta     Segundo hervidor Alba que se me rompe en un mes…\n"
        "  0:28  handoff    claimed  someone opened the link; nothing private is shown\n"
    )


def test_only_public_is_yellow_and_only_where_colours_are_wanted(
    screen: Screen, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Screen().colour
    monkeypatch.delenv("NO_COLOR")
    assert Screen().colour

    screen.colour = True
    screen.told(5, "instagram", "PUBLIC", "Marta", "¿hola?")
    screen.told(34, "whatsapp", "private", "Marta", "hola")
    public, private = capsys.readouterr().out.splitlines()
    assert "\033[33m" in public
    assert "\033" not in private


def test_a_step_that_was_missed_says_when_and_which() -> None:
    assert str(Missed(34, "whatsapp proven: not on the timeline after 30 s")) == (
        "0:34 whatsapp proven: not on the timeline after 30 s"
    )
    assert clock(75) == "1:15"
