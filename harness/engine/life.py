"""What the processes of one command know of each other. Linux alone; knows no eval, no backend.

What takes its process with it says nothing any more. So the process says beforehand what is under
way, in memory that it shares with its parent (`harness.surface.parent`).
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LONGEST = 1 << 16
"""Bytes for the eval that is under way; a longer name is cut."""
MOST = 1 << 18
"""Bytes for the requests that are; a request whose name finds no room is not told."""
ROOM = 1 << 20
"""Bytes for what is known of costs."""
_LENGTH = struct.Struct("=I")


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How an eval or a request ended its process: in which `phase` of pytest ("" for a request), at
    which FILE:LINE ("" where nobody knows), and what it `did`; "" where it was ended since it did
    not come back.
    """

    phase: str = ""
    place: str
    did: str


class _Told:
    """A text that both processes see, of so many bytes at most. It is there as a whole, or the one
    before it: a process may end while it writes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._shared = mmap.mmap(-1, 1 + 2 * (_LENGTH.size + most))

    def write(self, told: bytes) -> None:
        """Say `told` from here on, or its beginning."""
        told = told[: self._most]
        other = 1 - self._shared[0]
        at = 1 + other * (_LENGTH.size + self._most)
        _LENGTH.pack_into(self._shared, at, len(told))
        self._shared[at + _LENGTH.size : at + _LENGTH.size + len(told)] = told
        self._shared[0] = other

    def read(self) -> bytes:
        """Return what was said last; nothing, at the beginning."""
        at = 1 + self._shared[0] * (_LENGTH.size + self._most)
        (length,) = _LENGTH.unpack_from(self._shared, at)
        return self._shared[at + _LENGTH.size : at + _LENGTH.size + length]


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
        self.lost: dict[str, End] = {}
        """By the key of a request that ended its process: it is not asked again."""
        self.suspects: set[str] = set()
        """The keys of requests one of which ended its process: each is asked alone."""
        self.former: list[int] = []
        """The ids of the processes before this one."""
        self._is_closed = False
        self.part()

    def part(self) -> None:
        """Say nothing to the others from here on, in a process that somebody forked from ours."""
        self._eval, self._requests = _Told(LONGEST), _Told(MOST)
        self._answered, self._spent = _Told(MOST), _Told(ROOM)
        self._over = _Told(1)

    def enter(self, nodeid: str, phase: str, path: Path) -> None:
        """Say, until `leave`, that a phase of an eval in the file at `path` is under way."""
        if self._is_closed:  # of a session before this one
            self._is_closed = False
            self._over.write(b"")
        self._eval.write(f"{phase}\0{path}\0{nodeid}".encode("utf-16", "surrogatepass"))

    def leave(self) -> None:
        """Say that no eval is under way."""
        self._eval.write(b"")

    def under_way(self) -> tuple[str, Path, str] | None:
        """Return phase, path and node id of the eval that is under way, or was at the end."""
        told = self._eval.read()
        phase, _, rest = told.decode("utf-16", "surrogatepass").partition("\0")
        path, _, nodeid = rest.partition("\0")
        return (phase, Path(path), nodeid) if told else None

    def ask(self, requests: Mapping[str, str]) -> None:
        """Say which requests are under way: what each is called, by its key."""
        told = json.dumps(dict(requests)) if requests else ""
        if len(told) > MOST:
            some, room = {}, MOST - 2
            for key, name in requests.items():
                room -= len(json.dumps({key: name}))
                if room > 0:
                    some[key] = name
            told = json.dumps(some)
        self._requests.write(told.encode())

    def asked(self) -> dict[str, str]:
        """Return the requests that are under way, or were at the end."""
        told = self._requests.read()
        return dict(json.loads(told)) if told else {}

    def busy_with(self) -> tuple[bytes, bytes]:
        """Return what is under way, or was at the end: two texts, empty where nothing is."""
        return self._eval.read(), self._requests.read()

    @property
    def is_over(self) -> bool:
        """Whether every eval was called: what comes now is told, and must not be told twice."""
        return bool(self._over.read())

    def close(self) -> None:
        """Say that every eval was called."""
        self._is_closed = True
        self._over.write(b"1")

    @property
    def answered(self) -> frozenset[str]:
        """The backends of this process that answered a request, in it or in one before it."""
        told = self._answered.read()
        return frozenset(json.loads(told)) if told else frozenset()

    @answered.setter
    def answered(self, names: frozenset[str]) -> None:
        self._answered.write(json.dumps(sorted(names)).encode())

    @property
    def spent(self) -> str:
        """What is known of costs under `--max-cost`; empty where nothing was asked."""
        return self._spent.read().decode()

    @spent.setter
    def spent(self, spent: str) -> None:
        self._spent.write(spent.encode())


_OURS: list[Life] = []


def live(life: Life) -> None:
    """Let this process be one of `life`, to its end."""
    _OURS.append(life)


def life() -> Life | None:
    """Return the life that this process is one of."""
    return _OURS[-1] if _OURS else None


def began_again() -> bool:
    """Tell whether a process of this command ended before this one."""
    return bool(_OURS and _OURS[-1].former)


def life_of(config: object) -> Life | None:
    """Return the life of a session of pytest; None for one that runs within another program."""
    ours = life()
    return ours if ours is not None and ours.config in (None, config) else None
