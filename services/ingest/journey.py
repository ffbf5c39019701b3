"""The journey API: what happened to a customer that is no message, told by our own systems in batches.

The caller is known by an API key with the scope `ingest`, or by a signature after Standard Webhooks with the journey account's
secret (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md). Either way the header
`hilo-proof` tells the channel so; a batch that comes again is the same events.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.common.errors import Problem, not_found
from services.ingest.accounts import AccountBroken, Accounts, Connected
from services.ingest.contract import Posted, Raw, Secret
from services.ingest.intake import Intake, Taken, read
from services.ingest.settings import IngestSettings

CHANNEL = "journey"
SECRET = "signing_secret"  # noqa: S105  # the name of a field
PROOF = "hilo-proof"
TOLERANCE = timedelta(minutes=5)


# -- what is decided without I/O --------------------------------------------------------------------------------------------


def signed(secrets: Iterable[str], headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Whether one of the signatures was made with one of the secrets, not long ago. Whatever is malformed is no signature."""
    stamp, given = headers.get("webhook-timestamp", ""), headers.get("webhook-signature", "")
    if not (stamp.isascii() and stamp.isdecimal() and len(stamp) < 16):
        return False
    if abs(now.timestamp() - int(stamp)) > TOLERANCE.total_seconds():
        return False
    content = f"{headers.get('webhook-id', '')}.{stamp}.".encode() + body
    made = [b"v1," + base64.b64encode(hmac.digest(key, content, "sha256")) for key in map(_key, secrets) if key]
    return any([hmac.compare_digest(one, two.encode()) for one in made for two in given.split()])  # noqa: C419  # constant time


def _key(secret: str) -> bytes:
    """Secrets are base64 behind `whsec_`; one that is not stands for its own bytes."""
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        return secret.encode()


@dataclass(frozen=True, slots=True)
class Told:
    """A request to the journey API, read within bounds. `tenant` is the caller's, if there was a key."""

    body: bytes
    headers: Mapping[str, str]
    received_at: datetime
    tenant: str | None = None
    account: str | None = None


def raw_of(told: Told, door: str, public_url: str) -> Raw:
    headers = {name: told.headers[name] for name in ("content-type", "webhook-id", "user-agent") if name in told.headers}
    return Raw(
        told.body,
        {**headers, PROOF: "signed"},
        method="POST",
        url=f"{public_url}/v1/journey",
        received_at=told.received_at,
        door=door,
    )


# -- the API's work ---------------------------------------------------------------------------------------------------------


class Journey:
    """Takes batches."""

    def __init__(self, settings: IngestSettings, accounts: Accounts, intake: Intake) -> None:
        self._settings, self._accounts, self._intake = settings, accounts, intake

    async def take(self, told: Told) -> Taken:
        """Returns once the batch is on the log. Raises Problem 401, 404, 422, and Away."""
        account = await self._account(told)
        raw = raw_of(told, door_of(account), self._settings.public_url)
        outcome = read([account], raw)
        if outcome.items > self._settings.journey_max_events:
            raise Problem(422, "too_many_events", f"A batch has up to {self._settings.journey_max_events} events.")
        if outcome.quarantined and isinstance(outcome.quarantined[0].slice, bytes):
            raise Problem(422, "body_invalid", outcome.quarantined[0].reason)
        return await self._intake.take([account], raw, outcome=outcome)

    async def _account(self, told: Told) -> Connected:
        """Whoever has no key must have signed; which account that is, the address says."""
        found = await self._named(told.account) if told.account else self._only(told.tenant)
        if told.tenant is None:
            if not signed(_secrets(found), told.headers, told.body, told.received_at):
                raise Problem(401, "signature_wrong", "Send an API key with the scope ingest, or a valid webhook-signature.")
        elif found is None or found.tenant != told.tenant:
            raise not_found("journey account")
        assert found
        return found

    async def _named(self, account: str) -> Connected | None:
        try:
            return await self._accounts.get(CHANNEL, account)
        except AccountBroken as error:
            raise Problem(503, "broken", "This account cannot be used at the moment.", retry_after=2) from error

    def _only(self, tenant: str | None) -> Connected | None:
        """The tenant's journey account, where there is only one."""
        own = self._accounts.of(tenant, CHANNEL) if tenant else []
        if len(own) > 1:
            names = ", ".join(sorted(one.id for one in own))
            raise Problem(422, "account_ambiguous", f"Say ?account=, one of {names}.")
        return own[0] if own else None


def _secrets(account: Connected | None) -> tuple[str, ...]:
    secret: Any = getattr(account.account, SECRET, None) if account else None
    return secret.all() if isinstance(secret, Secret) else ()


def door_of(account: Connected) -> str:
    return next(door.name for door in account.channel.doors if isinstance(door, Posted))
