"""Our copies of media: for readers with their credential, for providers under a signed address that ends."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.responses import Response, StreamingResponse

from services.common.auth import Principal
from services.common.errors import Problem, not_found
from services.common.media import SHA256, MediaLinks, MediaStore, Stored
from services.timeline.access import Access

# Shown in the page; everything else is only ever downloaded. No SVG and no HTML: they run.
SHOWN = re.compile(r"image/(jpeg|png|gif|webp|avif|bmp)|video/(mp4|webm|quicktime|3gpp)|audio/[a-z0-9.+-]+")
RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})")
ALONE = {
    "content-security-policy": "default-src 'none'; sandbox",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "accept-ranges": "bytes",
}


def routes(store: MediaStore, links: MediaLinks, access: Access) -> APIRouter:
    router = APIRouter()
    reading = Depends(access.requires("read", "agent"))

    @router.get("/v1/media/{sha256}", response_class=Response)
    async def media(
        sha256: str,
        range_: Annotated[str | None, Header(alias="range")] = None,
        principal: Principal = reading,
    ) -> Response:
        """A file of this tenant by its content hash. What a browser could run is sent as a download."""
        return await _file(store, principal.tenant, sha256, range_, "private, max-age=31536000, immutable")

    @router.get("/media/{tenant}/{sha256}", response_class=Response, include_in_schema=False)
    async def signed(
        tenant: str,
        sha256: str,
        until: str = "",
        signature: str = "",
        range_: Annotated[str | None, Header(alias="range")] = None,
    ) -> Response:
        """For a provider that fetches what we send. Without our signature, or after its time, there is nothing here."""
        if not links.valid(tenant, sha256, until, signature, datetime.now(UTC)):
            raise not_found("file")
        return await _file(store, tenant, sha256, range_, "private, no-store")

    return router


async def _file(store: MediaStore, tenant: str, sha256: str, asked: str | None, cache: str) -> Response:
    found = await store.find(tenant, sha256) if SHA256.fullmatch(sha256) else None
    if found is None:
        raise not_found("file")
    start, end = _range(asked, found)
    headers = {**ALONE, "cache-control": cache, "content-length": str(end - start), "etag": f'"{sha256}"'}
    if not SHOWN.fullmatch(found.media_type):
        headers["content-disposition"] = f'attachment; filename="{sha256[:12]}"'
    partial = asked is not None and (start, end) != (0, found.size)
    if partial:
        headers["content-range"] = f"bytes {start}-{end - 1}/{found.size}"

    async def body() -> AsyncIterator[bytes]:
        left = end - start
        async for chunk in store.read(tenant, sha256, start=start):
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return

    return StreamingResponse(body(), 206 if partial else 200, headers, media_type=found.media_type)


def _range(asked: str | None, found: Stored) -> tuple[int, int]:
    """First byte and the one after the last. Players ask for one range to seek; of several, the whole file is sent."""
    match = RANGE.fullmatch(asked or "")
    if match is None:
        return 0, found.size
    start = int(match[1])
    end = min(int(match[2]) + 1 if match[2] else found.size, found.size)
    if start >= end:
        raise Problem(416, "range_not_satisfiable", f"The file has {found.size} bytes.")
    return start, end
