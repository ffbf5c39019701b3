"""What is read of Telegram's updates: one update per webhook, told apart by its key.

https://core.telegram.org/bots/api#update
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ConfigDict, Field

from services.ingest.contract import Account, Item, Moment, Node, Payload, Raw, Secret


class Telegram(Account):
    bot: str = Field(description="Name of the bot, without @", pattern=r"^[A-Za-z0-9_]{3,64}$")
    token: Secret = Field(description="@BotFather > your bot > API token")
    webhook_secret: Secret = Field(description="Any 1-256 of A-Za-z0-9_-; sent to Telegram when the webhook is set")


class User(Payload):
    id: int
    first_name: str = ""
    last_name: str | None = None
    is_bot: bool = False

    @property
    def name(self) -> str | None:
        return " ".join(filter(None, (self.first_name, self.last_name))) or None


class Chat(Payload):
    id: int
    type: str

    @property
    def private(self) -> bool:
        return self.type == "private"


class File(Payload):
    file_id: str
    mime_type: str | None = None
    file_name: str | None = None
    file_size: int | None = None
    emoji: str | None = None


class Place(Payload):
    latitude: float
    longitude: float


class Card(Payload):
    """A phone number and, where it is one of Telegram's, whose."""

    phone_number: str
    first_name: str = ""
    last_name: str | None = None
    user_id: int | None = None


class Replied(Payload):
    message_id: int


class Update(Payload):
    update_id: int


class Message(Payload):
    """Fields that are none of these tell what else the message is; their names are kept."""

    model_config = ConfigDict(extra="allow")
    message_id: int
    message_thread_id: int | None = None
    is_topic_message: bool = False
    chat: Chat
    date: Moment
    edit_date: Moment | None = None
    sender: User | None = Field(None, alias="from")
    sender_chat: Chat | None = None
    forward_origin: Any = None
    reply_to_message: Replied | None = None
    text: str | None = None
    caption: str | None = None
    photo: tuple[File, ...] = ()
    animation: File | None = None
    video: File | None = None
    video_note: File | None = None
    voice: File | None = None
    audio: File | None = None
    sticker: File | None = None
    document: File | None = None
    location: Place | None = None
    contact: Card | None = None
    around: Update

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(name for name in self.model_extra or () if name not in ABOUT)


# What Telegram says about a message that is none of its content.
ABOUT = frozenset(
    "entities caption_entities link_preview_options media_group_id author_signature via_bot has_protected_content "
    "show_caption_above_media has_media_spoiler effect_id quote external_reply reply_to_story reply_markup sender_boost_count "
    "is_automatic_forward is_from_offline sender_business_bot business_connection_id direct_messages_topic paid_star_count "
    "sender_tag is_paid_post reply_to_checklist_task_id".split()
)
# What happens to a chat; nobody says it.
SERVICE = frozenset(
    "new_chat_members left_chat_member new_chat_title new_chat_photo delete_chat_photo group_chat_created "
    "supergroup_chat_created channel_chat_created message_auto_delete_timer_changed migrate_to_chat_id migrate_from_chat_id "
    "pinned_message forum_topic_created forum_topic_edited forum_topic_closed forum_topic_reopened general_forum_topic_hidden "
    "general_forum_topic_unhidden video_chat_scheduled video_chat_started video_chat_ended video_chat_participants_invited "
    "boost_added chat_background_set users_shared chat_shared write_access_allowed proximity_alert_triggered "
    "connected_website web_app_data passport_data chat_owner_left chat_owner_changed".split()
)


class Emoji(Payload):
    type: str = "emoji"
    emoji: str = ""
    custom_emoji_id: str = ""

    @property
    def shown(self) -> str:
        return self.emoji or (f"custom:{self.custom_emoji_id}" if self.custom_emoji_id else self.type)


class Reaction(Payload):
    chat: Chat
    message_id: int
    user: User | None = None
    date: Moment
    new_reaction: tuple[Emoji, ...]
    around: Update


class Key(Payload):
    text: str = ""
    callback_data: str | None = None


class Keyboard(Payload):
    inline_keyboard: tuple[tuple[Key, ...], ...] = ()


class Asked(Payload):
    """The message of ours whose button was pressed."""

    message_id: int
    chat: Chat
    message_thread_id: int | None = None
    is_topic_message: bool = False
    reply_markup: Keyboard = Keyboard()


class Pressed(Payload):
    id: str
    sender: User = Field(alias="from")
    message: Asked
    data: str = ""


class Membership(Payload):
    status: str


class Member(Payload):
    chat: Chat
    sender: User = Field(alias="from")
    date: Moment
    new_chat_member: Membership
    around: Update


def unpack(raw: Raw) -> Iterable[Item]:
    """{"update_id": 7, "message": {...}}: the other key is the kind."""
    update = Node(raw.json())
    return update.others("update_id", around={"update_id": update.get("update_id")})
