"""What a file is, read from its first bytes. What a sender or provider declares only refines it, and never to something that
a browser would run."""

from __future__ import annotations

UNKNOWN = "application/octet-stream"
HEAD_BYTES = 512

_BEGINS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"#!AMR", "audio/amr"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
)
# The brand that follows `ftyp` in an ISO base media file; others are video/mp4.
_BRANDS: dict[bytes, str] = {
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"avif": "image/avif",
    b"3gp4": "video/3gpp",
    b"3gp5": "video/3gpp",
}
_RIFF: dict[bytes, str] = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
# What a declared type may make of what was seen: containers say little about what is in them.
_OFFICE = "application/vnd."
_REFINES: dict[str, tuple[str, ...]] = {
    "application/zip": ("application/vnd.openxmlformats-", "application/vnd.oasis.", "application/epub+zip"),
    "application/x-ole-storage": (
        "application/msword",
        _OFFICE + "ms-excel",
        _OFFICE + "ms-powerpoint",
        _OFFICE + "ms-outlook",
    ),
    "audio/ogg": ("audio/opus", "video/ogg"),
    "video/webm": ("audio/webm", "video/x-matroska", "audio/x-matroska"),
    "video/mp4": ("audio/mp4", "video/3gpp", "audio/3gpp", "audio/aac"),
    "text/plain": ("text/csv", "text/vcard", "text/x-vcard", "text/calendar", "text/markdown", "application/json"),
}


def sniffed(head: bytes, declared: str | None = None) -> str:
    """The media type of a file that begins with `head`. HTML, SVG and scripts come out as plain text: shown as what they
    are, they would run in the reader's browser."""
    seen = _seen(head[:HEAD_BYTES])
    plain = (declared or "").partition(";")[0].strip().lower()
    return plain if any(plain.startswith(allowed) for allowed in _REFINES.get(seen, ())) else seen


def _seen(head: bytes) -> str:
    for begin, name in _BEGINS:
        if head.startswith(begin):
            return name
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], UNKNOWN)
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # a frame of MPEG audio without a tag before it
        return "audio/aac" if head[1] & 0xF6 == 0xF0 else "audio/mpeg"
    return "text/plain" if head and _is_text(head) else UNKNOWN


def _is_text(head: bytes) -> bool:
    """UTF-8 without control characters; the head may end inside a character."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode()
    return not any(ord(char) < 32 and char not in "\t\n\r\f" for char in text)
