"""How a reference becomes a file in the store: from our own uploads, out of a mail, or from the provider.

Addresses come from what a provider or a customer sent, so every call is guarded against leaving the public internet, each
redirect anew; credentials go to the origin that the channel named and to no other one that a redirect names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from services.common.events import PartKind
from services.common.http import AnswerLost, Forbidden, Http, NotSent, TooLarge, pieces
from services.common.media import MediaStore, Missing, Oversized, uploaded
from services.ingest.accounts import AccountBroken, Accounts, Connected
from services.ingest.contract import Channel, Request, Response, get
from services.ingest.media.attachment import Bounds, NoAttachment, extracted
from services.ingest.media.jobs import Gone, Job, Later, Result

MAIL = re.compile(r"([0-9a-f]{64})/(\d{1,4})")
MAIL_MAX = 64 * 1024 * 1024
HOPS = 3
REDIRECTS = (301, 302, 303, 307, 308)
KEPT = ("accept", "user-agent")


class Fetcher:
    def __init__(self, http: Http, accounts: Accounts, store: MediaStore, *, max_mb: float, bounds: Bounds = Bounds()) -> None:
        self._http, self._accounts, self._store = http, accounts, store
        self._max_mb, self._bounds = max_mb, bounds

    async def fetch(self, job: Job) -> Result:
        """Raises StoreAway and MediaAway."""
        if sha256 := uploaded(job.ref):
            found = await self._store.find(job.tenant, sha256, declared=job.declared)
            return found or Gone("the file is not in the media store")
        if mail := MAIL.fullmatch(job.ref):
            return await self._from_mail(job, mail[1], int(mail[2]))
        return await self._from_provider(job)

    async def _from_mail(self, job: Job, mail: str, number: int) -> Result:
        try:
            content = await extracted(await self._store.load(job.tenant, mail, MAIL_MAX, area="mail"), number, self._bounds)
        except Missing:
            return Gone("the mail is not in the media store any more")
        except (Oversized, NoAttachment) as error:
            return Gone(str(error))
        except TimeoutError:
            return Later("the mail was not read in time")
        return await self._store.put(job.tenant, content, declared=job.declared)

    async def _from_provider(self, job: Job) -> Result:
        try:
            account = await self._accounts.get(job.channel, job.account)
        except AccountBroken as error:
            return Later(str(error), 60)
        if account is None or account.tenant != job.tenant:
            return Gone("the account is not connected any more")
        try:
            request = await self._request(job, account)
            if not isinstance(request, Request):
                return request
            return await self._download(job, request, limit(account.channel, job, self._max_mb))
        except Forbidden as error:
            return Gone(f"its address is not one to fetch from: {error}")
        except NotSent as error:
            return Later(f"no connection: {error}")
        except AnswerLost as error:
            return Later(f"no answer: {error}")
        except (Oversized, TooLarge) as error:
            return Gone(str(error))

    async def _request(self, job: Job, account: Connected) -> Request | Gone | Later:
        """The request that gives the bytes: after the provider was asked for the address, where it is done so."""
        media = account.channel.media
        if media is None:
            return get(job.ref) if urlsplit(job.ref).scheme == "https" else Gone("the channel cannot fetch files")
        try:
            request = media.fetch(account.account, job.ref)
        except Exception as error:
            return Gone(f"bug: {account.channel.name} cannot ask for it: {type(error).__name__}")
        if media.link is None:
            return request
        answer = await self._http.provider(request.method, request.url, request.headers, request.body, guarded=True)
        if (wrong := refusal(answer.status, answer.headers)) is not None:
            return wrong
        found = linked(media.link, account, Response(answer.status, answer.body, answer.headers))
        return Request("GET", urljoin(request.url, found), request.headers) if found else Gone("the answer names no address")

    async def _download(self, job: Job, request: Request, most: int) -> Result:
        headers, url = dict(request.headers), request.url
        for _ in range(HOPS + 1):
            async with self._http.stream(request.method, url, headers, request.body, guarded=True) as response:
                told = {name.lower(): value for name, value in response.headers.items()}
                if response.status in REDIRECTS and "location" in told:
                    url, headers = redirected(url, told["location"], headers)
                    continue
                if (wrong := refusal(response.status, told)) is not None:
                    return wrong
                if told.get("content-length", "").isdecimal() and int(told["content-length"]) > most:
                    raise Oversized(f"more than {most} bytes")
                return await self._store.put(job.tenant, pieces(response), max_bytes=most, declared=job.declared)
        return Gone("redirected too often")


def limit(channel: Channel[Any], job: Job, default_mb: float) -> int:
    """What the channel itself takes at most, if that is more than our default: it may bring what it may carry."""
    leg = channel.legs.get(job.leg)
    kind: PartKind | str = job.kind
    declared = max((can.mb or 0 for can in leg.sends if can.kind == kind), default=0) if leg else 0
    return int(max(default_mb, declared) * 1_000_000)


def linked(link: Any, account: Connected, response: Response) -> str | None:
    found = link(account.account, response) if callable(link) else response.get(link)
    return found if isinstance(found, str) and found else None


def refusal(status: int, headers: Mapping[str, str]) -> Gone | Later | None:
    """What a status says: a refused account may be mended in time, what is not there will not come."""
    if 200 <= status < 300:
        return None
    after = headers.get("retry-after", "")
    if status in (401, 403, 408, 425, 429) or status >= 500:
        return Later(f"the provider answered {status}", float(after) if after.isdecimal() else None)
    return Gone(f"the provider answered {status}")


def redirected(url: str, location: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Where to go on. Another origin gets no credentials."""
    target = urljoin(url, location)
    before, after = urlsplit(url), urlsplit(target)
    if (before.scheme, before.netloc) == (after.scheme, after.netloc):
        return target, dict(headers)
    return target, {name: value for name, value in headers.items() if name.lower() in KEPT}
