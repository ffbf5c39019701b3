"""WhatsApp Cloud API: batches, statuses, media by id, edits, ids that are not phone numbers, a window of 24 hours.

https://developers.facebook.com/documentation/business-messaging/whatsapp
"""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import quote

from services.ingest.channels.meta import GRAPH, WEBHOOK
from services.ingest.channels.whatsapp.inbound import IGNORES, KINDS
from services.ingest.channels.whatsapp.outbound import HEALTH, MEDIA, SEND
from services.ingest.channels.whatsapp.payloads import WhatsApp, unpack
from services.ingest.contract import Can, Channel, Leg, Rate, Request, Window, bearer, post

IMAGES = ("image/jpeg", "image/png")
AUDIO = ("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg")
VIDEO = ("video/mp4", "video/3gpp")

SENDS = (
    Can("text", 4096),
    Can("image", mb=5, types=IMAGES, caption=1024),
    Can("audio", mb=16, types=AUDIO),
    Can("video", mb=16, types=VIDEO, caption=1024),
    Can("file", mb=100, caption=1024),
    Can("sticker", mb=0.5, types=("image/webp",)),
    Can("location", caption=1000),
    Can("buttons", 1024, choices=10),
    Can("template"),
)


def invite(account: WhatsApp, code: str) -> str:
    """The person may change the text before it is sent: what comes back is the code alone, or nothing."""
    return f"https://wa.me/{re.sub('[^0-9]', '', account.number)}?text={quote(code)}"


def setup(account: WhatsApp, url: str) -> Request:
    """One number's messages to our address, whatever the app's webhook is set to."""
    override = {"webhook_configuration": {"override_callback_uri": url, "verify_token": account.verify_token.reveal()}}
    return post(f"{GRAPH}/{account.phone_number_id}", override, auth=bearer(account.access_token))


CHANNEL = Channel(
    name="whatsapp",
    title="WhatsApp",
    docs="https://developers.facebook.com/documentation/business-messaging/whatsapp",
    account=WhatsApp,
    address="phone_number_id",
    legs={
        "chat": Leg(
            "private",
            sends=SENDS,
            window=Window(timedelta(hours=24), outside="template"),
            rates=(Rate(80), Rate(1 / 6, of="thread")),
        ),
        "group": Leg(
            "public", sends=SENDS[:5], window=Window(timedelta(hours=24)), rates=(Rate(1 / 6, of="thread"),), replies_only=True
        ),
    },
    doors=(WEBHOOK,),
    unpack=unpack,
    kinds=KINDS,
    ignores=IGNORES,
    send=SEND,
    media=MEDIA,
    health=HEALTH,
    setup=setup,
    invite=invite,
    contact=lambda account: (account.number,),
    shown=("object", "field", "type", "status", "timestamp", "phone_number_id", "mime_type", "code", "event"),
)
