"""The media store: what has its name is whole, nothing is left of what failed, and types come from the content."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.media import FileMediaStore, MediaAway, MediaLinks, Missing, Oversized, upload_ref, uploaded
from services.common.media_types import sniffed
from services.common.settings import CommonSettings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 100


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for one in content:
        yield one


@pytest.fixture
async def store(tmp_path: Path) -> FileMediaStore:
    one = FileMediaStore(tmp_path / "media")
    await one.start()
    return one


async def test_what_is_put_is_read_back_under_its_hash(store: FileMediaStore) -> None:
    stored = await store.put("acme", pieces(PNG[:4], PNG[4:]), declared="text/html")

    assert (stored.sha256, stored.size, stored.media_type) == (hashlib.sha256(PNG).hexdigest(), len(PNG), "image/png")
    assert await store.load("acme", stored.sha256, 1000) == PNG
    assert b"".join([chunk async for chunk in store.read("acme", stored.sha256, start=4)]) == PNG[4:]
    assert await store.find("acme", stored.sha256) == stored


async def test_another_tenant_and_another_area_do_not_have_it(store: FileMediaStore) -> None:
    stored = await store.put("acme", PNG)

    assert await store.find("other", stored.sha256) is None
    assert await store.find("acme", stored.sha256, area="mail") is None
    with pytest.raises(Missing):
        await store.load("other", stored.sha256, 1000)


async def test_what_is_too_large_or_breaks_off_leaves_nothing(store: FileMediaStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield PNG
        raise ConnectionError

    with pytest.raises(Oversized):
        await store.put("acme", pieces(PNG, PNG), max_bytes=150)
    with pytest.raises(ConnectionError):
        await store.put("acme", broken())

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_the_same_content_twice_is_one_file_and_delete_takes_it_away(store: FileMediaStore, tmp_path: Path) -> None:
    first, second = await store.put("acme", PNG), await store.put("acme", PNG)

    assert first == second
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1
    assert await store.delete("acme", first.sha256)
    assert not await store.delete("acme", first.sha256)


async def test_a_sweep_takes_what_is_old_in_its_area_alone(store: FileMediaStore) -> None:
    mail, media = await store.put("acme", b"Subject: x\n\n", area="mail"), await store.put("acme", PNG)

    assert await store.sweep("mail", older_than_s=3600) == 0
    assert await store.sweep("mail", older_than_s=-1) == 1
    assert await store.find("acme", mail.sha256, area="mail") is None
    assert await store.find("acme", media.sha256)


async def test_a_tenant_that_is_a_path_and_a_hash_that_is_none_reach_no_file(store: FileMediaStore) -> None:
    with pytest.raises(ValueError, match="tenant"):
        await store.put("../acme", PNG)
    with pytest.raises(Missing):
        await store.load("acme", "../../secret", 10)


async def test_a_disk_that_cannot_be_written_is_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(MediaAway):
        await FileMediaStore(tmp_path / "file").start()


@pytest.mark.parametrize(
    ("head", "declared", "expected"),
    [
        (b"\xff\xd8\xff\xe0", "image/png", "image/jpeg"),
        (b"<html><script>", "text/html", "text/plain"),
        (b"<svg xmlns=", "image/svg+xml", "text/plain"),
        (b"a;b\n1;2", "text/csv", "text/csv"),
        (b"PK\x03\x04....", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", None),
        (b"PK\x03\x04....", "text/html", "application/zip"),
        (b"OggS\x00", "audio/ogg; codecs=opus", "audio/ogg"),
        (b"\x00\x00\x00\x18ftypmp42", "video/mp4", "video/mp4"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", None, "image/webp"),
        (b"\x00\x01\x02", "image/png", "application/octet-stream"),
        (b"", None, "application/octet-stream"),
        ("grüß dich ".encode()[:3], None, "text/plain"),
    ],
)
def test_the_type_is_read_from_the_content(head: bytes, declared: str | None, expected: str | None) -> None:
    assert sniffed(head, declared) == (expected or declared)


@given(st.binary(max_size=600), st.text(max_size=40))
def test_no_content_and_no_declaration_makes_a_type_that_a_browser_runs(head: bytes, declared: str) -> None:
    assert sniffed(head, declared) not in ("text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript")


def test_a_link_is_good_for_its_file_and_its_time_only() -> None:
    links = MediaLinks(CommonSettings(env="test"), "https://hilo.example/")
    sha = "a" * 64
    url = links.url("acme", sha, NOW, timedelta(hours=1))
    until, signature = url.partition("until=")[2].split("&signature=")

    assert url.startswith(f"https://hilo.example/media/acme/{sha}?")
    assert links.valid("acme", sha, until, signature, NOW)
    assert not links.valid("acme", sha, until, signature, NOW + timedelta(hours=2))
    assert not links.valid("acme", "b" * 64, until, signature, NOW)
    assert not links.valid("other", sha, until, signature, NOW)
    assert not links.valid("acme", sha, str(int(until) + 1), signature, NOW)
    assert not links.valid("acme", sha, "soon", "é", NOW)


def test_a_reference_to_our_own_file_is_told_from_a_provider_s() -> None:
    assert uploaded(upload_ref("a" * 64)) == "a" * 64
    assert uploaded("upload:../x") is None
    assert uploaded("AgACAgIAAxkBAAI") is None
    assert uploaded(None) is None
