"""Settings from environment variables `HILO_*`, validated at start. Each service composes its own class from these blocks;
nothing else reads the environment."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class CommonSettings(BaseSettings):
    """What every process needs."""

    model_config = SettingsConfigDict(env_prefix="HILO_", extra="ignore", frozen=True)

    env: Literal["demo", "test", "production"] = Field("production", description="`demo` and `test` relax what only they may")
    host: str = Field("0.0.0.0", description="Address that the doors listen on")  # noqa: S104  # a container's own network
    port: int = Field(0, description="Port of the doors; 0 takes the service's default")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Log lines below it are left out")
    log_format: Literal["json", "console"] = Field("json", description="Log lines for programs, or for people")

    kafka: str = Field("127.0.0.1:9092", description="Bootstrap servers, separated by commas")
    kafka_prefix: str = Field("", description="Put before every topic and group name")
    kafka_replication: int = Field(1, description="Replicas of created topics; 3 in production")
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How the brokers are spoken to"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How we prove who we are, where security is SASL"
    )
    kafka_username: str | None = Field(None, description="User at the brokers, for SASL")
    kafka_password: SecretStr | None = Field(None, description="Its password")
    kafka_cafile: str | None = Field(
        None, description="Certificates (PEM) that the brokers' are checked against; empty: the system's"
    )
    kafka_linger_ms: int = Field(2, description="How long a record waits for company before it is sent")
    kafka_publish_timeout_s: float = Field(10, description="After so long without acknowledgement the broker counts as away")
    kafka_session_timeout_s: float = Field(10, description="After so long a silent consumer's partitions go to another")
    kafka_batch: int = Field(500, description="Records a consumer takes at once")
    kafka_pace_s: float = Field(
        0.03,
        description="After a fetch that brought little, a consumer asks again so much later (three times that where many come), and "
        "handles together what came meanwhile. What comes when nothing has come for so long is not waited for",
    )

    mongo: SecretStr = Field(SecretStr("mongodb://127.0.0.1:27017/?replicaSet=hilo"), description="Connection string")
    mongo_prefix: str = Field("hilo_", description="Put before every database name")
    mongo_timeout_s: float = Field(5, description="After so long the store counts as away")

    service_key: SecretStr | None = Field(None, description="Shared by the services; they authenticate to each other with it")
    master_key: SecretStr | None = Field(None, description="32 bytes, base64: seals account secrets and tenant keys")
    router_url: str = Field("http://127.0.0.1:8103", description="Where the other processes reach router")
    identity_url: str = Field("http://127.0.0.1:8102", description="Where the other processes reach identity")
    ingest_url: str = Field("http://127.0.0.1:8101", description="Where the other processes reach ingest")
    timeline_url: str = Field("http://127.0.0.1:8104", description="Where the other processes reach timeline")
    drain_s: float = Field(20, description="At a stop, work in flight may take so long")
    provider_origins: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict,
        description="JSON: a provider's origin to the origin and path prefix that stands in for it; refused in production",
    )

    @field_validator("service_key", "master_key", "kafka_password", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        """A variable that a compose file passes on without a value."""
        return None if value == "" else value

    @field_validator("provider_origins", mode="before")
    @classmethod
    def _json(cls, value: Any) -> Any:
        import json

        return json.loads(value or "{}") if isinstance(value, str) else value

    @field_validator("provider_origins", mode="after")
    @classmethod
    def _not_in_production(cls, value: dict[str, str], info: Any) -> dict[str, str]:
        if value and info.data.get("env") == "production":
            raise ValueError("HILO_PROVIDER_ORIGINS sends customers' messages elsewhere; it is refused in production")
        return value

    def topic(self, name: str) -> str:
        return self.kafka_prefix + name

    def database(self, name: str) -> str:
        return self.mongo_prefix + name


def wrong(error: ValueError) -> str:
    """What is wrong, by the names of variables or of a document's fields; never with their values, which may be secret."""
    if not isinstance(error, ValidationError):
        return str(error)
    named = (lambda name: "HILO_" + name.upper()) if error.title.endswith("Settings") else str
    found = [(named(".".join(map(str, one["loc"]))), one["msg"]) for one in error.errors(include_input=False)]
    said = [(name, why.removeprefix("Value error, ")) for name, why in found]
    return "; ".join(why if why.startswith("HILO_") else f"{name}: {why}" for name, why in said)
