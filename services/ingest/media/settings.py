"""Settings of the media worker, beyond those that all ingest processes read."""

from __future__ import annotations

from pydantic import Field

from services.ingest.settings import IngestSettings

PORT = 8106


class MediaSettings(IngestSettings):
    media_max_mb: float = Field(100, description="Files over this are not kept, unless the channel itself carries larger ones")
    media_at_once: int = Field(8, description="Files fetched at once by this process")
    media_poll_s: float = Field(0.5, description="How often the journal is looked at for what is due")
    media_fetch_s: float = Field(120, description="After so long a download is broken off and tried again")
    media_give_up_s: float = Field(24 * 3600, description="So long after the message a file that cannot be had has failed")
    media_keep_mail_days: int = Field(30, description="So long the mails that the mail door took are kept whole")
