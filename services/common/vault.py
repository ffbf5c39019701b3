"""What is secret at rest: AES-256-GCM under the master key, bound to the place it belongs to."""

from __future__ import annotations

import base64
import os
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common.settings import CommonSettings

# Only the demo and tests start without a master key; what they seal is worth nothing to anybody.
DEMO_KEY = bytes(range(32))
NO_KEY = "HILO_MASTER_KEY must be 32 bytes in base64, as `openssl rand -base64 32` prints them"


class Unsealable(Exception):
    """The sealed value was made with another master key, for another place, or was changed."""


class Vault:
    """Seals and opens. `place` says what the value is for (`account/acme/whatsapp/main`): a sealed value that is copied
    to another place does not open there."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError(NO_KEY)
        self._aead = AESGCM(key)

    def seal(self, place: str, value: bytes) -> bytes:
        nonce = os.urandom(12)
        return b"\x01" + nonce + self._aead.encrypt(nonce, value, place.encode())

    def open(self, place: str, sealed: bytes) -> bytes:
        try:
            return self._aead.decrypt(sealed[1:13], sealed[13:], place.encode())
        except (InvalidTag, ValueError) as error:
            raise Unsealable(f"{place} was sealed with another master key") from error


def vault(settings: CommonSettings) -> Vault:
    """Raises ValueError where there is no master key and the environment is not the demo's."""
    if settings.master_key is None:
        if settings.env == "production":
            raise ValueError("HILO_MASTER_KEY is not set; account secrets cannot be sealed without it")
        return Vault(DEMO_KEY)
    try:
        key = base64.b64decode(settings.master_key.get_secret_value(), validate=True)
    except ValueError as error:
        raise ValueError(NO_KEY) from error
    return Vault(key)


def new_secret(prefix: str) -> str:
    """A key for a person or program: 32 random bytes behind a prefix that says what it is."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"
