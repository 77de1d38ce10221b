"""The tuners `openai` and `openai-dpo`: rows go to a server, a model's name comes back.

Knows nothing of the task. The job goes on at the server whatever becomes of this process: its id
is kept, and the same command goes on waiting for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from harness import (
    BackendConfig,
    BackendError,
    PreparedRow,
    TrainProgress,
    TrainResult,
    TuneEstimate,
    TuneJob,
    UsageError,
)
from harness_openai.finetuning.jobs import ENDED, MARK, JobsBackend, metrics_of, why_failed
from harness_openai.finetuning.prices import FILE, price_of, training_cost_usd
from harness_openai.finetuning.recipe import DpoRecipe, Recipe, read_recipe
from harness_openai.finetuning.rows import file_of, guessed_tokens
from harness_openai.finetuning.state import Kept

LOOK_AGAIN_S = 10.0
LOST = 30
"""Looks in a row without an answer after which it is given up to wait (the job goes on)."""
LONGEST_WAIT_S = 60.0
USUAL_EPOCHS = 3  # for a guess of the cost where the server chooses
CLOSING = (
    "OpenAI ends self-serve fine-tuning: closed since 2026-05-07 to organisations that never "
    "tuned, since 2026-07-02 to those that asked no tuned model within 60 days, and to all from "
    "2027-01-06; a tuned model answers until its base ends "
    "(developers.openai.com/api/docs/deprecations)"
)

T = TypeVar("T")


class OpenAITuner:
    """Supervised tuning. Its `prepare` reads and checks, and sends nothing."""

    needs = "completions"
    has_tokens = False
    why_no_tokens = "the server trains with a template and ids that it shows to nobody"
    schemes = frozenset({"openai"})
    name: ClassVar[str] = "openai"
    method: ClassVar[str] = "supervised"
    recipe: ClassVar[type[Recipe]] = Recipe

    def sends_rows_to(self, job: TuneJob) -> str | None:
        """Return the host that would be given the rows, where it is not of this machine."""
        server = _server(job)
        return server.address.host if server.is_external else None

    def prepare(self, job: TuneJob) -> Sequence[PreparedRow]:
        """Return nothing, after all was checked that can be without the server."""
        self._read(job)
        self._file(job)
        _server(job)
        return ()

    def estimate(self, job: TuneJob, rows: Sequence[PreparedRow]) -> TuneEstimate:
        """Return a guess of the cost, and what is known of the service's end. Sends nothing."""
        server, recipe = _server(job), self._read(job)
        epochs = USUAL_EPOCHS if recipe.n_epochs == "auto" else recipe.n_epochs
        batch = 1 if recipe.batch_size == "auto" else recipe.batch_size
        tokens = epochs * sum(map(guessed_tokens, job.rows))
        price = price_of(server.address.host, job.base)
        chosen = " (the server chooses; a guess)" if recipe.n_epochs == "auto" else ""
        facts = [
            f"{len(job.rows)} rows go to {server.address.base}, method {self.method}",
            f"about {tokens:,} tokens in {epochs} epochs{chosen}, at four characters a token",
        ]
        if price is None or price.training is None:
            facts.append(f"no price for training {job.base} at {server.address.host}: {FILE}")
        if price is not None and price.shutdown_date is not None:
            facts.append(f"{job.base} and what is tuned from it end on {price.shutdown_date}")
        if _is_openai(server):
            facts.append(CLOSING)
        return TuneEstimate(
            steps=epochs * math.ceil(len(job.rows) / batch),
            cost_usd=training_cost_usd(price, tokens),
            facts=tuple(facts),
        )

    def train(
        self,
        job: TuneJob,
        rows: Sequence[PreparedRow],
        *,
        report: Callable[[TrainProgress], None],
    ) -> TrainResult:
        """Hand the rows in, wait for the job, and return the name of the model that came of it."""
        del rows
        data, body = self._file(job), self._body(job)
        parts = [hashlib.sha256(data).hexdigest(), body, _server(job).address.base]
        mark = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
        kept = Kept(job.state_dir, mark=mark)
        server = _server(job)
        try:
            server.ready()
        except UsageError as exc:
            if kept.now.job_id is None:
                raise
            raise BackendError(f"{exc} The job {kept.now.job_id} goes on.") from exc
        try:
            return asyncio.run(
                _Training(server, kept, job, body=body, data=data, report=report).run()
            )
        except KeyboardInterrupt:
            if kept.now.job_id is not None:
                _say(_how_to_cancel(server, kept.now.job_id))
            raise
        finally:
            server.close()

    def _read(self, job: TuneJob) -> Recipe:
        return read_recipe(self.recipe, job.recipe, tuner=self.name)

    def _file(self, job: TuneJob) -> bytes:
        return file_of(job.rows, is_preference=self.method == "dpo")

    def _body(self, job: TuneJob) -> dict[str, Any]:
        """Return the request for a job, but for its file."""
        if job.start is not None:
            raise UsageError(f"the tuner {self.name} goes on from a hosted model, not from files")
        recipe = self._read(job)
        method: dict[str, Any] = {"type": self.method}
        if said := recipe.hyperparameters():
            method[self.method] = {"hyperparameters": said}
        body: dict[str, Any] = {"model": job.base, "method": method, "seed": job.seed}
        return body | ({"suffix": recipe.suffix} if recipe.suffix else {})


class OpenAIDpo(OpenAITuner):
    """Tuning on preferences: each row has a better and a worse reply."""

    needs = "preferences"
    name = "openai-dpo"
    method = "dpo"
    recipe = DpoRecipe


def _server(job: TuneJob) -> JobsBackend:
    return JobsBackend(
        BackendConfig(model=job.base, base_url=job.base_url, options=dict(job.options))
    )


def _is_openai(server: JobsBackend) -> bool:
    return server.address.host == "api.openai.com" or server.address.host.endswith(
        ".api.openai.com"
    )


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _how_to_cancel(server: JobsBackend, job_id: str) -> str:
    url, preset = server.address.at(f"/fine_tuning/jobs/{job_id}/cancel"), server.preset
    header = f"{preset.key_header}: {preset.key_prefix}${preset.key_env}"
    return (
        f"the job {job_id} goes on at {server.address.base}, and is paid for: the same command "
        f'goes on waiting. To cancel it: curl -X POST -H "{header}" {url}'
    )


class _Training:
    """One job, from its rows to its model."""

    def __init__(
        self,
        server: JobsBackend,
        kept: Kept,
        job: TuneJob,
        *,
        body: Mapping[str, Any],
        data: bytes,
        report: Callable[[TrainProgress], None],
    ) -> None:
        self._server, self._kept, self._job = server, kept, job
        self._body, self._data, self._report = body, data, report
        self._began = time.monotonic()
        self._step = 0
        self._last_loss: float | None = None

    async def run(self) -> TrainResult:
        """Return what came of it. Raises BackendError."""
        job_id = self._kept.now.job_id or await self._begin()
        ended = await self._wait(job_id)
        if ended["status"] != "succeeded":
            self._kept.forget()  # the same command begins anew
            if ended["status"] == "cancelled":
                raise BackendError(f"the job {job_id} was cancelled at the server")
            raise BackendError(f"the job {job_id} failed at the server: {why_failed(ended)}")
        return await self._result(job_id, ended)

    async def _begin(self) -> str:
        """Hand the rows in and ask for a job, once, whatever answers are lost."""
        kept = self._kept
        if kept.now.file_id is None:
            kept.save(file_id=await self._server.upload(self._data))
        body = {**self._body, "training_file": kept.now.file_id, "metadata": self._metadata()}
        job_id = await self._server.find(kept.now.mark) if kept.now.is_asked_for else None
        if job_id is None:
            kept.save(is_asked_for=True)
            try:
                job_id = await self._server.create(body)
            except BackendError as exc:
                if not exc.is_retryable:
                    kept.forget()  # refused: no job came of it
                    raise
                # an answer that was lost may have begun a job, which would be paid for twice
                job_id = await self._patiently(lambda: self._server.find(kept.now.mark))
                if job_id is None:
                    raise
        kept.save(job_id=job_id)
        _say(f"job {job_id} at {self._server.address.base}")
        return job_id

    def _metadata(self) -> dict[str, str]:
        rows = hashlib.sha256(self._data).hexdigest()
        return {MARK: self._kept.now.mark, "harness_rows": rows}

    async def _wait(self, job_id: str) -> Mapping[str, Any]:
        """Look at the job until it ends, and tell its steps."""
        known: set[str] = set()
        status = None
        while True:
            now = await self._patiently(lambda: self._server.job(job_id))
            events = await self._patiently(lambda: self._server.events(job_id, known=known))
            if now.get("status") != status:
                status = now.get("status")
                _say(f"job {job_id}: {status}")
            for step, total, loss in metrics_of(events):
                self._told(step, total, loss)
            if status in ENDED:
                return now
            await asyncio.sleep(LOOK_AGAIN_S)

    def _told(self, step: int, total: int | None, loss: float) -> None:
        self._last_loss = loss
        self._step = max(step, self._step)
        self._report(
            TrainProgress(
                step=step,
                steps=max(total or step, step),
                loss=loss,
                tokens=0,  # told at the end alone
                seconds=time.monotonic() - self._began,
            )
        )

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask again and again while connections are lost. Raises BackendError."""
        for lost in range(LOST):
            try:
                return await ask()
            except BackendError as exc:
                if not exc.is_retryable:
                    raise
                wait_s = exc.retry_after_s or LOOK_AGAIN_S * 2 ** min(lost, 4)
                problem = str(exc)
            await asyncio.sleep(min(wait_s, LONGEST_WAIT_S))
        raise BackendError(
            f"no answer in {LOST} looks at the job (the last: {problem}). It goes on at the "
            "server, and the same command goes on waiting for it."
        )

    async def _result(self, job_id: str, ended: Mapping[str, Any]) -> TrainResult:
        model, tokens = ended.get("fine_tuned_model"), ended.get("trained_tokens")
        if not isinstance(model, str) or not model:
            raise BackendError(f"the job {job_id} succeeded, and names no model")
        tokens = tokens if isinstance(tokens, int) else None
        base = str(ended.get("model") or self._job.base)
        host = self._server.address.host
        price = price_of(host, base) or price_of(host, self._job.base)
        ends = await self._server.shutdown_date(model) or await self._server.shutdown_date(base)
        if ends is None and price is not None and price.shutdown_date is not None:
            ends = price.shutdown_date.isoformat()
        made = await self._server.checkpoints(job_id)
        metrics = {
            "rows": float(len(self._job.rows)),
            "train_s": time.monotonic() - self._began,
            **({"trained_tokens": float(tokens)} if tokens is not None else {}),
            **({"steps": float(self._step)} if self._step else {}),
            **({"last_loss": self._last_loss} if self._last_loss is not None else {}),
        }
        facts = {
            "job": job_id,
            "base_url": self._server.address.base,
            "base": base,
            "training_file": str(ended.get("training_file") or self._kept.now.file_id),
            "checkpoints": "; ".join(made),
            "shutdown_date": ends or "",
        }
        return TrainResult(
            base_digest="",  # nobody outside knows the weights
            template_digest="",
            metrics=metrics,
            environment={name: fact for name, fact in facts.items() if fact},
            backend=f"openai:{model}",
            cost_usd=training_cost_usd(price, tokens),
        )
