"""The loopback server as the Messages API: what it answers with, and where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.plugins.loopback import Answer, Loopback, Seen, loopback as plain_loopback

__all__ = ["Answer", "Loopback", "Seen", "loopback", "message"]


def message(*blocks: Mapping[str, Any], **given: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "served-model",
        "content": list(blocks),
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 7, "output_tokens": 3},
        **given,
    }


@contextmanager
def loopback() -> Iterator[Loopback]:
    """Serve a greeting on a free port of 127.0.0.1 until the block ends."""
    with plain_loopback(at="", body=message({"type": "text", "text": "hello"})) as served:
        yield served
