"""Where an answer can go."""

from __future__ import annotations

from datetime import timedelta

from services.timeline.console.places import NOTE, Address, Beginning, beginnings, begun, chosen, elsewhere, is_public, places
from tests.console_views import DECLARED, DIRECT, EMAIL, NOW, PUBLIC, ago, channel, head, leg

WHATSAPP = leg("whatsapp.chat", last_received_at=ago(1), window_until=NOW + timedelta(hours=23))
HERS = Address("k" * 22, "marta@correo.example")


def test_the_leg_heard_of_last_comes_first_and_the_note_at_the_end() -> None:
    found = places(head(PUBLIC, DIRECT, WHATSAPP), DECLARED, NOW)

    assert [one.value for one in found] == [WHATSAPP.key, PUBLIC.key, DIRECT.key, "note"]
    assert [one.sees for one in found] == ["private", "public", "private", "note"]


def test_a_leg_that_went_elsewhere_is_no_place() -> None:
    assert [one.value for one in places(head(leg("instagram.dm", held=False)), DECLARED, NOW)] == ["note"]


def test_a_leg_whose_window_is_over_is_closed_and_says_why() -> None:
    over = leg("whatsapp.chat", window_until=ago(1))

    found = places(head(over, DIRECT), DECLARED, NOW)[0:2]
    assert {one.value: one.closed_why for one in found} == {over.key: "window", DIRECT.key: ""}
    assert chosen(found, None).value == DIRECT.key


def test_nothing_can_be_written_where_the_post_was_deleted_or_the_case_is_closed() -> None:
    deleted = places(head(PUBLIC, handoff="author_deleted"), DECLARED, NOW)[0]
    closed = places(head(DIRECT, state="closed"), DECLARED, NOW)

    assert deleted.closed_why == "deleted"
    assert [one.closed_why for one in closed] == ["case", ""]
    assert chosen(closed, None) is NOTE


def test_private_is_chosen_before_public_and_what_was_asked_for_before_both() -> None:
    found = places(head(PUBLIC, DIRECT), DECLARED, NOW)

    assert chosen(found, None).value == DIRECT.key
    assert chosen(found, PUBLIC.key).value == PUBLIC.key
    assert chosen(found, "t/other/a/p/private").value == DIRECT.key


def test_two_legs_of_one_kind_are_told_apart_by_whose_they_are() -> None:
    hers = leg("instagram.dm", name="@marta")
    his = leg("instagram.dm", name="@paul", key="t/instagram/a/q/private")

    assert [one.which for one in places(head(hers, his), DECLARED, NOW)] == ["@marta", "@paul", ""]
    assert [one.which for one in places(head(hers), DECLARED, NOW)] == ["", ""]


def test_a_first_mail_can_be_written_to_an_address_that_is_theirs() -> None:
    found = places(head(DIRECT), DECLARED, NOW)

    (new,) = beginnings(found, [channel(EMAIL, "hola")], [HERS])

    assert (new.new, new.sees, new.which) == (True, "private", HERS.value)
    assert begun(new.value) == Beginning("email", "hola", "mail", HERS.key)
    assert chosen([new, *found], None).value == DIRECT.key


def test_no_first_mail_where_there_is_mail_or_no_account_or_the_case_is_closed() -> None:
    mailed = places(head(DIRECT, leg("email.mail")), DECLARED, NOW)
    closed = places(head(DIRECT, state="closed"), DECLARED, NOW)
    open_ = places(head(DIRECT), DECLARED, NOW)

    assert beginnings(mailed, [channel(EMAIL, "hola")], [HERS]) == []
    assert beginnings(closed, [channel(EMAIL, "hola")], [HERS]) == []
    assert beginnings(open_, [channel(EMAIL)], [HERS]) == []
    assert beginnings(open_, [channel(EMAIL, "hola", state="paused")], [HERS]) == []


def test_a_value_that_names_no_beginning_is_none() -> None:
    assert begun(DIRECT.key) is None
    assert begun("new:email/hola/mail/short") is None
    assert begun(f"new:email/hola/../{'k' * 22}/x") is None


def test_what_could_not_go_is_offered_another_private_place_never_a_public_one() -> None:
    found = places(head(PUBLIC, DIRECT, WHATSAPP), DECLARED, NOW)

    assert elsewhere(found, WHATSAPP.key).value == DIRECT.key
    assert elsewhere(places(head(PUBLIC, DIRECT), DECLARED, NOW), DIRECT.key) is NOTE


def test_a_key_says_whether_everybody_reads_there() -> None:
    assert is_public(PUBLIC.key)
    assert not is_public(DIRECT.key)
    assert not is_public("note")
