"""The endpoints of hosted fine-tuning. Knows nothing of rows, waiting or artifacts.

Source: the openai package 3.54, resources/fine_tuning (made from the vendor's specification).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from harness import BackendError
from harness_openai.asking import AskingBackend, text_in

MARK = "harness_job"
"""The key of a job's metadata that says which of our trainings it is."""
ENDED = {"succeeded", "failed", "cancelled"}
PAGE = 100
MOST_PAGES = 50

Plain = Mapping[str, Any]


class JobsBackend(AskingBackend):
    """A server that trains."""

    async def upload(self, data: bytes) -> str:
        """Hand in the file of rows, and return its id."""
        return await self._upload(data, purpose="fine-tune")

    async def create(self, body: Plain) -> str:
        """Begin a job, and return its id."""
        made = await self._asked("POST", "/fine_tuning/jobs", json.dumps(body).encode())
        return text_in(made, "id", base=self.address.base)

    async def job(self, job_id: str) -> Plain:
        """Return how a job stands."""
        return await self._asked("GET", f"/fine_tuning/jobs/{job_id}")

    async def find(self, mark: str) -> str | None:
        """Return the id of the job that bears `mark` and was not given up, if there is one."""
        query = {"limit": PAGE, f"metadata[{MARK}]": mark}
        async for row in self._listed("/fine_tuning/jobs", query):
            held = row.get("metadata")
            is_ours = isinstance(held, Mapping) and held.get(MARK) == mark
            if is_ours and row.get("status") not in {"failed", "cancelled"}:
                return text_in(row, "id", base=self.address.base)
        return None

    async def events(self, job_id: str, *, known: set[str]) -> list[Plain]:
        """Return what happened since, the oldest first, and add it to `known`."""
        new = []
        async for row in self._listed(f"/fine_tuning/jobs/{job_id}/events", {"limit": PAGE}):
            if str(row.get("id")) in known:  # they come with the newest first
                break
            new.append(row)
        known.update(str(row.get("id")) for row in new)
        return new[::-1]

    async def checkpoints(self, job_id: str) -> list[str]:
        """Return the models that can be asked as of an earlier step, as NAME at step N."""
        found = []
        path = f"/fine_tuning/jobs/{job_id}/checkpoints"
        try:
            async for row in self._listed(path, {"limit": PAGE}):
                name, step = row.get("fine_tuned_model_checkpoint"), row.get("step_number")
                if isinstance(name, str):
                    found.append(f"{name} at step {step}")
        except BackendError:  # a server without them: the model was made all the same
            return []
        return found[::-1]

    async def shutdown_date(self, model: str) -> str | None:
        """Return when the server says that a model ends; None where it says nothing."""
        try:
            told = (await self._asked("GET", f"/models/{model}")).get("shutdown_date")
        except BackendError:  # it may have no such endpoint
            return None
        return told if isinstance(told, str) else None

    async def _listed(self, path: str, query: Mapping[str, Any]) -> Any:
        """Yield the rows of a list, page by page."""
        after: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            page = await self._asked("GET", f"{path}?{urlencode({**query, **after})}")
            rows = list(_rows(page.get("data")))
            for row in rows:
                yield row
            if not page.get("has_more") or not rows:
                return
            after = {"after": str(rows[-1].get("id"))}


def _rows(data: object) -> Iterator[Plain]:
    return (row for row in data if isinstance(row, Mapping)) if isinstance(data, list) else iter(())


def why_failed(job: Plain) -> str:
    """Return what the server says of a failed job, with the parameter that it is about."""
    told = job.get("error")
    if not isinstance(told, Mapping):
        return "it does not say why"
    about = f" ({told['param']})" if told.get("param") else ""
    return f"{told.get('message') or told.get('code') or 'it does not say why'}{about}"


def metrics_of(events: Sequence[Plain]) -> Iterator[tuple[int, int | None, float]]:
    """Yield step, number of steps and loss of each event that tells them."""
    for event in events:
        data = event.get("data")
        if event.get("type") != "metrics" or not isinstance(data, Mapping):
            continue
        step, loss, total = data.get("step"), data.get("train_loss"), data.get("total_steps")
        if isinstance(step, int) and isinstance(loss, int | float):
            yield step, total if isinstance(total, int) else None, float(loss)
