"""The shape of the files that people write: `task.toml` and case rows. Knows nothing of prompts."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Literal

import pydantic

from harness.errors import TaskError
from harness.records import FAMILIES, Case, Json


class Strict(pydantic.BaseModel):
    """A table in which an unknown key is an error."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class DecodingTable(Strict):
    """`[decoding]`; see `harness.records.Decoding`."""

    temperature: float | None = pydantic.Field(default=None, ge=0)
    max_tokens: int | None = pydantic.Field(default=None, ge=1)
    top_p: float | None = pydantic.Field(default=None, gt=0, le=1)
    seed: int | None = None
    stop: tuple[str, ...] | None = None


class CandidateTable(Strict):
    """`[candidates.NAME]`: what differs from the automatic candidate of its prompt."""

    prompt: str | None = None
    backend: str | None = None
    artifact: str | None = None
    base_url: str | None = None
    decoding: DecodingTable = DecodingTable()


class TuneTable(Strict):
    """`[tune]`: which tuner, which recipe file, and the prompt that is trained and served."""

    tuner: str
    prompt: str
    recipe: str | None = None
    name: str = "tuned"


class BudgetTable(Strict):
    """`[budgets]`: limits that a release must keep, seconds and dollars a case."""

    p95_latency_s: float | None = pydantic.Field(default=None, gt=0)
    mean_cost_usd: float | None = pydantic.Field(default=None, ge=0)


class TaskFile(Strict):
    """`task.toml`. Every field is explained in docs/task.md."""

    about: str
    model: str
    cases: str | tuple[str, ...]
    primary: str = "all"
    target: float = pydantic.Field(gt=0, le=1)
    target_reason: str
    goal: Literal["beat", "match"] = "beat"
    margin: float | None = pydantic.Field(default=None, gt=0, lt=1)
    better_in: Literal["cost", "latency", "boundary"] | None = None
    mid: float = pydantic.Field(default=0.05, gt=0, lt=1)
    min_gain: float = pydantic.Field(default=0.02, ge=0, lt=1)
    profile: Literal["quick", "standard"] = "standard"
    repeats: int = pydantic.Field(default=1, ge=1)
    needs_knowledge: bool = False
    base_url: str | None = None
    default_candidates: tuple[str, ...] = ("reference",)
    decoding: DecodingTable = DecodingTable()
    candidates: dict[str, CandidateTable] = {}
    guardrails: dict[str, float] = {}
    must_hold_slices: tuple[str, ...] = ()
    budgets: BudgetTable = BudgetTable()
    waivers: dict[str, str] = {}
    tune: TuneTable | None = None
    advise: dict[str, str | float | bool] = {}

    @pydantic.field_validator("waivers")
    @classmethod
    def _waivers_have_reasons(cls, waivers: dict[str, str]) -> dict[str, str]:
        for name, reason in waivers.items():
            if name not in {*FAMILIES, "labels"}:
                raise ValueError(f"{name!r} is neither a family ({', '.join(FAMILIES)}) nor labels")
            if len(reason.split()) < 3:
                raise ValueError(f"the waiver of {name} needs a written reason, in a sentence")
        return waivers

    @pydantic.model_validator(mode="after")
    def _match_names_its_terms(self) -> TaskFile:
        if self.goal == "match" and (self.margin is None or self.better_in is None):
            raise ValueError(
                'goal = "match" needs `margin` and `better_in` (cost, latency, boundary)'
            )
        return self


class CaseRow(Strict):
    """One line of a case file."""

    id: str = pydantic.Field(min_length=1, max_length=200)
    split: Literal["train", "dev", "test"]
    inputs: dict[str, Any]
    reference: Any = None
    cluster: str | None = None
    tags: tuple[str, ...] = ()


def read_task_file(path: Path) -> TaskFile:
    """Return the settings in `path`. Raises TaskError with file and line."""
    text = read_text(path)
    try:
        plain = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise TaskError(f"{path}: not TOML: {exc}") from exc
    try:
        return TaskFile.model_validate(plain)
    except pydantic.ValidationError as exc:
        first = exc.errors()[0]
        keys = [str(k) for k in first["loc"] if isinstance(k, str)]
        line = _line_of(text, keys[-1] if keys else "")
        what = ".".join(str(k) for k in first["loc"]) or "task"
        known = ""
        if first["type"] == "extra_forbidden":
            known = f" Known keys: {', '.join(sorted(TaskFile.model_fields))}."
        raise TaskError(f"{path}:{line}: {what}: {first['msg']}.{known}") from exc


def read_cases(path: Path) -> list[Case]:
    """Return the cases of a JSON Lines file. Raises TaskError with file and line."""
    if path.is_dir():
        raise TaskError(f"{path}: a folder; `cases` names a JSON Lines file")
    cases = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        row = _validated(_parsed(line, place), place)
        cases.append(
            Case(
                id=row.id,
                inputs=row.inputs,
                split=row.split,
                reference=row.reference,
                cluster=row.cluster if row.cluster is not None else row.id,
                tags=row.tags,
                line=place,
            )
        )
    if not cases:
        raise TaskError(f'{path}:1: no cases. A line is {{"id", "split", "inputs", ...}}')
    return cases


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, BOM and CRLF removed. Raises TaskError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as exc:
        raise TaskError(f"{path}: no such file") from exc
    except UnicodeDecodeError as exc:
        raise TaskError(f"{path}: not UTF-8 (byte {exc.start}). Save it as UTF-8.") from exc
    except OSError as exc:
        raise TaskError(f"{path}: {exc.strerror or exc}") from exc


def _parsed(line: str, place: str) -> Json:
    try:
        return json.loads(line, parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as exc:
        raise TaskError(f"{place}: not JSON: {exc.msg} at column {exc.colno}") from exc
    except (ValueError, RecursionError) as exc:
        raise TaskError(f"{place}: {exc}") from exc


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON; write null")


def _no_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    keys = [k for k, _ in pairs]
    if len(set(keys)) != len(keys):
        twice = next(k for k in keys if keys.count(k) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return dict(pairs)


def _validated(plain: Json, place: str) -> CaseRow:
    try:
        return CaseRow.model_validate(plain)
    except pydantic.ValidationError as exc:
        first = exc.errors()[0]
        what = ".".join(str(k) for k in first["loc"]) or "row"
        known = ", ".join(CaseRow.model_fields)
        raise TaskError(f"{place}: {what}: {first['msg']}. Keys of a row: {known}.") from exc


def _line_of(text: str, key: str) -> int:
    for number, line in enumerate(text.split("\n"), start=1):
        if key and line.lstrip().startswith((key, f"[{key}", f"[candidates.{key}")):
            return number
    return 1
