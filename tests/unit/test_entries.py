"""What each event does to an entry, seen as its readers see it: events in, entry out, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from services.common.cloudevents import Event
from services.common.events import (
    Author,
    CallEnded,
    CallRecorded,
    CallStarted,
    ConsentWithdrawn,
    ConversationAssigned,
    Data,
    HandoffChanged,
    IdentityAsserted,
    JourneyStep,
    MediaFailed,
    MediaStored,
    MessageDeleted,
    MessageDelivered,
    MessageEdited,
    MessageFailed,
    MessageRead,
    MessageRefused,
    MessageRetrying,
    MessageUnknown,
    NoteAdded,
    Part,
    ParticipantTyping,
    PostCommented,
    ReactionAdded,
    ReactionRemoved,
    ReferralFollowed,
    ReviewPosted,
    ReviewUpdated,
    SendStopped,
)
from services.common.identifiers import Evidence, event_entry_id, piece_id
from services.timeline.binding import bind
from services.timeline.consumer import project
from services.timeline.facets import Change, folded, nested
from services.timeline.order import NOWHERE, id_bytes, id_text
from services.timeline.views import EntryView, entry_view
from tests.histories import (
    TENANT,
    appended,
    at,
    changed,
    entry,
    event,
    fact,
    pending,
    queued,
    said,
    sender,
    sent,
    stated,
    who,
)


def documents(*data: Data) -> dict[str, dict[str, Any]]:
    """The documents after these events, what waits elsewhere passed on as the projector does."""
    changes = [change for one in data for change in project(event(one)).changes]
    for _round in range(2):
        made = _whole(changes)
        bound = bind(made.values())
        changes += [*bound.passed, *bound.wiped]
    return {id_text(name): document for name, document in _whole(changes).items()}


def _whole(changes: Sequence[Change]) -> dict[bytes, dict[str, Any]]:
    folds = folded(changes)
    return {name: {"_id": name, "tn": TENANT, **nested(change.facets)} for name, change in folds.items()}


def shown(name: str, *data: Data) -> EntryView:
    return entry_view(documents(*data)[name])


def own(data: Data) -> EntryView:
    """The entry of an event that is about nothing but itself."""
    one = event(data)
    return shown(event_entry_id(TENANT, one.id), data)


def test_a_message_is_shown_with_who_wrote_it_and_when() -> None:
    view = shown(entry("m1"), said("m1", "hola", 5, reply_to="m0"))

    assert (view.kind, view.text, view.direction, view.status) == ("message", "hola", "in", None)
    assert (view.at, view.provider_at, view.received_at) == (at(5), at(5), at(5.25))
    assert (view.channel, view.account, view.visibility) == ("telegram", "bot", "private")
    assert view.sender is not None
    assert (view.sender.name, view.sender.scheme, view.sender.key) == ("Ana", "telegram", who("ana").key)
    assert view.reply_to is not None
    assert view.reply_to.entry_id == entry("m0")
    assert view.provider_id == "m1"
    assert view.party == who("ana").key


def test_without_a_providers_time_the_receipt_counts() -> None:
    view = shown(entry("m1"), said("m1", "hola", 5, at=None))

    assert (view.at, view.provider_at) == (at(5.25), None)


def test_no_document_holds_the_identifiers_value() -> None:
    made = documents(said("m1", "hola", customer="secret-handle"))

    assert "secret-handle" not in repr(made)


@pytest.mark.parametrize(("model", "kind"), [(PostCommented, "comment"), (ReviewPosted, "review"), (ReviewUpdated, "review")])
def test_public_words_are_entries_of_their_kind(model: type[Any], kind: str) -> None:
    data = fact(model, "p1", sender=sender("ana"), parts=(Part("text", "roto"),), visibility="public")
    view = shown(entry("p1"), data)

    assert (view.kind, view.text, view.visibility) == (kind, "roto", "public")


def test_a_review_that_was_updated_shows_both_words() -> None:
    posted = fact(ReviewPosted, "p1", sender=sender("ana"), parts=(Part("text", "mal"),))
    updated = fact(ReviewUpdated, "p1", 60, sender=sender("ana"), parts=(Part("text", "bien"),))
    view = shown(entry("p1"), updated, posted)

    assert (view.text, view.edited, view.original) == ("bien", True, "mal")


def edited(text: str, seconds: float, **more: Any) -> MessageEdited:
    return fact(MessageEdited, "m1", seconds, revision=text, parts=(Part("text", text),), **more)


def test_the_latest_edit_is_shown_with_the_original() -> None:
    view = shown(entry("m1"), edited("tercero", 9), said("m1", "primero"), edited("segundo", 5))

    assert (view.text, view.edited, view.original) == ("tercero", True, "primero")


def test_two_edits_in_one_second_keep_the_order_in_which_they_came() -> None:
    first = fact(MessageEdited, "m1", 5, revision="a", parts=(Part("text", "a"),), received_at=at(5.1), sequence=7)
    second = fact(MessageEdited, "m1", 5, revision="b", parts=(Part("text", "b"),), received_at=at(5.2), sequence=7)

    assert shown(entry("m1"), second, said("m1", "x"), first).text == "b"


def test_a_deletion_takes_the_words_that_came_before_and_after() -> None:
    made = documents(said("m1", "secreto"), fact(MessageDeleted, "m1", 3, sender=sender("ana")), edited("secreto otra vez", 5))
    view = entry_view(made[entry("m1")])

    assert "secreto" not in repr(made)
    assert view.deleted is not None
    assert (view.deleted.by, view.deleted.at, view.text, view.parts, view.edited) == ("customer", at(3), None, (), False)


def test_who_deletes_something_of_ours_is_us() -> None:
    view = shown(entry("m1"), sent("m1", "ups"), fact(MessageDeleted, "m1", 3, sender=sender("page")))

    assert view.deleted is not None
    assert view.deleted.by == "us"


def test_reactions_are_counted_and_a_new_one_replaces_the_old() -> None:
    def reacted(name: str, emoji: str, seconds: float) -> ReactionAdded:
        return fact(ReactionAdded, "m1", seconds, sender=sender(name), emoji=emoji)

    gone = fact(ReactionRemoved, "m1", 9, sender=sender("eve"), emoji="😡")
    view = shown(
        entry("m1"),
        said("m1", "x"),
        gone,
        reacted("ana", "👍", 1),
        reacted("ana", "❤", 2),
        reacted("page", "❤", 3),
        reacted("eve", "😡", 4),
    )

    assert [(r.emoji, r.count, r.by_us) for r in view.reactions] == [("❤", 2, True)]


def test_a_file_is_pending_then_stored_whatever_came_first() -> None:
    parts = (Part("text", "mira"), Part("image", ref="file-7", media_type="image/png", name="foto.png"))
    waiting = shown(entry("m1"), said("m1", "", parts=parts))
    stored = fact(MediaStored, "m1", 2, part=1, sha256="ab" * 32, media_type="image/jpeg", size=77)
    failed = fact(MediaFailed, "m1", 3, part=1, reason="gone")

    assert [(p.state, p.url) for p in waiting.parts] == [(None, None), ("pending", None)]
    view = shown(entry("m1"), failed, stored, said("m1", "", parts=parts))
    assert [(p.state, p.url, p.media_type, p.size) for p in view.parts][1] == (
        "stored",
        f"/v1/media/{'ab' * 32}",
        "image/jpeg",
        77,
    )
    assert view.parts[1].name == "foto.png"
    lost = shown(entry("m1"), failed, said("m1", "", parts=parts))
    assert (lost.parts[1].state, lost.parts[1].reason) == ("failed", "gone")


def test_what_our_own_side_uploaded_has_its_copy_at_once() -> None:
    view = shown(entry("m1"), sent("m1", "", parts=(Part("file", ref=f"upload:{'cd' * 32}", name="a.pdf"),)))

    assert (view.parts[0].state, view.parts[0].url) == ("stored", f"/v1/media/{'cd' * 32}")


def test_the_providers_reference_is_not_kept() -> None:
    made = documents(said("m1", "", parts=(Part("image", ref="https://cdn/x?token=s3cret"),)))

    assert "s3cret" not in repr(made)


def test_what_the_channel_does_not_know_keeps_the_providers_name() -> None:
    assert shown(entry("m1"), said("m1", "", parts=(Part("unsupported", name="poll"),))).unsupported == "poll"


def test_keys_of_a_parts_data_may_hold_anything() -> None:
    view = shown(entry("m1"), said("m1", "", parts=(Part("location", data={"$a.b": "1", "": "2"}),)))

    assert view.parts[0].data == {"$a.b": "1", "": "2"}


# -- our own messages ---------------------------------------------------------------------------------------------------


def test_a_queued_answer_is_there_at_once() -> None:
    view = shown(pending("o1"), queued("v1", 2, "o1", "claro", 5, not_before=at(15)))

    assert (view.text, view.direction, view.status, view.next_at) == ("claro", "out", "queued", at(15))
    assert (view.conversation_id, view.outbound_id, view.leg) == ("v1", "o1", "chat")
    assert view.author is not None
    assert (view.author.id, view.author.name) == ("lena", "Lena")


ANSWER: tuple[Data, ...] = (
    queued("v1", 2, "o1", "claro", 5),
    sent("p1", "claro", 6, outbound_id="o1"),
    fact(MessageDelivered, "", 7, correlation=piece_id("o1", 1)),
    fact(MessageRead, "p1", 8),
)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2), (2, 3, 0, 1)])
def test_a_sent_answer_takes_the_place_of_the_queued_one(order: Sequence[int]) -> None:
    made = documents(*(ANSWER[place] for place in order))
    view, before = entry_view(made[entry("p1")]), made[pending("o1")]

    assert (view.text, view.status, view.conversation_id, view.outbound_id) == ("claro", "read", "v1", "o1")
    assert view.author is not None
    assert view.author.id == "lena"
    assert view.statuses == {"sent": at(6), "delivered": at(7), "read": at(8)}
    assert before["k"] == NOWHERE
    assert "claro" not in repr(before)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_send_result_without_words_takes_those_that_were_queued(order: Sequence[int]) -> None:
    events = (queued("v1", 2, "o1", "claro", 5), sent("p1", "", 6, outbound_id="o1"))
    made = documents(*(events[place] for place in order))

    assert entry_view(made[entry("p1")]).text == "claro"
    assert "claro" not in repr(made[pending("o1")])


def test_the_states_of_a_send_follow_its_attempts_and_not_the_order_of_arrival() -> None:
    q = queued("v1", 2, "o1", "claro")
    first = fact(MessageRetrying, "", 2, outbound_id="o1", attempt=1, reason="busy", next_try_at=at(30))
    second = fact(MessageUnknown, "", 3, outbound_id="o1", attempt=2)
    over = fact(MessageFailed, "", 4, outbound_id="o1", attempt=3, reason="window closed", then="template")

    view = shown(pending("o1"), first, q)
    assert (view.status, view.reason, view.next_at) == ("retrying", "busy", at(30))
    assert shown(pending("o1"), second, first, q).status == "unknown"
    view = shown(pending("o1"), over, second, q, first)
    assert (view.status, view.reason, view.then) == ("failed", "window closed", "template")


def test_a_refused_and_a_stopped_answer_say_so() -> None:
    refused = fact(MessageRefused, "", 2, outbound_id="o1", attempt=1, reason="visibility")
    stopped = stated(SendStopped, "v1", 3, 3, outbound_id="o1", why="typo")

    assert shown(pending("o1"), refused, queued("v1", 2, "o1", "x")).status == "refused"
    view = shown(pending("o1"), stopped, queued("v1", 2, "o1", "x"))
    assert (view.status, view.reason) == ("stopped", "typo")


def test_a_failure_after_the_send_is_shown_on_the_message() -> None:
    failed = fact(MessageFailed, "p1", 9, reason="131047")

    view = shown(entry("p1"), failed, sent("p1", "x", outbound_id="o1"))
    assert (view.status, view.reason) == ("failed", "131047")


def test_a_receipt_by_piece_finds_the_queued_answer_while_its_send_is_unknown() -> None:
    receipt = fact(MessageDelivered, "p1", 7, correlation=piece_id("o1", 1))
    unknown = fact(MessageUnknown, "", 6, outbound_id="o1", attempt=1)

    assert shown(pending("o1"), receipt, unknown, queued("v1", 2, "o1", "x")).status == "delivered"


def test_a_bare_confirmation_makes_no_entry_but_tells_the_queued_one() -> None:
    bare = sent("p1", "", 6, correlation=piece_id("o1", 1))
    made = documents(bare, fact(MessageUnknown, "", 5, outbound_id="o1", attempt=1), queued("v1", 2, "o1", "x"))

    assert "k" not in made[entry("p1")]
    assert entry_view(made[pending("o1")]).status == "sent"


def test_a_message_in_pieces_stays_queued_until_its_last_piece_is_sent() -> None:
    q = queued("v1", 2, "o1", "largo y largo")
    one = sent("p1", "largo", 6, outbound_id="o1", piece=1, pieces=2)
    two = sent("p2", "y largo", 7, outbound_id="o1", piece=2, pieces=2)

    waiting = documents(q, one)[pending("o1")]
    assert waiting["k"] != NOWHERE
    view = entry_view(waiting)
    assert (view.status, view.data) == ("queued", {"pieces": 2, "sent": 1})
    done = documents(two, q, one)
    assert done[pending("o1")]["k"] == NOWHERE
    assert [entry_view(done[entry(m)]).conversation_id for m in ("p1", "p2")] == ["v1", "v1"]


def test_the_states_of_later_pieces_beat_those_of_earlier_ones() -> None:
    first = fact(MessageRetrying, "", 2, outbound_id="o1", attempt=9, piece=1, pieces=2)
    one = sent("p1", "a", 6, outbound_id="o1", piece=1, pieces=2)
    second = fact(MessageRetrying, "", 7, outbound_id="o1", attempt=1, piece=2, pieces=2, reason="busy")

    view = shown(pending("o1"), second, one, first, queued("v1", 2, "o1", "a b"))
    assert (view.status, view.reason) == ("retrying", "busy")


def test_an_echo_shows_the_providers_words_and_an_earlier_time_moves_the_entry() -> None:
    ours = sent("p1", "claro", 6, outbound_id="o1", author=Author("agent", "lena", "Lena"))
    echo = sent("p1", "claro (editado en la app)", 4, echo=True)
    view = shown(entry("p1"), ours, echo)

    assert (view.text, view.at, view.outbound_id) == ("claro (editado en la app)", at(4), "o1")
    assert view.author is not None
    assert view.author.name == "Lena"


def test_a_mark_of_the_leg_counts_for_what_was_written_up_to_it() -> None:
    one = documents(sent("p1", "x", 5))[entry("p1")]
    mark = {"read": project(event(fact(MessageRead, "", 9, up_to=True))).watermark.ms}  # type: ignore[union-attr]

    assert entry_view(one, mark).status == "read"
    assert entry_view(one, {"read": mark["read"] - 5000}).status == "sent"


# -- what is no message -------------------------------------------------------------------------------------------------


def test_a_call_is_one_entry_from_start_to_recording() -> None:
    made = (
        fact(CallRecorded, "call-1", 90, sender=sender("ana"), recording="rec-1"),
        fact(CallEnded, "call-1", 80, sender=sender("ana"), duration_s=70, outcome="answered"),
        fact(CallStarted, "call-1", 10, sender=sender("ana")),
        fact(MediaStored, "call-1", 99, part=0, sha256="ef" * 32, media_type="audio/mpeg", size=9),
    )
    view = shown(entry("call-1"), *made)

    assert (view.kind, view.at, view.direction) == ("call", at(10), "in")
    assert (view.data["duration"], view.data["outcome"], view.data["state"]) == (70, "answered", "recorded")
    assert view.parts[0].url == f"/v1/media/{'ef' * 32}"


def test_steps_of_the_journey_are_entries_before_the_first_word() -> None:
    step = fact(
        JourneyStep,
        "s1",
        sender=sender("ana"),
        type="hilo.cart.abandoned.v1",
        title="Hervidor",
        url="/cart",
        data={"total": "39"},
    )
    view = own(step)

    assert (view.kind, view.direction) == ("journey", "none")
    assert view.data == {"type": "cart.abandoned", "title": "Hervidor", "url": "/cart", "total": "39"}


@pytest.mark.parametrize(
    ("data", "kind", "facts"),
    [
        (fact(ReferralFollowed, "r", sender=sender("ana"), ref="offer:1"), "referral", {"ref": "offer:1"}),
        (fact(ConsentWithdrawn, "c", sender=sender("ana")), "consent", {"state": "withdrawn"}),
        (stated(ConversationAssigned, "v1", 2, type="hilo.conversation.assigned.v1", agent="lena", reservation="r", why="free"),
         "assignment", {"state": "assigned", "agent": "lena", "why": "free"}),
        (stated(HandoffChanged, "v1", 3, state="offered", offer="of1"), "handoff", {"state": "offered", "offer": "of1"}),
        (changed("v1", 4, "closed", why="done"), "conversation", {"state": "closed", "queue": "support", "why": "done"}),
    ],
)  # fmt: skip
def test_what_is_no_message_is_an_entry_of_its_own(data: Data, kind: str, facts: dict[str, str]) -> None:
    view = own(data)

    assert (view.kind, view.data, view.party, view.direction) == (kind, facts, who("ana").key, "none")


def test_evidence_is_an_entry_that_names_its_rules() -> None:
    login = sender("ana")
    also = (Evidence(who("ana@x"), "asserted", "login"),)
    view = own(fact(IdentityAsserted, "i", sender=type(login)(login.id, login.name, also), conversation_id="v1"))

    assert (view.kind, view.data, view.conversation_id) == ("identity", {"login": "asserted"}, "v1")


def test_a_note_belongs_to_its_conversation_and_says_who_wrote_it() -> None:
    note = stated(NoteAdded, "v1", 4, note_id="n1", text="ojo: enfadada", by=Author("agent", "lena", "Lena"))
    view = own(note)

    assert (view.kind, view.text, view.conversation_id, view.visibility) == ("note", "ojo: enfadada", "v1", None)
    assert view.author is not None
    assert view.author.name == "Lena"


def test_a_message_belongs_to_the_conversation_that_it_was_appended_to_last() -> None:
    view = shown(entry("m1"), appended("v2", "m1", after=9), said("m1", "x"), appended("v1", "m1", after=3))

    assert view.conversation_id == "v2"


@pytest.mark.parametrize(
    "data",
    [
        fact(ReferralFollowed, "r", customer=None, ref="offer:1"),
        fact(ParticipantTyping, "t"),
        changed("v1", 2, "prioritized"),
    ],
)
def test_what_belongs_to_nobodys_history_makes_no_entry(data: Data) -> None:
    assert project(event(data)).changes == ()


def test_only_content_facets_hold_words() -> None:
    """So that a deletion, which replaces these two, leaves none."""
    made = documents(said("m1", "palabra"), edited("palabra", 1), appended("v1", "m1"), sent("p1", "palabra", outbound_id="o1"))
    for one in made.values():
        for name, facet in one.items():
            assert name in ("c", "c0") or "palabra" not in repr(facet)


def test_equal_content_has_an_equal_rev_and_a_change_another() -> None:
    one = shown(entry("m1"), said("m1", "x"))

    assert one.rev == shown(entry("m1"), said("m1", "x")).rev
    assert one.rev != shown(entry("m1"), said("m1", "y")).rev
    assert one.rev != shown(entry("m1"), said("m1", "x"), appended("v1", "m1")).rev


def test_a_large_original_is_left_out_so_that_the_document_stays_within_its_limit() -> None:
    made = documents(said("m1", "x" * 1_100_000))[entry("m1")]

    assert "parts" in made["c"]
    assert "parts" not in made["c0"]


def test_changes_of_a_batch_are_one_update_per_entry() -> None:
    changes: list[Change] = [c for one in (said("m1", "a"), edited("b", 2)) for c in project(event(one)).changes]

    assert list(folded(changes)) == [id_bytes(entry("m1"))]


def test_an_event_of_a_later_identity_says_so() -> None:
    one: Event[Data] = event(said("m1", "x"), identity_version=7)

    assert project(one).changes[0].highest["b"]["iv"] == 7  # type: ignore[index,call-overload]


def test_a_second_of_the_providers_clock_is_ordered_by_its_own_sequence() -> None:
    early = documents(said("m2", "x", 5, sequence=1, received_at=at(9)))[entry("m2")]
    late = documents(said("m1", "x", 5, sequence=2, received_at=at(8)))[entry("m1")]

    assert early["k"] < late["k"]
    assert timedelta(0) == entry_view(early).at - entry_view(late).at
