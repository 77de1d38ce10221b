"""An answer of which only the head has come. Knows no API, and opens no connection."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType

from harness import BackendError
from harness_http.answers import Answer
from harness_http.transfers import Transfer, TransferError


class Arriving:
    """An answer whose body is still to come. `async with` gives the connection back."""

    def __init__(
        self,
        transfer: Transfer,
        *,
        lost: Callable[[TransferError], BackendError],
        leave: Callable[[Transfer], None],
        start: float,
    ) -> None:
        self._transfer = transfer
        self._lost = lost
        self._leave = leave
        self._start = start

    async def __aenter__(self) -> Arriving:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave(self._transfer)

    @property
    def is_success(self) -> bool:
        """Whether the server says that it does what was asked."""
        return 200 <= self._transfer.status < 300

    @property
    def is_events(self) -> bool:
        """Whether the body is a stream of events."""
        return "event-stream" in self._transfer.headers.get("content-type", "")

    @property
    def since_s(self) -> float:
        """Seconds since the request was made."""
        return time.perf_counter() - self._start

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises BackendError where it breaks off."""
        try:
            async for piece in self._transfer.pieces():
                yield piece
        except TransferError as exc:
            raise self._lost(exc) from None

    async def whole(self) -> Answer:
        """Return the answer with the rest of its body. Raises BackendError."""
        try:
            data = await self._transfer.whole()
        except TransferError as exc:
            raise self._lost(exc) from None
        return Answer(
            status=self._transfer.status,
            latency_s=self.since_s,
            headers=self._transfer.headers,
            body=data,
        )
