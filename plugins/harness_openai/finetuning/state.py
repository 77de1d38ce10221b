"""What outlives this process of a hosted job: its file and its id. Knows no server."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """`is_asked_for`: a job was asked for, and the answer may have been lost."""

    mark: str
    file_id: str | None = None
    is_asked_for: bool = False
    job_id: str | None = None


class Kept:
    """The state of one training in `folder`; in memory alone where that is None."""

    def __init__(self, folder: Path | None, *, mark: str) -> None:
        self._path = folder / "openai-job.json" if folder else None
        self.now = JobState(mark=mark)
        try:
            held = JobState(**json.loads(self._path.read_text("utf-8"))) if self._path else None
        except (OSError, ValueError, TypeError):
            held = None
        if held is not None and held.mark == mark:  # of other rows or another recipe: not ours
            self.now = held

    def save(self, **changes: str | bool) -> None:
        """Change and write it, whole or not at all."""
        self.now = replace(self.now, **changes)  # type: ignore[arg-type]
        if self._path:
            half = self._path.with_suffix(".half")
            half.write_text(json.dumps(asdict(self.now)) + "\n", encoding="utf-8")
            half.replace(self._path)

    def forget(self) -> None:
        """There is nothing to go on with."""
        self.now = JobState(mark=self.now.mark)
        if self._path:
            self._path.unlink(missing_ok=True)
