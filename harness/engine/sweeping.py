"""What of the artifact folders nothing needs any more, and its removal.

What was tuned or adopted stays, whatever became of it: a release can be asked for again. What goes
is what no record knows, pilots, and what a process that was killed left behind, each only when
nothing in it changed for some days.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from harness.engine.project import Project
from harness.engine.shelf import compared_runs, folder_bytes
from harness.records import Json, to_plain
from harness.store.store import Store
from harness.store.trainings import HOME as TRAININGS, at_rest, is_running

HALF_MADE = (".tuning-*", ".making-*")
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waste:
    """A folder that can go, and why. `is_training` marks one that a training may go on in."""

    folder: Path
    bytes: int
    reason: str
    is_training: bool = False


def waste(
    project: Project, store: Store, *, days: float, now_s: float, kept: Iterable[str] = ()
) -> list[Waste]:
    """Return the folders that nothing needs: no artifact, release, ledger entry or candidate.

    `kept` are names and digest prefixes that task files mention; `now_s` is the time, as of files.
    """
    artifacts = store.artifacts()
    tuned = {a.digest[:16] for a in artifacts if not a.is_pilot}
    # A form or a successor of a pilot needs no pilot's files: it holds its own.
    pilots = {a.digest[:16]: a for a in artifacts if a.is_pilot and a.digest[:16] not in tuned}
    told = _told(store)
    mentioned = tuple(kept)
    found: list[Waste] = []

    def add(folder: Path, reason: str, *, is_training: bool = False) -> None:
        if now_s - _newest(folder) >= days * DAY_S:
            size = folder_bytes(folder)
            found.append(Waste(folder=folder, bytes=size, reason=reason, is_training=is_training))

    for folder in _folders(project.home / "artifacts", "*"):
        name = folder.name
        if name.startswith("."):
            add(folder, "a copy that broke off")
        elif name in tuned or name in told or any(name.startswith(m[:16]) for m in mentioned if m):
            continue
        elif name in pilots:
            add(folder, f"a pilot on {pilots[name].rows} rows of {pilots[name].task}")
        else:
            add(folder, "no record names it")
    for pattern in HALF_MADE:
        for folder in _folders(project.home, pattern):
            add(folder, "half made, by a process that was killed")
    for folder in _folders(project.home / TRAININGS, "*"):
        if not is_running(folder):
            reason = f"a training that was cut short{_about(folder)}"
            add(folder, reason, is_training=True)
    return found


def remove(found: Iterable[Waste], *, note: Callable[[str], None]) -> int:
    """Remove folders, and return how many bytes that freed. One that cannot go is told and left.

    Renamed first: what is left of one that a kill interrupts is swept the next time.
    """
    freed = 0
    for one in found:
        try:
            # somebody may have gone on with it while the list was read
            with at_rest(one.folder) if one.is_training else nullcontext(True) as is_free:
                if not is_free:
                    note(f"{one.folder} is kept: it is trained in again")
                    continue
                trash = Path(tempfile.mkdtemp(prefix=".making-gone-", dir=one.folder.parent))
                one.folder.rename(trash / "gone")
            shutil.rmtree(trash)
        except OSError as exc:
            note(f"{one.folder} could not be removed: {exc}")
            continue
        freed += one.bytes
    return freed


def _folders(home: Path, pattern: str) -> list[Path]:
    return sorted(p for p in home.glob(pattern) if p.is_dir() and not p.is_symlink())


def _newest(folder: Path) -> float:
    """Return when anything in `folder` last changed, in seconds since the epoch."""
    times = [folder.stat().st_mtime]
    for path in folder.rglob("*"):
        try:
            times.append(path.lstat().st_mtime)
        except FileNotFoundError:  # a training that is going on
            continue
    return max(times)


def _told(store: Store) -> set[str]:
    """Return the digests (16 digits) that the ledger names, or whose runs a release compared.

    An entry of kind `pilot` keeps nothing: every pilot has one.
    """
    digests: set[str] = set()
    for entry in store.ledger():
        if entry.kind != "pilot":
            digests |= {d[:16] for d in _digests(to_plain(entry.payload))}
    ids = {i for e in store.ledger(kind="release") for i in compared_runs(e.payload)}
    return digests | {r.artifact[:16] for r in store.runs() if r.artifact and r.id in ids}


def _digests(value: Json) -> set[str]:
    """Every `artifact` that is named anywhere in a payload."""
    if isinstance(value, dict):
        own = {v for k, v in value.items() if k == "artifact" and isinstance(v, str)}
        return own.union(*(_digests(v) for v in value.values()))
    if isinstance(value, list):
        return set().union(*(_digests(v) for v in value))
    return set()


def _about(folder: Path) -> str:
    try:
        facts = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        return f", {facts['name']} of {facts['task']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
