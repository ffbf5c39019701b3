"""Settings of the timeline."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.common.settings import CommonSettings

PORT = 8104


class TimelineSettings(CommonSettings):
    timeline_generation: str = Field("a", pattern=r"[a-z0-9]{1,12}", description="Which generation this process projects")
    timeline_project: bool = Field(True, description="Whether this process projects, or only serves reads and streams")
    journal_days: float = Field(3, gt=0, description="How long a live stream can be away and resume without a gap")
    feed_interval_s: float = Field(
        0.05, gt=0, description="Pause between two looks at what is new; twice as long where many events come"
    )
    heartbeat_s: float = Field(15, gt=0, description="A quiet stream says where it stands this often")
    stream_buffer_bytes: int = Field(4 * 1024 * 1024, gt=0, description="A stream that leaves more than this unsent is closed")
    stream_max_s: float = Field(900, gt=0, description="After so long a stream ends and comes back, with its key checked again")
    read_limit_ms: int = Field(1000, gt=0, description="A read with a filter answers a short page after this")
    demo_key: str = Field("", description="Filled in on the console's sign-in page; for the demo only")
    media_dir: Path = Field(Path("/var/lib/hilo/media"), description="Where media copies are kept, by content hash")

    @property
    def group(self) -> str:
        """The consumer group; another generation reads the log from its beginning."""
        return "timeline" if self.timeline_generation == "a" else f"timeline-{self.timeline_generation}"
