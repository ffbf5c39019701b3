"""Instagram: comments in public, direct messages in private, and the one private reply that leads from one to the other.

The platform tells of no deleted or edited comment. https://developers.facebook.com/documentation/instagram-platform
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

from services.ingest.channels.instagram.inbound import IGNORES, KINDS
from services.ingest.channels.instagram.outbound import HEALTH, MEDIA, RENEW, SEND, setup
from services.ingest.channels.instagram.payloads import Instagram, unpack
from services.ingest.channels.meta import WEBHOOK
from services.ingest.contract import Can, Channel, Fetched, Handoff, Leg, Rate, Window


def invite(account: Instagram, code: str) -> str:
    return f"https://ig.me/m/{account.username}?ref={quote(code)}"


CHANNEL = Channel(
    name="instagram",
    title="Instagram",
    docs="https://developers.facebook.com/documentation/instagram-platform",
    account=Instagram,
    address="ig_id",
    legs={
        "comment": Leg("public", sends=(Can("text", 2200),), rates=(Rate(750 / 3600),), replies_only=True),
        "live": Leg("public"),
        "mention": Leg("public", sends=(Can("text", 2200),), rates=(Rate(750 / 3600),), replies_only=True),
        "dm": Leg(
            "private",
            sends=(
                Can("text", 1000, "bytes"),
                Can("image", mb=8),
                Can("video", mb=25),
                Can("audio", mb=25),
                Can("buttons", 1000, "bytes", choices=13),
            ),
            window=Window(timedelta(hours=24)),
            rates=(Rate(300),),
            replies_only=True,
        ),
    },
    # Under a broadcast the reply is taken only while it runs, which no webhook tells: later ones are refused.
    handoffs=(Handoff("comment", "dm", within=timedelta(days=7)), Handoff("live", "dm")),
    doors=(WEBHOOK, Fetched("mention")),
    unpack=unpack,
    kinds=KINDS,
    ignores=IGNORES,
    send=SEND,
    media=MEDIA,
    health=HEALTH,
    renew=RENEW,
    setup=setup,
    invite=invite,
    contact=lambda account: (f"@{account.username}",),
    shown=("object", "field", "time", "timestamp", "mid", "is_echo", "is_deleted", "action", "num_edit"),
)
