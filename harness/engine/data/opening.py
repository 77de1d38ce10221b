"""Opens a file of rows as bytes: plain, gzip or zstandard. Knows nothing of what they say.

Memory stays flat whatever the file holds: nothing is read whole, and a line has a limit.
"""

from __future__ import annotations

import gzip
import io
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from harness.errors import TaskError

UTF8_BOM = b"\xef\xbb\xbf"
BOMS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
PACKED_STEP = 1024
"""Packed bytes that are unpacked at a time: zstandard makes up to 32 KB of each, in a bomb."""


class Opened:
    """A file that is being read. `file` gives its bytes, unpacked."""

    def __init__(self, path: Path) -> None:
        """Raises TaskError for what is no readable, filled file."""
        self.path = path
        self.shown = shown(path)
        self.bytes_total = checked(path)
        try:
            self._raw = path.open("rb", buffering=0)
        except OSError as exc:
            raise TaskError(f"{self.shown}: cannot be read ({exc.strerror or exc})") from None
        start = self._raw.read(4)
        self._raw.seek(0)
        self.packing = ""
        self._unpacked: _Counted | None = None
        self.file: BinaryIO = io.BufferedReader(self._raw, 1 << 18)
        if start.startswith(GZIP):
            self.packing = "gzip"
            self._unpack(gzip.GzipFile(fileobj=self.file, mode="rb").read1)
        elif start.startswith(ZSTD):
            self.packing = "zstandard"
            self._unpack(_Zstandard(self.file).read)

    def _unpack(self, read: Callable[[int], bytes | None]) -> None:
        self._unpacked = _Counted(read)
        self.file = io.BufferedReader(self._unpacked, 1 << 18)

    @property
    def place(self) -> str:
        """The name of the file and, of a packed one, the line to which it could be unpacked."""
        return f"{self.shown}:{self._unpacked.line}" if self._unpacked else self.shown

    @property
    def bytes_read(self) -> int:
        """How far into the file on disk the reader is."""
        return self._raw.tell() if not self._raw.closed else self.bytes_total

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        self._raw.close()


def shown(path: Path) -> str:
    """Return a path as people would type it: errors name no folder of this machine."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def checked(path: Path) -> int:
    """Return the size in bytes of a regular file. Raises TaskError for anything else."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise TaskError(f"{shown(path)}: no such file") from None
    except (OSError, ValueError) as exc:
        raise TaskError(f"{shown(path)}: cannot be read ({exc})") from None
    if stat.S_ISDIR(found.st_mode):
        raise TaskError(f"{shown(path)}: a folder that holds no data set: name a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise TaskError(
            f"{shown(path)}: no file but a pipe or a device, which can be read only once. "
            "Save what comes from it to a file first"
        )
    if found.st_size == 0:
        raise TaskError(f"{shown(path)}:1: the file is empty")
    return found.st_size


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a file for the time of a `with`. What breaks while it is read is a TaskError."""
    source = Opened(path)
    try:
        with broken_files(source):
            yield source
    finally:
        source.close()


BROKEN_ZIP = (zipfile.BadZipFile, NotImplementedError)  # the latter: a packing that nobody knows


@contextmanager
def broken_files(source: Opened | str) -> Iterator[None]:
    """Turn what a damaged archive raises into a TaskError that says where and what to do."""
    import zstandard

    def place() -> str:
        return source if isinstance(source, str) else source.place

    try:
        yield
    except EOFError:
        raise TaskError(
            f"{place()}: the gzip file ends too early: it was cut off; copy it again"
        ) from None
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError, *BROKEN_ZIP) as exc:
        raise TaskError(f"{place()}: the packed file is damaged ({exc}): copy it again") from None
    except OSError as exc:
        raise TaskError(f"{place()}: cannot be read ({exc.strerror or exc})") from None


class _Counted(io.RawIOBase):
    """Hands on what is unpacked. `line` is the one that it has come to."""

    def __init__(self, read: Callable[[int], bytes | None]) -> None:
        self._read, self.line = read, 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer))
        found = self._read(len(view)) or b""
        view[: len(found)] = found
        self.line += found.count(b"\n")
        return len(found)


class _Zstandard(io.RawIOBase):
    """Unpacks frames. zstandard's own reader is silent where a file was cut off; this is not."""

    def __init__(self, packed: BinaryIO) -> None:
        import zstandard

        self._new = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj
        self._packed, self._frame = packed, self._new()
        self._ready, self._is_begun = memoryview(b""), False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast(bytearray, buffer))
        while not self._ready:
            if not self._more():
                return 0
        size = min(len(target), len(self._ready))
        target[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _more(self) -> bool:
        import zstandard

        packed = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame, self._is_begun = self._new(), False
        packed = packed or self._packed.read(PACKED_STEP)
        if not packed:
            if self._is_begun:
                raise zstandard.ZstdError("it ends too early: it was cut off")
            return False
        self._is_begun = True
        self._ready = memoryview(self._frame.decompress(packed))
        return True
