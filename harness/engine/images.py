"""Image files of cases as `data:` URLs. Knows nothing of prompts, models or pixels."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from harness.errors import TaskError
from harness.records import Case

LARGEST_MB = 20


def with_images(case: Case, fields: Sequence[str], *, folder: Path) -> Case:
    """Return `case` with the images that its inputs `fields` name, relative to `folder`.

    An input is a path, a list of paths, or null for none. Raises TaskError with the case's line.
    """
    urls = []
    for field in fields:
        if field not in case.inputs:
            raise TaskError(
                f"{case.line}: case {case.id!r} lacks the input {field!r}, which `images` names in "
                "task.toml. Write null where there is no image."
            )
        value = case.inputs[field]
        for name in value if isinstance(value, list) else [] if value is None else [value]:
            if not isinstance(name, str):
                raise TaskError(
                    f"{case.line}: inputs.{field}: {name!r} is not the path of an image"
                )
            try:
                urls.append(data_url(folder / name))
            except (OSError, ValueError) as exc:
                reason = getattr(exc, "strerror", None) or exc
                raise TaskError(f"{case.line}: inputs.{field}: {name}: {reason}") from exc
    return dataclasses.replace(case, images=tuple(urls))


def data_url(path: Path) -> str:
    """Return the image in `path` as a `data:` URL.

    Raises OSError where it cannot be read, ValueError where it is too large or no image.
    """
    if path.stat().st_size > LARGEST_MB * 1_000_000:
        raise ValueError(f"more than {LARGEST_MB} MB: make it smaller")
    content = path.read_bytes()
    kind = media_type(content)
    if kind is None:
        raise ValueError("not a PNG, JPEG, WebP or GIF image (told by its first bytes)")
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def media_type(content: bytes) -> str | None:
    """Return the media type that the first bytes of an image tell, or None."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    return None
