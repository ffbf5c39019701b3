"""The handoff panel in each state, the clocks, and the rows of the list."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, get_args

import pytest

from services.common.events import Author, HandoffState, OfferHead, Part, SlaHead
from services.router.handoff import Step, closed_in_public
from services.router.state import Conversation, Handoff, LegRecord
from services.router.wording import REASONS
from services.timeline.console.panels import STEPS, STRAND, clocks, initials, panel, row
from services.timeline.console.texts import known
from services.timeline.views import PartView
from tests.console_views import DECLARED, DIRECT, NOW, PUBLIC, ago, comment, conversation, entry, head, leg

STATES: tuple[HandoffState, ...] = get_args(HandoffState)
WHATSAPP = leg("whatsapp.chat", last_received_at=ago(1), window_until=NOW + timedelta(hours=2))


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_place_on_the_strand_a_sentence_and_at_most_one_step(state: HandoffState) -> None:
    shown = panel(head(PUBLIC, DIRECT, handoff=state), NOW, DECLARED, ("whatsapp/lumbre",))

    assert shown is not None
    assert 1 <= shown.at <= 5
    assert known(f"hs_{state}")
    assert state in STRAND
    assert state in STEPS


def test_every_reason_that_the_router_gives_has_a_sentence() -> None:
    assert [reason for reason in REASONS if not known(f"hr_{reason}")] == []


def test_what_was_never_public_has_no_panel() -> None:
    assert panel(head(DIRECT), NOW) is None


@pytest.mark.parametrize(
    ("state", "targets", "about", "step", "how"),
    [
        ("triaged", (), {}, "invite", "private"),
        ("triaged", ("whatsapp/a",), {"deadline_at": ago(1)}, "invite", "link"),
        ("triaged", (), {"deadline_at": ago(1)}, "answer_public", ""),
        ("rejected_by_platform", ("whatsapp/a",), {}, "invite", "link"),
        ("expired", (), {}, "answer_public", ""),
        ("drafted", (), {}, "approve", "private"),
        ("approved", (), {}, "", ""),
        ("offered", (), {}, "answer_public", ""),
        ("claimed", (), {}, "", ""),
        ("proven", (), {}, "write_private", ""),
        ("private_active", (), {}, "close_public", ""),
        ("resolved", (), {}, "close_public", ""),
        ("public_closed", (), {}, "", ""),
        ("declined", (), {}, "answer_public", "private"),
        ("author_deleted", (), {}, "resolve", ""),
        ("reverted_public", (), {}, "answer_public", "private"),
    ],
)
def test_each_state_has_its_next_step(
    state: HandoffState, targets: tuple[str, ...], about: dict[str, object], step: str, how: str
) -> None:
    shown = panel(head(PUBLIC, DIRECT, handoff=state, about=about), NOW, DECLARED, targets)

    assert shown is not None
    assert (shown.step, shown.invite) == (step, how)


def test_a_claimed_leg_is_asked_for_the_code() -> None:
    claimed = leg("whatsapp.chat", proof="claimed")

    shown = panel(head(PUBLIC, claimed, handoff="claimed"), NOW, DECLARED)

    assert shown is not None
    assert (shown.half, shown.step, shown.leg) == (True, "ask_code", claimed.key)


def test_who_is_proven_is_written_to_where_they_wrote_last() -> None:
    shown = panel(head(PUBLIC, DIRECT, WHATSAPP, handoff="proven"), NOW, DECLARED)

    assert shown is not None
    assert shown.leg == WHATSAPP.key


def test_a_closed_case_asks_for_nothing_but_the_last_public_word() -> None:
    def step(state: HandoffState) -> str:
        shown = panel(head(PUBLIC, state="closed", handoff=state), NOW, DECLARED, ("whatsapp/a",))
        return shown.step if shown else "no panel"

    assert {state: step(state) for state in STATES if step(state)} == {
        "private_active": "close_public",
        "resolved": "close_public",
    }


def test_what_the_console_offers_as_the_last_public_word_the_router_accepts() -> None:
    key = PUBLIC.key
    held = LegRecord(key, "p", "instagram", "a", visibility="public")

    def accepted(state: HandoffState, at: Literal["open", "closed"]) -> bool:
        c = Conversation("c1", "acme", key, NOW, state=at, legs=(held,), handoff=Handoff(state, NOW, key, "post"))
        return isinstance(closed_in_public(c, (Part("text", "Settled."),), NOW, Author("agent", "ines")), Step)

    def offered(state: HandoffState, at: Literal["open", "closed"]) -> bool:
        shown = panel(head(PUBLIC, state=at, handoff=state), NOW, DECLARED)
        return bool(shown and shown.step == "close_public")

    places = [(state, at) for state in STATES for at in ("open", "closed")]
    assert [one for one in places if offered(*one) and not accepted(*one)] == []  # type: ignore[arg-type]
    assert offered("resolved", "closed")


def test_the_last_public_word_is_offered_once_and_only_where_the_thread_still_is() -> None:
    gone = PUBLIC.model_copy(update={"held": False})
    elsewhere = panel(head(gone, state="closed", handoff="resolved"), NOW, DECLARED)
    sending = panel(head(PUBLIC, state="closed", handoff="resolved", about={"reason": "closing"}), NOW, DECLARED)

    assert elsewhere is not None
    assert sending is not None
    assert (elsewhere.step, sending.step) == ("", "")


def test_clocks_run_the_soonest_first_and_turn_red_under_a_quarter() -> None:
    sla = SlaHead(waiting_since=ago(50), answer_by=NOW + timedelta(minutes=10), resolve_by=NOW + timedelta(hours=40))

    found = clocks(head(WHATSAPP, sla=sla), NOW)

    assert [(one.label, one.kind) for one in found] == [("ck_answer", "warn"), ("ck_window", "warn"), ("ck_resolve", "")]
    assert [one.share for one in found] == [17, 8, 98]
    assert (found[1].channel, found[1].leg) == ("whatsapp", "chat")


def test_a_clock_that_ran_out_is_late_and_a_closed_case_has_none() -> None:
    sla = SlaHead(waiting_since=ago(70), answer_by=ago(10))

    (late,) = clocks(head(DIRECT, sla=sla), NOW)

    assert (late.kind, late.share) == ("late", 0)
    assert clocks(head(DIRECT, sla=sla, state="closed"), NOW) == []


def test_a_link_that_waits_has_a_clock_of_its_own() -> None:
    offer = OfferHead(id="o", state="open", given_on=PUBLIC.key, expires_at=NOW + timedelta(days=3))

    (works,) = clocks(head(PUBLIC, handoff="offered", about={"offers": (offer,)}), NOW)

    assert works.label == "ck_link"
    assert clocks(head(PUBLIC, handoff="declined", about={"offers": (offer,)}), NOW) == []


def test_a_row_shows_the_path_who_spoke_last_and_one_thing_to_do() -> None:
    waiting = SlaHead(waiting_since=ago(55), answer_by=NOW + timedelta(minutes=5))
    public = leg("instagram.comment", waiting_since=ago(55))
    last = comment("Third email, still no answer", 55)

    shown = row(conversation(head(public, DIRECT, sla=waiting), last), NOW)

    assert (shown.who, shown.face, shown.last, shown.us) == ("Marta Ruiz", "MR", "Third email, still no answer", False)
    assert shown.path == (("instagram", "pub"), ("instagram", "prv"))
    assert (shown.public, shown.waiting) == (True, True)
    assert shown.tag is not None
    assert (shown.tag.what, shown.tag.kind) == ("answer", "bad")


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (head(DIRECT, sla=SlaHead(waiting_since=ago(9), answer_by=ago(1))), "late"),
        (head(PUBLIC, handoff="offered"), "not_opened"),
        (head(PUBLIC, handoff="resolved"), "close_public"),
        (head(leg("whatsapp.chat", window_until=NOW + timedelta(minutes=38))), "window"),
        (head(PUBLIC, handoff="private_active"), "private"),
    ],
)
def test_the_tag_of_a_row_says_what_needs_doing(made: object, what: str) -> None:
    found = row(conversation(made), NOW).tag  # type: ignore[arg-type]

    assert found is not None
    assert found.what == what
    assert known(f"tag_{what}")


def test_a_file_without_words_is_previewed_by_its_kind_and_a_name_by_its_letters() -> None:
    audio = entry("voice", text=None, parts=(PartView(kind="audio"),))

    assert row(conversation(head(DIRECT), audio), NOW).last == "[audio]"
    assert [initials(name) for name in ("Marta Ruiz", "dana.kovac", "@cafe norte", "", "🙂")] == ["MR", "D", "CN", "·", "·"]
