"""Tells which tool wrote a file, how surely, and why. Knows first bytes and tell-tale fields."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.engine.scores.deepeval import cases_of
from harness.engine.scores.lm_eval import is_sample
from harness.engine.scores.texts import UTF8_BOM, head, json_object
from harness.errors import UsageError

Form = Literal["csv", "jsonl", "promptfoo", "promptfoo-jsonl", "inspect", "inspect-json", "lm-eval",
               "deepeval"]  # fmt: skip
READ = (
    "Read are: CSV and JSON Lines in long form, promptfoo's -o out.json, Inspect logs, lm-eval "
    "samples, DeepEval results"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """A form, whether it is certain, and what told it."""

    form: Form
    is_sure: bool
    why: str


def detect(path: Path) -> Detected:
    """Return what `path` is. Raises UsageError where it is nothing that is read here."""
    start = head(path).removeprefix(UTF8_BOM)
    if start.startswith(b"PK"):
        return Detected(form="inspect", is_sure=True, why="a zip file, as Inspect's .eval")
    text = start.decode("utf-8", errors="replace")
    if "\0" in text:
        raise UsageError(f"{path} is no text. {READ}.")
    body = text.lstrip()
    if not body:
        raise UsageError(f"{path} is empty: no scores in it")
    if body.startswith("["):
        raise UsageError(
            f"{path} is one JSON array: the long form is JSON Lines, one object a line "
            f"(jq -c '.[]' {path.name})"
        )
    if body.startswith("{"):
        return _of_json(path, body)
    return Detected(
        form="csv", is_sure="," in body.split("\n", 1)[0], why="text that is no JSON, so CSV"
    )


def _of_json(path: Path, body: str) -> Detected:
    line = body.split("\n", 1)[0]
    first = _object(line)
    if first is not None:
        rest = body[len(line) :].strip()
        if is_sample(first):
            return Detected(form="lm-eval", is_sure=True, why="lines with doc_id, doc and resps")
        if {"promptIdx", "testIdx", "success"} <= first.keys():
            return Detected(form="promptfoo-jsonl", is_sure=True, why="lines with promptIdx")
        if "case" in {str(k).strip().lower() for k in first} or rest:
            return Detected(form="jsonl", is_sure="case" in first, why="one JSON object a line")
        whole = _of_keys(first)
        if whole is not None:
            return whole
        if path.suffix in (".jsonl", ".ndjson"):
            return Detected(form="jsonl", is_sure=False, why="its name")
        raise UsageError(f"{path}: {_unknown(first)}")
    # one object over several lines: its first bytes tell, its text is read whole later
    for form, marks in TELLTALES.items():
        if all(f'"{mark}"' in body for mark in marks):
            return Detected(form=form, is_sure=True, why=f"it has {' and '.join(marks)}")
    if path.suffix in (".jsonl", ".ndjson"):
        return Detected(form="jsonl", is_sure=False, why="its name")
    whole = _of_keys(json_object(path))
    if whole is None:
        raise UsageError(f"{path}: {_unknown(json_object(path))}")
    return whole


TELLTALES: dict[Form, tuple[str, ...]] = {
    "promptfoo": ("evalId", "results", "prompts"),
    "inspect-json": ("eval", "eval_id", "task", "dataset"),
    "deepeval": ("testCases", "metricsData"),
}


def _of_keys(plain: dict[str, Any]) -> Detected | None:
    results = plain.get("results")
    if isinstance(results, dict) and isinstance(results.get("results"), list):
        return Detected(form="promptfoo", is_sure="evalId" in plain, why="it has results.results")
    if isinstance(plain.get("eval"), dict) and "task" in plain["eval"]:
        return Detected(form="inspect-json", is_sure="samples" in plain, why="it has eval.task")
    if cases_of(plain) is not None:
        return Detected(form="deepeval", is_sure=True, why="it has test results and metrics")
    return None


def _unknown(plain: dict[str, Any]) -> str:
    keys = ", ".join(list(map(str, plain))[:8]) or "none"
    if isinstance(plain.get("results"), dict) and "configs" in plain:
        return (
            "lm-eval's table of results, which has no cases: give the samples_*.jsonl beside it "
            "(lm_eval --log_samples)"
        )
    return f"an unknown JSON file (its fields: {keys}). {READ}."


def _object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
