"""Where our copies of media are kept: a port, and its file system. A file is named by the SHA-256 of its content under its
tenant, so the same picture twice is one file, and nobody can ask for what they cannot name.

The mail door keeps whole mails here too, in an area of their own: an attachment's reference is `<sha256 of the mail>/<n>`.
What our own side has stored already (a chat upload, a file an agent attaches) has the reference `upload:<sha256>`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import re
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Literal, Protocol, TypeVar

from services.common.auth import NAME
from services.common.errors import Away
from services.common.media_types import HEAD_BYTES, sniffed
from services.common.settings import CommonSettings
from services.common.vault import DEMO_KEY

T = TypeVar("T")
Area = Literal["media", "mail"]
AREAS: tuple[Area, ...] = ("media", "mail")
CHUNK = 256 * 1024
SHA256 = re.compile(r"[0-9a-f]{64}")


class Oversized(ValueError):
    """The content is larger than the caller allows; nothing of it was kept."""


class Missing(LookupError):
    """There is no such file."""


class MediaAway(Away):
    """The store cannot write or read now: a full disk, a volume that is not there."""

    def __init__(self, why: str = "") -> None:
        super().__init__("media store", why)


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is kept. `media_type` was read from the content."""

    sha256: str
    size: int
    media_type: str


class MediaStore(Protocol):
    """Every method raises MediaAway for what is temporary."""

    async def put(
        self,
        tenant: str,
        content: bytes | AsyncIterable[bytes],
        *,
        max_bytes: int | None = None,
        declared: str | None = None,
        area: Area = "media",
    ) -> Stored:
        """Keep the content and say what it is. Raises Oversized. Must leave nothing behind when it raises."""

    async def find(self, tenant: str, sha256: str, *, declared: str | None = None, area: Area = "media") -> Stored | None:
        """What is kept under this hash."""

    def read(self, tenant: str, sha256: str, *, start: int = 0, area: Area = "media") -> AsyncIterator[bytes]:
        """The content from byte `start`, piece by piece. Raises Missing."""

    async def load(self, tenant: str, sha256: str, max_bytes: int, *, area: Area = "media") -> bytes:
        """The whole content. Raises Missing, and Oversized before reading it."""

    async def delete(self, tenant: str, sha256: str, *, area: Area = "media") -> bool:
        """Whether there was something to delete."""

    async def sweep(self, area: Area, older_than_s: float) -> int:
        """Delete what was stored, or stored again, longer ago; how many files went."""


class FileMediaStore:
    """`<root>/<tenant>/<area>/<first two characters>/<sha256>`. A file is written under another name, flushed to the disk and
    renamed, so what has its name is whole."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def start(self) -> None:
        """Raises MediaAway where the folder cannot be made or written."""
        await _off_loop(self._prepare)

    def _prepare(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._root):
            pass

    async def stop(self) -> None:
        pass

    async def put(
        self,
        tenant: str,
        content: bytes | AsyncIterable[bytes],
        *,
        max_bytes: int | None = None,
        declared: str | None = None,
        area: Area = "media",
    ) -> Stored:
        folder = self._folder(tenant, area)
        file = await _off_loop(_temporary, folder)
        digest, size, head, waiting = hashlib.sha256(), 0, b"", bytearray()
        try:
            async for chunk in _chunks(content):
                size += len(chunk)
                if max_bytes is not None and size > max_bytes:
                    raise Oversized(f"more than {max_bytes} bytes")
                if len(head) < HEAD_BYTES:
                    head += chunk[: HEAD_BYTES - len(head)]
                digest.update(chunk)
                waiting += chunk
                if len(waiting) >= CHUNK:
                    await _off_loop(file.write, bytes(waiting))
                    waiting.clear()
            sha256 = digest.hexdigest()
            await _off_loop(_finish, file, bytes(waiting), folder / sha256[:2] / sha256)
        finally:
            _discard(file)
        return Stored(sha256, size, sniffed(head, declared))

    async def find(self, tenant: str, sha256: str, *, declared: str | None = None, area: Area = "media") -> Stored | None:
        def look(path: Path) -> Stored | None:
            try:
                with path.open("rb") as file:
                    return Stored(sha256, os.fstat(file.fileno()).st_size, sniffed(file.read(HEAD_BYTES), declared))
            except FileNotFoundError:
                return None

        return await _off_loop(look, self._path(tenant, area, sha256))

    async def read(self, tenant: str, sha256: str, *, start: int = 0, area: Area = "media") -> AsyncIterator[bytes]:
        file = await _off_loop(_opened, self._path(tenant, area, sha256), start)
        try:
            while chunk := await _off_loop(file.read, CHUNK):
                yield chunk
        finally:
            file.close()

    async def load(self, tenant: str, sha256: str, max_bytes: int, *, area: Area = "media") -> bytes:
        def whole(path: Path) -> bytes:
            with _opened(path, 0) as file:
                if os.fstat(file.fileno()).st_size > max_bytes:
                    raise Oversized(f"more than {max_bytes} bytes")
                return file.read()

        return await _off_loop(whole, self._path(tenant, area, sha256))

    async def delete(self, tenant: str, sha256: str, *, area: Area = "media") -> bool:
        def unlink(path: Path) -> bool:
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            return True

        return await _off_loop(unlink, self._path(tenant, area, sha256))

    async def sweep(self, area: Area, older_than_s: float) -> int:
        def old(before: float) -> int:
            gone = 0
            for path in self._root.glob(f"*/{area}/*/*"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()
                        gone += 1
            return gone

        return await _off_loop(old, time.time() - older_than_s)

    def _folder(self, tenant: str, area: Area) -> Path:
        if not NAME.fullmatch(tenant):
            raise ValueError("not the name of a tenant")
        return self._root / tenant / area

    def _path(self, tenant: str, area: Area, sha256: str) -> Path:
        if not SHA256.fullmatch(sha256):
            raise Missing("not a SHA-256")
        return self._folder(tenant, area) / sha256[:2] / sha256


def _temporary(folder: Path) -> IO[bytes]:
    """A file beside where it will stand, so that renaming is one step of one file system."""
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.NamedTemporaryFile(dir=folder, prefix=".new-", delete=False)


def _discard(file: IO[bytes]) -> None:
    file.close()
    with suppress(FileNotFoundError):  # it was renamed
        Path(file.name).unlink()


def _finish(file: IO[bytes], rest: bytes, path: Path) -> None:
    file.write(rest)
    file.flush()
    os.fsync(file.fileno())
    path.parent.mkdir(parents=True, exist_ok=True)
    Path(file.name).replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # else the name may be gone after a power cut
    finally:
        os.close(folder)


def _opened(path: Path, start: int) -> IO[bytes]:
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise Missing(path.name) from error
    file.seek(start)
    return file


async def _chunks(content: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(content, bytes):
        yield content
    else:
        async for chunk in content:
            yield chunk


async def _off_loop(call: Callable[..., T], *args: object) -> T:
    """Run what touches the disk in a thread; a disk that is full or gone is temporary."""
    try:
        return await asyncio.to_thread(call, *args)
    except OSError as error:
        raise MediaAway(type(error).__name__) from error


# -- references and links ---------------------------------------------------------------------------------------------


def upload_ref(sha256: str) -> str:
    """How a part refers to a file that is in the store already."""
    return f"upload:{sha256}"


def uploaded(ref: str | None) -> str | None:
    """The hash, where `ref` names a file of ours."""
    kind, _, sha256 = (ref or "").partition(":")
    return sha256 if kind == "upload" and SHA256.fullmatch(sha256) else None


class MediaLinks:
    """Addresses under which a provider may fetch one file for a while: the timeline serves
    `/media/{tenant}/{sha256}?until=...&signature=...` and asks `valid`."""

    def __init__(self, settings: CommonSettings, base_url: str) -> None:
        master = settings.master_key
        key = base64.b64decode(master.get_secret_value()) if master else DEMO_KEY
        self._key = hmac.digest(key, b"media links", "sha256")
        self._base = base_url.rstrip("/")

    def url(self, tenant: str, sha256: str, now: datetime, valid_for: timedelta) -> str:
        until = int((now + valid_for).timestamp())
        return f"{self._base}/media/{tenant}/{sha256}?until={until}&signature={self._signature(tenant, sha256, until)}"

    def valid(self, tenant: str, sha256: str, until: str, signature: str, now: datetime) -> bool:
        """Whether we signed exactly this and its time is not over."""
        if not until.isdecimal() or len(until) > 12 or int(until) < now.timestamp():
            return False
        return hmac.compare_digest(self._signature(tenant, sha256, int(until)).encode(), signature.encode())

    def _signature(self, tenant: str, sha256: str, until: int) -> str:
        return hmac.digest(self._key, f"{tenant}\0{sha256}\0{until}".encode(), "sha256").hex()
