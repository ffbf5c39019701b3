"""Settings of the ingest processes: doors, outbound worker and media worker read the same class."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

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

    kafka_linger_ms: int = Field(
        10,
        description="How long a record waits for company before it is sent: the doors' records come one by one, and share what a "
        "request to the broker costs",
    )
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
    smtp_hostname: str = Field("hilo", description="Name that the mail door greets with; the name in the MX record")
    smtp_max_bytes: int = Field(25_000_000, description="Larger mails are answered 552")
    smtp_connections: int = Field(100, description="Mail connections at once; one more is answered 421")
    smtp_connections_each: int = Field(50, description="Mail connections at once from one address")
    smtp_large_at_once: int = Field(8, description="Mails above 1 MB that are read at once; one more waits")
    smtp_timeout_s: float = Field(300, description="A command, the mail itself included, may take so long")
    smtp_tls_cert: Path | None = Field(None, description="Certificate chain (PEM); with it the mail door offers STARTTLS")
    smtp_tls_key: Path | None = Field(None, description="Key of that certificate (PEM)")
    smtp_trusted_auth: str = Field(
        "", description="Name under which your own mail server writes Authentication-Results; empty trusts nobody's"
    )
    smtp_trusted_peers: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")),
        description="Networks, separated by commas, that this server hands mails over from; others' results are not heard",
    )
    smtp_workers: int = Field(2, description="Processes that parse mails")
    smtp_parse_cpu_s: int = Field(5, description="Processor time that parsing one mail may take; then it is over the limits")
    smtp_parse_memory_mb: int = Field(1024, description="Memory that a process which parses mails may take")

    chat_frames_per_s: float = Field(5, description="Frames a chat socket may send a second, on average")
    chat_burst: int = Field(30, description="Frames it may send at once; beyond it the socket is closed with 1013")
    chat_sockets: int = Field(5000, description="Chat sockets of one process; one more is answered 503")
    chat_sockets_each: int = Field(5, description="Chat sockets of one visitor on one process")
    chat_arrivals_per_min: float = Field(30, description="New visitors from one address in a minute")
    chat_ping_s: float = Field(25, description="How often a chat socket is asked whether it is still there")
    chat_poll_s: float = Field(0.1, description="How often new answers for connected visitors are looked up")
    chat_upload_max_bytes: int = Field(25_000_000, description="Larger chat uploads are answered 413")
    chat_uploads_per_min: float = Field(10, description="Uploads of one visitor or address in a minute")

    go_tries_per_min: float = Field(30, description="Handoff links that one address may open in a minute")
    forwarded_for: int = Field(
        0, description="Proxies of yours in front of the doors: so many addresses at the end of X-Forwarded-For are believed"
    )

    @field_validator("public_url")
    @classmethod
    def _origin(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
            raise ValueError("HILO_PUBLIC_URL is an address as https://hilo.example.com, without query")
        return value.rstrip("/")

    @field_validator("smtp_trusted_peers", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        return [one.strip() for one in value.split(",") if one.strip()] if isinstance(value, str) else value
