"""Settings of identity: the common ones, and where a tenant's operator put other rules."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.common.settings import CommonSettings


class IdentitySettings(CommonSettings):
    identity_rules: Path | None = Field(None, description="YAML file with rules of identity that differ from the default ones")
