"""Settings of the outbound worker, beyond those that all ingest processes read."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from services.ingest.outbound.sends import Policy
from services.ingest.outbound.smtp import TIMEOUT_S as SMTP_S
from services.ingest.settings import IngestSettings

PORT = 8105


class OutboundSettings(IngestSettings):
    outbound_at_once: int = Field(64, description="Messages worked on at once by this process")
    outbound_workers: int = Field(1, description="How many outbound workers run; each takes its share of an account's rate")
    outbound_poll_s: float = Field(0.2, description="How often the journal is looked at for what is due")
    outbound_call_s: float = Field(15, description="After so long without answer a provider's answer counts as lost")
    outbound_lease_s: float = Field(60, description="A worker that is silent for so long has lost the message it was sending")
    outbound_gate_valid_s: float = Field(2, description="A gate's answer older than this is asked for again before the call")
    outbound_backoff_s: float = Field(2, description="Before the second try; doubled for each further one")
    outbound_max_backoff_s: float = Field(300, description="Longest wait between tries, unless the provider asks for more")
    outbound_retry_for_s: float = Field(
        6 * 3600, description="So long after its first try a message that never left has failed"
    )
    outbound_receipt_s: float = Field(30, description="So long a thread waits for a receipt of a message whose answer was lost")
    outbound_unknown_s: float = Field(
        72 * 3600, description="So long a receipt may settle it; then it stays unknown and says so"
    )
    outbound_probe_s: float = Field(60, description="How often a refused account is tried again")
    outbound_keep_days: int = Field(30, description="So long the journal remembers, without content, that a message was sent")
    media_url: str | None = Field(
        None, description="Address under which providers fetch our files; empty: HILO_TIMELINE_URL, which serves them"
    )
    media_link_s: float = Field(3600, description="So long a signed address of a file is good that a provider fetches")
    media_person_link_s: float = Field(30 * 24 * 3600, description="The same, of a file in a mail or in the web chat")

    @model_validator(mode="after")
    def _lease_outlasts_calls(self) -> Self:
        if self.outbound_lease_s < 2 * max(self.outbound_call_s, SMTP_S):
            raise ValueError(
                "HILO_OUTBOUND_LEASE_S must be at least twice the longest call, or messages go unknown for nothing"
            )
        return self

    @property
    def policy(self) -> Policy:
        return Policy(
            lease_s=self.outbound_lease_s,
            first_backoff_s=self.outbound_backoff_s,
            max_backoff_s=self.outbound_max_backoff_s,
            retry_for_s=self.outbound_retry_for_s,
            receipt_s=self.outbound_receipt_s,
            unknown_s=self.outbound_unknown_s,
            keep_s=self.outbound_keep_days * 24 * 3600,
        )
