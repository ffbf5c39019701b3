"""Channels and accounts as hilo.channels declares them, in memory: windows, queues, groups, languages, ways in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.common import metrics
from services.common.cloudevents import Record, UnknownType, Unreadable, decode
from services.common.events import AccountDescribed, ChannelDeclared, HandoffDeclared, LegDeclared
from services.common.identifiers import Visibility
from services.common.logs import log
from services.router.conversations import Opening
from services.router.hours import ALWAYS, Hours
from services.router.state import LegRecord


@dataclass(frozen=True, slots=True)
class QueueTimes:
    """What a queue promises: an answer and an end within so many seconds; None promises nothing."""

    answer_s: int | None = None
    resolve_s: int | None = None
    hours: Hours = ALWAYS


TimesOf = Callable[[str, str], QueueTimes]


class Directory:
    def __init__(self, times_of: TimesOf) -> None:
        self._times_of = times_of
        self.channels: dict[str, ChannelDeclared] = {}
        self.accounts: dict[tuple[str, str, str], AccountDescribed] = {}

    def apply(self, record: Record) -> None:
        """For a View of hilo.channels. The topic is ours: what cannot be read there is counted and told, not set aside."""
        if record.value is None:
            return
        try:
            data = decode(record).data
        except UnknownType as error:
            metrics.UNKNOWN_TYPES.labels("router.directory", error.name[:80]).inc()
            return
        except Unreadable as error:
            log().error("unreadable_declaration", topic=record.topic, offset=record.offset, reason=str(error))
            return
        match data:
            case ChannelDeclared():
                self.channels[data.name] = data
            case AccountDescribed():
                self.accounts[data.tenant, data.channel, data.account] = data

    def account(self, tenant: str, channel: str, account: str) -> AccountDescribed | None:
        return self.accounts.get((tenant, channel, account))

    def leg(self, channel: str, leg: str) -> LegDeclared | None:
        declared = self.channels.get(channel)
        return declared.legs.get(leg) if declared else None

    def visibility(self, channel: str, leg: str) -> Visibility:
        declared = self.leg(channel, leg)
        return declared.visibility if declared else "private"

    def window(self, channel: str, leg: str, written: datetime) -> datetime | None:
        """Until when we may write freely after the customer has; None where the provider sets no limit."""
        declared = self.leg(channel, leg)
        return written + timedelta(seconds=declared.window_s) if declared and declared.window_s is not None else None

    def private_reply(self, channel: str, leg: str) -> HandoffDeclared | None:
        """The platform's own way from this public leg into private."""
        declared = self.channels.get(channel)
        return next((one for one in declared.handoffs if one.public == leg), None) if declared else None

    def opening(self, leg: LegRecord) -> Opening:
        """How a conversation begins that is opened for this leg: by its account."""
        tenant = leg.key.partition("/")[0]
        found = self.account(tenant, leg.channel, leg.account)
        queue = found.queue if found else "default"
        times = self._times_of(tenant, queue)
        return Opening(
            tenant=tenant,
            group=found.group if found else "default",
            queue=queue,
            language=found.language if found else None,
            answer_s=times.answer_s,
            resolve_s=times.resolve_s,
            hours=times.hours,
        )

    def own_contacts(self, tenant: str) -> tuple[str, ...]:
        """The tenant's own public data, which an answer may name."""
        return tuple(value for key, one in self.accounts.items() if key[0] == tenant for value in one.contact)

    def ways_in(self, tenant: str) -> Mapping[str, AccountDescribed]:
        """Accounts that a handoff link can lead to, by `channel/account`."""
        return {
            f"{one.channel}/{one.account}": one
            for key, one in self.accounts.items()
            if key[0] == tenant and one.invite and one.state == "active"
        }
