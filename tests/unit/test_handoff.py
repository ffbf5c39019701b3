"""The handoff, step by step: what each thing that happens makes of it, and that nothing untrue is said in public."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest

from services.common.events import Author, HandoffState, Part
from services.common.identifiers import outbound_id
from services.router import handoff, inviting, offers
from services.router.codes import Keys, codes_in, tokens_in
from services.router.documents import from_document, to_document
from services.router.handoff import Ask, Post, Refusal, Step, Stop
from services.router.inviting import Invitation, Links, Platform
from services.router.outputs import Change, Emit, committed
from services.router.state import Conversation, LegRecord, Moved, head
from services.router.wording import LIMIT, PRIVATE, PUBLIC, REASONS, Language, broken_rules, filled, sentence

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
LINKS = Links(Keys(1, {1: b"k" * 32}), "https://hervor.example/go/")
INES = Author("agent", "ines", "Inés")
LUIS = Author("agent", "luis", "Luis")
PUBLIC_LEG, DM, WHATSAPP = (
    "acme/instagram/shop/marta/public:p1",
    "acme/instagram/shop/marta/private",
    "acme/whatsapp/w/x/private",
)
POST = Post(PUBLIC_LEG, "c1", "entry-1", NOW - timedelta(minutes=5), "complaint", within_s=7 * 86400)
INSTAGRAM = Platform(DM)
SAY = (Part("text", "Hola, Marta: te leemos."),)
REPLY = (Part("text", "Sentimos lo del hervidor, Marta. Te acabamos de escribir por privado."),)
WITH_LINK = (Part("text", "Sentimos lo del hervidor, Marta. Seguimos aquí: {link}"),)


def leg(key: str, party: str = "marta") -> LegRecord:
    return LegRecord(key, party, key.split("/")[1], "shop", visibility="public" if ":" in key else "private", proof="channel")


def case(*legs: LegRecord) -> Conversation:
    return Conversation("case", "acme", PUBLIC_LEG, NOW, v=7, legs=(leg(PUBLIC_LEG), *legs))


def after(step: Step | Refusal | None) -> Conversation:
    """The conversation as the store has it after this step."""
    assert isinstance(step, Step), step
    emitted = tuple(one for one in step.outputs if isinstance(one, Emit))
    return replace(committed(Change(step.after, emitted), NOW), out=())


def state(c: Conversation) -> tuple[HandoffState, str]:
    assert c.handoff
    return c.handoff.state, c.handoff.reason


def asked(step: Step | Refusal | None) -> Ask:
    assert isinstance(step, Step), step
    [ask] = [one for one in step.outputs if isinstance(one, Ask)]
    return ask


def triaged(*legs: LegRecord) -> Conversation:
    return after(handoff.noticed(case(*legs), POST, NOW))


def waiting(c: Conversation) -> str:
    assert c.handoff
    assert c.handoff.waits_for
    return c.handoff.waits_for


def offered(public: tuple[Part, ...] = REPLY) -> Conversation:
    """The private reply was accepted and the public one published."""
    c = after(inviting.invite(triaged(leg(DM)), Invitation(INES, SAY, public), INSTAGRAM, LINKS, NOW))
    c = after(inviting.settled(c, waiting(c), "sent", LINKS, NOW))
    return after(inviting.settled(c, waiting(c), "sent", LINKS, NOW)) if public else c


def linked() -> Conversation:
    """A link stands in public."""
    c = after(inviting.invite(triaged(), Invitation(INES, public=WITH_LINK, targets=("whatsapp/w",)), None, LINKS, NOW))
    return after(inviting.settled(c, waiting(c), "sent", LINKS, NOW))


# -- public words -------------------------------------------------------------------------------------------------------


def test_a_public_complaint_is_triaged_with_the_platforms_deadline_on_the_providers_clock() -> None:
    c = triaged()

    assert state(c) == ("triaged", "complaint")
    assert c.handoff
    assert c.handoff.deadline == NOW - timedelta(minutes=5) + timedelta(days=7)
    assert head(c).handoff is not None


def test_what_nobody_judged_yet_is_only_detected() -> None:
    assert state(after(handoff.noticed(case(), replace(POST, kind=None), NOW))) == ("detected", "seen")


def test_the_event_tells_the_state_that_was_reached_and_who_did_it() -> None:
    step = inviting.invite(triaged(leg(DM)), Invitation(INES, SAY, REPLY), INSTAGRAM, LINKS, NOW)

    assert isinstance(step, Step)
    assert step.outputs[0] == Emit("handoff.changed", INES, "sending_private", {"state": "approved", "offer": None})


def test_the_document_keeps_all_of_it() -> None:
    c = after(inviting.invite(triaged(leg(DM)), Invitation(INES, WITH_LINK, REPLY, ("whatsapp/w",)), INSTAGRAM, LINKS, NOW))

    assert from_document(to_document(c)) == c


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("El hervidor no funciona y nadie me contesta", "complaint"),
        ("My kettle stopped working after a week!", "complaint"),
        ("¿Qué capacidad tiene el Alba?", "question"),
        ("Do you ship to Lisbon?", "question"),
        ("Lovely colour", None),
        ("", None),
    ],
)
def test_a_first_guess_sorts_complaints_from_questions(text: str, kind: str | None) -> None:
    assert handoff.reads_as(text) == kind


# -- the platform's own private reply -----------------------------------------------------------------------------------


def test_where_the_platform_has_a_private_reply_it_goes_first_and_names_the_item() -> None:
    step = inviting.invite(triaged(leg(DM)), Invitation(INES, SAY, REPLY), INSTAGRAM, LINKS, NOW)
    ask, c = asked(step), after(step)

    assert (ask.leg, ask.opens, ask.parts) == (DM, "c1", SAY)
    assert state(c) == ("approved", "sending_private")
    assert waiting(c) == outbound_id("case", ask.key)


def test_the_public_reply_follows_only_once_the_private_message_was_accepted() -> None:
    c = after(inviting.invite(triaged(leg(DM)), Invitation(INES, SAY, REPLY), INSTAGRAM, LINKS, NOW))
    step = inviting.settled(c, waiting(c), "sent", LINKS, NOW)
    ask, c = asked(step), after(step)

    assert (ask.leg, ask.opens, ask.parts, ask.author) == (PUBLIC_LEG, None, REPLY, INES)
    assert state(c) == ("offered", "private_accepted")
    assert state(after(inviting.settled(c, waiting(c), "sent", LINKS, NOW))) == ("offered", "public_followed")
    assert state(after(inviting.settled(c, waiting(c), "failed", LINKS, NOW))) == ("offered", "public_failed")


def test_a_private_message_that_the_platform_refused_takes_the_public_reply_with_it() -> None:
    c = after(inviting.invite(triaged(leg(DM)), Invitation(INES, SAY, REPLY), INSTAGRAM, LINKS, NOW))
    step = inviting.settled(c, waiting(c), "failed", LINKS, NOW)
    c = after(step)

    assert state(c) == ("rejected_by_platform", "rejected")
    assert isinstance(step, Step)
    assert [one for one in step.outputs if isinstance(one, Ask)] == []
    assert c.handoff
    assert c.handoff.then == ()


def test_nothing_follows_a_private_message_whose_fate_nobody_knows_until_somebody_does() -> None:
    c = after(inviting.invite(triaged(leg(DM)), Invitation(INES, SAY, REPLY), INSTAGRAM, LINKS, NOW))
    unknown = inviting.settled(c, waiting(c), "unknown", LINKS, NOW)
    assert isinstance(unknown, Step)

    assert [one for one in unknown.outputs if isinstance(one, Ask)] == []
    assert asked(inviting.settled(after(unknown), waiting(c), "sent", LINKS, NOW)).leg == PUBLIC_LEG


def test_the_fate_of_another_message_changes_nothing() -> None:
    c = after(inviting.invite(triaged(leg(DM)), Invitation(INES, SAY, REPLY), INSTAGRAM, LINKS, NOW))

    assert inviting.settled(c, "another", "sent", LINKS, NOW) is None


def test_the_one_private_reply_is_spent_by_a_refusal_but_not_by_an_account_that_must_be_mended() -> None:
    wish = Invitation(INES, SAY, REPLY)
    c = after(inviting.invite(triaged(leg(DM)), wish, INSTAGRAM, LINKS, NOW))
    refused = after(inviting.settled(c, waiting(c), "failed", LINKS, NOW))
    broken = after(inviting.settled(c, waiting(c), "failed", LINKS, NOW, then="fix_account"))

    assert inviting.invite(refused, wish, INSTAGRAM, LINKS, NOW) == Refusal("private_reply_used")
    assert state(after(inviting.invite(broken, wish, INSTAGRAM, LINKS, NOW))) == ("approved", "sending_private")


def test_after_seven_days_the_platforms_private_reply_is_not_tried() -> None:
    c = triaged(leg(DM))
    late = NOW + timedelta(days=7)

    assert inviting.invite(c, Invitation(INES, SAY, REPLY), INSTAGRAM, LINKS, late) == Refusal("window_over")
    assert handoff.due(c) == NOW - timedelta(minutes=5) + timedelta(days=7)
    assert state(after(handoff.ticked(c, late))) == ("triaged", "window_over")
    assert handoff.ticked(c, NOW) is None


def test_a_private_reply_may_carry_a_link_and_gives_it_in_private() -> None:
    step = inviting.invite(triaged(leg(DM)), Invitation(INES, WITH_LINK, REPLY, ("whatsapp/w",)), INSTAGRAM, LINKS, NOW)
    [token] = tokens_in(asked(step).parts[0].text or "")
    [offer] = after(step).offers

    assert (offer.given, offer.on, offer.expires) == ("private", DM, NOW + timedelta(hours=24))
    assert offer.token != token
    assert token not in str(to_document(after(step)))


# -- a link in public ---------------------------------------------------------------------------------------------------


def test_without_a_private_reply_of_the_platform_the_public_reply_carries_a_link() -> None:
    step = inviting.invite(triaged(), Invitation(INES, public=WITH_LINK, targets=("whatsapp/w",)), None, LINKS, NOW)
    ask, c = asked(step), after(step)
    [offer] = c.offers

    assert (ask.leg, ask.opens) == (PUBLIC_LEG, None)
    assert tokens_in(ask.parts[0].text or "")
    assert (offer.given, offer.expires, offer.targets) == ("public", NOW + timedelta(days=7), ("whatsapp/w",))
    assert state(after(inviting.settled(c, waiting(c), "sent", LINKS, NOW))) == ("offered", "link_published")
    assert state(after(inviting.settled(c, waiting(c), "stopped", LINKS, NOW))) == ("rejected_by_platform", "stopped")


def test_an_invitation_says_why_it_cannot_be() -> None:
    c, text = triaged(leg(DM)), (Part("text", "Escríbenos."),)

    assert inviting.invite(case(), Invitation(INES, SAY, REPLY), INSTAGRAM, LINKS, NOW) == Refusal("nothing_public")
    assert inviting.invite(c, Invitation(INES, SAY, REPLY), None, LINKS, NOW) == Refusal("no_way")
    assert inviting.invite(c, Invitation(INES, public=text), None, LINKS, NOW) == Refusal("no_way")
    assert inviting.invite(c, Invitation(INES, public=WITH_LINK), None, LINKS, NOW) == Refusal("no_targets")
    assert inviting.invite(offered(), Invitation(INES, SAY, REPLY), INSTAGRAM, LINKS, NOW) == Refusal("under_way")


def test_a_new_invitation_on_a_leg_ends_the_older_one_there() -> None:
    wish = Invitation(INES, public=WITH_LINK, targets=("whatsapp/w",))
    c = after(handoff.declined(linked(), NOW, INES))
    c = after(inviting.invite(c, wish, None, LINKS, NOW))

    assert [one.state for one in c.offers] == ["expired", "open"]


# -- a second pair of eyes ----------------------------------------------------------------------------------------------


def test_a_draft_waits_for_somebody_elses_yes_and_goes_out_under_its_writers_name() -> None:
    c = after(inviting.invite(triaged(leg(DM)), Invitation(INES, SAY, REPLY), INSTAGRAM, LINKS, NOW, approval=True))
    assert state(c) == ("drafted", "needs_approval")

    step = inviting.approve(c, INSTAGRAM, LINKS, NOW, LUIS)
    assert isinstance(step, Step)
    assert asked(step).author == INES
    assert [one.by for one in step.outputs if isinstance(one, Emit)] == [LUIS]
    assert inviting.approve(triaged(), INSTAGRAM, LINKS, NOW, LUIS) == Refusal("not_drafted")


# -- the customer comes -------------------------------------------------------------------------------------------------


def test_the_same_subject_in_private_is_proven_at_once_and_then_it_is_a_talk() -> None:
    c = after(handoff.heard(offered(), DM, "¡Hola!", NOW))
    assert state(c) == ("proven", "same_subject")

    assert state(after(handoff.heard(c, DM, "¿Sigue ahí?", NOW))) == ("private_active", "talking")
    assert state(after(handoff.answered(c, DM, NOW, INES))) == ("private_active", "talking")


def test_somebody_elses_private_message_proves_nothing() -> None:
    stranger = offered().with_leg(replace(leg(WHATSAPP, "stranger"), via="token", proof="claimed"))

    assert handoff.heard(stranger, WHATSAPP, "Hola", NOW) is None


def test_an_answer_in_private_before_we_hear_that_ours_was_accepted_loses_nothing() -> None:
    c = after(inviting.invite(triaged(leg(DM)), Invitation(INES, SAY, REPLY), INSTAGRAM, LINKS, NOW))
    c = after(handoff.heard(c, DM, "Hola", NOW))
    step = inviting.settled(c, waiting(c), "sent", LINKS, NOW)

    assert asked(step).parts == REPLY
    assert state(after(step)) == ("proven", "private_accepted")


@pytest.mark.parametrize("text", ["STOP", "Stop.", " no, gracias ", "No me escribáis", "BAJA!"])
def test_a_stop_word_ends_the_invitation_at_once(text: str) -> None:
    c = after(handoff.heard(linked().with_leg(leg(DM)), DM, text, NOW))

    assert state(c) == ("declined", "stop_word")
    assert [one.state for one in c.offers] == ["expired"]


@pytest.mark.parametrize("text", ["no", "Stop, wait: it is broken", "me doy de baja del trabajo mañana"])
def test_a_sentence_with_such_a_word_in_it_is_no_stop(text: str) -> None:
    assert not handoff.declines(text)


def test_a_new_public_word_after_the_private_talk_brings_it_back_to_public() -> None:
    talking = after(handoff.heard(after(handoff.heard(offered(), DM, "Hola", NOW)), DM, "?", NOW))
    again = replace(POST, item="c2", entry="entry-2")
    c = after(handoff.noticed(talking, again, NOW))

    assert state(c) == ("reverted_public", "wrote_again")
    assert c.handoff
    assert c.handoff.item == "c2"
    assert state(after(handoff.answered(c, PUBLIC_LEG, NOW, INES))) == ("private_active", "answered_in_public")


def test_a_new_public_word_while_invited_changes_nothing() -> None:
    assert handoff.noticed(offered(), replace(POST, item="c2"), NOW) is None


def test_long_after_the_end_a_public_word_begins_a_new_case() -> None:
    done = after(
        handoff.closed_in_public(
            after(handoff.resolved(after(handoff.heard(offered(), DM, "Hola", NOW)), NOW, INES)), (), NOW, INES
        )
    )
    soon, late = NOW + timedelta(days=29), NOW + timedelta(days=31)

    assert state(after(handoff.noticed(done, replace(POST, item="c2", at=soon), soon))) == ("reverted_public", "wrote_again")
    assert state(after(handoff.noticed(done, replace(POST, item="c2", at=late), late))) == ("triaged", "complaint")


# -- deletions ----------------------------------------------------------------------------------------------------------


def test_a_deleted_post_that_nobody_answered_ends_the_case() -> None:
    c = after(handoff.deleted(triaged(), "c1", NOW))

    assert state(c) == ("author_deleted", "post_deleted")
    assert inviting.invite(c, Invitation(INES, SAY, REPLY), INSTAGRAM, LINKS, NOW) == Refusal("post_deleted")
    assert handoff.deleted(c, "c1", NOW) is None
    assert handoff.deleted(triaged(), "other", NOW) is None


def test_a_deletion_stops_the_public_reply_that_is_under_way_and_ends_its_link() -> None:
    c = after(inviting.invite(triaged(), Invitation(INES, public=WITH_LINK, targets=("whatsapp/w",)), None, LINKS, NOW))
    step = handoff.deleted(c, "c1", NOW)
    assert isinstance(step, Step)

    assert Stop(waiting(c)) in step.outputs
    assert state(after(step)) == ("author_deleted", "post_deleted")
    assert [one.state for one in step.after.offers] == ["expired"]


def test_a_deletion_keeps_the_private_talk_and_drops_the_public_reply_that_would_follow() -> None:
    talking = after(handoff.heard(offered(), DM, "Hola", NOW))
    assert state(after(handoff.deleted(talking, "c1", NOW))) == ("proven", "post_deleted")

    sending = after(inviting.invite(triaged(leg(DM)), Invitation(INES, SAY, REPLY), INSTAGRAM, LINKS, NOW))
    gone = after(handoff.deleted(sending, "c1", NOW))
    step = inviting.settled(gone, waiting(gone), "sent", LINKS, NOW)
    assert isinstance(step, Step)
    assert [one for one in step.outputs if isinstance(one, Ask)] == []
    assert state(after(step)) == ("offered", "private_delivered")


# -- the end ------------------------------------------------------------------------------------------------------------


def test_resolved_in_private_is_closed_in_public_once_that_is_published() -> None:
    c = after(handoff.resolved(after(handoff.heard(offered(), DM, "Hola", NOW)), NOW, INES))
    assert state(c) == ("resolved", "resolved")

    step = handoff.closed_in_public(c, REPLY, NOW, INES)
    assert asked(step).leg == PUBLIC_LEG
    closing = after(step)
    assert state(closing) == ("resolved", "closing")
    assert state(after(inviting.settled(closing, waiting(closing), "sent", LINKS, NOW))) == (
        "public_closed",
        "closed_in_public",
    )
    assert state(after(inviting.settled(closing, waiting(closing), "failed", LINKS, NOW))) == ("resolved", "closing_failed")


def test_it_cannot_be_closed_in_public_before_anything_was_said() -> None:
    assert handoff.closed_in_public(triaged(), REPLY, NOW, INES) == Refusal("not_resolved")


def test_a_public_answer_without_invitation_is_just_that_and_can_be_closed() -> None:
    c = after(handoff.answered(triaged(), PUBLIC_LEG, NOW, INES))

    assert state(c) == ("public_replied", "answered_in_public")
    assert state(after(handoff.resolved(c, NOW, INES))) == ("resolved", "resolved")


def test_a_case_closed_before_anybody_came_ends_its_invitation() -> None:
    c = after(handoff.resolved(linked(), NOW, INES))

    assert state(c) == ("expired", "closed_first")
    assert [one.state for one in c.offers] == ["expired"]


def test_an_invitation_that_nobody_took_ends_after_seven_days() -> None:
    c = linked()
    assert handoff.due(c) == NOW + timedelta(days=7)

    c = after(handoff.ticked(c, NOW + timedelta(days=7)))
    assert state(c) == ("expired", "offer_expired")
    assert handoff.due(c) is None


# -- wording ------------------------------------------------------------------------------------------------------------


def test_every_reason_of_a_step_has_a_sentence_in_both_languages() -> None:
    sources = (Path(str(module.__file__)).read_text() for module in (handoff, inviting, offers))
    given = {
        one
        for source in sources
        for call in re.findall(r"moved\((?:[^()]|\([^()]*\))*\)", source)
        for one in re.findall(r'"(\w+)"', call)
    }

    assert given - REASONS.keys() <= set(get_args(HandoffState)) | {"open", "claimed", "sent", "expired"}
    assert all(one.endswith(".") for text in REASONS.values() for one in text)
    assert sentence("same_subject", "en") == REASONS["same_subject"][1]


@pytest.mark.parametrize("key", sorted(PUBLIC))
def test_public_templates_keep_the_house_rules(key: tuple[str, Language]) -> None:
    values = {
        "name": "Maximiliana",
        "topic": "hervidor Alba",
        "initials": "LP",
        "link": "https://hervor.example/go/" + "x" * 40,
    }
    text = filled(PUBLIC[key], values)

    assert broken_rules(text) == ()
    assert len(text) <= LIMIT
    assert "{" not in text


@pytest.mark.parametrize("template", [*PUBLIC.values(), *PRIVATE.values()])
def test_a_template_reads_well_without_what_is_not_known(template: str) -> None:
    text = filled(template, {"link": "https://h.example"})

    assert "{" not in text
    assert " ," not in text
    assert " ." not in text
    assert "  " not in text


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("x" * 181, "too_long"),
        ("¡Gracias!", "exclamation"),
        ("Gracias 🙏", "emoji"),
        ("Lamentamos las molestias.", "empty_phrase"),
        ("¿Nos das tu teléfono?", "asks_private"),
    ],
)
def test_what_breaks_a_house_rule_is_named(text: str, rule: str) -> None:
    assert broken_rules(text) == (rule,)


def test_a_code_can_be_written_out_in_a_text() -> None:
    parts = (Part("text", "Escribe {code} en WhatsApp"),)
    step = inviting.offered_on(offered(), DM, parts, ("whatsapp/w",), LINKS, NOW, INES)

    assert len(codes_in(asked(step).parts[0].text or "")) == 1
    assert inviting.offered_on(offered(), PUBLIC_LEG, parts, (), LINKS, NOW, INES) == Refusal("no_way")


# -- until when an invitation stands, and what closing takes back -------------------------------------------------------


def test_an_invitation_stands_as_long_as_its_link_or_the_platforms_message_invites() -> None:
    assert handoff.stands_until(triaged()) is None
    assert handoff.stands_until(linked()) == NOW + timedelta(days=7)
    assert handoff.stands_until(offered()) == NOW + timedelta(days=7)
    assert handoff.stands_until(after(handoff.resolved(linked(), NOW, INES))) is None
    assert handoff.stands_until(after(handoff.ticked(linked(), NOW + timedelta(days=7)))) is None


def test_a_link_on_a_private_leg_stands_without_a_handoff() -> None:
    c = after(inviting.offered_on(case(leg(DM)), DM, WITH_LINK, ("whatsapp/w",), LINKS, NOW, INES))

    assert handoff.stands_until(c) == NOW + timedelta(hours=24)


def test_closing_while_the_private_message_is_on_its_way_stops_it_and_frees_the_platforms_one_reply() -> None:
    c = after(inviting.invite(triaged(leg(DM)), Invitation(INES, SAY, REPLY), INSTAGRAM, LINKS, NOW))
    step = handoff.resolved(c, NOW, INES)
    assert step
    assert [one for one in step.outputs if isinstance(one, Stop)] == [Stop(waiting(c))]

    stopped = after(inviting.settled(after(step), waiting(c), "stopped", LINKS, NOW))
    assert state(stopped) == ("expired", "stopped")
    assert stopped.handoff
    assert stopped.handoff.used == ()


def test_closing_does_not_stop_the_last_public_word() -> None:
    c = after(handoff.closed_in_public(after(handoff.heard(offered(), DM, "Hola", NOW)), REPLY, NOW, INES))
    step = handoff.resolved(c, NOW, INES)
    assert step
    assert [one for one in step.outputs if isinstance(one, Stop)] == []

    assert state(after(inviting.settled(after(step), waiting(c), "sent", LINKS, NOW))) == ("public_closed", "closed_in_public")


def test_the_last_public_word_is_refused_where_the_thread_went_elsewhere() -> None:
    c = after(handoff.resolved(after(handoff.heard(offered(), DM, "Hola", NOW)), NOW, INES))
    public = c.leg(PUBLIC_LEG)
    assert public
    gone = c.with_leg(replace(public, moved=Moved("other", NOW, None)))

    assert handoff.closed_in_public(gone, REPLY, NOW, INES) == Refusal("leg_elsewhere")
    assert isinstance(handoff.closed_in_public(gone, (), NOW, INES), Step)
