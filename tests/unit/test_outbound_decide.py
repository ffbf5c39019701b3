"""What happens to a message next: each rule of the send journal, and the promises that hold whatever happens in whatever
order: nothing that may have arrived is sent again, pieces keep their order, and what is told has one id."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.common.events import Author, MessageSent, Part, SendRequested
from services.common.identifiers import Identifier, piece_id
from services.ingest.contract import Failed, Result, Retry, Sent, Unknown
from services.ingest.outbound import announce, decide
from services.ingest.outbound.sends import Lease, Policy, Seen, Sending, document, later, sending

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = Policy()


def message(*texts: str, **more: Any) -> Sending:
    request = SendRequested(
        outbound_id="o1",
        conversation_id="c1",
        leg_key="acme/pigeon/main/k/private",
        leg="sms",
        thread="+49151",
        party=Identifier("tel", "+49151", key="k" * 22),
        visibility="private",
        need="channel",
        epoch=0,
        parts=tuple(Part("text", text=text) for text in texts),
        author=Author("agent", "ana"),
        **more,
    )
    s = Sending("o1", "acme", "pigeon", "main", 7, request, NOW, next_at=NOW)
    return decide.planned(s, request.parts)


def called(s: Sending, n: int, *, idempotent: bool = False, now: datetime = NOW) -> Sending:
    return decide.begun(s, n, "token", now, POLICY, idempotent=idempotent)


def after(s: Sending, result: Result, n: int = 1, now: datetime = NOW) -> Sending:
    return decide.answered(called(s, n, now=now), n, result, now, POLICY, 0.5)


def kinds(s: Sending) -> list[tuple[str, int]]:
    return [(one.kind, one.n) for one in s.told]


def test_a_message_that_is_due_is_tried_piece_by_piece_and_closed() -> None:
    s = message("one", "two")
    first = after(s, Sent("p1"))

    assert decide.step(s, NOW) == decide.Try(s.piece(1))
    assert decide.step(first, NOW) == decide.Try(first.piece(2))

    done = after(first, Sent("p2"), 2)

    assert (done.state, done.blocks, done.closed) == ("sent", False, True)
    assert kinds(done) == [("sent", 1), ("sent", 2)]
    assert decide.step(done, NOW) is None


def test_the_event_of_a_piece_names_message_piece_author_and_provider_s_id() -> None:
    done = after(message("¡hola!", "two"), Sent("p1"))
    event = announce.event(done, done.told[0])

    assert event is not None
    assert isinstance(event.data, MessageSent)
    assert event.key == "k" * 22
    assert (event.data.provider_id, event.data.outbound_id, event.data.piece, event.data.pieces) == ("p1", "o1", 1, 2)
    assert (event.data.correlation, event.data.parts) == (piece_id("o1", 1), (Part("text", text="¡hola!"),))
    assert event.data.author == Author("agent", "ana")


def test_an_edit_and_a_deletion_are_told_of_the_message_they_change() -> None:
    edit = after(message("new", action="edit", target="p9"), Sent("p9"))
    gone = after(message("", action="delete", target="p9"), Sent("p9"))
    mark = after(message("", action="read", target="p9"), Sent("p9"))
    events = [announce.event(one, one.told[0]) for one in (edit, gone, mark)]

    assert [e.data.type if e else None for e in events] == ["hilo.message.edited.v1", "hilo.message.deleted.v1", None]
    assert [e.data.provider_id for e in events if e] == ["p9", "p9"]


def test_a_retry_waits_at_least_as_long_as_the_provider_asks() -> None:
    s = after(message("one"), Retry("too fast", 30))

    assert s.state == "retrying"
    assert s.next_at is not None
    assert s.next_at >= NOW + timedelta(seconds=30)
    assert s.told[0].next_try_at == s.next_at
    assert decide.step(s, NOW) == decide.Wait(s.next_at)
    assert decide.step(s, s.next_at) == decide.Try(s.piece(1))


def test_a_message_that_never_left_fails_when_its_time_is_over() -> None:
    s, now = message("one"), NOW
    while s.state != "failed":
        s = after(s, Retry("busy"), now=now)
        now = s.next_at or now

    assert NOW + timedelta(hours=5) < now <= NOW + timedelta(hours=6, minutes=6)
    assert "gave up after" in s.told[-1].reason
    assert kinds(s)[-1] == ("failed", 1)


def test_after_a_piece_that_failed_the_rest_is_not_sent() -> None:
    s = after(message("one", "two", "three"), Sent("p1"))
    s = after(s, Failed("opted out", then="stop_contact"), 2)

    assert [one.state for one in s.pieces] == ["sent", "failed", "failed"]
    assert (s.state, s.closed) == ("failed", True)
    assert kinds(s) == [("sent", 1), ("failed", 2), ("failed", 3)]
    assert all(one.then == "stop_contact" for one in s.told[1:])


def test_an_unknown_piece_holds_its_leg_for_a_while_and_is_never_tried_again() -> None:
    s = after(message("one"), Unknown("no answer"))
    released = later(NOW, POLICY.receipt_s)

    assert (s.state, s.hold, s.blocks) == ("unknown", "receipt", True)
    assert decide.step(s, NOW) == decide.Wait(released)
    assert decide.step(s, released) == decide.GoOn()

    s = decide.gone_on(s, released, POLICY)
    end = later(released, POLICY.unknown_s)

    assert not s.blocks
    assert decide.step(s, end) == decide.GiveUp()

    s = decide.given_up(s, end, POLICY)

    assert (s.state, s.closed) == ("unknown", True)
    assert kinds(s) == [("unknown", 1), ("unknown", 1)]
    assert s.told[0].id != s.told[1].id
    assert "nothing was heard of it in 72 h" in s.told[1].reason


@pytest.mark.parametrize("seen", [Seen("sent", "p7"), Seen("failed", "p7", "no such number", "other_leg")])
def test_a_receipt_settles_what_is_unknown_even_after_everybody_gave_up(seen: Seen) -> None:
    waiting = after(message("one"), Unknown("no answer"))
    late = decide.given_up(decide.gone_on(waiting, NOW, POLICY), NOW, POLICY)
    for s in (waiting, late):
        settled = decide.saw(s, s.piece(1).id, seen, NOW, POLICY)

        assert (settled.state, settled.closed, settled.blocks) == (seen.state, True, False)
        assert kinds(settled)[-1] == (seen.state, 1)


def test_a_receipt_that_is_faster_than_the_answer_counts_when_the_answer_is_lost() -> None:
    s = decide.saw(called(message("one"), 1), piece_id("o1", 1), Seen("sent", "p1"), NOW, POLICY)

    assert (s.state, kinds(s)) == ("sending", [])
    assert decide.answered(s, 1, Unknown("no answer"), NOW, POLICY, 0).state == "sent"
    assert decide.recovered(s, 1, NOW, POLICY).piece(1).provider_id == "p1"


def test_a_receipt_that_names_what_the_answer_did_not_is_told_once_more() -> None:
    s = after(message("one"), Sent(None))
    named = decide.saw(s, s.piece(1).id, Seen("sent", "p1"), NOW, POLICY)

    assert named.told[-1].provider_id == "p1"
    assert len({one.id for one in named.told}) == 2
    assert decide.saw(named, s.piece(1).id, Seen("sent", "p1"), NOW, POLICY) == named


def test_a_receipt_of_another_piece_leaves_a_call_under_way_alone() -> None:
    s = after(message("one", "two"), Unknown("no answer"))
    calling = called(s, 2)
    settled = decide.saw(calling, s.piece(1).id, Seen("sent", "p1"), NOW, POLICY)

    assert settled.piece(1).state == "sent"
    assert (settled.lease, settled.next_at, settled.state) == (calling.lease, calling.next_at, "sending")


def test_a_call_whose_worker_is_gone_is_unknown_unless_the_provider_drops_a_second() -> None:
    once, again = called(message("one"), 1), called(message("one"), 1, idempotent=True)
    over = later(NOW, POLICY.lease_s)

    assert decide.step(once, NOW) == decide.Wait(over)
    assert decide.step(once, over) == decide.Recover(once.piece(1))
    assert decide.recovered(once, 1, over, POLICY).state == "unknown"

    retried = decide.recovered(again, 1, over, POLICY)

    assert retried.state == "retrying"
    assert decide.step(retried, over) == decide.Try(retried.piece(1))


def test_a_final_no_of_the_gate_ends_what_has_not_left() -> None:
    s = decide.refused(after(message("one", "two"), Sent("p1")), "stopped", NOW, POLICY)

    assert [one.state for one in s.pieces] == ["sent", "refused"]
    assert (s.state, s.closed, kinds(s)) == ("refused", True, [("sent", 1), ("refused", 2)])


def test_a_message_that_ends_before_it_was_cut_is_told_as_one_piece() -> None:
    whole = replace(message("one"), pieces=())

    assert kinds(decide.refused(whole, "stopped", NOW, POLICY)) == [("refused", 1)]
    assert kinds(decide.failed(whole, Failed("no such leg"), NOW, POLICY)) == [("failed", 1)]


def test_what_is_told_goes_from_the_journal_and_takes_the_content_along() -> None:
    done = after(message("secret"), Sent("p1"))
    bare = decide.announced(done, [one.id for one in done.told])

    assert (bare.told, bare.tell_at) == ((), None)
    assert "secret" not in str(document(bare))
    assert "+49151" not in str(document(bare))
    assert (bare.piece(1).provider_id, bare.state) == ("p1", "sent")


def test_the_content_stays_while_a_receipt_may_still_have_to_be_told() -> None:
    s = after(message("secret"), Unknown("no answer"))
    given_up = decide.given_up(decide.gone_on(s, NOW, POLICY), NOW, POLICY)

    assert "secret" in str(document(decide.announced(given_up, [one.id for one in given_up.told])))


def test_an_erased_person_gets_nothing_more_and_nothing_stays() -> None:
    s = decide.erased(message("secret"), NOW, POLICY)

    assert (s.state, s.closed, s.told) == ("refused", True, ())
    assert "secret" not in str(document(s))

    calling = called(message("secret"), 1)

    assert decide.erased(calling, NOW, POLICY) == calling


def test_an_upload_is_no_attempt_and_a_refused_account_neither() -> None:
    s = called(message("one"), 1, idempotent=True)

    assert decide.uploaded(s, 1, "media-1", NOW).piece(1) == replace(message("one").piece(1), uploaded="media-1")
    assert decide.postponed(s, 1, "account", "401", later(NOW, 60)).piece(1) == message("one").piece(1)


@given(st.integers(0, 60), st.floats(0, 1))
def test_backoff_grows_to_its_bound_and_keeps_within_half_of_it(attempt: int, jitter: float) -> None:
    wait = decide.backoff(attempt, jitter, POLICY)
    most = min(POLICY.max_backoff_s, POLICY.first_backoff_s * 2 ** max(attempt - 1, 0))

    assert most / 2 <= wait <= most


@given(
    st.one_of(st.none(), st.text(), st.booleans(), st.lists(st.integers()), st.floats(), st.integers(-10, 100_000)),
    st.floats(0, 1),
)
def test_whatever_the_provider_asks_for_the_pause_is_a_time(asked: object, jitter: float) -> None:
    wait = decide.pause(asked, 1, jitter, POLICY)

    assert wait >= 0
    if isinstance(asked, int) and not isinstance(asked, bool) and asked >= 0:
        assert asked <= wait <= asked + 5


RESULTS = st.one_of(
    st.builds(Sent, st.one_of(st.none(), st.sampled_from(("p1", "p2")))),
    st.builds(Retry, st.just("busy"), st.one_of(st.none(), st.floats(0, 10_000))),
    st.builds(Failed, st.just("no"), st.sampled_from(("nothing", "fix_account"))),
    st.builds(Unknown, st.just("no answer")),
)


class Life(RuleBasedStateMachine):
    """A message under everything that can happen to it, by one worker or many; `calls` is what the provider got."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.s = message("one", "two", "three")
        self.calls: list[tuple[int, bool]] = []
        self.told: dict[str, object] = {}
        self.was_free = False

    def _becomes(self, s: Sending) -> None:
        self.s = sending(document(s) | {"v": s.v + 1})
        for one in s.told:
            self.told.setdefault(one.id, (one.kind, one.n, one.provider_id))

    @rule(seconds=st.sampled_from((0, 1, 31, 61, 4000, 300_000)))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: isinstance(decide.step(self.s, self.now), decide.Try))
    @rule(result=RESULTS, idempotent=st.booleans(), crash=st.booleans())
    def try_it(self, result: Result, idempotent: bool, crash: bool) -> None:
        step = decide.step(self.s, self.now)
        assert isinstance(step, decide.Try)
        n = step.piece.n

        assert all(one.state not in decide.UNSENT for one in self.s.pieces[: n - 1])
        self._becomes(decide.begun(self.s, n, f"t{self.s.v}", self.now, POLICY, idempotent=idempotent))
        maybe_arrived = crash or isinstance(result, Sent | Unknown)
        if maybe_arrived:
            self.calls.append((n, idempotent))
        if not crash:
            self._becomes(decide.answered(self.s, n, result, self.now, POLICY, 0.3))

    @precondition(lambda self: isinstance(decide.step(self.s, self.now), decide.Recover))
    @rule()
    def recover(self) -> None:
        step = decide.step(self.s, self.now)
        assert isinstance(step, decide.Recover)
        self._becomes(decide.recovered(self.s, step.piece.n, self.now, POLICY))

    @precondition(lambda self: isinstance(decide.step(self.s, self.now), decide.GoOn | decide.GiveUp))
    @rule()
    def wait_no_longer(self) -> None:
        on = isinstance(decide.step(self.s, self.now), decide.GoOn)
        self._becomes((decide.gone_on if on else decide.given_up)(self.s, self.now, POLICY))

    @precondition(lambda self: not self.s.lease)
    @rule(final=st.booleans())
    def the_gate_says_no(self, final: bool) -> None:
        if isinstance(decide.step(self.s, self.now), decide.Try):
            until = later(self.now, 5)
            held = decide.held(self.s, "gate", "not due", until)
            self._becomes(decide.refused(self.s, "stopped", self.now, POLICY) if final else held)

    @rule(n=st.integers(1, 3), sent=st.booleans())
    def a_receipt_comes(self, n: int, sent: bool) -> None:
        if any(n == called for called, _ in self.calls):
            seen = Seen("sent" if sent else "failed", f"p{n}")
            self._becomes(decide.saw(self.s, piece_id("o1", n), seen, self.now, POLICY))

    @rule()
    def all_is_told(self) -> None:
        self._becomes(decide.announced(self.s, [one.id for one in self.s.told]))

    @invariant()
    def nothing_that_may_have_arrived_is_sent_twice(self) -> None:
        for n in (1, 2, 3):
            calls = [idempotent for called, idempotent in self.calls if called == n]

            assert all(calls[:-1]), f"piece {n} was called again after a call that may have arrived: {calls}"

    @invariant()
    def a_closed_message_holds_nobody_up_and_expires(self) -> None:
        if self.s.closed:
            assert not self.s.blocks
            assert self.s.expires_at
            assert self.s.lease is None
            assert self.s.state in ("sent", "failed", "refused", "unknown")

    @invariant()
    def whoever_was_let_through_stays_through(self) -> None:
        assert not (self.was_free and self.s.blocks)
        self.was_free = not self.s.blocks

    @invariant()
    def an_open_message_is_found_by_the_poll(self) -> None:
        sending_now = any(one.state == "sending" for one in self.s.pieces)

        assert (self.s.lease is not None) == sending_now
        assert self.s.closed == all(one.state not in ("sending", *decide.UNSENT) for one in self.s.pieces) or (
            self.s.state == "unknown" and not sending_now
        )
        if isinstance(self.s.lease, Lease):
            assert self.s.next_at == self.s.lease.until


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
