"""The one HTTP client of these plugins: sends, and keeps connections open. Knows no API.

It is libcurl's, which takes a third of the CPU of the next for the same requests (measured in
docs/decisions/0017). Cookies are not kept and redirects not followed: a reply must not hang on the
replies before it, nor a key go where nobody sent it.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import pycurl

from harness import BackendError
from harness_http import failures
from harness_http.addresses import wire_host
from harness_http.answers import Answer
from harness_http.arriving import Arriving
from harness_http.keys import Scrubs
from harness_http.proxies import proxy_of
from harness_http.transfers import TransferError, Transfers

CONNECT_TIMEOUT_S = 10.0  # of name, connection and handshake together
KEEPALIVE_S = 4  # whole seconds; below the 5 after which uvicorn hangs up
JSON = "application/json"
_AS_IT_IS = "/%:@!$&'()*+,;=~?"
_SUPPRESS_CONNECT_HEADERS = 265  # of curl/curl.h; pycurl has no name for it
_UNSENDABLE = re.compile(r"[\r\n\0]")


class Server(Protocol):
    """Where is asked; `base` is what people are shown."""

    @property
    def base(self) -> str:
        """The address, without credentials."""
        ...

    @property
    def is_private(self) -> bool:
        """Whether it is this machine or its network, which no proxy is on the way to."""
        ...

    @property
    def is_encrypted(self) -> bool:
        """Whether it is asked by https."""
        ...


class Lets(Scrubs, Protocol):
    """Lets requests in, and takes what it lets them in with out of a text."""

    def headers(self, method: str, url: str, body: bytes) -> Mapping[str, str]:
        """Return the headers that let this request in."""
        ...


@dataclass(slots=True)
class _Open:
    """The connections of one loop, and what closes them when the loop ends."""

    transfers: Transfers
    closer: AsyncGenerator[None]


class Client:
    """Asks one server. Every failure is a BackendError, whose traceback holds no key.

    `timeout_s` is how long the server may say nothing; `check` tells people how to find out more.
    """

    def __init__(
        self,
        server: Server,
        *,
        auth: Lets,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
        check: str = "",
    ) -> None:
        self._server = server
        self._auth = auth
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": JSON, "User-Agent": "tuning-harness", **(headers or {})}
        self._lines: tuple[object, list[bytes]] = (None, [])
        self._check = check
        self._loops: dict[asyncio.AbstractEventLoop, _Open] = {}

    async def send(
        self, method: str, url: str, body: bytes = b"", *, content_type: str | None = None
    ) -> Answer:
        """Return the whole answer. Raises BackendError where none came."""
        outcome = await self._sent(method, url, body, content_type)
        if isinstance(outcome, BackendError):
            raise outcome  # from here: frames below hold the key, which --showlocals would print
        return outcome

    async def open(self, method: str, url: str, body: bytes = b"") -> Arriving:
        """Return an answer whose body is still to come; leave it by `async with`.

        Raises BackendError where none came.
        """
        outcome = await self._opened(method, url, body)
        if isinstance(outcome, BackendError):
            raise outcome
        return outcome

    def close(self) -> None:
        """Close what is open. A loop that is still running closes its own at its end."""
        for loop, opened in list(self._loops.items()):
            if loop.is_closed():
                del self._loops[loop]
            elif not loop.is_running():
                loop.run_until_complete(opened.closer.aclose())

    async def _sent(
        self, method: str, url: str, body: bytes, content_type: str | None = None
    ) -> Answer | BackendError:
        start = time.perf_counter()
        try:
            transfers = await self._transfers()
            transfer = transfers.start(self._options(method, url, body, content_type), body)
        except (ValueError, pycurl.error) as exc:
            return self._lost(ValueError(str(exc)))
        try:
            data = await transfer.whole()
        except TransferError as exc:
            return self._lost(exc)
        finally:
            transfers.leave(transfer)
        latency_s = time.perf_counter() - start
        return Answer(
            status=transfer.status, latency_s=latency_s, headers=transfer.headers, body=data
        )

    async def _opened(self, method: str, url: str, body: bytes) -> Arriving | BackendError:
        start = time.perf_counter()
        try:
            transfers = await self._transfers()
            transfer = transfers.start(self._options(method, url, body), body)
        except (ValueError, pycurl.error) as exc:
            return self._lost(ValueError(str(exc)))
        try:
            await transfer.head()
        except BaseException as exc:
            transfers.leave(transfer)
            if not isinstance(exc, TransferError):
                raise
            return self._lost(exc)
        return Arriving(transfer, lost=self._lost, leave=transfers.leave, start=start)

    def _options(
        self, method: str, url: str, body: bytes, content_type: str | None = None
    ) -> dict[int, Any]:
        """Return what this request has of its own. Raises ValueError where it cannot be sent."""
        more = self._auth.headers(method, url, body)
        given = (content_type, dict(more))
        before, lines = self._lines  # at once: another thread may replace them
        if given != before:  # mostly they are those of the request before
            lines = self._wire(content_type, more)
            self._lines = (given, lines)
        has_body = body or method != "GET"  # some servers refuse a POST that tells no length
        post = {pycurl.POST: True, pycurl.POSTFIELDSIZE_LARGE: len(body)}
        return {
            pycurl.URL: _encoded(url),
            pycurl.HTTPHEADER: lines,
            **(post if has_body else {pycurl.HTTPGET: True}),
            pycurl.CUSTOMREQUEST: method,
        }

    def _wire(self, content_type: str | None, more: Mapping[str, str]) -> list[bytes]:
        kind = {"Content-Type": content_type} if content_type else {}
        given = (*self._headers.items(), *kind.items(), *more.items())
        headers = {name.lower(): (name, value) for name, value in given}  # the last of each is sent
        lines = [f"{n}: {v}" if v.strip() else f"{n};" for n, v in headers.values()]
        if any(map(_UNSENDABLE.search, lines)):
            raise ValueError("a header holds a line break")
        # libcurl would ask for leave before it sends a megabyte
        return [line.encode() for line in (*lines, "Expect:")]

    async def _transfers(self) -> Transfers:
        loop = asyncio.get_running_loop()
        opened = self._loops.get(loop)
        if opened is None:
            transfers = Transfers(loop, make_handle=self._handle, timeout_s=self._timeout_s)
            opened = self._loops[loop] = _Open(transfers, self._closes(loop, transfers))
            # asyncio.run finishes every open async generator before its loop ends, so that
            # sockets are closed in the loop that opened them, even where nobody calls close()
            await anext(opened.closer)
        return opened.transfers

    async def _closes(
        self, loop: asyncio.AbstractEventLoop, transfers: Transfers
    ) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._loops.pop(loop, None)
            await transfers.close()

    def _handle(self) -> pycurl.Curl:
        """Return a handle with what is the same for every request. Raises UsageError."""
        handle = pycurl.Curl()
        options = {
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.PATH_AS_IS: True,
            pycurl.ACCEPT_ENCODING: "",  # all that it can unpack
            pycurl.NOSIGNAL: True,
            pycurl.CONNECTTIMEOUT_MS: int(1000 * CONNECT_TIMEOUT_S),
            pycurl.MAXAGE_CONN: KEEPALIVE_S,
            pycurl.PROXY: self._proxy or "",  # "" keeps libcurl from reading the environment
            _SUPPRESS_CONNECT_HEADERS: True,
        }
        if self._server.is_encrypted:
            options |= {pycurl.SSLVERSION: pycurl.SSLVERSION_TLSv1_2, **_trusted()}
        if self._proxy and self._proxy.startswith("https:"):
            names = {pycurl.CAINFO: pycurl.PROXY_CAINFO, pycurl.CAPATH: pycurl.PROXY_CAPATH}
            options |= {names[option]: path for option, path in _trusted().items()}
        for option, value in options.items():
            handle.setopt(option, value)
        return handle

    @cached_property
    def _proxy(self) -> str | None:
        return None if self._server.is_private else proxy_of(self._server.base)

    def _lost(self, exc: TransferError | ValueError) -> BackendError:
        return failures.of_connection(
            exc,
            base=self._server.base,
            key=self._auth,
            timeout_s=self._timeout_s,
            check=self._check,
            is_proxied=self._proxy is not None,
        )


def _trusted() -> dict[int, bytes]:
    """Return whose certificates are trusted: the environment's, the system's, else certifi's."""
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not paths.capath:  # a Python that found no store of the system
        import certifi

        return {pycurl.CAINFO: os.fsencode(certifi.where())}
    found = {pycurl.CAINFO: paths.cafile, pycurl.CAPATH: paths.capath}
    return {option: os.fsencode(path) for option, path in found.items() if path}


@lru_cache(maxsize=64)
def _encoded(url: str) -> str:
    """The URL as it goes over the wire, with what is encoded in it left as it is.

    A signature of the path does not allow that `%3A` is written as `:`, or the other way round.
    """
    parts = urlsplit(url)
    path, query = (quote(part, safe=_AS_IT_IS) for part in (parts.path, parts.query))
    host = wire_host(parts.hostname or "")
    port = f":{parts.port}" if parts.port else ""
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{port}{path or '/'}{'?' if query else ''}{query}"
