"""A server on this machine that speaks OpenAI's files and batches, as a test asks of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.plugins.loopback import Answer, Loopback, Seen, completion

Outcome = Mapping[str, Any]
"""`response` and `error` of one line of an output or error file."""


def answered(line: Mapping[str, Any]) -> Outcome:
    """Return the outcome of a request that is answered with its own question."""
    text = line["body"]["messages"][0]["content"]
    return {"response": {"status_code": 200, "request_id": "r", "body": completion(text)}}


@dataclass(kw_only=True)
class BatchApi:
    """Takes one batch and leaves it at `status`, once it was looked at `looks` times.

    `outcome` says what becomes of a request (None: it stands in no file). `file_states` are what a
    file's status is, look by look.
    """

    server: Loopback
    status: str = "completed"
    outcome: Callable[[Mapping[str, Any]], Outcome | None] = answered
    looks: int = 0
    errors: list[Mapping[str, Any]] = field(default_factory=list)
    file_states: list[str] = field(default_factory=lambda: ["processed"])
    files: dict[str, bytes] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    path: str = "/v1"

    def __post_init__(self) -> None:
        self.server.answer = self.answer

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The requests that were handed in."""
        return [json.loads(line) for line in self.files["file-in"].splitlines()]

    def answer(self, seen: Seen) -> Answer:
        path = seen.path.removeprefix(self.path).partition("?")[0]
        if (seen.method, path) == ("POST", "/files"):
            self.files["file-in"] = self._file_of(seen)
            return Answer(body={"id": "file-in", "object": "file", "status": self._state()})
        if (seen.method, path) == ("GET", "/files/file-in"):
            return Answer(body={"id": "file-in", "object": "file", "status": self._state()})
        if (seen.method, path) == ("POST", "/batches"):
            self.asked = seen.body
            return Answer(body={"id": "batch_1", "object": "batch", "status": "validating"})
        if (seen.method, path) == ("GET", "/batches/batch_1"):
            return Answer(body=self._batch())
        content = re.fullmatch(r"/files/([\w-]+)/content", path)
        if seen.method == "GET" and content and content[1] in self.files:
            return Answer(
                body=self.files[content[1]], headers={"Content-Type": "application/octet-stream"}
            )
        return Answer(status=404, body={"error": {"message": f"no {seen.method} {path}"}})

    def _state(self) -> str:
        return self.file_states.pop(0) if len(self.file_states) > 1 else self.file_states[0]

    def _file_of(self, seen: Seen) -> bytes:
        """Return the file of a form, as the standard library reads it."""
        from email import message_from_bytes

        head = f"Content-Type: {seen.headers['Content-Type']}\r\n\r\n".encode()
        parts = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in message_from_bytes(head + seen.body).get_payload()  # type: ignore[union-attr]
        }
        assert parts["purpose"] == b"batch"
        return bytes(parts["file"])  # type: ignore[arg-type]

    def _batch(self) -> dict[str, Any]:
        batch = {"id": "batch_1", "object": "batch", "input_file_id": "file-in"}
        total = len(self.lines)
        if self.looks > 0:
            self.looks -= 1
            counts = {"total": total, "completed": 1, "failed": 0}
            return {**batch, "status": "in_progress", "request_counts": counts}
        good, bad = [], []
        for line in self.lines if self.status != "failed" else ():
            outcome = self.outcome(line)
            if outcome is not None:
                row = {"id": "x", "custom_id": line["custom_id"], "response": None, "error": None}
                is_good = (outcome.get("response") or {}).get("status_code") == 200
                (good if is_good else bad).append(json.dumps(row | dict(outcome)))
        for name, rows in (("output", good), ("error", bad)):
            if rows:
                self.files[f"file-{name}"] = "\n".join(rows).encode() + b"\n"
                batch[f"{name}_file_id"] = f"file-{name}"
        counts = {"total": total, "completed": len(good), "failed": len(bad)}
        errors = {"object": "list", "data": self.errors} if self.errors else None
        return {**batch, "status": self.status, "request_counts": counts, "errors": errors}
