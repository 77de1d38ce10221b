"""A spool in a file without a name: it is gone when its process is, whatever happens.

Small ones stay in memory. Knows nothing of what is in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile, gettempdir

from harness.errors import StoreError

IN_MEMORY = 1 << 16
"""Bytes that need no file: those of some thousand rows."""


class FileSpool:
    """Bytes beside memory: `harness.core.spool.Spool`."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  open as long as this object lives

    def __del__(self) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        """Add to the end."""
        try:
            self._file.seek(0, os.SEEK_END)
            self._file.write(data)
        except OSError as exc:
            raise StoreError(
                f"no room for temporary files in {gettempdir()} ({exc.strerror or exc}): set "
                "TMPDIR to a folder with 150 bytes a row"
            ) from None

    def parts(self, step: int) -> Iterator[bytes]:
        """Yield all that was written, `step` bytes at a time."""
        self._file.seek(0)
        while part := self._file.read(step):
            yield part
