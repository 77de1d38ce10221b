"""The tuner `command`: a training line of the user's own, on our rows. Knows nothing of trainers.

The rows that passed the task's evals, compared id by id with what is served, are written as files;
the line runs in the task's folder; the adapter or model that it leaves is taken in, safetensors
alone. What a trainer makes of messages is its own affair: the file of ids is what was compared.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pydantic
from harness_transformers.artifacts import parts_of, record_base
from harness_transformers.encoding import encode_row
from harness_transformers.models import (
    load_tokenizer,
    template_digest,
    tokenizer_digest,
    weights_digest,
)
from harness_transformers.tool_calls import as_call

from harness import (
    BackendError,
    PreparedRow,
    RecipeError,
    TrainingRow,
    TrainProgress,
    TrainResult,
    TuneJob,
)
from harness_trl.base import context_of, model_folder, tokenizer_of
from harness_trl.children import end_session
from harness_trl.pictures import refuse_images
from harness_trl.rows import check_rows, supervised_tokens
from harness_trl.saving import scratch

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
             "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model",
             "chat_template.jinja")  # fmt: skip
_SHOWN_LINES = 15


class CommandRecipe(pydantic.BaseModel):
    """What the recipe of a training line may say."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    command: str = pydantic.Field(min_length=1)
    """The line, without a shell; `{rows}`, `{prepared}`, `{out}`, `{base}`, `{seed}` and
    `{start}` are filled in, and stand in the environment as HARNESS_ROWS, .... It may stand in
    task.toml instead."""
    leaves: str | None = None
    """Where it leaves its adapter or model, relative to the task's folder. Not set: `{out}`."""
    max_length: int | None = pydantic.Field(default=None, ge=8)
    """Tokens of a row at most. Not set: what the model holds."""


class Command:
    """Trains by a line of the user's own. It shows no checkpoints, and cannot be gone on with."""

    shows_checkpoints = False

    def prepare(self, job: TuneJob) -> Sequence[PreparedRow]:
        """Return the rows as token ids and labels, as the file `{prepared}` will have them."""
        recipe = read_command(job)
        refuse_images(job.rows, what="a tuner command")
        tokenizer = tokenizer_of(job)
        rows = tuple(encode_row(tokenizer, row) for row in job.rows)
        longest = recipe.max_length or context_of(model_folder(job)) or sys.maxsize
        check_rows(rows, max_length=longest)
        return rows

    def train(
        self,
        job: TuneJob,
        rows: Sequence[PreparedRow],
        *,
        report: Callable[[TrainProgress], None],
    ) -> TrainResult:
        """Run the line, show what it says, and take in what it left."""
        del report  # how far a stranger's trainer is, only its own lines tell
        recipe, base = read_command(job), model_folder(job)
        home = job.task_folder or Path.cwd()
        with scratch(job.out_dir) as folder:
            out = folder / "out"
            out.mkdir()
            places = {
                "rows": folder / "rows.jsonl",
                "prepared": folder / "prepared.jsonl",
                "out": out,
                "base": base,
                "seed": job.seed,
                "start": job.start or "",
            }
            _write_rows(places["rows"], [_conversation(r) for r in job.rows])
            _write_rows(places["prepared"], [_ids(r) for r in rows])
            left = home / _filled(recipe.leaves, places) if recipe.leaves else out
            before = _stamps(left)
            began = time.monotonic()
            _run(_words(recipe.command, places), home=home, places=places)
            seconds = time.monotonic() - began
            return _take_in(
                left, job, base=base, rows=rows, before=before, seconds=seconds, folder=folder
            )


def read_command(job: TuneJob) -> CommandRecipe:
    """Return the recipe. Raises RecipeError naming what is missing or unknown."""
    try:
        recipe = CommandRecipe.model_validate(dict(job.recipe))
    except pydantic.ValidationError as exc:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors()]
        known = ", ".join(CommandRecipe.model_fields)
        raise RecipeError(
            f"{'; '.join(problems)}. Known keys: {known}. The line itself "
            'may stand in task.toml: [tune] command = "..."',
            keys=[str(e["loc"][0]) for e in exc.errors() if e["loc"]],
        ) from exc
    words = _words(recipe.command, {})
    if not words:
        raise RecipeError("the command is empty", keys=["command"])
    folder = job.task_folder  # without one, as at the gate, nothing is run
    if folder and shutil.which(words[0]) is None and not (folder / words[0]).is_file():
        raise RecipeError(
            f"there is no program {words[0]!r} here: name one that is installed, or a file of the "
            "task's folder",
            keys=["command"],
        )
    return recipe


def _words(command: str, places: Mapping[str, object]) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as exc:
        raise RecipeError(f"{command!r} cannot be read: {exc}", keys=["command"]) from exc
    return [_filled(word, places) for word in words]


def _filled(text: str, places: Mapping[str, object]) -> str:
    """Fill `{rows}` and the like in; other braces, as of JSON, stay as they are."""
    for name, value in places.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


# ---------------------------------------------------------------- the rows, as files


def _conversation(row: TrainingRow) -> dict[str, Any]:
    """Return a row as TRL's conversational prompt and completion."""
    prompt = [
        {k: v for k, v in asdict(m).items() if v not in ((), None)} | {"content": m.content}
        for m in row.messages
    ]
    reply: dict[str, Any] = {"role": "assistant", "content": row.completion}
    if row.calls:
        reply["tool_calls"] = [as_call(call) for call in row.calls]
    plain: dict[str, Any] = {"prompt": prompt, "completion": [reply]}
    return plain | ({"tools": list(row.tools)} if row.tools else {})


def _ids(row: PreparedRow) -> dict[str, Any]:
    ids = list(row.input_ids)
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": list(row.labels)}


def _write_rows(path: object, rows: Sequence[Mapping[str, Any]]) -> None:
    with Path(str(path)).open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


# ---------------------------------------------------------------- the line


def _run(words: Sequence[str], *, home: Path, places: Mapping[str, object]) -> None:
    """Run the line to its end, its output passed on. Raises BackendError where it fails."""
    environment = os.environ | {f"HARNESS_{k.upper()}": str(v) for k, v in places.items()}
    last: deque[str] = deque(maxlen=_SHOWN_LINES)
    try:
        process = subprocess.Popen(
            list(words), cwd=home, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True,
        )  # fmt: skip
    except OSError as exc:
        raise BackendError(f"the training line cannot be run: {exc}") from exc
    try:
        for line in process.stdout or ():
            last.append(line.rstrip())
            sys.stderr.write(line)
        code = process.wait()
    finally:
        if process.stdout:
            process.stdout.close()  # first: a line that still writes must not wait for a reader
        end_session(process)
    if code != 0:
        raise BackendError(
            f"the training line ended with exit code {code}, nothing was taken in: "
            f"{shlex.join(words)}\n" + "\n".join(last)
        )


# ---------------------------------------------------------------- what it left


def _stamps(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder.glob("*.safetensors")}


def _take_in(
    left: Path,
    job: TuneJob,
    *,
    base: Path,
    rows: Sequence[PreparedRow],
    before: Mapping[str, int],
    seconds: float,
    folder: Path,
) -> TrainResult:
    """Copy the weights and tokenizer into the artifact. Raises BackendError where there are none,
    or only those that were there before; UsageError where they are for another base.
    """
    is_adapter = (left / "adapter_config.json").is_file()
    weights = sorted(left.glob("adapter_model.safetensors" if is_adapter else "*.safetensors"))
    if not weights or not (is_adapter or (left / "config.json").is_file()):
        found = ", ".join(sorted(p.name for p in left.iterdir())[:10]) if left.is_dir() else ""
        raise BackendError(
            f"the training line left neither an adapter (adapter_config.json and "
            f"adapter_model.safetensors) nor a model (config.json and .safetensors) in {left}: "
            f"{found or 'there is nothing'}. Say where it leaves it: `leaves` in the recipe."
        )
    if all(before.get(p.name) == p.stat().st_mtime_ns for p in weights):
        raise BackendError(f"the training line wrote nothing: what is in {left} was there before")
    name = "adapter" if is_adapter else "merged"
    made = folder / name
    made.mkdir()
    configs = ["adapter_config.json"] if is_adapter else ["config.json", "generation_config.json"]
    index = [] if is_adapter else ["model.safetensors.index.json"]
    for file in [*configs, *index, *TOKENIZER, *(p.name for p in weights)]:
        if (left / file).is_file():
            shutil.copyfile(left / file, made / file)
    if is_adapter:
        parts_of(base, made, name=job.base)  # made for this base: else it is refused
    if not (made / "tokenizer.json").is_file():
        tokenizer_of(job).save_pretrained(str(made))
    base_digest, tokenizer = weights_digest(base), load_tokenizer(made)
    if is_adapter:
        record_base(made, base=job.base, base_digest=base_digest)
    told = {
        "base": job.base,
        "base_digest": base_digest,
        "template_digest": template_digest(tokenizer),
        "tokenizer_digest": tokenizer_digest(tokenizer),
        "recipe": dict(job.recipe),
    }
    metrics = {
        "rows": float(len(rows)),
        "supervised_tokens": float(sum(supervised_tokens(r) for r in rows)),
        "train_s": seconds,
        **_said_by_trainer(left),
    }
    print_file = folder / "fingerprint.json"
    print_file.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print_file.replace(job.out_dir / "fingerprint.json")
    made.rename(job.out_dir / name)
    return TrainResult(
        base_digest=base_digest,
        template_digest=str(told["template_digest"]),
        metrics=metrics,
        environment={"command": str(job.recipe["command"])},
    )


def _said_by_trainer(left: Path) -> dict[str, float]:
    """Return steps and losses of a transformers trainer, where it left its log."""
    try:
        state = json.loads((left / "trainer_state.json").read_text(encoding="utf-8"))
        losses = [float(e["loss"]) for e in state["log_history"] if "loss" in e]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    found = {"steps": float(state.get("global_step") or 0)}
    return found | ({"first_loss": losses[0], "last_loss": losses[-1]} if losses else {})
