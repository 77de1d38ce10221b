"""Pictures of rows: found beside the data, and what their first bytes tell. Knows no terminal."""

from __future__ import annotations

import struct
from pathlib import Path

from harness.engine.images import LARGEST_MB


def picture_within(folder: Path | None, name: str) -> bytes | None:
    """Return a file below `folder`; None where it is elsewhere, too large, or no file.

    A data set may come from a stranger: it shall not choose what of this machine lands in a page.
    """
    if folder is None:
        return None
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            return None
        return path.read_bytes() if path.stat().st_size <= LARGEST_MB * 1_000_000 else None
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None


def size_of(content: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels, as the head of a PNG, GIF, JPEG or WebP tells them.

    Source: PNG (W3C) 11.2.2 IHDR; GIF89a 18; JPEG, ITU-T T.81 B.2.2 (frame header); WebP, RFC 9649.
    """
    try:
        if content.startswith(b"\x89PNG"):
            return struct.unpack(">II", content[16:24])
        if content.startswith(b"GIF8"):
            return struct.unpack("<HH", content[6:10])
        if content[8:12] == b"WEBP":
            return _webp(content)
        at = 2
        while at + 9 < len(content) and content[at] == 0xFF:
            mark = content[at + 1]
            if 0xC0 <= mark <= 0xCF and mark not in {0xC4, 0xC8, 0xCC}:
                height, width = struct.unpack(">HH", content[at + 5 : at + 9])
                return width, height
            at += 2 + struct.unpack(">H", content[at + 2 : at + 4])[0]
    except struct.error:
        pass
    return None


def _webp(content: bytes) -> tuple[int, int] | None:
    if content[12:16] == b"VP8X":
        return (
            1 + int.from_bytes(content[24:27], "little"),
            1 + int.from_bytes(content[27:30], "little"),
        )
    if content[12:16] == b"VP8 ":
        width, height = struct.unpack("<HH", content[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if content[12:16] == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None
