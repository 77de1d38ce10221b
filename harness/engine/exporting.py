"""An artifact in another form: made by a plugin, kept beside it with the same lineage, copied out.

Knows nothing of tensors: a maker of variants comes through ports.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.engine.project import Project
from harness.engine.shelf import fingerprint_of
from harness.errors import HarnessError, StoreError, UsageError
from harness.ports.artifacts import VariantJob, VariantMaker
from harness.ports.manager import Plugins
from harness.records import Artifact, Json
from harness.store.artifacts import adopt, verify
from harness.store.store import Store
from harness.store.tensors import check_weights

MANIFEST = "fingerprint.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An artifact's other form. `is_new` is false where it had been made before."""

    artifact: Artifact
    notes: tuple[str, ...] = ()
    is_new: bool = True


def make_variant(
    source: Artifact,
    form: str,
    *,
    project: Project,
    plugins: Plugins,
    store: Store,
    at: Callable[[], str],
    base: str | None = None,
    options: Mapping[str, Json] | None = None,
) -> Made:
    """Return `source` in `form`, made now or before. A stop at any moment leaves nothing behind.

    `base` names the base on this machine where it was tuned on one that is served. Raises
    UsageError where it cannot be made, StoreError where the source's files are not its own.
    """
    maker: VariantMaker = plugins.owner("harness_variants", form)
    backend = base or source.base
    scheme, _, model = backend.partition(":")
    if not source.folder:
        raise UsageError(f"artifact {source.name!r} is hosted: its weights are not here")
    if scheme != "local":
        raise UsageError(
            f"artifact {source.name!r} was tuned on {source.base}: its other forms are made from "
            "the base's weights. Name them on this machine: --base local:FOLDER"
        )
    if (project.home / source.folder / "gguf").is_dir():
        raise UsageError(
            f"artifact {source.name!r} is {source.variant or 'a GGUF file'}, rounded already. Make "
            f"other forms of what it was made of: {(source.variant_of or '')[:16]}"
        )
    folder = verify(source, base=project.home)
    assert folder is not None
    for known in reversed(store.artifacts(source.task)):
        if (
            known.variant_of == source.digest
            and known.variant == form
            and _is_whole(known, project)
        ):
            return Made(artifact=known, is_new=False)
    workshop = Path(tempfile.mkdtemp(prefix=".making-", dir=project.home))
    try:
        job = VariantJob(base=model, artifact=folder, out_dir=workshop, options=dict(options or {}))
        result = maker(job)
        check_weights(workshop)
        digest, place = adopt(workshop, project.home / "artifacts")
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    made = replace(
        source,
        digest=digest,
        name=f"{source.name}-{form}",
        template_digest=result.template_digest,
        environment=dict(result.environment),
        metrics=dict(result.metrics),
        folder=place.relative_to(project.home).as_posix(),
        variant_of=source.digest,
        variant=form,
        curve=(),
        cost_usd=None,  # the training's: it stands with what this was made of
    )
    store.add_artifact(made, at=at())
    return Made(artifact=made, notes=result.notes)


def _is_whole(artifact: Artifact, project: Project) -> bool:
    try:
        verify(artifact, base=project.home)
    except HarnessError:  # collected, or changed: it is made again
        return False
    return True


def copy_out(artifact: Artifact, goal: Path, *, project: Project) -> list[str]:
    """Copy an artifact's files to the new or empty folder `goal`, and return their names.

    `fingerprint.json` there says which artifact it is and holds the sha256 of every other file.
    """
    folder = verify(artifact, base=project.home)
    if folder is None:
        raise UsageError(f"artifact {artifact.name!r} is hosted: there are no files to copy")
    if goal.exists() and not (goal.is_dir() and not any(goal.iterdir())):
        raise UsageError(f"{goal} is there already, and not empty: name a new folder")
    goal.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{goal.name}-", dir=goal.parent))
    try:
        shutil.copytree(folder, half, dirs_exist_ok=True)
        names = sorted(p.relative_to(half).as_posix() for p in half.rglob("*") if p.is_file())
        facts = fingerprint_of(half) | {
            "artifact": artifact.digest,
            "name": artifact.name,
            "task": artifact.task,
            "base": artifact.base,
            "base_digest": artifact.base_digest,
            "template_digest": artifact.template_digest,
            "prompt": artifact.prompt,
            "prompt_digest": artifact.prompt_digest,
            "data_digest": artifact.data_digest,
            "rows": artifact.rows,
            "variant": artifact.variant,
            "variant_of": artifact.variant_of,
            "files": {n: _sha256(half / n) for n in names if n != MANIFEST},
        }
        lines = [f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in facts.items()]
        text = "{\n  " + ",\n  ".join(lines) + "\n}\n"
        (half / MANIFEST).write_text(text, encoding="utf-8")
        half.chmod(0o755)
        if goal.is_dir():
            goal.rmdir()
        half.rename(goal)
    except OSError as exc:
        raise StoreError(f"cannot copy {artifact.name!r} to {goal}: {exc}") from exc
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return sorted({*names, MANIFEST})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
