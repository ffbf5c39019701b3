"""Signature schemes as values: each one checks, and signs for the kit."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.ingest.contract.account import Account, Secret
from services.ingest.contract.inputs import Raw, Refused


def body_only(raw: Raw) -> bytes:
    return raw.body


def secret_of(account: Account, name: str) -> Secret:
    value = getattr(account, name)
    if not isinstance(value, Secret):
        raise TypeError(f"{type(account).__name__}.{name} must be a Secret")
    return value


def with_header(raw: Raw, name: str, value: str) -> Raw:
    return replace(raw, headers={**raw.headers, name: value})


def same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode(errors="surrogateescape"))


def check_age(raw: Raw, header: str, tolerance: timedelta) -> None:
    """Raise `Refused` for a signed time that is missing, stale or in the future: an old request is not played again."""
    stamp = raw.headers.get(header, "")
    if not stamp.isdecimal() or abs(raw.received_at.timestamp() - int(stamp)) > tolerance.total_seconds():
        raise Refused(f"{header} is missing or older than {tolerance.total_seconds():.0f} s")


@dataclass(frozen=True)
class Hmac:
    """A keyed hash in a header. `over` is what is signed, `stamp` the header with the signed time, if there is one."""

    header: str
    secret: str
    digest: str = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    over: Callable[[Raw], bytes] = body_only
    stamp: str | None = None
    tolerance: timedelta = timedelta(seconds=300)

    def check(self, account: Account, raw: Raw) -> None:
        given = raw.headers.get(self.header, "")
        if not given:
            raise Refused(f"header {self.header} is missing")
        if self.stamp:
            check_age(raw, self.stamp, self.tolerance)
        # Every key is tried, whichever fits: the time taken must not tell which one it was.
        if not any([same(self._value(key, raw), given) for key in secret_of(account, self.secret).all()]):  # noqa: C419
            raise Refused(f"{self.header} does not match the body")

    def sign(self, account: Account, raw: Raw) -> Raw:
        if self.stamp:
            raw = with_header(raw, self.stamp, str(int(raw.received_at.timestamp())))
        return with_header(raw, self.header, self._value(secret_of(account, self.secret).reveal(), raw))

    def _value(self, key: str, raw: Raw) -> str:
        mac = hmac.digest(key.encode(), self.over(raw), self.digest)
        return self.prefix + (mac.hex() if self.encoding == "hex" else base64.b64encode(mac).decode())


@dataclass(frozen=True)
class Token:
    """The shared secret itself in a header. It proves the sender but not the body: a changed body passes."""

    header: str
    secret: str

    def check(self, account: Account, raw: Raw) -> None:
        given = raw.headers.get(self.header, "")
        if not any([same(key, given) for key in secret_of(account, self.secret).all()]):  # noqa: C419
            raise Refused(f"{self.header} is missing or wrong")

    def sign(self, account: Account, raw: Raw) -> Raw:
        return with_header(raw, self.header, secret_of(account, self.secret).reveal())


@dataclass(frozen=True)
class BasicAuth:
    """User and password in the Authorization header; like Token it does not cover the body."""

    user: str
    secret: str

    def check(self, account: Account, raw: Raw) -> None:
        given = raw.headers.get("authorization", "")
        if not any([same(self._value(key), given) for key in secret_of(account, self.secret).all()]):  # noqa: C419
            raise Refused("authorization is missing or wrong")

    def sign(self, account: Account, raw: Raw) -> Raw:
        return with_header(raw, "authorization", self._value(secret_of(account, self.secret).reveal()))

    def _value(self, password: str) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{password}".encode()).decode()


@dataclass(frozen=True)
class Ed25519:
    """A signature by the provider's private key, hex in a header, over the time stamp's text and the body. `public_key` is
    the account field that holds the provider's key in hex; it is no secret, so `sign` needs the private one from outside."""

    header: str
    stamp: str
    public_key: str
    signer: Callable[[Account, bytes], bytes] | None = None
    tolerance: timedelta = timedelta(seconds=300)

    def check(self, account: Account, raw: Raw) -> None:
        check_age(raw, self.stamp, self.tolerance)
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(str(getattr(account, self.public_key))))
            key.verify(bytes.fromhex(raw.headers.get(self.header, "")), self._signed(raw))
        except (InvalidSignature, ValueError, binascii.Error) as error:
            raise Refused(f"{self.header} does not match the body") from error

    def sign(self, account: Account, raw: Raw) -> Raw:
        if self.signer is None:
            raise TypeError("give Ed25519 a signer to sign in tests; the provider alone has the private key")
        raw = with_header(raw, self.stamp, str(int(raw.received_at.timestamp())))
        return with_header(raw, self.header, self.signer(account, self._signed(raw)).hex())

    def _signed(self, raw: Raw) -> bytes:
        return raw.headers.get(self.stamp, "").encode() + raw.body


@dataclass(frozen=True)
class Unsigned:
    """The provider proves nothing; say why that is acceptable. The account's id in the URL is then all that protects it."""

    reason: str

    def check(self, account: Any, raw: Raw) -> None:
        return None

    def sign(self, account: Any, raw: Raw) -> Raw:
        return raw


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
