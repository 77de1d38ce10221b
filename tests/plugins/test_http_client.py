"""The client that all HTTP backends share: TLS, proxies, time-outs, and what it keeps open."""

from __future__ import annotations

import asyncio
import base64
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb
from urllib.parse import unquote

import pytest
from harness_http import client
from harness_http.addresses import parse_place
from harness_http.client import Client
from harness_http.keys import Keys, read_key
from harness_http.proxies import proxy_of

from harness import BackendError, UsageError
from tests.plugins.certificates import certified
from tests.plugins.loopback import Answer, Loopback, Seen, loopback

KEY = "key-S3NTINEL-of-the-test"
PASSWORD = "pw-S3NTINEL/0123456789"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def made(url: str, *, timeout_s: float = 5.0, auth: Keys | None = None) -> Client:
    place = parse_place(url, example="http://localhost:8000/v1")
    return Client(place, auth=auth or Keys([]), timeout_s=timeout_s)


def sent(url: str, body: bytes = b"{}", *, asked: Client | None = None) -> bytes:
    return asyncio.run((asked or made(url)).send("POST", url, body)).body


def failure(url: str, asked: Client | None = None) -> BackendError:
    with pytest.raises(BackendError) as caught:
        sent(url, asked=asked)
    return caught.value


# ---------------------------------------------------------------- certificates


@dataclass(frozen=True)
class Secured:
    """A server by https, and the certificate that it shows."""

    url: str
    certificate: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    certificate, context = certified(tmp_path_factory.mktemp("tls"))
    with loopback(tls=context) as served:
        served.answer = lambda _: Answer(body={"a": 1})
        yield Secured(url=served.base_url, certificate=certificate)


def test_a_certificate_that_nobody_signed_is_refused_for_good(secured: Secured) -> None:
    found = failure(secured.url)
    assert "certificate is not trusted" in str(found)
    assert "Set SSL_CERT_FILE" in str(found)
    assert not found.is_retryable


def test_a_certificate_named_by_the_environment_is_trusted(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.certificate))
    assert sent(secured.url) == b'{"a": 1}'


def test_plain_http_loads_no_certificates(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_trusted", lambda: pytest.fail("loaded"))
    assert sent(server.base_url)


# ---------------------------------------------------------------- proxies


def test_a_public_host_is_asked_by_the_environments_proxy_and_a_private_one_is_not(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback() as proxy:
        at = proxy.base_url.removesuffix("/v1").removeprefix("http://")
        monkeypatch.setenv("HTTP_PROXY", f"http://me:{PASSWORD.replace('/', '%2F')}@{at}")
        sent(server.base_url)
        assert proxy.seen == []
        sent("http://models.example.com/v1")
    [seen] = proxy.seen
    assert seen.path == "http://models.example.com/v1"
    who = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert seen.headers["Proxy-Authorization"] == f"Basic {who}"
    assert "Authorization" not in seen.headers


@pytest.mark.parametrize("password", ["a@b", "a b", "\u00e9", "%C3%A9", "a%2Fb"])
def test_any_sign_may_stand_in_a_proxys_password(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    with loopback() as proxy:
        at = proxy.base_url.removesuffix("/v1").removeprefix("http://")
        monkeypatch.setenv("HTTP_PROXY", f"http://me:{password}@{at}")
        sent("http://models.example.com/v1")
    _, who = proxy.seen[0].headers["Proxy-Authorization"].split()
    assert base64.b64decode(who).decode() == f"me:{unquote(password)}"


@pytest.mark.parametrize(
    ("proxy", "port"), [("http://me:p@h", 80), ("h", 80), ("https://h", 443), ("http://[::1]", 80)]
)
def test_a_proxy_without_a_port_listens_at_its_schemes(
    monkeypatch: pytest.MonkeyPatch, proxy: str, port: int
) -> None:
    """libcurl's own is 1080."""
    monkeypatch.setenv("HTTP_PROXY", proxy)
    assert (proxy_of("http://models.example.com/v1") or "").endswith(f":{port}")


def test_a_proxy_asked_by_https_is_trusted_as_a_server_is(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", secured.url)
    assert "certificate is not trusted" in str(failure("http://models.example.com/v1"))
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.certificate))
    assert sent("http://models.example.com/v1") == b'{"a": 1}'


def test_a_proxy_that_no_name_server_knows_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{PASSWORD[:9]}@proxy.invalid:1")
    found = str(failure("http://models.example.com/v1"))
    assert "cannot connect to the proxy before http://models.example.com" in found
    assert PASSWORD[:9] not in found


def test_a_host_named_by_no_proxy_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.base_url)
        monkeypatch.setenv("NO_PROXY", "example.invalid")
        assert "cannot connect to http://models.example.invalid" in str(
            failure("http://models.example.invalid/v1")
        )
        assert proxy.seen == []


def test_a_proxy_that_refuses_or_is_not_there_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = "https://models.example.com/v1"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        at = f"me:{PASSWORD[:9]}@127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", f"http://{at}")

        async def refused() -> None:
            listener.setblocking(False)
            asked = asyncio.create_task(made(url).send("POST", url, b"{}"))
            accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
            with closing(accepted):
                head = await asyncio.get_running_loop().sock_recv(accepted, 4096)
                assert head.startswith(b"CONNECT models.example.com:443")
                accepted.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
                await asked

        with pytest.raises(BackendError, match=r"proxy before .* answered HTTP 407") as caught:
            asyncio.run(refused())
    assert not caught.value.is_retryable
    gone = failure(url)
    assert "cannot connect to the proxy before https://models.example.com" in str(gone)
    assert PASSWORD[:9] not in str(gone) + str(caught.value)


@pytest.mark.parametrize(
    "proxy",
    [f"socks5://me:{PASSWORD}@h:1", "http://", "http://h:port", f"http://me:{PASSWORD[:9]}@h h:1"],
)
def test_a_proxy_of_another_kind_is_a_usage_error_that_shows_no_password(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.setenv("THE_KEY", KEY)
    url = "https://models.example.com/v1"
    keys = Keys([read_key("THE_KEY", header="Authorization", prefix="Bearer ")])
    with pytest.raises(UsageError, match=r"NO_PROXY=models\.example\.com") as caught:
        sent(url, asked=made(url, auth=keys))
    assert PASSWORD[:9] not in str(caught.value)
    frames = [frame for frame, _ in walk_tb(caught.tb)]
    ours = [frame for frame in frames if "harness_http" in frame.f_code.co_filename]
    assert len(ours) > 2
    shown = repr([frame.f_locals for frame in ours])  # as --showlocals does
    assert PASSWORD[:9] not in shown
    assert KEY not in shown


# ---------------------------------------------------------------- connections


def test_a_connection_that_lay_idle_too_long_is_not_used_again(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs up meanwhile would answer nothing."""
    monkeypatch.setattr(client, "KEEPALIVE_S", 1)
    asked = made(server.base_url)

    async def with_pauses() -> None:
        for pause in (0.0, 0.0, 2.1):
            await asyncio.sleep(pause)
            await asked.send("POST", server.base_url, b"{}")

    asyncio.run(with_pauses())
    first, second, third = (seen.port for seen in server.seen)
    assert first == second != third


@pytest.mark.parametrize("timeout_s", [0.05, 5.0])
def test_a_server_that_takes_no_connection_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch, timeout_s: float
) -> None:
    monkeypatch.setattr(client, "CONNECT_TIMEOUT_S", 0.3)
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.socket()))
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # fill its queue; the system answers no more
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        time.sleep(0.1)  # until the first of them stands in it
        start = time.perf_counter()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        found = failure(url, made(url, timeout_s=timeout_s))
    assert time.perf_counter() - start < 3
    assert "no answer. Is the server up?" in str(found)
    assert found.is_retryable


def test_a_loop_that_ends_while_answers_are_on_the_way_leaves_nothing_open(
    server: Loopback,
) -> None:
    """-W error makes a socket or a session that was left open a failure."""

    def slowly(_: Seen) -> Answer:
        time.sleep(0.2)
        return Answer(body={})

    server.answer = slowly
    asked = made(server.base_url)

    async def given_up() -> None:
        tasks = [asyncio.create_task(asked.send("POST", server.base_url, b"{}")) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks)

    asyncio.run(given_up())
    assert asked._loops == {}
    server.answer = lambda _: Answer(body={"a": 1})
    assert sent(server.base_url, asked=asked) == b'{"a": 1}'


def test_a_process_that_may_open_no_more_says_so() -> None:
    """libcurl says only that it could not connect."""
    resource = pytest.importorskip("resource")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"  # and nobody listens
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def refused() -> str:
        asked = made(url)
        with pytest.raises(BackendError, match="Connection refused"):
            await asked.send("POST", url, b"{}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            with pytest.raises(BackendError) as caught:
                await asked.send("POST", url, b"{}")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        return str(caught.value)

    assert "Too many open files" in asyncio.run(refused())


def test_cookies_of_one_reply_are_not_sent_with_the_next(server: Loopback) -> None:
    server.answer = lambda _: Answer(body={}, headers={"Set-Cookie": "session=1; Path=/"})
    asked = made(server.base_url)

    async def twice() -> None:
        for _ in range(2):
            await asked.send("POST", server.base_url, b"{}")

    asyncio.run(twice())
    assert not any("Cookie" in seen.headers for seen in server.seen)


# ---------------------------------------------------------------- what is sent and read


def test_a_body_of_millions_of_characters_goes_and_comes(server: Loopback) -> None:
    server.answer = lambda seen: Answer(body=seen.body)
    text = b'"' + b"x" * 3_000_000 + b'"'
    assert sent(server.base_url, text) == text


@pytest.mark.parametrize(
    ("path", "arrives"),
    [
        ("/a%3A0/b", "/a%3A0/b"),
        ("/a b/ü?v=2026-10-21&x", "/a%20b/%C3%BC?v=2026-10-21&x"),
        ("", "/"),
    ],
)
def test_a_path_arrives_as_it_was_written(server: Loopback, path: str, arrives: str) -> None:
    asyncio.run(made(server.base_url).send("GET", server.base_url.removesuffix("/v1") + path))
    assert server.seen[0].path == arrives


def test_a_header_that_cannot_be_sent_is_an_error_of_the_request_alone(server: Loopback) -> None:
    place = parse_place(server.base_url, example="")
    asked = Client(place, auth=Keys([]), timeout_s=1.0, headers={"X-Tenant": "a\r\nX-Evil: 1"})
    found = failure(server.base_url, asked)
    assert "cannot be sent" in str(found)
    assert not found.is_retryable
    assert server.seen == []


def test_a_header_of_many_kilobytes_is_read(server: Loopback) -> None:
    server.answer = lambda _: Answer(body={}, headers={"Content-Security-Policy": "x" * 20_000})
    assert sent(server.base_url) == b"{}"


def test_the_last_of_headers_that_differ_in_capitals_is_sent(server: Loopback) -> None:
    place = parse_place(server.base_url, example="")
    given = {"content-type": "application/x-ndjson", "X-Empty": " "}
    asyncio.run(
        Client(place, auth=Keys([]), timeout_s=1.0, headers=given).send("POST", place.base, b"{}")
    )
    found = {k: v for k, v in server.seen[0].headers.items() if k[0] not in "HAU"}
    assert found == {"content-type": "application/x-ndjson", "X-Empty": "", "Content-Length": "2"}


@pytest.mark.parametrize(("method", "length"), [("POST", "0"), ("PUT", "0"), ("GET", None)])
def test_a_request_without_a_body_says_so_where_servers_ask_for_it(
    server: Loopback, method: str, length: str | None
) -> None:
    asyncio.run(made(server.base_url).send(method, server.base_url))
    assert server.seen[0].headers.get("Content-Length") == length
    assert server.seen[0].method == method


def test_a_request_of_another_thread_does_not_change_the_headers_of_this(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = made("http://localhost:1/v1")
    encoded = client._encoded

    def meanwhile(url: str) -> str:
        monkeypatch.setattr(client, "_encoded", encoded)
        asked._options("POST", url, b"{}", "text/of-the-other")
        return encoded(url)

    monkeypatch.setattr(client, "_encoded", meanwhile)
    lines = asked._options("POST", "http://localhost:1/v1", b"{}")[client.pycurl.HTTPHEADER]
    assert b"Content-Type: application/json" in lines


def test_keys_go_out_in_their_headers(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE", "1-of-the-test")
    monkeypatch.setenv("TWO", "2-of-the-test")
    keys = Keys([read_key(n, header=f"X-{n}", prefix="k ") for n in ("ONE", "TWO", "NONE")])
    sent(server.base_url, asked=made(server.base_url, auth=keys))
    found = {k: v for k, v in server.seen[0].headers.items() if k.startswith("X-")}
    assert found == {"X-ONE": "k 1-of-the-test", "X-TWO": "k 2-of-the-test"}


@pytest.mark.parametrize("host", ["256.1.1.1", "exa mple", "a|b", "b\u00fccher..\u2024"])
def test_a_host_that_is_none_is_refused_when_it_is_named(host: str) -> None:
    with pytest.raises(UsageError, match="base URL"):
        parse_place(f"http://{host}/v1", example="")


def test_a_host_in_another_script_is_sent_as_the_net_writes_it() -> None:
    assert str(client._encoded("https://b\u00fccher.example/v1")) == (
        "https://xn--bcher-kva.example/v1"
    )
