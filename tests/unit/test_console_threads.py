"""From entries to the one thread."""

from __future__ import annotations

from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from services.timeline.console.threads import Block, Journey, Knot, Stretch, thread
from services.timeline.views import EntryView
from tests.console_views import comment, entry, told

UTC, MADRID = ZoneInfo("UTC"), ZoneInfo("Europe/Madrid")


def kinds(blocks: list[Block]) -> list[str]:
    return [block.kind if not isinstance(block, Stretch) else f"{block.visibility} {block.leg}".strip() for block in blocks]


def test_all_legs_stand_on_one_thread_with_a_knot_where_it_goes_private() -> None:
    found = thread(
        [
            told("journey", "faq", 50, type="hilo.faq.viewed.v1"),
            told("journey", "cart", 49, type="hilo.cart.abandoned.v1"),
            comment("complaint", 40),
            entry("private", 30, direction="out"),
            comment("answer", 29, direction="out"),
            entry("whatsapp", 20, channel="whatsapp", leg="chat"),
            entry("video", 19, channel="whatsapp", leg="chat"),
        ],
        UTC,
    )

    assert kinds(found) == ["day", "journey", "public comment", "knot", "private dm", "public comment", "private chat"]
    assert [len(block.items) for block in found if isinstance(block, Stretch)] == [1, 1, 1, 2]
    journey = found[1]
    assert isinstance(journey, Journey)
    assert (journey.first, len(journey.steps)) == (True, 2)


def test_a_conversation_that_was_always_private_has_no_knot() -> None:
    found = thread([entry("one", 3), entry("two", 2, direction="out")], UTC)

    assert kinds(found) == ["day", "private dm"]


def test_the_thread_is_tied_once_and_again_where_the_person_is_proven() -> None:
    found = thread(
        [
            comment("one", 9),
            entry("two", 8),
            comment("three", 7),
            entry("four", 6),
            told("handoff", "proof", 5, state="proven"),
            entry("five", 4),
        ],
        UTC,
    )

    assert [block.what for block in found if isinstance(block, Knot)] == ["private", "proven"]


def test_a_note_never_stands_among_public_messages() -> None:
    found = thread([comment("one", 3), told("note", "note", 2), comment("two", 1)], UTC)

    assert kinds(found) == ["day", "public comment", "private", "public comment"]
    alone = found[2]
    assert isinstance(alone, Stretch)
    assert alone.channel == ""


def test_what_happens_between_messages_does_not_break_their_leg() -> None:
    found = thread([entry("one", 3), told("assignment", "given", 2, state="assigned", agent="ines"), entry("two", 1)], UTC)

    assert kinds(found) == ["day", "private dm"]


def test_our_queued_message_that_names_no_leg_goes_on_the_stretch_before_it() -> None:
    found = thread([entry("one", 3), entry("queued", 2, direction="out", leg=""), entry("two", 1)], UTC)

    assert kinds(found) == ["day", "private dm"]


def test_days_are_those_of_the_reader_and_never_stand_alone() -> None:
    late = [entry("one", 11 * 60), told("handoff", "offered", 10 * 60, state="offered"), entry("two", 1)]

    assert kinds(thread(late, UTC)) == ["day", "private dm", "day", "private dm"]
    assert kinds(thread(late, MADRID)) == ["day", "private dm"]
    assert thread([told("handoff", "offered", 1, state="offered")], UTC) == []


@st.composite
def histories(draw: st.DrawFn) -> list[EntryView]:
    made = (
        lambda n: comment(f"c{n}", -n * 300),
        lambda n: entry(f"d{n}", -n * 300),
        lambda n: entry(f"w{n}", -n * 300, channel="whatsapp", leg="chat"),
        lambda n: told("note", f"n{n}", -n * 300),
        lambda n: told("journey", f"j{n}", -n * 300),
        lambda n: told("handoff", f"h{n}", -n * 300, state=draw(st.sampled_from(("proven", "claimed", "offered")))),
        lambda n: told("assignment", f"a{n}", -n * 300, state="assigned"),
    )
    return [draw(st.sampled_from(made))(n) for n in range(draw(st.integers(0, 12)))]


@given(histories())
def test_everything_that_was_said_stands_on_the_thread_once_in_its_order_and_under_its_visibility(
    items: list[EntryView],
) -> None:
    blocks = thread(items, UTC)

    shown = [one for block in blocks if isinstance(block, Stretch) for one in block.items]
    said = [one for one in items if one.kind in ("message", "comment", "note")]
    assert [one.id for one in shown if one.kind in ("message", "comment", "note")] == [one.id for one in said]
    for block in blocks:
        if isinstance(block, Stretch):
            assert {one.visibility for one in block.items if one.kind in ("message", "comment")} <= {block.visibility}
            assert block.visibility == "private" or all(one.kind != "note" for one in block.items)
    assert len({block.id for block in blocks}) == len(blocks)
    assert all(not (a.kind == "day" and b.kind == "day") for a, b in pairwise(blocks))
