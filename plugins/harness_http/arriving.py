"""An answer of which only the head has come. Knows no API, and opens no connection."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType

import aiohttp

from harness import BackendError
from harness_http.answers import Answer

# ValueError: a header that cannot be sent, a URL that is none
FAILURES = (aiohttp.ClientError, OSError, ValueError)


class Arriving:
    """An answer whose body is still to come. `async with` gives the connection back."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        *,
        lost: Callable[[Exception], BackendError],
        start: float,
    ) -> None:
        self._response = response
        self._lost = lost
        self._start = start

    async def __aenter__(self) -> Arriving:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._response.release()

    @property
    def is_success(self) -> bool:
        """Whether the server says that it does what was asked."""
        return 200 <= self._response.status < 300

    @property
    def is_events(self) -> bool:
        """Whether the body is a stream of events."""
        return "event-stream" in self._response.headers.get("Content-Type", "")

    @property
    def since_s(self) -> float:
        """Seconds since the request was made."""
        return time.perf_counter() - self._start

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises BackendError where it breaks off."""
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except FAILURES as exc:
            raise self._lost(exc) from None

    async def whole(self) -> Answer:
        """Return the answer with the rest of its body. Raises BackendError."""
        try:
            data = await self._response.read()
        except FAILURES as exc:
            raise self._lost(exc) from None
        return Answer(
            status=self._response.status,
            latency_s=self.since_s,
            headers=self._response.headers,
            body=data,
        )
