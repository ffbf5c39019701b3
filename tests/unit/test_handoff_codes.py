"""Tokens and codes: what we made is recognised however it comes back, and nothing else is."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.codes import LETTERS, Keys, codes_in, link_to, may_hold_any, token_hash, tokens_in
from services.router.reading import read, skeleton

KEYS = Keys(1, {1: b"k" * 32})
ISSUED = KEYS.issue("acme", "conversation", "0")
conversations = st.uuids().map(str)


def test_the_same_step_gives_the_same_invitation_and_another_step_another() -> None:
    assert KEYS.issue("acme", "conversation", "0") == ISSUED
    assert KEYS.issue("acme", "conversation", "1").token != ISSUED.token
    assert KEYS.issue("other", "conversation", "0").token != ISSUED.token


def test_a_token_fits_the_start_parameter_of_a_chat_link() -> None:
    assert len(ISSUED.token) == 40
    assert set(ISSUED.token) <= set(string.ascii_letters + string.digits + "-_")
    assert ISSUED.token_hash == token_hash(ISSUED.token)


def test_what_is_kept_gives_neither_token_nor_code_away() -> None:
    kept = ISSUED.id + ISSUED.token_hash + ISSUED.code_hash

    assert ISSUED.code not in kept
    assert ISSUED.token not in kept
    assert ISSUED.code_hash not in Keys(1, {1: b"x" * 32}).code_hashes("acme", ISSUED.code)


@given(conversations)
def test_a_token_opens_to_its_invitation_with_the_code_that_nobody_kept(conversation: str) -> None:
    issued = KEYS.issue("acme", conversation, "0")

    assert KEYS.opened(issued.token, "acme") == issued
    assert KEYS.code_hashes("acme", issued.code) == (issued.code_hash,)


@given(st.integers(0, 39), st.sampled_from(string.ascii_letters + string.digits + "-_"))
def test_a_token_with_a_changed_character_is_none_of_ours(place: int, letter: str) -> None:
    changed = ISSUED.token[:place] + letter + ISSUED.token[place + 1 :]

    assert (KEYS.opened(changed, "acme") is None) == (changed != ISSUED.token)


@pytest.mark.parametrize("token", ["", "x", "a" * 39, "a" * 41, "ñ" * 40, "=" * 40, "a" * 40])
def test_what_has_not_the_form_of_a_token_is_none(token: str) -> None:
    assert KEYS.opened(token, "acme") is None


def test_keys_change_with_an_overlap() -> None:
    both = Keys(2, {1: b"k" * 32, 2: b"n" * 32})

    assert both.opened(ISSUED.token, "acme") == ISSUED
    assert both.opened(both.issue("acme", "c", "0").token, "acme") == both.issue("acme", "c", "0")
    assert ISSUED.code_hash in both.code_hashes("acme", ISSUED.code)
    assert Keys(2, {2: b"n" * 32}).opened(ISSUED.token, "acme") is None


@pytest.mark.parametrize("secrets", [{}, {2: b"k" * 32}, {1: b"short"}, {1: b"k" * 32, 256: b"k" * 32}])
def test_a_ring_without_its_current_key_or_with_a_weak_one_is_refused(secrets: dict[int, bytes]) -> None:
    with pytest.raises(ValueError, match="keys are numbered"):
        Keys(1, secrets)


SEPARATORS = st.text(" -._\u2013\u00a0\u200b/", max_size=2)


@given(conversations, st.text(" ,.¡!?ñáabc\n", max_size=30), st.text(" ,.!?\n", max_size=30), st.data())
def test_a_code_is_read_in_any_case_with_any_separators_among_other_words(
    conversation: str, before: str, after: str, data: st.DataObject
) -> None:
    code = KEYS.issue("acme", conversation, "0").code
    typed = "".join(
        data.draw(st.sampled_from((one, one.lower()))) + data.draw(SEPARATORS) for one in code.replace("-", "")
    ).rstrip(" -._\u2013\u00a0/")

    assert codes_in(f"{before} {typed} {after}") == (code,)


@given(conversations)
def test_letters_that_look_alike_are_read_as_what_was_meant(conversation: str) -> None:
    code = KEYS.issue("acme", conversation, "0").code
    seen = code.replace("HILO", "H1L0").replace("0", "O").replace("1", "l").replace("2", "Z").replace("V", "u")

    assert codes_in(f"Mi código: {seen}.") == (code,)


@given(conversations, st.integers(0, 7), st.sampled_from(LETTERS))
def test_a_code_with_one_wrong_character_is_no_code(conversation: str, place: int, letter: str) -> None:
    code = KEYS.issue("acme", conversation, "0").code
    letters = code[5:].replace("-", "")
    wrong = letters[:place] + letter + letters[place + 1 :]

    assert (codes_in(f"HILO-{wrong}") == ()) == (wrong != letters)


@given(conversations, st.integers(0, 6))
def test_a_code_with_two_characters_that_changed_places_is_no_code(conversation: str, place: int) -> None:
    letters = KEYS.issue("acme", conversation, "0").code[5:].replace("-", "")
    wrong = letters[:place] + letters[place + 1] + letters[place] + letters[place + 2 :]

    assert (codes_in(f"HILO-{wrong}") == ()) == (wrong != letters)


@pytest.mark.parametrize(
    "text", ["", "Hilo", "el hilo es largo y fino", "HILO-1234", "HILO-ABCD-EFGH-JKMN", "philo-7777-7777", "HILO " * 2000]
)
def test_ordinary_words_carry_no_code(text: str) -> None:
    assert codes_in(text) == ()


def test_a_token_is_found_in_a_link_and_as_a_platforms_reference() -> None:
    assert tokens_in(f"/start {ISSUED.token}") == (ISSUED.token,)
    assert tokens_in(f"https://hervor.example/go/{ISSUED.token}?x=1") == (ISSUED.token,)
    assert tokens_in(ISSUED.token + "a") == ()


def test_an_accounts_way_in_gets_the_code() -> None:
    assert link_to("https://wa.me/34900?text={code}", "HILO-1234-5678") == "https://wa.me/34900?text=HILO-1234-5678"


def spelled(code: str, variant: int) -> str:
    """A code as people's keyboards bring it: full width, spaced, with accents, invisible characters, a dotless i."""
    match variant:
        case 0:
            return "".join(chr(ord(c) + 0xFEE0) for c in code)
        case 1:
            return " ".join(code)
        case 2:
            return "\u200b".join(code)
        case 3:
            return code.lower().replace("i", "\u0131")
        case 4:
            return "".join(f"{c}\u0301" for c in code)
    return f"*{code.swapcase()}*"


@given(st.text(max_size=60), st.integers(0, 5), st.text(max_size=60))
def test_the_quick_look_misses_no_code_that_the_close_look_finds(before: str, variant: int, after: str) -> None:
    text = before + spelled(ISSUED.code, variant) + after

    assert may_hold_any(text) >= bool(codes_in(text))


@pytest.mark.parametrize("variant", range(6))
def test_the_quick_look_sees_every_spelling(variant: int) -> None:
    assert codes_in(spelled(ISSUED.code, variant)) == (ISSUED.code,)
    assert may_hold_any(f"\xbfd\xf3nde? {spelled(ISSUED.code, variant)} \U0001f4e6")


@given(st.text(max_size=60), st.sampled_from(["", " ", "/", "\n", "x", "\xf1"]), st.text(max_size=60))
def test_the_quick_look_misses_no_token(before: str, between: str, after: str) -> None:
    text = before + between + ISSUED.token + between + after

    assert may_hold_any(text) >= bool(tokens_in(text))


@given(st.text())
def test_the_quick_reading_is_the_reading(text: str) -> None:
    assert skeleton(text) == read(text).text


def test_ordinary_words_are_not_looked_at_closely() -> None:
    assert not may_hold_any("\xbfD\xf3nde est\xe1 mi pedido? \U0001f4e6 hello, he lost a habit of 40 years")
    assert not may_hold_any("")
