"""Requests on their way, as libcurl's transfers on an asyncio loop. Knows no server and no key."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from io import BytesIO
from typing import Any

import pycurl

LONGEST_ANSWER = 1_000_000_000  # bytes; a packed megabyte may hold as many
STALE_S = 0.05
"""A used connection that breaks so soon after a request was closed before it: libcurl sends it on
a new one. One that breaks later took the request along, and to ask again is the engine's."""
_STATUS = re.compile(rb"HTTP/\d\S* +(\d+)")
_KEPT = 512  # open connections; libcurl's own number falls as requests end


class TransferError(Exception):
    """A request that got no answer: libcurl's code (`pycurl.E_*`) and words.

    `tunnel_status` is what a proxy said that was asked for the way to the server, else 0;
    `os_error` the system's number, else 0.
    """

    def __init__(self, code: int, words: str, *, handle: pycurl.Curl) -> None:
        super().__init__(words or f"libcurl's error {code}")
        self.code = code
        self.tunnel_status = int(handle.getinfo(pycurl.HTTP_CONNECTCODE))
        self.os_error = int(handle.getinfo(pycurl.OS_ERRNO))


class SilenceError(TransferError):
    """A server that was reached, and then said nothing for as long as it may."""


class Transfer:
    """One request on its way, and what has come of its answer."""

    def __init__(
        self, handle: pycurl.Curl, *, body: bytes, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.handle = handle
        self.status = 0  # until one comes
        self.headers: dict[str, str] = {}  # names in lower case
        self.began_at = self.moved_at = loop.time()  # moved: when something last went or came
        self._loop = loop
        self._ended: asyncio.Future[None] = loop.create_future()
        self._changed: asyncio.Event | None = None  # where somebody reads as it comes
        self._body = BytesIO(body)
        self._pieces: list[bytes] = []
        self._length = 0  # of the answer's body, so far
        self._has_head = False
        handle.setopt(pycurl.READFUNCTION, self._give)
        handle.setopt(pycurl.SEEKFUNCTION, self._go_back)
        handle.setopt(pycurl.HEADERFUNCTION, self._take_line)
        handle.setopt(pycurl.WRITEFUNCTION, self._take)

    async def whole(self) -> bytes:
        """Return all of the body that nobody has read yet. Raises TransferError."""
        await self._ended
        taken, self._pieces = self._pieces, []  # the handle, and so this, is kept for the next
        return b"".join(taken)

    async def head(self) -> None:
        """Return once status and headers are known. Raises TransferError where they never are."""
        self._changed = asyncio.Event()
        while not self._has_head and not self._ended.done():
            await self._changed.wait()
            self._changed.clear()
        if not self._has_head:
            await self._ended

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, after `head`. Raises TransferError where it breaks off."""
        assert self._changed is not None
        while self._pieces or not self._ended.done():
            taken, self._pieces = self._pieces, []
            for piece in taken:
                yield piece
            if not taken:
                await self._changed.wait()
                self._changed.clear()
        await self._ended

    def end(self, error: TransferError | None = None) -> None:
        """Say that nothing more will come."""
        self._body.close()
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)
            self._ended.exception()  # who left before the end does not ask for it
        if self._changed is not None:
            self._changed.set()

    def _give(self, length: int) -> bytes:
        self.moved_at = self._loop.time()
        return self._body.read(length)

    def _go_back(self, offset: int, origin: int) -> int:
        if self._loop.time() - self.began_at > STALE_S:
            return pycurl.SEEKFUNC_FAIL
        self._body.seek(offset, origin)
        return pycurl.SEEKFUNC_OK

    def _take(self, piece: bytes) -> int:
        self.moved_at = self._loop.time()
        self._length += len(piece)
        if self._length > LONGEST_ANSWER:
            return 0  # not all of it: libcurl ends the transfer with E_WRITE_ERROR
        self._pieces.append(piece)
        if self._changed is not None:
            self._changed.set()
        return len(piece)

    def _take_line(self, line: bytes) -> None:
        self.moved_at = self._loop.time()
        if found := _STATUS.match(line):  # the headers before it were those of a 1xx
            self.headers.clear()
            self.status = int(found[1])
            return
        name, colon, value = line.decode("utf-8", "replace").partition(":")
        if colon:
            name, value = name.strip().lower(), value.strip()
            before = self.headers.get(name)
            self.headers[name] = value if before is None else f"{before}, {value}"
        elif self.status >= 200:
            self._has_head = True
            if self._changed is not None:
                self._changed.set()


class Transfers:
    """The requests of one loop, and the connections that they share.

    `make_handle` returns a handle with all that is the same for each request; `timeout_s` is how
    long a server that was reached may say nothing.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        make_handle: Callable[[], pycurl.Curl],
        timeout_s: float,
    ) -> None:
        self._loop = loop
        self._make_handle = make_handle
        self._timeout_s = timeout_s
        self._free = [make_handle()]  # what fails, fails here, where no frame holds a key
        self._running: dict[Transfer, tuple[asyncio.Future[pycurl.Curl], asyncio.TimerHandle]] = {}
        self._multi = pycurl.AsyncCurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, _KEPT)

    def start(self, options: Mapping[int, Any], body: bytes = b"") -> Transfer:
        """Send the request that `options` and `body` make. Whoever starts it must `leave` it."""
        handle = self._free.pop() if self._free else self._make_handle()
        for option, value in options.items():
            handle.setopt(option, value)
        transfer = Transfer(handle, body=body, loop=self._loop)
        future = self._multi.add_handle(handle)
        timer = self._loop.call_later(self._timeout_s, self._listen, transfer)
        self._running[transfer] = (future, timer)
        future.add_done_callback(lambda _: self._let_go(transfer))
        return transfer

    def leave(self, transfer: Transfer) -> None:
        """Take the request back, wherever it stands; its connection is lost if it had not ended."""
        self._end(transfer)

    async def close(self) -> None:
        """End what is on its way, and hang up."""
        for transfer in list(self._running):
            self._end(transfer)
        await self._multi.aclose()
        for handle in self._free:
            handle.close()
        self._free.clear()

    def _let_go(self, transfer: Transfer) -> None:
        # pycurl's own callback of the same future ran just before. A handle in use again by then,
        # because `leave` gave it back, would be taken for the one that ended, and never answer
        self._end(transfer)
        if self._multi.closed:
            transfer.handle.close()
        else:
            self._free.append(transfer.handle)

    def _end(self, transfer: Transfer, error: TransferError | None = None) -> None:
        if transfer not in self._running:
            return
        future, timer = self._running.pop(transfer)
        timer.cancel()
        if not future.done():
            self._multi.remove_handle(transfer.handle)
            words = "it was given up"
            error = error or TransferError(pycurl.E_OK, words, handle=transfer.handle)
        elif not future.cancelled() and (found := future.exception()):
            error = TransferError(*found.args, handle=transfer.handle)
        transfer.end(error)

    def _listen(self, transfer: Transfer) -> None:
        future, _ = self._running[transfer]
        if future.done():  # `_end` is about to be called
            return
        now, connected_s = self._loop.time(), transfer.handle.getinfo(pycurl.PRETRANSFER_TIME)
        until = max(transfer.moved_at, transfer.began_at + connected_s) + self._timeout_s
        if connected_s == 0:  # connecting has its own limit
            until = now + self._timeout_s
        if until > now:
            self._running[transfer] = (future, self._loop.call_at(until, self._listen, transfer))
        else:
            words = f"nothing came for {self._timeout_s:g} s"
            error = SilenceError(pycurl.E_OPERATION_TIMEDOUT, words, handle=transfer.handle)
            self._end(transfer, error)
