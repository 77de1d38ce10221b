"""Artifact folders, named by what they hold. Knows nothing of tuners or of the database.

A folder that can run code when it is loaded is refused: pickles and `auto_map` (remote code).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Refused, StoreError
from harness.store.flushing import flush_folder
from harness.store.home import make_home

if TYPE_CHECKING:
    from harness.records import Artifact

PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
CHUNK = 1 << 20
_AUTO_MAP = re.compile(rb"auto_map|\\u00(?:61|75|74|6f|5f|6d|70)", re.IGNORECASE)
"""The key, or one of its letters as an escape: nobody writes those but to hide it."""


@contextmanager
def shelf_lock(home: Path) -> Iterator[None]:
    """Let one process at a time put a folder on the shelf: workers of one run come at once."""
    from filelock import FileLock

    make_home(home)
    with FileLock(home / ".shelf.lock"):
        yield


def folder_digest(path: str | Path) -> str:
    """Return the sha256 over the sorted relative paths and the bytes of all files below `path`.

    Raises Refused for a link, a pickle, `auto_map` code or anything that is not a plain file;
    StoreError where `path` is no folder or holds no file.
    """
    root = Path(path)
    names = _files(root)
    total = hashlib.sha256()
    for name in names:
        file = root / name
        # A hash of fixed length after each path: no two folders share one byte sequence.
        total.update(os.fsencode(name) + b"\0" + _file_digest(file))
    return total.hexdigest()


def _files(root: Path) -> list[str]:
    if not root.is_dir() or root.is_symlink():
        raise StoreError(f"no artifact folder at {root}. Tune again, or name the folder itself.")
    found = []
    for folder, folders, files in os.walk(root, onerror=_raise):
        for name in (*folders, *files):
            path = Path(folder) / name
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            _refuse_unsafe(path, mode)
            found.append(path.relative_to(root).as_posix())
    if not found:
        raise StoreError(f"the artifact folder {root} holds no file: the tuner wrote nothing.")
    return sorted(found, key=os.fsencode)


def _raise(error: OSError) -> None:
    raise StoreError(f"cannot read the artifact folder: {error}") from error


def _refuse_unsafe(path: Path, mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise Refused(f"{path} is a link, which could lead anywhere. Copy its target here instead.")
    if not stat.S_ISREG(mode):
        raise Refused(f"{path} is not a plain file. Remove it from the artifact folder.")
    if path.suffix.lower() in PICKLES:
        raise Refused(
            f"{path} may be a pickle, which can run code when it is loaded. Save weights as "
            ".safetensors and keep optimizer state out of the artifact folder."
        )
    if path.suffix == ".json" and _AUTO_MAP.search(content := path.read_bytes()):
        try:
            held = json.loads(content)
        except (ValueError, RecursionError) as exc:
            raise Refused(f"{path} mentions auto_map and is not readable JSON: {exc}") from exc
        if isinstance(held, dict) and held.get("auto_map"):
            raise Refused(
                f"{path} has auto_map: loading it would run code that came with the model. Use a "
                "model that the installed library knows."
            )


def _file_digest(path: Path) -> bytes:
    held = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            held.update(chunk)
    return held.digest()


def adopt(tmp_folder: str | Path, artifacts_dir: str | Path) -> tuple[str, Path]:
    """Move `tmp_folder` to `artifacts_dir`/DIGEST[:16] and return the digest and the new place.

    The move is one rename: nobody sees half an artifact. Where the same one is there already,
    `tmp_folder` is removed. Raises what `folder_digest` raises, and StoreError for a damaged one.
    """
    source, shelf = Path(tmp_folder), Path(artifacts_dir)
    name = folder_digest(source)
    target = shelf / name[:16]
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        _flush(source)
        try:
            source.rename(target)
        except OSError as exc:
            if exc.errno == errno.EXDEV:
                _copy_in(source, target)
            elif exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if source.exists():  # copied, or there already
            if folder_digest(target) != name:
                raise StoreError(
                    f"{target} is damaged: its files are no longer those of its name. Move it "
                    f"away and adopt {source} again."
                )
            shutil.rmtree(source)
        flush_folder(shelf)
    except OSError as exc:
        raise StoreError(f"cannot keep the artifact {source} in {shelf}: {exc}") from exc
    return name, target


def _copy_in(source: Path, target: Path) -> None:
    # Another disk: copied beside the target first, so that the last step is still a rename.
    half = Path(tempfile.mkdtemp(prefix=".half-", dir=target.parent))
    try:
        shutil.copytree(source, half, dirs_exist_ok=True)
        half.chmod(0o755)
        _flush(half)
        half.rename(target)
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _flush(root: Path) -> None:
    # Hours of training: the bytes are on the disk before the name says that they are.
    for folder, _, files in os.walk(root):
        for name in files:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        flush_folder(Path(folder))


def verify(artifact: Artifact, *, base: str | Path = ".") -> Path | None:
    """Return the folder of `artifact` after its files were found to be those it was recorded with.

    A relative folder is looked for in `base`; None where it has none (a hosted model). Raises
    StoreError where files were changed, added or lost.
    """
    if not artifact.folder:
        return None
    folder = Path(base) / artifact.folder
    found = folder_digest(folder)
    if found != artifact.digest:
        raise StoreError(
            f"artifact {artifact.name!r} in {folder} is not what was tuned: recorded "
            f"{artifact.digest[:16]}, found {found[:16]}. Restore the folder, or tune again."
        )
    return folder
