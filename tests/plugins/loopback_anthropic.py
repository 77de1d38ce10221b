"""The loopback server with GET, and a message of the Messages API to answer with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.plugins.listening import listening
from tests.plugins.loopback import Answer

__all__ = ["Answer", "Loopback", "Seen", "loopback", "message"]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One request, as it came over the wire; `raw` is its body before it was parsed."""

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass(kw_only=True)
class Loopback:
    """`answer` may be replaced at any time; `seen` grows."""

    base_url: str
    answer: Callable[[Seen], Answer]
    seen: list[Seen] = field(default_factory=list)


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
    """Serve on a free port of 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen = Seen(method=self.command, path=self.path, headers=dict(self.headers), raw=raw)
            served.seen.append(seen)
            answer = served.answer(seen)
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.data)))
            if "Content-Type" not in answer.headers:
                self.send_header("Content-Type", "application/json")
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.data)

        do_GET = do_PUT = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Handler) as address:
        served = Loopback(
            base_url=address,
            answer=lambda _: Answer(body=message({"type": "text", "text": "hello"})),
        )
        yield served
