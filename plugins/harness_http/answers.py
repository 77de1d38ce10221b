"""What a server answered, once all of it came. Knows no client and no API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer. Its repr shows neither headers nor body, which may echo a key."""

    status: int
    latency_s: float
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        """Whether the server says that it did what was asked."""
        return 200 <= self.status < 300

    @property
    def is_redirect(self) -> bool:
        """Whether the server says that something else is to be asked."""
        return 300 <= self.status < 400

    @property
    def text(self) -> str:
        """The body as text; what is no UTF-8 shows as a replacement sign."""
        return self.body.decode("utf-8", "replace")
