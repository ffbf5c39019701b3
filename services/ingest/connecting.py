"""Telling a provider where to call us, for channels that declare how."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import Problem, not_found
from services.common.http import AnswerLost, Http, NotSent, TooLarge
from services.common.logs import log
from services.ingest.accounts import AccountBroken, Accounts, Connected


@dataclass(frozen=True, slots=True)
class Subscription:
    """The address that the provider was told, and the status of its answer."""

    url: str
    status: int


def webhook_url(public_url: str, channel: str, account: str) -> str:
    return f"{public_url}/webhooks/{channel}/{account}"


async def usable(accounts: Accounts, channel: str, account: str) -> Connected:
    """Raises Problem 404 or 409."""
    try:
        found = await accounts.get(channel, account)
    except AccountBroken as error:
        raise Problem(409, "account_broken", f"The account cannot be used: {error}") from error
    if found is None:
        raise not_found("account")
    return found


async def subscribe(http: Http, account: Connected, public_url: str) -> Subscription:
    """Raises Problem 409 for a channel without such a call, 502 when the provider does not take it. Its answer is not shown:
    it may repeat secrets that the call contained."""
    if account.channel.setup is None:
        raise Problem(409, "no_setup", f"{account.channel.title} is told by hand; see {account.channel.docs}")
    url = webhook_url(public_url, account.channel.name, account.id)
    request = account.channel.setup(account.account, url)
    try:
        answer = await http.provider(request.method, request.url, request.headers, request.body, guarded=True)
    except (NotSent, AnswerLost, TooLarge) as error:
        raise Problem(502, "provider_away", f"The provider did not answer: {type(error).__name__}.") from error
    if not 200 <= answer.status < 300:
        raise Problem(502, "provider_refused", f"The provider answered {answer.status}.", status_given=answer.status)
    log().info("subscribed", tenant=account.tenant, channel=account.channel.name, account=account.id, status=answer.status)
    return Subscription(url, answer.status)
