"""A server on this machine that speaks OpenAI's fine-tuning, as a test asks of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import Any
from urllib.parse import parse_qs

from tests.plugins.loopback import Answer, Loopback, Seen, completion

MODEL = "ft:gpt-4o-mini-2024-07-18:us::made"


@dataclass(kw_only=True)
class TuningApi:
    """A job passes `states` look by look and stays at the last one.

    `faults` are answers given before the right ones, by method and path; a number is a status,
    "cut" hangs up, and "lost" does what was asked and then hangs up. `told` is what the tuned model
    answers.
    """

    server: Loopback
    states: list[str] = field(default_factory=lambda: ["validating_files", "running", "succeeded"])
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    refusal: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    told: str = "yes"
    files: list[bytes] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server.answer = self.answer

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The rows of the newest file."""
        return [json.loads(line) for line in self.files[-1].splitlines()]

    def answer(self, seen: Seen) -> Answer:
        path, _, query = seen.path.removeprefix("/v1").partition("?")
        faults = self.faults.get(f"{seen.method} {path}", [])
        fault = faults.pop(0) if faults else None
        if isinstance(fault, int):
            return Answer(status=fault, body=self.refusal or {"error": {"message": "trouble"}})
        if fault == "cut":
            return Answer(pieces=[b"{"], is_cut=True)
        right = self._right(seen, path, parse_qs(query))
        return Answer(pieces=[b"{"], is_cut=True) if fault == "lost" else right

    def _right(self, seen: Seen, path: str, query: Mapping[str, list[str]]) -> Answer:
        match seen.method, path.strip("/").split("/"):
            case "POST", ["files"]:
                self.files.append(_file(seen))
                return Answer(body={"id": f"file-{len(self.files)}", "status": "processed"})
            case "POST", ["fine_tuning", "jobs"]:
                self.jobs.append({**seen.body, "id": f"ftjob-{len(self.jobs) + 1}"})
                return Answer(body=self._job(self.jobs[-1]))
            case "GET", ["fine_tuning", "jobs"]:
                return Answer(body={"data": [self._job(j) for j in self.jobs], "has_more": False})
            case "GET", ["fine_tuning", "jobs", name]:
                if len(self.states) > 1:
                    self.states.pop(0)
                return Answer(body=self._job(next(j for j in self.jobs if j["id"] == name)))
            case "GET", ["fine_tuning", "jobs", _, "events"]:
                return Answer(body=_events(query))
            case "GET", ["fine_tuning", "jobs", _, "checkpoints"]:
                row = {"id": "c1", "step_number": 2, "fine_tuned_model_checkpoint": f"{MODEL}:2"}
                return Answer(body={"data": [row], "has_more": False})
            case "GET", ["models", _]:
                return Answer(body={"id": "m", "shutdown_date": "2027-01-14"})
            case "POST", ["chat", "completions"]:
                return Answer(body=completion(self.told if seen.body["model"] == MODEL else "?"))
        return Answer(status=404, body={"error": {"message": f"no {seen.method} {path}"}})

    def _job(self, job: Mapping[str, Any]) -> dict[str, Any]:
        is_done = self.states[0] == "succeeded"
        return {
            "id": job["id"], "object": "fine_tuning.job", "status": self.states[0],
            "model": "gpt-4o-mini-2024-07-18", "metadata": job.get("metadata"),
            "training_file": job["training_file"], "error": self.error,
            "fine_tuned_model": MODEL if is_done else None,
            "trained_tokens": 1_000_000 if is_done else None,
        }  # fmt: skip


def _events(query: Mapping[str, list[str]]) -> dict[str, Any]:
    """Three events, the newest first, on two pages."""
    rows = [
        {"id": f"e{n}", "type": "metrics", "message": f"step {n}",
         "data": {"step": n, "total_steps": 3, "train_loss": 1 / n}}
        for n in (3, 2, 1)
    ]  # fmt: skip
    if "after" in query:
        return {"data": rows[2:], "has_more": False}
    return {"data": rows[:2], "has_more": True}


def _file(seen: Seen) -> bytes:
    head = f"Content-Type: {seen.headers['Content-Type']}\r\n\r\n".encode()
    parts = {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message_from_bytes(head + seen.body).get_payload()  # type: ignore[union-attr]
    }
    assert parts["purpose"] == b"fine-tune"
    return bytes(parts["file"])  # type: ignore[arg-type]
