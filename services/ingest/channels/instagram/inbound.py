"""What Instagram's items mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from services.ingest.channels.instagram.outbound import GRAPH
from services.ingest.channels.instagram.payloads import (
    Attachment,
    Body,
    Commented,
    Direct,
    Edit,
    Instagram,
    Link,
    Mention,
    Messaging,
    Naming,
    Person,
    Postback,
    Reaction,
    Read,
    Referral,
)
from services.ingest.contract import (
    Deleted,
    Echoed,
    Edited,
    Facts,
    Fetch,
    Handler,
    Identifier,
    Ignored,
    Part,
    PartKind,
    Reacted,
    Receipt,
    Received,
    Referred,
    Sender,
    bearer,
    get,
    text,
)


def person(account: Instagram, who: Person) -> Sender:
    """The id is scoped to our account, and the same in a comment and in a direct message."""
    return Sender(Identifier("instagram", who.id, account.ig_id), name=who.username)


def customer(account: Instagram, m: Messaging) -> Identifier:
    """The other side, whoever of the two wrote."""
    return person(account, m.recipient if m.sender.id == account.ig_id else m.sender).id


# -- in public --------------------------------------------------------------------------------------------------------


def commented(account: Instagram, c: Commented) -> Facts:
    """Answers go to the top-level comment. Of our own comments the platform does not say whom they answer."""
    comment, said = c.value, (text(c.value.text),) if c.value.text else (Part("unsupported", name="comment"),)
    thread = comment.parent_id or comment.id
    if account.ig_id in (comment.author.id, comment.author.self_ig_scoped_id):
        yield Echoed(id=comment.id, at=c.around.time, leg="comment", thread=thread, parts=said, reply_to=comment.parent_id)
    else:
        yield _public(account, c, "comment", thread, said)


def commented_live(account: Instagram, c: Commented) -> Facts:
    """Under a broadcast: it can be answered in private only, and only while the broadcast runs."""
    if account.ig_id in (c.value.author.id, c.value.author.self_ig_scoped_id):
        yield Ignored("our own comment under our broadcast")
    else:
        yield _public(account, c, "live", c.value.media.id, (text(c.value.text),))


def _public(account: Instagram, c: Commented, leg: str, thread: str, said: tuple[Part, ...]) -> Received:
    return Received(
        id=c.value.id,
        at=c.around.time,
        leg=leg,
        thread=thread,
        sender=person(account, c.value.author),
        parts=said,
        reply_to=c.value.parent_id,
        context={"media": c.value.media.id},
        type="post.commented",
    )


def named(account: Instagram, n: Naming) -> Facts:
    """The notification says only where; what was said must be asked for."""
    what, which = ("mentioned_comment", n.value.comment_id) if n.value.comment_id else ("mentioned_media", n.value.media_id)
    said = "text" if n.value.comment_id else "caption"
    fields = f"{what}.{'comment_id' if n.value.comment_id else 'media_id'}({which}){{id,{said},timestamp,username}}"
    yield Fetch(
        f"mention:{which}", get(f"{GRAPH}/{account.ig_id}?fields={fields}", auth=bearer(account.access_token)), door="mention"
    )


def mentioned(account: Instagram, m: Mention) -> Facts:
    """People who name us under a stranger's post are known by their public name only."""
    sender = person(account, m.author) if m.author else Sender(Identifier("instagram_name", m.username), name=m.username)
    yield Received(
        id=m.id,
        at=m.timestamp,
        leg="mention",
        sender=sender,
        thread=m.id,
        parts=(text(m.text or m.caption),),
        context={"media": "yes"} if m.caption else {},
        type="post.mentioned",
    )


# -- in private -------------------------------------------------------------------------------------------------------

MEDIA: Mapping[str, PartKind] = {"image": "image", "video": "video", "audio": "audio", "file": "file"}
SHARED = frozenset(("share", "post", "ig_post", "reel", "ig_reel", "story_share"))


def parts_of(m: Body) -> tuple[Part, ...]:
    if m.quick_reply:
        return (Part("choice", text=m.text, ref=m.quick_reply.payload),)
    words = (text(m.text),) if m.text else ()
    return (*_story(m), *map(_attachment, m.attachments), *words) or (Part("unsupported", name="message"),)


def _story(m: Body) -> Iterable[Part]:
    """The story that is answered: the platform shows it for a day, so it is kept as a file."""
    if m.reply_to.story:
        yield Part("file", ref=m.reply_to.story.url, name="story_reply", data={"story": m.reply_to.story.id or ""})


def _attachment(a: Attachment) -> Part:
    if a.payload.url is None:
        return Part("unsupported", name=a.type)
    if a.type in MEDIA:
        return Part(MEDIA[a.type], ref=a.payload.url)
    if a.type == "story_mention":
        return Part("file", ref=a.payload.url, name=a.type)
    return Part("link" if a.type in SHARED else "unsupported", text=a.payload.title, ref=a.payload.url, name=a.type)


def messaged(account: Instagram, d: Direct) -> Facts:
    """A message of ours comes back as an echo, also what a colleague wrote in the app."""
    m, party = d.message, customer(account, d)
    if m.is_deleted:
        sender = None if m.is_echo else person(account, d.sender)
        yield Deleted(id=m.mid, at=d.timestamp, party=party, leg="dm", sender=sender)
    elif m.is_echo:
        yield Echoed(id=m.mid, at=d.timestamp, party=party, leg="dm", parts=parts_of(m), reply_to=m.reply_to.mid)
    else:
        yield from referral(account, d, m.mid, m.referral)
        yield _said(account, d, m.mid, parts_of(m), m.reply_to.mid)


def _said(account: Instagram, d: Messaging, mid: str, parts: tuple[Part, ...], reply_to: str | None = None) -> Received:
    return Received(id=mid, at=d.timestamp, leg="dm", sender=person(account, d.sender), parts=parts, reply_to=reply_to)


def referral(account: Instagram, m: Messaging, mid: str, link: Link | None) -> Iterable[Referred]:
    if link and link.told:
        yield Referred(id=mid, at=m.timestamp, leg="dm", sender=person(account, m.sender), ref=link.told)


def tapped(account: Instagram, p: Postback) -> Facts:
    """An ice breaker or a button; in a new thread the link that led here comes with it."""
    yield from referral(account, p, p.postback.mid, p.postback.referral)
    yield _said(account, p, p.postback.mid, (Part("choice", text=p.postback.title, ref=p.postback.payload),))


def referred(account: Instagram, r: Referral) -> Facts:
    """In a thread that exists already. It has no id of its own."""
    mid = f"referral:{r.sender.id}:{int(r.timestamp.timestamp() * 1000)}:{r.referral.told}"
    yield from referral(account, r, mid, r.referral)
    yield Ignored("a link without a reference")


def edited(account: Instagram, e: Edit) -> Facts:
    revised, sender = e.message_edit, None if e.sender.id == account.ig_id else person(account, e.sender)
    yield Edited(
        id=revised.mid,
        at=e.timestamp,
        party=customer(account, e),
        leg="dm",
        revision=str(revised.num_edit),
        parts=(text(revised.text),),
        sender=sender,
    )


def reacted(account: Instagram, r: Reaction) -> Facts:
    """The platform gives a reaction no id; its time in milliseconds tells two of the same person apart."""
    added = r.reaction.action == "react"
    yield Reacted(
        id=r.reaction.mid,
        at=r.timestamp,
        party=customer(account, r),
        leg="dm",
        sender=person(account, r.sender),
        emoji=(r.reaction.emoji or r.reaction.reaction or "❤") if added else "",
        revision=str(int(r.timestamp.timestamp() * 1000)),
    )


def seen(account: Instagram, r: Read) -> Facts:
    yield Receipt(id=r.read.mid, at=r.timestamp, party=customer(account, r), leg="dm", state="read")


KINDS: Mapping[str, Handler[Instagram]] = {
    "comments": commented,
    "live_comments": commented_live,
    "mentions": named,
    "mentioned_comment": mentioned,
    "mentioned_media": mentioned,
    "message": messaged,
    "message_edit": edited,
    "reaction": reacted,
    "read": seen,
    "postback": tapped,
    "referral": referred,
}
IGNORES = {
    "standby": "another app holds the conversation",
    "story_insights": "figures about a story that ended",
    "pass_thread_control": "another app hands the conversation over",
    "take_thread_control": "another app takes the conversation",
    "request_thread_control": "another app asks for the conversation",
}
