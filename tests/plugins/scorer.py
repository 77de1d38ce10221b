"""A scorer on this machine: it notes what it is sent, and answers what a test wants."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.plugins.listening import listening


@dataclass(kw_only=True)
class Served:
    """What it was sent, and what it answers: JSON, or bytes as they are."""

    url: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answer: Any = field(default_factory=lambda: {"pass": True})
    status: int = 200
    wait_s: float = 0.0


@contextmanager
def scorer_listening() -> Iterator[Served]:
    one = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else the body waits 40 ms for an answer to the headers

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            one.seen.append(json.loads(body))
            one.headers.append(dict(self.headers))
            time.sleep(one.wait_s)
            said = one.answer if isinstance(one.answer, bytes) else json.dumps(one.answer).encode()
            self.send_response(one.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *args: Any) -> None:
            pass

    with listening(Handler) as base:
        one.url = f"{base}/score"
        yield one
