"""Hands requests in as one batch of OpenAI's or Azure's Batch API. Knows nothing of polling.

Cheaper (half the price at both) and slower (within a day). What is collected names its requests
itself, so that a later process can collect what an earlier one handed in.
Sources: https://platform.openai.com/docs/guides/batch,
https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from harness import BackendConfig, BackendError, BatchState, Decoding, Reply, Request
from harness_openai import failures, wire
from harness_openai.asking import AskingBackend, text_in
from harness_openai.streaming import read_event

BATCH_SIZE = 10_000  # of the 50,000 that OpenAI takes: what is lost with a batch is asked anew
MOST_BYTES = 200_000_000  # of one file, at both
UNDER_WAY = {"validating", "in_progress", "finalizing", "cancelling"}


class BatchingBackend(AskingBackend):
    """An `openai:` backend whose server has a batch API."""

    def __init__(self, config: BackendConfig) -> None:
        super().__init__(config)
        self.batch_size = int(config.options.get("batch_size", BATCH_SIZE))

    async def submit_batch(self, requests: Mapping[str, Request]) -> str:
        """Hand in `requests` by name. Return the server's id of the batch. Raises BackendError."""
        self.ready()
        endpoint = "/chat/completions" if "/deployments/" in self.address.base else _ENDPOINT
        lines = [
            json.dumps(
                {
                    "custom_id": name,
                    "method": "POST",
                    "url": endpoint,
                    "body": wire.to_body(request, model=self.model, preset=self.preset),
                }
            )
            for name, request in requests.items()
        ]
        data = "\n".join(lines).encode() + b"\n"
        if len(data) > MOST_BYTES:
            raise BackendError(
                f"a batch of {len(requests)} requests has {len(data) / 1e6:.0f} MB, and "
                f"{self.address.base} takes {MOST_BYTES / 1e6:.0f} MB: set the backend's option "
                "batch_size to fewer requests"
            )
        file_id = await self._upload(data, purpose="batch")
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h"}
        batch = await self._asked("POST", "/batches", json.dumps(body).encode())
        return text_in(batch, "id", base=self.address.base)

    async def collect_batch(self, batch_id: str) -> BatchState:
        """Return how a batch stands, with all that came of it. Raises BackendError."""
        self.ready()
        batch = await self._asked("GET", f"/batches/{batch_id}")
        status, counts = batch.get("status"), batch.get("request_counts")
        counts = counts if isinstance(counts, Mapping) else {}
        done, total = _number(counts, "completed") + _number(counts, "failed"), 0
        total = max(_number(counts, "total"), done)
        if status in UNDER_WAY:
            return BatchState(is_done=False, total=total, done=done)
        replies: dict[str, Reply] = {}
        errors: dict[str, BackendError] = {}
        for field in ("output_file_id", "error_file_id"):
            if batch.get(field):
                for name, outcome in self._outcomes(await self._file(batch[field])):
                    if isinstance(outcome, Reply):
                        replies[name] = outcome
                    else:
                        errors[name] = outcome
        if status != "completed":
            await self._lose_the_rest(batch, replies, errors)
        total = max(total, len(replies) + len(errors))
        return BatchState(
            is_done=True,
            total=total,
            done=len(replies) + len(errors),
            replies=replies,
            errors=errors,
        )

    async def _lose_the_rest(
        self,
        batch: Mapping[str, Any],
        replies: Mapping[str, Reply],
        errors: dict[str, BackendError],
    ) -> None:
        """Give an error to every request of a failed, expired or cancelled batch without one.

        A cancelled batch names only some of them, and a failed one none: the file that was
        handed in names them all.
        """
        why = self._why(batch)
        try:
            handed_in = await self._file(batch.get("input_file_id"))
        except BackendError as exc:
            if exc.is_retryable:
                raise
            return  # deleted: the engine counts as lost what nothing is told of
        for line in _lines(handed_in):
            name = line.get("custom_id")
            if isinstance(name, str) and name not in replies and name not in errors:
                errors[name] = BackendError(why, is_retryable=batch.get("status") != "failed")

    def _why(self, batch: Mapping[str, Any]) -> str:
        holder = batch.get("errors")
        said = holder.get("data") if isinstance(holder, Mapping) else None
        texts = [
            f"{'' if e.get('line') is None else 'line {}: '.format(e['line'])}{e.get('message')}"
            for e in (said if isinstance(said, list) else ())
            if isinstance(e, Mapping)
        ]
        text = f"the batch {batch.get('id')} at {self.address.base} has {_words(batch)}"
        shown = "; ".join(texts[:3]) + (f"; {len(texts) - 3} more" if len(texts) > 3 else "")
        return self._key.scrub(f"{text}: {shown}" if shown else text)

    def _outcomes(self, data: bytes) -> Iterator[tuple[str, Reply | BackendError]]:
        for line in _lines(data):
            name = line.get("custom_id")
            if isinstance(name, str):
                yield name, self._outcome(line)

    def _outcome(self, line: Mapping[str, Any]) -> Reply | BackendError:
        response = line.get("response")
        body = response.get("body") if isinstance(response, Mapping) else None
        status = response.get("status_code") if isinstance(response, Mapping) else None
        if line.get("error"):  # expired, cancelled, or never sent
            complaint = failures.complaint_of(line)
            code = 503 if complaint.codes & {"batch_expired", "batch_cancelled"} else 500
            return failures.of_complaint(
                complaint, status=code, address=self.address, key=self._key
            )
        if not isinstance(body, Mapping) or not isinstance(status, int):
            return BackendError(f"{self.address.base} gave a line of a batch without an answer")
        if status >= 400:
            complaint = failures.complaint_of(body)
            return failures.of_complaint(
                complaint, status=status, address=self.address, key=self._key
            )
        found = self._exchange.error_of(body) or self._exchange.reply(
            body, _ANY, latency_s=None, price_ratio=self.preset.batch_price
        )
        return found or BackendError(f"{self.address.base}: no chat completion in a batch's line")


_ENDPOINT = "/v1/chat/completions"
_ANY = Decoding()  # what was asked is not known any more, and a batch's server obeys it itself


def _lines(data: bytes) -> Iterator[Mapping[str, Any]]:
    for line in data.split(b"\n"):
        found = read_event(line) if line.strip() else None
        if found is not None:
            yield found


def _words(batch: Mapping[str, Any]) -> str:
    status = batch.get("status")
    known = {"failed": "failed", "expired": "expired", "cancelled": "been cancelled"}
    return known.get(str(status), f"the unknown status {status!r}")


def _number(counts: Mapping[str, Any], name: str) -> int:
    value = counts.get(name)
    return value if isinstance(value, int) else 0
