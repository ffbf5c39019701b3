"""Errors that cross a boundary, each with its metric reason or its HTTP code. What is temporary is told apart by type."""

from __future__ import annotations

from typing import Any


class Away(Exception):
    """A part that we need does not answer. Temporary: stop without committing, try again, say so in readiness."""

    def __init__(self, part: str, why: str = "") -> None:
        super().__init__(f"{part} is away{': ' + why if why else ''}")
        self.part = part


class BrokerAway(Away):
    """Kafka did not acknowledge in time. What was sent may still arrive, so ids must make a second try harmless."""

    def __init__(self, why: str = "") -> None:
        super().__init__("broker", why)


class StoreAway(Away):
    """MongoDB did not answer, or has no primary. A write may or may not have happened."""

    def __init__(self, why: str = "") -> None:
        super().__init__("store", why)


class ServiceAway(Away):
    """Another service of ours did not answer, or answered 5xx."""


class Poison(ValueError):
    """This one record can never be handled; it goes to hilo.dead with the reason, and the partition goes on."""


class Problem(Exception):
    """An answer to a caller: `application/problem+json` (RFC 9457) with a `code` of ours and further members."""

    def __init__(self, status: int, code: str, detail: str = "", *, retry_after: int | None = None, **more: Any) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status, self.code, self.detail, self.retry_after, self.more = status, code, detail, retry_after, more


def conflict(detail: str, current: Any) -> Problem:
    """Somebody was faster: the caller gets what is there now."""
    return Problem(409, "version_lost", detail, current=current)


def not_found(what: str) -> Problem:
    """Also for objects of another tenant: a caller learns nothing of what it may not see."""
    return Problem(404, "not_found", f"There is no such {what}.")
