"""The folder beside the store, with artifacts, reports and locks. Knows nothing of what they are.

Recorded replies may hold what a case says, and a store is one machine's: git leaves the folder
alone. What a team shares is written where it says so: a report, a blessed file, an exported model.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

HOME = ".harness"
_LEFT_ALONE = "# Made by harness: recorded replies, models and reports of this machine.\n*\n"


def make_home(folder: Path) -> None:
    """Make the folder, where it is not yet; git then leaves all that is in it alone.

    A folder by another name (`--store PATH`) may hold more than ours, and stays as it is.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    if folder.name == HOME:
        with suppress(OSError), (folder / ".gitignore").open("x", encoding="ascii") as file:
            file.write(_LEFT_ALONE)
