"""What libcurl is told and what it says: early heads, tunnels, idle connections, requests left."""

from __future__ import annotations

import asyncio
import gc
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from harness_http import transfers
from harness_http.addresses import Place, parse_place
from harness_http.client import Client
from harness_http.keys import Keys
from harness_http.transfers import Transfer

from harness import BackendError
from tests.plugins.certificates import certified
from tests.plugins.loopback import Answer, Loopback, Seen, loopback
from tests.plugins.raw_server import OK, PAUSE, raw


def place_of(url: str) -> Place:
    return parse_place(url, example="http://localhost:8000/v1")


def made(url: str, *, timeout_s: float = 5.0) -> Client:
    return Client(place_of(url), auth=Keys([]), timeout_s=timeout_s)


async def streamed(asked: Client, url: str) -> tuple[bool, list[bytes]]:
    async with await asked.open("POST", url, b"{}") as arriving:
        return arriving.is_events, [piece async for piece in arriving.pieces()]


# ---------------------------------------------------------------- heads


@pytest.mark.parametrize(
    "early",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\nLink: </a>\r\n\r\n",
    ],
)
def test_a_head_before_the_head_is_not_the_answers(early: bytes) -> None:
    with raw(early + OK) as server:
        answer = asyncio.run(made(server.url).send("POST", server.url, b"{}"))
    assert (answer.status, answer.body) == (200, b"{}")
    assert dict(answer.headers) == {"content-length": "2"}


def test_a_stream_begins_with_its_own_head() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n" + PAUSE
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 8\r\n\r\n"
    with raw(early + head + b"data: 1\n") as server:
        is_events, pieces = asyncio.run(streamed(made(server.url), server.url))
    assert is_events
    assert b"".join(pieces) == b"data: 1\n"


def test_a_header_that_comes_twice_has_both_values() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:2\r\nContent-Length: 2\r\n\r\n{}"
    with raw(head) as server:
        answer = asyncio.run(made(server.url).send("POST", server.url, b"{}"))
    assert answer.headers["x-a"] == "1, 2"


def test_a_body_that_comes_packed_is_unpacked(server: Loopback) -> None:
    body = gzip.compress(b'{"a": 1}')
    server.answer = lambda _: Answer(body=body, headers={"Content-Encoding": "gzip"})
    found = asyncio.run(made(server.base_url).send("POST", server.base_url, b"{}"))
    assert found.body == b'{"a": 1}'
    assert "gzip" in server.seen[0].headers["Accept-Encoding"]


def test_an_answer_that_unpacks_to_more_than_any_is_left(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "LONGEST_ANSWER", 1_000_000)
    packed = gzip.compress(b"x" * 2_000_000)
    server.answer = lambda _: Answer(body=packed, headers={"Content-Encoding": "gzip"})
    with pytest.raises(BackendError, match="more than 1,000,000 bytes") as caught:
        asyncio.run(made(server.base_url).send("POST", server.base_url, b"{}"))
    assert not caught.value.is_retryable


def test_an_answer_packed_in_an_unknown_way_is_not_asked_for_again(server: Loopback) -> None:
    server.answer = lambda _: Answer(body={}, headers={"Content-Encoding": "utf-8"})
    with pytest.raises(BackendError, match="packed its answer in a way") as caught:
        asyncio.run(made(server.base_url).send("POST", server.base_url, b"{}"))
    assert not caught.value.is_retryable


def test_a_header_whose_name_looks_like_a_status_is_a_header() -> None:
    with raw(b"HTTP/1.1 200 OK\r\nHTTP/x: a\r\nContent-Length: 2\r\n\r\n{}") as server:
        answer = asyncio.run(made(server.url).send("POST", server.url, b"{}"))
    assert (answer.status, answer.headers["http/x"]) == (200, "a")


def test_an_error_that_libcurl_has_no_words_for_has_its_number() -> None:
    head = b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\nContent-Length: 2\r\n\r\n{}"
    with raw(head) as server, pytest.raises(BackendError, match=r"was lost: .*\d"):
        asyncio.run(made(server.url).send("POST", server.url, b"{}"))


def test_nobody_is_asked_for_leave_before_a_long_body(server: Loopback) -> None:
    long = b'"' + b"x" * 2_000_000 + b'"'
    asyncio.run(made(server.base_url).send("POST", server.base_url, long))
    assert server.seen[0].raw == long
    assert "Expect" not in server.seen[0].headers


def test_what_is_no_http_is_an_answer_that_was_lost() -> None:
    with (
        raw(b"SSH-2.0-OpenSSH_9.2\r\n", hangs_up=True) as server,
        pytest.raises(BackendError, match="was lost") as caught,
    ):
        asyncio.run(made(server.url).send("POST", server.url, b"{}"))
    assert caught.value.is_retryable


def test_https_asked_of_a_server_without_it_says_so(server: Loopback) -> None:
    url = server.base_url.replace("http://", "https://")
    with pytest.raises(BackendError, match="Does it speak https"):
        asyncio.run(made(url).send("POST", url, b"{}"))


def test_the_path_of_a_certificate_may_hold_any_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "caf\u00e9"
    folder.mkdir()
    certificate, tls = certified(folder)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with loopback(tls=tls) as served:
        asked = made(served.base_url).send("POST", served.base_url, b"{}")
        assert asyncio.run(asked).is_success


# ---------------------------------------------------------------- connections


def test_a_server_that_hung_up_meanwhile_is_connected_to_anew() -> None:
    with raw(OK, hangs_up=True) as server:
        asked = made(server.url)

        async def twice() -> list[int]:
            found = []
            for _ in range(2):
                found.append((await asked.send("POST", server.url, b"{}")).status)
                await asyncio.sleep(0.1)
            return found

        assert asyncio.run(twice()) == [200, 200]
    assert [len(heard) for heard in server.heard] == [1, 1]


def test_a_request_is_sent_once_where_its_connection_breaks_under_it() -> None:
    """libcurl would send it again by itself, on a new connection, and nobody would know."""
    with raw(OK, PAUSE, hangs_up=True) as server:
        asked = made(server.url)

        async def twice() -> None:
            await asked.send("POST", server.url, b"{}")
            with pytest.raises(BackendError, match="the server hung up without") as caught:
                await asked.send("POST", server.url, b"{}")
            assert caught.value.is_retryable  # by the engine

        asyncio.run(twice())
    assert [len(heard) for heard in server.heard] == [2]


def test_who_gives_a_request_up_hangs_up_and_its_handle_is_used_again() -> None:
    with raw(b"") as server:
        asked = made(server.url)

        async def given_up() -> None:
            for _ in range(2):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(asked.send("POST", server.url, b"{}"), 0.1)
            [opened] = asked._loops.values()
            assert opened.transfers._running == {}
            assert len(opened.transfers._free) == 1

        asyncio.run(given_up())
        wait_until(lambda: [heard[1:] for heard in server.heard] == [[b""], [b""]])


def test_a_request_that_begins_as_another_is_given_up_is_answered() -> None:
    """A handle that is used again too soon would be taken for the one that was given up."""
    with raw(PAUSE + OK) as server:
        asked = made(server.url)

        async def in_one_turn() -> list[int]:
            found = []
            for _ in range(3):
                given_up = asyncio.create_task(asked.send("POST", server.url, b"{}"))
                await asyncio.sleep(0.02)
                given_up.cancel()
                coming = asked.send("POST", server.url, b"{}")
                found.append((await asyncio.wait_for(coming, 5)).status)
                await asyncio.wait([given_up])
                assert given_up.cancelled()
            return found

        assert asyncio.run(in_one_turn()) == [200] * 3


def test_what_was_sent_and_answered_is_not_kept_with_the_handle(server: Loopback) -> None:
    asked = made(server.base_url)

    async def kept() -> list[object]:
        await asked.send("POST", server.base_url, b"[1234567]")
        [opened] = asked._loops.values()
        [transfer] = [
            found
            for found in gc.get_referrers(*opened.transfers._free)
            if isinstance(found, Transfer)
        ]
        return [transfer._pieces, transfer._body.closed]

    assert asyncio.run(kept()) == [[], True]


def test_a_stream_that_is_left_before_its_end_hangs_up() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
    with raw(head) as server:

        async def first_alone() -> bytes:
            async with await made(server.url).open("POST", server.url, b"{}") as arriving:
                return await anext(arriving.pieces())

        assert asyncio.run(first_alone()) == b"data: 1\n\n"
        wait_until(lambda: server.heard[0][-1] == b"")


def test_a_server_that_dribbles_is_not_silent() -> None:
    """Each wait is below the limit, all of them together are above it."""
    with loopback() as server:
        pieces: Sequence[bytes | float] = [b'{"a":', 0.3, b" ", 0.3, b" ", 0.3, b"1}"]
        server.answer = lambda _: Answer(pieces=pieces)
        asked = made(server.base_url, timeout_s=0.6)
        answer = asyncio.run(asked.send("POST", server.base_url, b"{}"))
    assert answer.body == b'{"a":  1}'


def test_a_silence_is_measured_from_what_came_last() -> None:
    with loopback() as server:
        server.answer = lambda _: Answer(pieces=[b'{"a":', 0.4, b" ", 4.0, b"1}"])
        asked = made(server.base_url, timeout_s=1.0)
        start = time.perf_counter()
        with pytest.raises(BackendError, match=r"no answer from .* within 1 s") as caught:
            asyncio.run(asked.send("POST", server.base_url, b"{}"))
    assert caught.value.is_systemic
    assert 1.3 < time.perf_counter() - start < 2.3


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_silence_begins_when_the_connection_stands(tmp_path: Path, method: str) -> None:
    certificate, tls = certified(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            time.sleep(0.8)  # before the handshake
            with tls.wrap_socket(connection, server_side=True) as secured:
                secured.recv(65_536)
                time.sleep(0.6)
                secured.sendall(OK)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(certificate))
            answer = asyncio.run(made(url, timeout_s=1.0).send(method, url))
        thread.join(5)
    assert answer.status == 200


def test_a_server_that_takes_a_long_body_slowly_is_not_silent() -> None:
    length = 24_000_000  # more than the system keeps for a connection
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                taken = 0
                while taken < length:
                    taken += len(connection.recv(4_000_000, socket.MSG_WAITALL))
                    time.sleep(0.2 if taken < length - 8_000_000 else 0)
                connection.sendall(OK)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        start = time.perf_counter()
        answer = asyncio.run(made(url, timeout_s=0.6).send("POST", url, b"x" * length))
        thread.join(5)
    assert answer.status == 200
    assert time.perf_counter() - start > 0.6


# ---------------------------------------------------------------- a proxy's tunnel


@contextmanager
def tunnels() -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that lets everybody through: its address, and the heads that it was sent."""
    heads: list[bytes] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            head = connection.recv(65_536)
            heads.append(head)
            host, port = head.split()[1].decode().rsplit(":", 1)
            with socket.create_connection((host, int(port))) as server:
                connection.sendall(b"HTTP/1.1 200 Connection established\r\nRetry-After: 7\r\n\r\n")
                back = threading.Thread(target=pump, args=(server, connection), daemon=True)
                back.start()
                pump(connection, server)
                back.join(5)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads


def test_what_a_proxy_says_of_its_tunnel_is_not_the_servers_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, tls = certified(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with loopback(tls=tls) as served, tunnels() as (proxy, heads):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        served.answer = slow_events
        place = replace(place_of(served.base_url), is_private=False)  # else no proxy is asked
        asked = Client(place, auth=Keys([]), timeout_s=5.0)

        async def both() -> None:
            is_events, pieces = await streamed(asked, served.base_url)
            assert is_events
            assert b"".join(pieces) == b"data: 1\n\n"
            answer = await asked.send("POST", served.base_url, b"{}")
            assert "retry-after" not in answer.headers

        asyncio.run(both())
    assert len(heads) == 1  # both went through one tunnel
    assert heads[0].startswith(b"CONNECT 127.0.0.1:")
    assert b"Content-Type" not in heads[0]  # nor a key: the server's headers go through the tunnel


def slow_events(_: Seen) -> Answer:
    time.sleep(0.1)
    return Answer(pieces=[b"data: 1\n\n"], headers={"Content-Type": "text/event-stream"})


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)
