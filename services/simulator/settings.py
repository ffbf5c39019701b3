"""Where the stand-ins listen, and the file that names their accounts."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.common.settings import CommonSettings


class SimulatorSettings(CommonSettings):
    port: int = Field(8108, description="Port of the platforms and the control door")
    simulator_mail_port: int = Field(8126, description="Port of the customers' mail servers")
    simulator_accounts: Path = Field(description="JSON file with the accounts, as services/simulator/accounts.py has them")
    simulator_duplicates: float = Field(0.0, ge=0, le=1, description="Share of webhooks that come twice")
    simulator_reorder: float = Field(0.0, ge=0, le=1, description="Share of webhooks that come late")
