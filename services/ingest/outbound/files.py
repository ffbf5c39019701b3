"""How the files of an outgoing message reach the provider: uploaded first where the channel has an upload, else by a signed
address of ours: good for a while where a provider fetches it at once, and for long where a person opens it, in a mail or in
the web chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from services.common.events import Part
from services.common.media import MediaLinks, MediaStore, Missing, Oversized, uploaded
from services.ingest.accounts import Connected
from services.ingest.contract import Channel, Failed, Mail, Request, Response, Result, Retry, Sent, Session

UPLOAD_MAX = 100_000_000
MISSING = "a file of the message is not in the media store"


class Files:
    def __init__(self, store: MediaStore, links: MediaLinks, *, link_s: float, person_link_s: float) -> None:
        self._store, self._links = store, links
        self._link, self._person_link = timedelta(seconds=link_s), timedelta(seconds=person_link_s)

    async def described(self, tenant: str, parts: Sequence[Part]) -> tuple[Part, ...]:
        """The parts with size and type of our own files as they are, so that the plan refuses what the leg cannot carry.
        Raises Missing, MediaAway."""
        return tuple([await self._described(tenant, part) for part in parts])

    async def _described(self, tenant: str, part: Part) -> Part:
        sha256 = uploaded(part.ref)
        if sha256 is None:
            return part
        found = await self._store.find(tenant, sha256, declared=part.media_type)
        if found is None:
            raise Missing(MISSING)
        return replace(part, size=found.size, media_type=found.media_type)

    def reachable(self, tenant: str, channel: Channel[Any], part: Part, name: str | None, now: datetime) -> Part:
        """The part as the channel gets it: with the provider's `name` of the uploaded file, or with an address."""
        sha256 = uploaded(part.ref)
        if name is not None:
            return replace(part, ref=name)
        if sha256 is None:
            return part
        person = any(isinstance(door, Session | Mail) for door in channel.doors)
        return replace(part, ref=self._links.url(tenant, sha256, now, self._person_link if person else self._link))

    async def upload(self, connected: Connected, part: Part) -> Request | Failed:
        """Raises MediaAway."""
        media, sha256 = connected.channel.media, uploaded(part.ref)
        if not (media and media.upload and sha256):
            raise ValueError("ask needs_upload first")
        try:
            content = await self._store.load(connected.tenant, sha256, UPLOAD_MAX)
        except Missing:
            return Failed(MISSING)
        except Oversized as error:
            return Failed(f"a file of the message is too large: {error}", then="other_leg")
        return media.upload(connected.account, part, content)


def needs_upload(channel: Channel[Any], part: Part) -> bool:
    return bool(channel.media and channel.media.upload and uploaded(part.ref))


def read_upload(channel: Channel[Any], response: Response | None) -> Result:
    """What came of an upload. A file uploaded twice harms nobody, so a lost answer is a retry."""
    if response is None:
        return Retry("the answer to an upload was lost")
    found = response.get(channel.media.uploaded_id) if channel.media else None
    if 200 <= response.status < 300 and isinstance(found, str | int) and found != "":
        return Sent(str(found))
    named = f"upload: {response.status}"
    if response.status in (401, 403):
        return Failed(named, then="fix_account")
    wait = channel.send.wait(response) if channel.send else None
    return Retry(named, wait) if response.status == 429 or response.status >= 500 else Failed(named)
