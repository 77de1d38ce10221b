"""The artifacts of a project: found, described, compared and verified. Knows nothing of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.engine.backends import BackendPool
from harness.engine.project import Project
from harness.errors import HarnessError, MissingExtra, Refused, StoreError, UsageError
from harness.records import Artifact, Candidate, Condition, Json, LedgerEntry, to_plain
from harness.store.artifacts import verify
from harness.store.rows import RunRow
from harness.store.store import Store
from harness.store.tensors import check_weights

_MADE = ("tune", "pilot", "adopt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelved:
    """An artifact with what the disk and the ledger say of it. `bytes` is None where the files are
    gone or there never were any; `made_at` where no ledger entry tells.
    """

    artifact: Artifact
    made_at: str | None
    bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where an artifact comes from and what came of it.

    `start` and `variant_of` are those that it went on from and is another form of; `variants` and
    `later` the same the other way round; `releases` the verdicts in which it was the candidate or
    the baseline.
    """

    shelved: Shelved
    start: Artifact | None
    variant_of: Artifact | None
    variants: tuple[Artifact, ...]
    later: tuple[Artifact, ...]
    runs: tuple[RunRow, ...]
    releases: tuple[LedgerEntry, ...]


def find_artifact(store: Store, text: str, *, task: str | None = None) -> Artifact:
    """Return the artifact of this name or digest prefix, in any task where none is named.

    Raises UsageError where none is meant, or several.
    """
    if task is not None:
        return store.artifact(text, task=task)
    every = store.artifacts()
    found = [store.artifact(text, task=t) for t in dict.fromkeys(_tasks_with(text, every))]
    if len(found) == 1:
        return found[0]
    if found:
        tasks = ", ".join(a.task for a in found)
        raise UsageError(f"{text!r} is an artifact of several tasks ({tasks}): add --task NAME")
    known = ", ".join(f"{a.name} ({a.digest[:16]})" for a in every[-10:] if not a.is_pilot)
    raise UsageError(
        f"{text!r} is not an artifact of this project. Known: {known or 'none yet'}. "
        "`harness model list` shows them all."
    )


def _tasks_with(text: str, every: Iterable[Artifact]) -> Iterator[str]:
    """Yield the task of each artifact that `text` may mean; a pilot goes by its digest alone."""
    for one in every:
        if (one.name == text and not one.is_pilot) or (text and one.digest.startswith(text)):
            yield one.task


def shelved(artifact: Artifact, *, store: Store, project: Project) -> Shelved:
    """Return `artifact` with its size and the moment it was made."""
    entries = [e for k in _MADE for e in store.ledger(task=artifact.task, kind=k)]
    moments = sorted(e.at for e in entries if _names(e.payload, artifact.digest))
    folder = project.home / artifact.folder
    size = folder_bytes(folder) if artifact.folder and folder.is_dir() else None
    return Shelved(artifact=artifact, made_at=moments[0] if moments else None, bytes=size)


def _names(payload: Json, digest: str) -> bool:
    return isinstance(payload, dict) and payload.get("artifact") == digest


def folder_bytes(folder: Path) -> int:
    """Return what the files below `folder` hold."""
    return sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir())


def lineage(artifact: Artifact, *, store: Store, project: Project) -> Lineage:
    """Return everything that the store knows of `artifact`."""
    every = {a.digest: a for a in store.artifacts()}
    runs = tuple(r for r in store.runs() if r.artifact == artifact.digest)
    ids = {r.id for r in runs}
    releases = tuple(e for e in store.ledger(kind="release") if ids & set(compared_runs(e.payload)))
    return Lineage(
        shelved=shelved(artifact, store=store, project=project),
        start=every.get(artifact.start or ""),
        variant_of=every.get(artifact.variant_of or ""),
        variants=tuple(a for a in every.values() if a.variant_of == artifact.digest),
        later=tuple(a for a in every.values() if a.start == artifact.digest),
        runs=runs,
        releases=releases,
    )


def compared_runs(payload: Json) -> list[str]:
    """Return the ids of the runs that a release verdict compared."""
    comparison = payload.get("comparison") if isinstance(payload, dict) else None
    if not isinstance(comparison, dict):
        return []
    return [str(comparison[k]) for k in ("baseline_run", "candidate_run") if comparison.get(k)]


# ---------------------------------------------------------------- comparing


_PLAIN = (
    "task", "tuner", "origin", "base", "base_digest", "template_digest", "prompt",
    "prompt_digest", "data_digest", "rows", "seed", "start", "variant_of", "variant", "backend",
    "wall_verdict", "override", "cost_usd",
)  # fmt: skip
_TABLES = ("recipe", "environment", "metrics")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One fact of which two artifacts say different things; None where one says nothing."""

    name: str
    first: Json
    second: Json


def differences(first: Artifact, second: Artifact) -> list[Difference]:
    """Return what two artifacts do not share, settings key by key; empty for twins."""
    found = []
    for name in _PLAIN:
        one, two = getattr(first, name), getattr(second, name)
        if one != two:
            found.append(Difference(name=name, first=one, second=two))
    for table in _TABLES:
        one, two = to_plain(getattr(first, table)), to_plain(getattr(second, table))
        for key in sorted({*one, *two}):
            if one.get(key) != two.get(key):
                place = f"{table}.{key}"
                found.append(Difference(name=place, first=one.get(key), second=two.get(key)))
    return found


# ---------------------------------------------------------------- verifying


def verify_artifact(
    artifact: Artifact,
    *,
    project: Project,
    pool: BackendPool,
    options: Mapping[str, Json] | None = None,
) -> list[Condition]:
    """Return what must be true of an artifact that is to be used: whole files that run no code,
    its base here and unchanged, its template and tokenizer those that it was made with.

    A condition that could not be checked has `holds` None.
    """
    if not artifact.folder:
        text = f"{artifact.backend or artifact.base} is hosted: there are no files here"
        return [Condition(name="files", holds=None, text=text)]
    conditions = [_files(artifact, project)]
    if not conditions[0].holds:
        return conditions
    folder = project.home / artifact.folder
    if (folder / "gguf").is_dir():
        text = "it is whole without its base; llama.cpp's server reads it"
        return [*conditions, Condition(name="base", holds=None, text=text)]
    return [*conditions, *_base(artifact, folder, pool=pool, options=options or {})]


def _files(artifact: Artifact, project: Project) -> Condition:
    try:
        verify(artifact, base=project.home)
        count = check_weights(project.home / artifact.folder)
    except (Refused, StoreError, OSError) as exc:
        return Condition(name="files", holds=False, text=str(exc))
    size = folder_bytes(project.home / artifact.folder)
    text = f"{size:,} bytes are those that were recorded, {count} weight files are whole, no pickle"
    return Condition(name="files", holds=True, text=text)


def _base(
    artifact: Artifact, folder: Path, *, pool: BackendPool, options: Mapping[str, Json]
) -> list[Condition]:
    candidate = Candidate(
        name=artifact.name,
        backend=artifact.backend or artifact.base,
        artifact=artifact.digest,
        options=options,
    )
    try:
        identity = pool.get(candidate).identity
    except MissingExtra as exc:
        return [Condition(name="base", holds=None, text=f"not checked: {exc}")]
    except HarnessError as exc:
        return [Condition(name="base", holds=False, text=str(exc))]
    found = []
    is_adapter = "adapter" in identity
    if not is_adapter and "weights" in identity:
        found.append(Condition(name="base", holds=None, text="a whole model: it needs no base"))
    elif not artifact.base_digest or "weights" not in identity:
        text = f"{candidate.backend} does not tell which weights it has"
        found.append(Condition(name="base", holds=None, text=text))
    else:
        found.append(
            _same(
                "base",
                f"{artifact.base}",
                recorded=artifact.base_digest,
                found=str(identity["weights"]),
            )
        )
    told = fingerprint_of(folder)
    for name, recorded in (
        ("template", artifact.template_digest),
        ("tokenizer", str(told.get("tokenizer_digest") or "")),
    ):
        if recorded and name in identity:
            found.append(_same(name, name, recorded=recorded, found=str(identity[name])))
        else:
            found.append(Condition(name=name, holds=None, text="nothing was recorded of it"))
    return found


def _same(name: str, what: str, *, recorded: str, found: str) -> Condition:
    is_same = recorded == found
    text = f"{what} is {found[:16]}" + (
        ", as recorded" if is_same else f", and {recorded[:16]} was recorded: it changed since"
    )
    return Condition(name=name, holds=is_same, text=text)


def fingerprint_of(folder: Path) -> dict[str, Json]:
    """Return what `fingerprint.json` says, empty where there is none or it cannot be read."""
    import json

    try:
        held = json.loads((folder / "fingerprint.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}
