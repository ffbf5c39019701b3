"""What Telegram's updates mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypedDict

from services.ingest.channels.telegram.payloads import (
    SERVICE,
    Asked,
    Card,
    Chat,
    Member,
    Message,
    Pressed,
    Reaction,
    Telegram,
    User,
)
from services.ingest.contract import (
    Consented,
    Edited,
    Evidence,
    Facts,
    Handler,
    Identifier,
    Ignored,
    Part,
    PartKind,
    Reacted,
    Received,
    Referred,
    Sender,
    tel,
    text,
)

# The first of these that a message has is its file; an animation also stands in `document`, so the order matters.
FILES: Mapping[str, PartKind] = {
    "animation": "video",
    "video": "video",
    "video_note": "video",
    "voice": "audio",
    "audio": "audio",
    "sticker": "sticker",
    "document": "file",
}


def sender_of(user: User, also: tuple[Evidence, ...] = ()) -> Sender:
    """Ids of users are the same everywhere in Telegram."""
    return Sender(Identifier("telegram", str(user.id)), name=user.name, also=also)


def message_id(chat: Chat, number: int) -> str:
    return f"{chat.id}:{number}"  # numbers are unique within a chat only


class Where(TypedDict):
    leg: str
    thread: str


def where(m: Message | Asked) -> Where:
    """A group is read by everybody in it, so it is public; a topic of a forum is a thread of its own."""
    topic = f":{m.message_thread_id}" if m.is_topic_message and m.message_thread_id else ""
    return {"leg": "chat" if m.chat.private else "group", "thread": f"{m.chat.id}{topic}"}


def parts_of(m: Message) -> tuple[Part, ...]:
    parts = (*_file(m), *_place(m), *_card(m))
    parts = (*parts, text(m.text)) if m.text else parts
    return parts or (Part("unsupported", name=next(iter(m.others), "message")),)


def _file(m: Message) -> Iterable[Part]:
    if m.photo:  # the same picture in several sizes, the largest last
        best = m.photo[-1]
        yield Part("image", text=m.caption, ref=best.file_id, media_type="image/jpeg", size=best.file_size)
        return
    for field, kind in FILES.items():
        if f := getattr(m, field):
            words = m.caption or f.emoji
            yield Part(kind, text=words, ref=f.file_id, media_type=f.mime_type, name=f.file_name, size=f.file_size)
            return


def _place(m: Message) -> Iterable[Part]:
    if m.location:
        yield Part("location", data={"lat": str(m.location.latitude), "lon": str(m.location.longitude)})


def _card(m: Message) -> Iterable[Part]:
    if m.contact:
        name = " ".join(filter(None, (m.contact.first_name, m.contact.last_name)))
        yield Part("contact", text=name, data={"tel": phone(m.contact)})


def phone(card: Card) -> str:
    """With its plus, which Telegram leaves out as often as not."""
    return f"+{card.phone_number.lstrip('+')}"


def own_number(m: Message) -> tuple[Evidence, ...]:
    """Telegram finds the user of a card by its number: a card that names its sender gives the sender's number. A card that
    was forwarded is somebody else's to give."""
    if m.contact and m.sender and m.contact.user_id == m.sender.id and m.forward_origin is None:
        return (Evidence(tel(phone(m.contact)), "verified", "telegram-own-contact"),)
    return ()


def received(account: Telegram, m: Message) -> Facts:
    if m.sender is None or m.sender.is_bot or m.sender_chat:
        yield Ignored("written by a bot, a channel or an anonymous administrator")
    elif not m.text and not m.caption and any(name in SERVICE for name in m.others):
        yield Ignored("a service message of the chat")
    elif (m.text or "").startswith("/start ") and m.chat.private:
        ref = (m.text or "").removeprefix("/start ").strip()
        yield Referred(
            id=message_id(m.chat, m.message_id),
            at=m.date,
            sender=sender_of(m.sender),
            ref=ref,
            sequence=m.message_id,
            **where(m),
        )
    else:
        yield Received(
            id=message_id(m.chat, m.message_id),
            at=m.date,
            sender=sender_of(m.sender, own_number(m)),
            parts=parts_of(m),
            reply_to=message_id(m.chat, m.reply_to_message.message_id) if m.reply_to_message else None,
            sequence=m.message_id,
            **where(m),
        )


def edited(account: Telegram, m: Message) -> Facts:
    """Two edits within a second have one date, so the update tells them apart."""
    if m.sender is None or m.sender.is_bot or m.sender_chat:
        yield Ignored("written by a bot, a channel or an anonymous administrator")
        return
    yield Edited(
        id=message_id(m.chat, m.message_id),
        at=m.edit_date or m.date,
        revision=str(m.around.update_id),
        parts=parts_of(m),
        sender=sender_of(m.sender),
        **where(m),
    )


def reacted(account: Telegram, r: Reaction) -> Facts:
    """The list is what there is now; a bot is told of groups only where it is an administrator."""
    if r.user is None:
        yield Ignored("a reaction without a name")
        return
    yield Reacted(
        id=message_id(r.chat, r.message_id),
        at=r.date,
        sender=sender_of(r.user),
        emoji=r.new_reaction[-1].shown if r.new_reaction else "",
        revision=str(r.around.update_id),
        leg="chat" if r.chat.private else "group",
        thread=str(r.chat.id),
    )


def pressed(account: Telegram, p: Pressed) -> Facts:
    """A button tells what we gave it; its title still stands under our message."""
    keys = (key for row in p.message.reply_markup.inline_keyboard for key in row)
    title = next((key.text for key in keys if key.callback_data == p.data), p.data)
    yield Received(
        id=f"button:{p.id}",
        at=None,
        sender=sender_of(p.sender),
        parts=(Part("choice", text=title, ref=p.data),),
        reply_to=message_id(p.message.chat, p.message.message_id),
        **where(p.message),
    )


def member(account: Telegram, m: Member) -> Facts:
    if not m.chat.private:
        yield Ignored("the bot came into a group or left it")
        return
    blocked = m.new_chat_member.status == "kicked"
    yield Consented(
        id=f"member:{m.around.update_id}",
        at=m.date,
        sender=sender_of(m.sender),
        state="withdrawn" if blocked else "given",
        leg="chat",
    )


KINDS: Mapping[str, Handler[Telegram]] = {
    "message": received,
    "edited_message": edited,
    "message_reaction": reacted,
    "callback_query": pressed,
    "my_chat_member": member,
}
IGNORES = {
    "channel_post": "a post of a channel, which its owner wrote",
    "edited_channel_post": "a post of a channel, which its owner wrote",
    "message_reaction_count": "anonymous reactions, counted only",
    "chat_member": "others came into a group or left it",
    "poll": "the state of a poll",
}
