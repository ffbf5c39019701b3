"""The built-in channels: an explicit tuple, so that what exists can be read here. Others come by entry point or as YAML."""

from __future__ import annotations

from typing import Any

from services.ingest.channels.email import CHANNEL as EMAIL
from services.ingest.channels.instagram import CHANNEL as INSTAGRAM
from services.ingest.channels.journey import CHANNEL as JOURNEY
from services.ingest.channels.telegram import CHANNEL as TELEGRAM
from services.ingest.channels.webchat import CHANNEL as WEBCHAT
from services.ingest.channels.whatsapp import CHANNEL as WHATSAPP
from services.ingest.contract import Channel

BUILT_IN: tuple[Channel[Any], ...] = (WHATSAPP, INSTAGRAM, TELEGRAM, EMAIL, WEBCHAT, JOURNEY)
