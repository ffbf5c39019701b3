"""The closed list of reasons: whatever the router says of itself is on it, and an assignment's weighing is made of it."""

from __future__ import annotations

import ast
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest

from services import router
from services.router import desk, reasons
from services.router.desk import Agent, Give, Queue
from services.router.state import Conversation, LegRecord

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
SOURCES = sorted(Path(next(iter(router.__path__))).glob("*.py"))
FAMILIES = (reasons.Ended, reasons.Reopened, reasons.Breached, reasons.Answered, reasons.Proven, reasons.Released)
CODES = {code for family in FAMILIES for code in get_args(family)}


SAYING = ("Emit", "released", "closed", "proved")


def said(source: Path) -> set[str]:
    """What the module's own code gives as the reason of a state event."""
    found: set[str] = set()
    for call in ast.walk(ast.parse(source.read_text())):
        if not isinstance(call, ast.Call) or ast.unparse(call.func).rpartition(".")[2] not in SAYING:
            continue
        given: list[ast.expr] = [one.value for one in call.keywords if one.arg == "why"]
        given += [call.args[1]] if ast.unparse(call.func).endswith("released") and len(call.args) > 1 else []
        for value in given:
            if not isinstance(value, ast.JoinedStr):  # a number told beside, not a reason
                found |= {one.value for one in ast.walk(value) if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found - {""}


def test_every_reason_that_is_given_is_on_the_list() -> None:
    given = {code for source in SOURCES for code in said(source)}

    assert given >= {"legs_left", "native_app", "answer", "timeout", "agent_away", "rejected", "handoff.code"}
    assert given <= CODES


@pytest.mark.parametrize(
    ("sticky", "language", "waited", "busy"), list(itertools.product((None, "ana"), (None, "es", "de"), (0, 900), (0, 2)))
)
def test_an_assignments_why_is_made_of_what_is_on_the_list(
    sticky: str | None, language: str | None, waited: int, busy: int
) -> None:
    leg = LegRecord("acme/x/1/p/private", "p", "x", "1")
    since = NOW - timedelta(seconds=waited)
    c = Conversation("c1", "acme", leg.key, since, legs=(leg,), since=since, sticky=sticky, language=language)
    queue = Queue("support", overflow="sales", overflow_s=600)
    ana = Agent("ana", "acme", languages=("es",), queues=("support",), capacity=4, on=True, load=busy)
    agents = (ana, replace(ana, id="bea", queues=("sales",), languages=()))
    given = desk.decided(c, queue, agents, NOW)
    assert isinstance(given, Give)

    for _, why in given.to:
        facts = dict(word.partition("=")[::2] for word in why.split())
        assert facts.pop("by") in get_args(reasons.By)
        assert facts.pop("rule") in get_args(reasons.Rule)
        assert set(facts) <= set(get_args(reasons.Weighed))
