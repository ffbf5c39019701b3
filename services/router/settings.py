"""Settings of the router process."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import CommonSettings

PORT = 8103


class RouterSettings(CommonSettings):
    """What the router needs beyond the common settings."""

    stop_s: float = Field(10, description="Public messages wait so long before they go, and can be stopped meanwhile")
    close_after_h: float = Field(
        72, description="A conversation in which nobody waits for us is closed after so long a silence"
    )
    answer_within_s: int = Field(3600, description="Where a queue says nothing: an answer is wanted within so long")
    poll_s: float = Field(0.5, description="How often timers and half-done work are looked for")
    public_url: str = Field("http://127.0.0.1:8101", description="Where customers reach the handoff page, /go/ of ingest")
    stream_buffer: int = Field(65_536, description="Records that may wait in memory for a stream processor")
    fast_streams: bool = Field(True, description="Use our faster loop from fetched records to stream processors")
