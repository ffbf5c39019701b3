"""Settings of the ingest processes: doors, outbound worker and media worker read the same class."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from services.common.settings import CommonSettings

PORT = 8101


class IngestSettings(CommonSettings):
    """What the doors need beyond the common settings."""

    public_url: str = Field(
        "http://127.0.0.1:8101",
        description="Where providers and customers reach the doors, as they write it; signatures over an address are checked "
        "against it, never against the Host header",
    )
    channels_dir: Path | None = Field(None, description="Folder with declarative channels, one YAML file each")
    media_dir: Path = Field(Path("/var/lib/hilo/media"), description="Where media copies are kept, by content hash")

    kafka_publish_timeout_s: float = Field(
        4, description="After so long without acknowledgement the broker counts as away; the strictest provider waits 5 s"
    )
    webhook_max_bytes: int = Field(1_000_000, description="Larger webhook bodies are answered 413 before they are read")
    webhook_body_s: float = Field(10, description="A body that takes longer to arrive is answered 408")
    webhook_in_flight: int = Field(256, description="Inputs worked on at once; one more is answered 503 with Retry-After")
    journey_max_events: int = Field(500, description="Events in one call of the journey API")
    accounts_refresh_s: float = Field(2, description="How often changes of accounts made by other processes are looked up")

    smtp_host: str = Field("0.0.0.0", description="Address that the mail door listens on")  # noqa: S104  # a container's own
    smtp_port: int = Field(8125, description="Port of the mail door")

    @field_validator("public_url")
    @classmethod
    def _origin(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
            raise ValueError("HILO_PUBLIC_URL is an address as https://hilo.example.com, without query")
        return value.rstrip("/")
