"""What the processes of one command know of each other (`parent`). Knows no eval.

An eval that takes its process with it says nothing any more. So the process says beforehand what is
under way, in memory that it shares with its parent.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

LONGEST = 1 << 16
"""Bytes for what is under way; a longer name is cut."""
_LENGTH = struct.Struct("=I")
ROOM = 1 << 20
"""Bytes for what is known of costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How an eval ended its process: in which `phase` of pytest, at which FILE:LINE ("" where
    nobody knows), and what it `did`; "" where it was ended since it did not come back.
    """

    phase: str
    place: str
    did: str


class Life:
    """Of a command whose parent waits for it. `config` is that of the session of pytest which the
    process was started for, None where it was not started as pytest; `stack_fd` is where
    `faulthandler` is to write to.
    """

    def __init__(self, config: object, *, stack_fd: int) -> None:
        self.config = config
        self.stack_fd = stack_fd
        self.ended: dict[str, End] = {}
        """By the node id of an eval that ended its process: it is not called again."""
        self.former: list[int] = []
        """The ids of the processes before this one."""
        self._shared = mmap.mmap(-1, 2 * _LENGTH.size + LONGEST + ROOM)

    def part(self) -> None:
        """Say nothing to the others from here on, in a process that somebody forked from ours."""
        self._shared = mmap.mmap(-1, len(self._shared))

    def enter(self, nodeid: str, phase: str, path: Path) -> None:
        """Say, until `leave`, that a phase of an eval in the file at `path` is under way."""
        told = f"{phase}\0{path}\0{nodeid}".encode("utf-16", "surrogatepass")[:LONGEST]
        self._shared[_LENGTH.size : _LENGTH.size + len(told)] = told
        _LENGTH.pack_into(self._shared, 0, len(told))

    def leave(self) -> None:
        """Say that no eval is under way."""
        _LENGTH.pack_into(self._shared, 0, 0)

    def under_way(self) -> tuple[str, Path, str] | None:
        """Return phase, path and node id of the eval that is under way, or was at the end."""
        (length,) = _LENGTH.unpack_from(self._shared, 0)
        told = self._shared[_LENGTH.size : _LENGTH.size + length]
        phase, _, rest = told.decode("utf-16", "surrogatepass").partition("\0")
        path, _, nodeid = rest.partition("\0")
        return (phase, Path(path), nodeid) if length else None

    @property
    def spent(self) -> str:
        """What is known of costs under `--max-cost`; empty where nothing was asked."""
        at = _LENGTH.size + LONGEST
        (length,) = _LENGTH.unpack_from(self._shared, at)
        at += _LENGTH.size
        return self._shared[at : at + length].decode()

    @spent.setter
    def spent(self, spent: str) -> None:
        at, told = _LENGTH.size + LONGEST, spent.encode()
        self._shared[at + _LENGTH.size : at + _LENGTH.size + len(told)] = told
        _LENGTH.pack_into(self._shared, at, len(told))


_OURS: list[Life] = []


def live(life: Life) -> None:
    """Let this process be one of `life`, to its end."""
    _OURS.append(life)


def life() -> Life | None:
    """Return the life that this process is one of."""
    return _OURS[-1] if _OURS else None


def began_again() -> bool:
    """Tell whether an eval ended a process of this command before this one."""
    return bool(_OURS and _OURS[-1].former)


def life_of(config: object) -> Life | None:
    """Return the life of a session of pytest; None for one that runs within another program."""
    ours = life()
    return ours if ours is not None and ours.config in (None, config) else None
