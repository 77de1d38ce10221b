"""An artifact that another program trained becomes one of this project, with what is known of it.

Adopting needs no wall: the training is done. That there was none is kept, and shown with every
report and verdict. Knows nothing of tensors: a backend says whether the files fit their base.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.words import count
from harness.engine.adopted_rows import Compared, compare_rows, refuse_leaked
from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.by_path import BY_PATH
from harness.engine.candidates import backend_options, resolve_candidate
from harness.engine.collecting import Found, collect, look_at
from harness.engine.project import Project
from harness.engine.tasks import Task
from harness.engine.walls import last_wall, why_not_licensed
from harness.errors import TaskError, UsageError
from harness.ports.manager import Plugins
from harness.records import Artifact, Candidate, Json, LedgerEntry
from harness.store.artifacts import adopt
from harness.store.home import make_home
from harness.store.store import Store

BASE_FILE = "harness-base.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The rows that something was trained on: sha256 of the files, how many rows where it can be
    told."""

    digest: str
    rows: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """An adopted artifact, what of its folder was left out, and what is not known of it."""

    artifact: Artifact
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def adopt_folder(
    source: Path,
    *,
    base: str,
    task: Task,
    project: Project,
    plugins: Plugins,
    store: Store,
    at: Callable[[], str],
    name: str | None = None,
    prompt: str | None = None,
    trained_on: Path | None = None,
    origin: str | None = None,
    override: str | None = None,
    is_by_path: bool = False,
) -> Adopted:
    """Copy the safe files of `source` to the shelf, and record what they are. Where they were only
    named by their path, nothing is assumed of them, and files that are known stay what they are.

    Raises UsageError where they are no adapter or model, half copied, or of another base; Refused
    for pickles and code. Nothing is left of what is refused.
    """
    found = look_at(source)
    backend = base if ":" in base else f"local:{base}"
    if prompt is None and task.settings.tune and not is_by_path:
        prompt = task.settings.tune.prompt
    served = None
    if prompt is not None:
        served = resolve_candidate(task, f"{prompt}@{backend}", artifact_digest=str)
    copied = _copied(
        found, backend=backend, task=task, served=served, trained_on=trained_on,
        project=project, plugins=plugins,
    )  # fmt: skip
    if is_by_path:
        every = store.artifacts(task.name)
        held = [a for a in every if a.digest == copied.digest and not a.is_pilot]
        if held:
            return Adopted(artifact=held[-1], left_out=found.left_out, notes=())
        origin = BY_PATH
    wall_verdict, reason = _licence(task, store, override=override, origin=origin or found.origin)
    maker = origin or found.origin or "elsewhere"
    artifact = replace(
        copied.artifact(task, base=backend),
        name=name or _name(source, None if is_by_path else task),
        # never one of ours: its settings are not those of our recipes
        tuner=f"{maker} (elsewhere)" if maker in plugins.table("harness_tuners") else maker,
        prompt=prompt or "",
        prompt_digest=(served.prompt_digest or "") if served else "",
        wall_verdict=wall_verdict,
        override=reason,
        origin=maker,
    )
    _record(artifact, store=store, moment=at(), is_by_path=is_by_path)
    return Adopted(
        artifact=artifact, left_out=found.left_out, notes=tuple(_notes(artifact, copied, task))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copied:
    """Files that stand on the shelf, and what they, their base and their rows tell of themselves:
    `identity` is what a backend says that wears them.
    """

    digest: str
    folder: str
    found: Found
    identity: Mapping[str, str]
    prepared: Prepared | None
    compared: Compared | None

    def artifact(self, task: Task, *, base: str) -> Artifact:
        """Return the artifact as far as its files tell."""
        is_adapter = self.found.kind == "adapter"
        return Artifact(
            digest=self.digest,
            name="",
            task=task.name,
            tuner="",
            base=base,
            base_digest=str(self.identity.get("weights", "")) if is_adapter else "",
            template_digest=str(self.identity.get("template", "")),
            prompt="",
            prompt_digest="",
            data_digest=self.prepared.digest if self.prepared else "",
            rows=_row_count(self.prepared, self.compared),
            recipe=dict(self.found.recipe),
            seed=_seed(self.found.recipe),
            environment=dict(self.found.environment),
            metrics=dict(self.found.metrics),
            folder=self.folder,
        )


def _copied(
    found: Found,
    *,
    backend: str,
    task: Task,
    served: Candidate | None,
    trained_on: Path | None,
    project: Project,
    plugins: Plugins,
) -> _Copied:
    """Copy what was found to the shelf, where it fits its base and its rows do not leak.

    Raises UsageError or Refused; nothing is left then.
    """
    prepared = read_prepared(trained_on) if trained_on else None
    compared = None
    make_home(project.home)
    workshop = Path(tempfile.mkdtemp(prefix=".making-", dir=project.home))
    try:
        folder = collect(found, workshop)
        options = backend_options(task, backend)
        try:
            with _worn(backend, workshop, plugins=plugins, options=options) as live:
                identity = _identity(live)
                if trained_on is not None:
                    compared = compare_rows(task, trained_on, candidate=served, live=live)
        except TaskError:
            raise
        except UsageError as exc:  # it names the copy, which is gone when this is read
            raise UsageError(str(exc).replace(str(folder), str(found.folder))) from exc
        if compared is not None:
            refuse_leaked(compared, task)
        if found.kind == "adapter" and "weights" in identity:
            known = {"base": backend.partition(":")[2], "base_digest": identity["weights"]}
            _write(folder / BASE_FILE, known)
        facts = {f"{k}_digest": identity[k] for k in ("template", "tokenizer") if k in identity}
        _write(workshop / "fingerprint.json", facts | {"base_in_its_own_words": found.base})
        digest, place = adopt(workshop, project.home / "artifacts")
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return _Copied(
        digest=digest,
        folder=place.relative_to(project.home).as_posix(),
        found=found,
        identity=identity,
        prepared=prepared,
        compared=compared,
    )


def _record(artifact: Artifact, *, store: Store, moment: str, is_by_path: bool) -> None:
    digest, reason = artifact.digest, artifact.override
    store.add_artifact(artifact, at=moment)
    text = f"{artifact.name} {digest[:8]}, made by {artifact.origin}"
    if is_by_path:
        text = f"{artifact.name} {digest[:8]}, named by its path: its lineage is unknown"
    entries = [("adopt", text)]
    if reason and not is_by_path:
        entries.append(("override", f"adopted {digest[:8]}: {reason}"))
    payload = {
        "artifact": digest,
        "origin": artifact.origin,
        "base": artifact.base,
        "reason": reason,
    }
    for kind, line in entries:
        store.record(
            LedgerEntry(kind=kind, task=artifact.task, at=moment, payload=payload, text=line)  # type: ignore[arg-type]
        )


@contextmanager
def _worn(
    backend: str, workshop: Path, *, plugins: Plugins, options: Mapping[str, Json]
) -> Iterator[LiveBackend | None]:
    """Lend the backend that wears the files, None where the base is not of this machine. Raises
    UsageError where they do not fit it.
    """
    scheme = backend.partition(":")[0]
    plugins.owner("harness_backends", scheme)  # a wrong name is told as such
    if scheme != "local":
        yield None
        return
    pool = BackendPool(plugins, artifact_folder=lambda _: workshop)
    try:
        yield pool.get(
            Candidate(name="adopted", backend=backend, artifact="adopted", options=options)
        )
    finally:
        pool.close()


def _identity(live: LiveBackend | None) -> Mapping[str, str]:
    """What the backend says of itself, empty where the base is not here."""
    identity = dict(live.identity) if live is not None else {}
    if "adapter" not in identity:
        identity.pop("weights", None)
    return identity


def _licence(
    task: Task, store: Store, *, override: str | None, origin: str | None
) -> tuple[str | None, str | None]:
    if origin == BY_PATH:
        return None, "named by its path: who trained it, on what and with which prompt is unknown"
    verdict = last_wall(task, store)
    why_not = why_not_licensed(task, verdict, store)
    if why_not is None and verdict is not None:
        return verdict.id, None
    said = override or f"trained by {origin or 'another program'} before it was adopted"
    return None, f"{said} (in spite of this: {why_not})"


def _notes(artifact: Artifact, copied: _Copied, task: Task) -> list[str]:
    prepared, compared, found = copied.prepared, copied.compared, copied.found
    notes = []
    if not artifact.prompt:
        notes.append(
            "with which prompt it was trained is not known: the gate will want it, --prompt NAME"
        )
    if prepared is None or compared is None:
        notes.append(
            "what it was trained on is not known: leaks into dev and test cannot be ruled out; "
            "name the rows: --trained-on FILE"
        )
    else:
        if compared.rows:
            held = count(sum(c.split != "train" for c in task.cases), "case")
            notes.append(
                f"{count(compared.rows, 'row')} compared with the {held} of dev and test: "
                "none stands in both, nor nearly"
            )
        if compared.unknown:
            notes.append(f"{compared.unknown}: leaks into dev and test cannot be ruled out")
        if not artifact.rows:
            notes.append("how many rows it was trained on cannot be told from those files")
    if not copied.identity:
        notes.append(
            f"{artifact.base} is not of this machine: whether it is the adapter's base "
            f"({found.base or 'which it does not name'}) was not checked"
        )
    elif found.kind == "merged":
        notes.append("it is a whole model, which needs no base")
    if artifact.base != task.settings.model:
        notes.append(f"its base is not the task's model, {task.settings.model}")
    return notes


def _row_count(prepared: Prepared | None, compared: Compared | None) -> int:
    if prepared is None:
        return 0
    return prepared.rows or (compared.rows if compared and not compared.unknown else 0)


def _name(source: Path, task: Task | None) -> str:
    if task is not None and task.settings.tune:
        return task.settings.tune.name
    stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in source.resolve().name)
    # never the name of what was tuned here: the newest of a name is the one that is meant
    return (stem.strip("-.") or "adopted") + ("-by-path" if task is None else "")


def _seed(recipe: Mapping[str, Json]) -> int:
    seed = recipe.get("seed")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else 0


def _write(path: Path, facts: Mapping[str, Json]) -> None:
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


# ---------------------------------------------------------------- what it was trained on


def read_prepared(path: Path) -> Prepared:
    """Return the identity of prepared rows: a file of JSON lines, or a folder as `datasets` (and
    so axolotl and TRL) writes them. Raises UsageError where there is nothing.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    if not files:
        raise UsageError(f"--trained-on {path}: no such file or folder, or an empty one")
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            name = file.relative_to(path).as_posix() if path.is_dir() else ""
            found = hashlib.file_digest(stream, "sha256")
            whole.update(name.encode("utf-8", "surrogateescape") + b"\0" + found.digest())
    lines = [f for f in files if f.suffix in (".jsonl", ".ndjson")]
    rows: int | None = None
    if lines:
        rows = sum(_lines(file) for file in lines)
    elif path.is_dir():
        rows = _datasets_rows(path)
    return Prepared(digest=whole.hexdigest(), rows=rows)


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def _datasets_rows(folder: Path) -> int | None:
    counts = []
    for info in sorted(folder.rglob("dataset_info.json")):
        try:
            splits = json.loads(info.read_text(encoding="utf-8")).get("splits") or {}
            counts += [int(s["num_examples"]) for s in splits.values()]
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            return None
    return sum(counts) if counts else None
