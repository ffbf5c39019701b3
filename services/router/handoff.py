"""From a public complaint to a private talk: one step at a time, as pure decisions on the conversation.

A decider gets the conversation and what happened, and returns a `Step`: the conversation as it shall be and what to do. None
means that nothing changes; a `Refusal` is what a person asked for and may not have. Every step leaves a state, a reason that
`wording.py` has a sentence for, and the event that says so. Inviting is in `inviting.py`, what comes back in `offers.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from services.common.events import Author, HandoffState, Part
from services.common.identifiers import outbound_id
from services.router.conversations import without_open_offers
from services.router.outputs import Emit
from services.router.reading import squeeze
from services.router.state import Conversation, Handoff, LegRecord

REOPENS_WITHIN = timedelta(days=30)  # a new public word within that time belongs to the old case, later it begins a new one

NOT_YET: frozenset[HandoffState] = frozenset(("detected", "triaged", "drafted", "public_replied"))
INVITED: frozenset[HandoffState] = frozenset(("approved", "offered", "claimed"))
PRIVATE: frozenset[HandoffState] = frozenset(("proven", "private_active"))
DONE: frozenset[HandoffState] = frozenset(("resolved", "public_closed"))
OVER: frozenset[HandoffState] = frozenset(("declined", "expired", "rejected_by_platform", "author_deleted"))

STOP_WORDS = frozenset(
    squeeze(one)
    for one in (
        "stop; stop all; unsubscribe; no thanks; no, thank you; do not write to me; don't write to me; leave me alone; "
        "baja; darme de baja; no gracias; no me escribas; no me escribáis; no me escriban; dejadme en paz; no quiero mensajes"
    ).split(";")
)


@dataclass(frozen=True, slots=True)
class Ask:
    """A message that this step wants sent. The core queues it like an answer, under `key`, so that the step done twice is
    one message; `opens` is the public item that the platform's own private reply answers."""

    key: str
    leg: str
    parts: tuple[Part, ...]
    opens: str | None = None
    author: Author | None = None


@dataclass(frozen=True, slots=True)
class Prove:
    """The people of these two legs are one: evidence for identity, which decides. `leg` need not be in this conversation."""

    leg: LegRecord
    other: str
    rule: str


@dataclass(frozen=True, slots=True)
class Stop:
    """A queued message that must not go any more."""

    outbound: str


Wish = Emit | Ask | Prove | Stop


@dataclass(frozen=True, slots=True)
class Step:
    after: Conversation
    outputs: tuple[Wish, ...] = ()

    def plus(self, *outputs: Wish) -> Step:
        return Step(self.after, (*self.outputs, *outputs))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a person cannot have this step: `nothing_public`, `post_deleted`, `under_way`, `private_reply_used`,
    `window_over`, `no_way`, `no_targets`, `not_drafted`, `not_resolved`, `leg_elsewhere`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Post:
    """The customer's public words. `item` is the provider's id, `at` the provider's time, by which its deadlines run."""

    leg: str
    item: str
    entry: str
    at: datetime
    kind: Literal["complaint", "question"] | None = None
    within_s: float | None = None  # the platform's own private reply must go within that time; None: it has none


def moved(
    c: Conversation,
    h: Handoff,
    to: HandoffState,
    reason: str,
    now: datetime,
    by: Author | None = None,
    offer: str | None = None,
) -> Step:
    """The one way from state to state; `h` has its other fields as they shall be. `since` is when the state began."""
    after = replace(h, state=to, since=h.since if h.state == to else now, reason=reason)
    return Step(replace(c, handoff=after), (Emit("handoff.changed", by, reason, {"state": to, "offer": offer}),))


def settled_wait(h: Handoff) -> Handoff:
    """It waits for no message any more."""
    return replace(h, waits_for=None, waits_as=None)


# -- the customer's side ----------------------------------------------------------------------------------------------


def noticed(c: Conversation, post: Post, now: datetime) -> Step | None:
    """A new public message of the customer."""
    h, reason = c.handoff, post.kind or "seen"
    fresh: HandoffState = "triaged" if post.kind else "detected"
    deadline = post.at + timedelta(seconds=post.within_s) if post.within_s else None
    if h is None or h.state == "author_deleted" or (h.state in DONE | OVER and now - h.since > REOPENS_WITHIN):
        begun = Handoff(fresh, now, post.leg, post.item, post.entry, deadline=deadline, used=h.used if h else ())
        return moved(c, begun, fresh, reason, now)
    if h.state in INVITED:
        return None  # the invitation stands, for the item it was made for
    newest = replace(h, public_leg=post.leg, item=post.item, entry=post.entry, deadline=deadline)
    if h.state in PRIVATE | DONE:
        return moved(c, newest, "reverted_public", "wrote_again", now)
    if h.state in ("expired", "rejected_by_platform"):
        return moved(c, newest, fresh, reason, now)
    return moved(c, newest, h.state, "wrote_again", now)


def heard(c: Conversation, leg: str, text: str, now: datetime) -> Step | None:
    """A message of the customer on a private leg, which carries no code."""
    h, record = c.handoff, c.leg(leg)
    if h is None or record is None or record.visibility != "private":
        return None
    public = c.leg(h.public_leg)
    same = record.via == "id" and public is not None and public.party == record.party
    if h.state in NOT_YET | INVITED and same and declines(text):
        return _declined(c, h, "stop_word", now)
    if same and h.state in NOT_YET | INVITED | {"expired", "rejected_by_platform"}:
        return moved(without_open_offers(c), replace(h, private_leg=leg, deadline=None), "proven", "same_subject", now)
    if h.state == "proven" and leg == h.private_leg:
        return moved(c, h, "private_active", "talking", now)
    return None


COMPLAINT = re.compile(
    r"\b(?:no funciona\w*|roto|rota|rompi\w*|averiad\w*|defectuos\w*|estropead\w*|quej\w+|reclama\w*|vergüenza|estafa\w*|"
    r"nadie (?:me )?(?:contesta|responde)|sin respuesta|p[eé]simo|fatal|decepci\w+|devoluci[oó]n|reembols\w+|broken|broke|"
    r"(?:does|did)(?:n['’]?t| not) work|not working|stopped working|faulty|defective|complain\w*|refund|scam|terrible|awful|"
    r"worst|useless|disappoint\w+|nobody (?:answers|replies)|no (?:reply|answer|response))\b",
    re.IGNORECASE,
)


def reads_as(text: str) -> Literal["complaint", "question"] | None:
    """A first guess by words alone, which sorts a list and decides nothing: None where it says neither."""
    if COMPLAINT.search(text):
        return "complaint"
    return "question" if "?" in text else None


def declines(text: str) -> bool:
    """Whether the whole message is a wish to be left alone."""
    return squeeze(text) in STOP_WORDS


def declined(c: Conversation, now: datetime, by: Author) -> Step | None:
    """An agent notes that the customer stays in public."""
    h = c.handoff
    return _declined(c, h, "prefers_public", now, by) if h and h.state in INVITED | NOT_YET else None


def _declined(c: Conversation, h: Handoff, reason: str, now: datetime, by: Author | None = None) -> Step:
    stops = (Stop(h.waits_for),) if h.waits_for else ()
    after = replace(settled_wait(h), then=(), ways=(), deadline=None)
    return moved(without_open_offers(c), after, "declined", reason, now, by).plus(*stops)


def deleted(c: Conversation, item: str, now: datetime) -> Step | None:
    """The author deleted the public post: nothing is answered there any more, a private talk goes on."""
    h = c.handoff
    if h is None or not item or h.item != item:
        return None
    private = h.private_leg is not None
    public_under_way = h.waits_for if h.waits_as != "private" else None
    after = replace(h if public_under_way is None else settled_wait(h), item="", then=())
    to: HandoffState = h.state
    if h.state == "reverted_public" and private:
        to = "private_active"
    elif h.state in NOT_YET | {"reverted_public"} or (h.state in INVITED and not private):
        to = "author_deleted"
    gone = without_open_offers(c) if to == "author_deleted" else c
    return moved(gone, after, to, "post_deleted", now).plus(*((Stop(public_under_way),) if public_under_way else ()))


# -- our side ---------------------------------------------------------------------------------------------------------


def answered(c: Conversation, leg: str, now: datetime, by: Author) -> Step | None:
    """An answer of ours was accepted that is no invitation."""
    h, record = c.handoff, c.leg(leg)
    if h is None or record is None:
        return None
    if record.visibility == "private":
        return moved(c, h, "private_active", "talking", now, by) if h.state == "proven" else None
    if h.state == "reverted_public" and h.private_leg:
        return moved(c, h, "private_active", "answered_in_public", now, by)
    if h.state in ("detected", "triaged", "drafted", "reverted_public"):
        return moved(c, h, "public_replied", "answered_in_public", now, by)
    return None


def resolved(c: Conversation, now: datetime, by: Author | None) -> Step | None:
    """The case was closed. What is open in public stays visible as such until it is closed there too. Of an invitation, what
    has not left is taken back, and nothing follows it; the last public word goes out."""
    h = c.handoff
    if h is None or h.state in DONE | OVER:
        return None
    stops = (Stop(h.waits_for),) if h.waits_for and h.waits_as != "closing" else ()
    after, c = replace(h, deadline=None, say=(), then=(), ways=()), without_open_offers(c)
    if h.state in ("approved", "offered"):
        return moved(c, after, "expired", "closed_first", now, by).plus(*stops)
    if h.state in ("detected", "triaged", "drafted"):
        return moved(c, after, "public_closed", "closed_silently", now, by)
    return moved(c, after, "resolved", "resolved" if h.item else "post_deleted", now, by).plus(*stops)


def closed_in_public(c: Conversation, parts: tuple[Part, ...], now: datetime, by: Author) -> Step | Refusal:
    """The last public word, or none where no more needs to be said; also after the case was closed. The state follows once it
    is published."""
    h, public = c.handoff, c.leg(c.handoff.public_leg) if c.handoff else None
    if h is None or h.state not in PRIVATE | {"resolved", "public_replied", "reverted_public"}:
        return Refusal("not_resolved")
    if h.waits_for:
        return Refusal("under_way")
    if not parts:
        return moved(c, h, "public_closed", "closed_silently", now, by)
    if not h.item:
        return Refusal("post_deleted")
    if public is None or public.moved:
        return Refusal("leg_elsewhere")
    key = f"handoff:{c.v}:closing"
    after = replace(h, waits_for=outbound_id(c.id, key), waits_as="closing")
    return moved(c, after, h.state, "closing", now, by).plus(Ask(key, h.public_leg, parts, None, by))


# -- time -------------------------------------------------------------------------------------------------------------


def ticked(c: Conversation, now: datetime) -> Step | None:
    """What time alone changes: offers end, an invitation nobody took ends, the platform's own deadline passes."""
    ended = [o.id for o in c.offers if o.state in ("open", "claimed") and o.expires <= now]
    after, h = c, c.handoff
    if ended:
        after = replace(c, offers=tuple(replace(o, state="expired") if o.id in ended else o for o in c.offers))
    if h and h.deadline and h.deadline <= now:
        if h.state in ("offered", "claimed"):
            return moved(without_open_offers(after), replace(h, deadline=None), "expired", "offer_expired", now)
        return moved(after, replace(h, deadline=None), h.state, "window_over", now)
    return Step(after) if ended else None


def stands_until(c: Conversation) -> datetime | None:
    """Until when the customer may still come by an invitation: by its link or code, or by answering the platform's message."""
    times = [o.expires for o in c.offers if o.state in ("open", "claimed")]
    if c.handoff and c.handoff.state in INVITED and c.handoff.deadline:
        times.append(c.handoff.deadline)
    return max(times, default=None)


def due(c: Conversation) -> datetime | None:
    """When `ticked` has something to do next."""
    times = [o.expires for o in c.offers if o.state in ("open", "claimed")]
    if c.handoff and c.handoff.deadline:
        times.append(c.handoff.deadline)
    return min(times, default=None)
