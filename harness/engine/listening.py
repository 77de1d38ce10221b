"""Who listens at a port of this machine, as Linux tells. Knows nothing of what is served there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
_LISTENS = "0A"


def listens(leader: int, port: int) -> bool | None:
    """Return whether `leader`, or what it started, listens at `port`; None where the system does
    not tell.
    """
    wanted = {f"socket:[{inode}]" for inode in _listening(port)}
    if not wanted:
        return None
    is_known = True
    for pid in _family(leader):
        try:
            if any(_goal(file) in wanted for file in (PROC / str(pid) / "fd").iterdir()):
                return True
        except FileNotFoundError:  # it ended
            continue
        except OSError:  # of another user, or hidden
            is_known = False
    return False if is_known else None


def _listening(port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen at `port`."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / name).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _family(leader: int) -> set[int]:
    """Return the processes of `leader`'s session and those that came of them."""
    parents: dict[int, int] = {}
    found = {leader}
    for folder in PROC.glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:  # it ended
            continue
        _, parent, _, session = stat.rpartition(")")[2].split()[:4]
        parents[int(folder.name)] = int(parent)
        if int(session) == leader:
            found.add(int(folder.name))
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _goal(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:  # closed meanwhile
        return ""
