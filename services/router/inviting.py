"""Inviting a customer from public to private, and what becomes of the messages that do it.

Where the platform has a private reply of its own, that goes first and the public reply follows only if it was accepted: a
public "we have just written to you" is then true. Elsewhere the public reply carries a link. A crash between the two repeats
neither: each is queued under a key of its own, by the compare-and-set that decides it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from services.common.events import Author, HandoffState, Part
from services.common.identifiers import outbound_id
from services.router.codes import Keys
from services.router.conversations import without_open_offers
from services.router.handoff import NOT_YET, Ask, Refusal, Step, moved, settled_wait
from services.router.outputs import Emit
from services.router.state import Conversation, Given, Handoff, Offer

PUBLIC_LIFE = timedelta(days=7)
PRIVATE_LIFE = timedelta(hours=24)
INVITABLE = NOT_YET | frozenset[HandoffState](("declined", "expired", "rejected_by_platform", "reverted_public"))


@dataclass(frozen=True, slots=True)
class Platform:
    """The platform's own private reply: the key of the private leg that it opens for the author of the public item."""

    leg: str
    once: bool = True


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a person writes to invite. `{link}` in a text becomes the link of an invitation, `{code}` its code; `targets` are
    the accounts (`channel/account`) whose ways in it shows, best first."""

    by: Author
    private: tuple[Part, ...] = ()
    public: tuple[Part, ...] = ()
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Links:
    """How invitations are made here: the keys, and what a token is put behind (`https://.../go/`)."""

    keys: Keys
    base: str


def invite(
    c: Conversation, wish: Invitation, platform: Platform | None, links: Links, now: datetime, *, approval: bool = False
) -> Step | Refusal:
    """Invite to private. With `approval` it waits as a draft for somebody else's yes."""
    h = c.handoff
    if h is None:
        return Refusal("nothing_public")
    if not h.item:
        return Refusal("post_deleted")
    if h.state not in INVITABLE or h.waits_for:
        return Refusal("under_way")
    if refusal := _impossible(h, wish, platform, now):
        return refusal
    if approval:
        draft = replace(h, say=wish.private, then=wish.public, ways=wish.targets, author=wish.by)
        return moved(c, draft, "drafted", "needs_approval", now, wish.by)
    return _private_first(c, h, wish, platform, links, now) if wish.private and platform else _with_link(c, h, wish, links, now)


def approve(c: Conversation, platform: Platform | None, links: Links, now: datetime, by: Author) -> Step | Refusal:
    """The draft goes out as it was written, under its writer's name; who approved it stands in the event."""
    h = c.handoff
    if h is None or h.state != "drafted" or h.author is None:
        return Refusal("not_drafted")
    step = invite(c, Invitation(h.author, h.say, h.then, h.ways), platform, links, now)
    if isinstance(step, Refusal):
        return step
    return Step(step.after, tuple(replace(one, by=by) if isinstance(one, Emit) else one for one in step.outputs))


def _impossible(h: Handoff, wish: Invitation, platform: Platform | None, now: datetime) -> Refusal | None:
    if _invites((*wish.private, *wish.public)) and not wish.targets:
        return Refusal("no_targets")
    if wish.private and platform:
        if platform.once and h.item in h.used:
            return Refusal("private_reply_used")
        return Refusal("window_over") if h.deadline and now >= h.deadline else None
    return Refusal("no_way") if wish.private or not _invites(wish.public) else None


def _private_first(c: Conversation, h: Handoff, wish: Invitation, platform: Platform, links: Links, now: datetime) -> Step:
    key = f"handoff:{c.v}:private"
    c, parts, offer = _offering(c, wish.private, "private", platform.leg, wish.targets, links, now)
    after = replace(
        h,
        private_leg=platform.leg,
        waits_for=outbound_id(c.id, key),
        waits_as="private",
        say=(),
        then=wish.public,
        ways=wish.targets,
        used=(*h.used, h.item)[-16:],
        author=wish.by,
    )
    step = moved(c, after, "approved", "sending_private", now, wish.by, offer)
    return step.plus(Ask(key, platform.leg, parts, h.item, wish.by))


def _with_link(c: Conversation, h: Handoff, wish: Invitation, links: Links, now: datetime) -> Step:
    key = f"handoff:{c.v}:link"
    c, parts, offer = _offering(c, wish.public, "public", h.public_leg, wish.targets, links, now)
    waiting = replace(h, private_leg=None, waits_for=outbound_id(c.id, key), waits_as="link")
    after = replace(waiting, say=(), then=(), ways=(), author=wish.by)
    step = moved(c, after, "approved", "sending_link", now, wish.by, offer)
    return step.plus(Ask(key, h.public_leg, parts, None, wish.by))


def offered_on(
    c: Conversation, leg: str, parts: tuple[Part, ...], targets: tuple[str, ...], links: Links, now: datetime, by: Author
) -> Step | Refusal:
    """An invitation given on a private leg: to go on elsewhere, or to prove a leg that is only claimed, by posting the code
    in public or sending it from a leg that is proven."""
    record = c.leg(leg)
    if record is None or record.moved or record.visibility != "private":
        return Refusal("no_way")
    if not _invites(parts):
        return Refusal("no_targets")
    key = f"offer:{c.v}"
    c, filled, _ = _offering(c, parts, "private", leg, targets, links, now)
    return Step(c, (Ask(key, leg, filled, None, by),))


def _invites(parts: tuple[Part, ...]) -> bool:
    return any("{link}" in (part.text or "") or "{code}" in (part.text or "") for part in parts)


def _offering(
    c: Conversation, parts: tuple[Part, ...], given: Given, on: str, targets: tuple[str, ...], links: Links, now: datetime
) -> tuple[Conversation, tuple[Part, ...], str | None]:
    """The texts with their link, and the offer that it is. One offer lives per leg: an older one there ends."""
    if not _invites(parts):
        return c, parts, None
    issued = links.keys.issue(c.tenant, c.id, f"{c.v}:{given}:{on}")
    expires = now + (PUBLIC_LIFE if given == "public" else PRIVATE_LIFE)
    offer = Offer(issued.id, issued.token_hash, issued.code_hash, "open", given, on, expires, targets=targets)
    older = (replace(o, state="expired") if o.on == on and o.state in ("open", "claimed") else o for o in c.offers)
    filled = tuple(_filled(part, links.base + issued.token, issued.code) for part in parts)
    return replace(c, offers=(*older, offer)), filled, issued.id


def _filled(part: Part, link: str, code: str) -> Part:
    return replace(part, text=part.text.replace("{link}", link).replace("{code}", code)) if part.text else part


# -- what became of the messages --------------------------------------------------------------------------------------

Fate = Literal["sent", "failed", "unknown", "stopped"]


def settled(c: Conversation, outbound: str, fate: Fate, links: Links, now: datetime, then: str = "nothing") -> Step | None:
    """A message that a step waits for was sent, refused for good, stopped, or nobody knows. `then` is what the channel says
    may work instead: an account that must be mended first has not spent the one private reply."""
    h = c.handoff
    if h is None or h.waits_for != outbound:
        return None
    if fate == "unknown":
        return moved(c, h, h.state, "unknown_fate", now)
    sent, over = fate == "sent", settled_wait(h)
    match h.waits_as:
        case "private":
            return _private_accepted(c, over, links, now) if sent else _private_rejected(c, over, fate, then, now)
        case "link":
            return _link(c, over, fate, now)
        case "closing":
            return (
                moved(c, over, "public_closed", "closed_in_public", now)
                if sent
                else moved(c, over, h.state, "closing_failed", now)
            )
        case _:
            return moved(c, over, h.state, "public_followed" if sent else "public_failed", now)


def _private_accepted(c: Conversation, h: Handoff, links: Links, now: datetime) -> Step:
    """Now the public reply is true, and follows. The customer may have answered in private already."""
    to: HandoffState = "offered" if h.state == "approved" else h.state
    h = replace(h, deadline=now + PUBLIC_LIFE if to == "offered" else h.deadline)
    if not h.then or not h.item:
        return moved(c, replace(h, then=(), ways=()), to, "private_delivered" if to == "offered" else h.reason, now)
    key = f"handoff:{c.v}:follow"
    c, parts, offer = _offering(c, h.then, "public", h.public_leg, h.ways, links, now)
    after = replace(h, waits_for=outbound_id(c.id, key), waits_as="follow", then=(), ways=())
    step = moved(c, after, to, "private_accepted", now, None, offer)
    return step.plus(Ask(key, h.public_leg, parts, None, h.author))


def _private_rejected(c: Conversation, h: Handoff, fate: Fate, then: str, now: datetime) -> Step:
    """The public reply is dropped with it: it would say what is not true."""
    spent = fate == "failed" and then != "fix_account"
    used = h.used if spent else tuple(one for one in h.used if one != h.item)
    after = replace(h, then=(), ways=(), used=used)
    reason = "stopped" if fate == "stopped" else "rejected"
    if h.state != "approved":
        return moved(c, after, h.state, reason, now)
    return moved(without_open_offers(c), replace(after, private_leg=None), "rejected_by_platform", reason, now)


def _link(c: Conversation, h: Handoff, fate: Fate, now: datetime) -> Step:
    if h.state != "approved":  # somebody opened it before we heard that it is published
        return moved(c, h, h.state, h.reason, now)
    if fate == "sent":
        return moved(c, replace(h, deadline=now + PUBLIC_LIFE), "offered", "link_published", now)
    reason = "stopped" if fate == "stopped" else "rejected_public"
    return moved(without_open_offers(c), h, "rejected_by_platform", reason, now)
