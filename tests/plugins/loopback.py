"""A real HTTP server on this machine that speaks as much of the chat API as a test asks of it."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.plugins.listening import listening


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One request, as it came over the wire; `raw` is its body before it was parsed."""

    path: str
    headers: Mapping[str, str]
    body: Any
    raw: bytes = b""
    method: str = "POST"
    port: int = 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`pieces` are sent one by one, each as a chunk; a number is a pause in seconds. `is_cut` hangs
    up after them without an end.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Iterable[bytes | float] | None = None
    is_cut: bool = False

    @property
    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(kw_only=True)
class Loopback:
    """`answer` may be replaced at any time; `seen` grows."""

    base_url: str
    answer: Callable[[Seen], Answer]
    seen: list[Seen] = field(default_factory=list)


def completion(text: str | None = "hello", **message: Any) -> dict[str, Any]:
    return {
        "model": "served-model",
        "choices": [{"finish_reason": "stop", "message": {"content": text, **message}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }


@contextmanager
def loopback(
    *, tls: ssl.SSLContext | None = None, at: str = "/v1", body: Any = None
) -> Iterator[Loopback]:
    """Serve on a free port of 127.0.0.1 until the block ends, by https where `tls` is given.
    `body` is what is answered (default: a chat completion), `at` what the base URL ends in.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            is_json = self.headers["Content-Type"] == "application/json"
            seen = Seen(
                path=self.path,
                headers=dict(self.headers),
                body=json.loads(raw) if raw and is_json else raw or None,
                raw=raw,
                method=self.command,
                port=self.client_address[1],
            )
            served.seen.append(seen)
            answer = served.answer(seen)
            self.send_response(answer.status)
            if answer.pieces is None:
                self.send_header("Content-Length", str(len(answer.data)))
            else:
                self.send_header("Transfer-Encoding", "chunked")
            if "Content-Type" not in answer.headers:
                self.send_header("Content-Type", "application/json")
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if answer.pieces is None:
                self.wfile.write(answer.data)
                return
            for piece in answer.pieces:
                if isinstance(piece, bytes):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                else:
                    time.sleep(piece)
            if answer.is_cut:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        do_GET = do_PUT = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Handler, tls=tls) as address:
        said = Answer(body=body or completion())
        served = Loopback(base_url=f"{address}{at}", answer=lambda _: said)
        yield served
