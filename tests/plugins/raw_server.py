"""A server that writes the bytes that a test gives it, be they HTTP or not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PAUSE = b"<pause>"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(kw_only=True)
class Raw:
    """A server that writes bytes; `heard` has what each connection received, one piece a read."""

    url: str
    heard: list[list[bytes]] = field(default_factory=list)


@contextmanager
def raw(*answers: bytes, hangs_up: bool = False) -> Iterator[Raw]:
    """Answer the requests of each connection with `answers`, one by one; then hang up, or wait."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = Raw(url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1")

        def serve(connection: socket.socket, heard: list[bytes]) -> None:
            with connection, suppress(ConnectionError):  # the client went
                for answer in answers:
                    heard.append(connection.recv(65_536))
                    if not heard[-1]:  # the client went
                        return
                    early, pause, rest = answer.partition(PAUSE)
                    connection.sendall(early)
                    time.sleep(0.1 if pause else 0)
                    connection.sendall(rest)
                if not hangs_up:
                    heard.append(connection.recv(65_536))

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    served.heard.append([])
                    threading.Thread(
                        target=serve, args=(connection, served.heard[-1]), daemon=True
                    ).start()

        threading.Thread(target=accept, daemon=True).start()
        yield served
