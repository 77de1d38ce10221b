"""The one HTTP client of these plugins: sends, and keeps connections open. Knows no API.

It is aiohttp's, because httpx took four times its CPU for the same requests (2.0 s against 0.5 for
1,000 with 32 in flight, as `make bench` measures it). Cookies are not kept and redirects not
followed: a reply must not hang on the replies before it, nor a key go where nobody sent it.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from harness import BackendError
from harness_http import failures
from harness_http.answers import Answer
from harness_http.arriving import FAILURES, Arriving
from harness_http.keys import Scrubs
from harness_http.proxies import proxy_of

CONNECT_TIMEOUT_S = 10.0  # of name, connection and handshake together
KEEPALIVE_S = 4.0  # below the 5 s after which uvicorn hangs up
JSON = "application/json"
_LARGE = 1_000_000  # above this, bytes at once would hold up the loop, and aiohttp says so
_LONGEST_HEADER = 65_536
_AS_IT_IS = "/%:@!$&'()*+,;=~?"


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
    """The session of one loop, and what closes it when the loop ends."""

    session: aiohttp.ClientSession
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
            async with await self._request(method, url, body, content_type) as response:
                data = await response.read()
        except FAILURES as exc:
            return self._lost(exc)
        latency_s = time.perf_counter() - start
        return Answer(
            status=response.status, latency_s=latency_s, headers=response.headers, body=data
        )

    async def _opened(self, method: str, url: str, body: bytes) -> Arriving | BackendError:
        start = time.perf_counter()
        try:
            response = await self._request(method, url, body)
        except FAILURES as exc:
            return self._lost(exc)
        return Arriving(response, lost=self._lost, start=start)

    async def _request(
        self, method: str, url: str, body: bytes, content_type: str | None = None
    ) -> aiohttp.ClientResponse:
        session = await self._session()
        kind = {"Content-Type": content_type} if content_type else {}
        return await session.request(
            method,
            _encoded(url),
            data=io.BytesIO(body) if len(body) > _LARGE else body or None,
            headers={**kind, **self._auth.headers(method, url, body)},
            allow_redirects=False,
            proxy=self._proxy,
        )

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        opened = self._loops.get(loop)
        if opened is None:
            session = self._make_session()
            opened = self._loops[loop] = _Open(session, self._closes(loop, session))
            # asyncio.run finishes every open async generator before its loop ends, so that
            # sockets are closed in the loop that opened them, even where nobody calls close()
            await anext(opened.closer)
        return opened.session

    async def _closes(
        self, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession
    ) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._loops.pop(loop, None)
            await session.close()

    def _make_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,  # the engine's limiter is the limit
            keepalive_timeout=KEEPALIVE_S,
            resolver=aiohttp.ThreadedResolver(),  # the system's, whatever else is installed
            ssl=self._tls if self._server.is_encrypted else True,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=CONNECT_TIMEOUT_S, sock_read=self._timeout_s
            ),
            max_field_size=_LONGEST_HEADER,
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # loading the certificates takes time: once a client, and not at all for plain http
        context = ssl.create_default_context()
        paths = ssl.get_default_verify_paths()
        if not paths.cafile and not paths.capath:  # a Python that found no store of the system
            import certifi

            context.load_verify_locations(certifi.where())
        context.set_alpn_protocols(["http/1.1"])
        return context

    @cached_property
    def _proxy(self) -> URL | None:
        return None if self._server.is_private else proxy_of(self._server.base)

    def _lost(self, exc: Exception) -> BackendError:
        return failures.of_connection(
            exc,
            base=self._server.base,
            key=self._auth,
            timeout_s=self._timeout_s,
            check=self._check,
        )


@lru_cache(maxsize=64)
def _encoded(url: str) -> URL:
    """The URL as it goes over the wire, with what is encoded in it left as it is.

    yarl would write `%3A` as `:`, which a signature of the path does not allow.
    """
    parts = urlsplit(url)
    path, query = (quote(part, safe=_AS_IT_IS) for part in (parts.path, parts.query))
    origin = URL.build(scheme=parts.scheme, host=parts.hostname or "", port=parts.port)
    return URL(f"{origin}{path or '/'}{'?' if query else ''}{query}", encoded=True)
