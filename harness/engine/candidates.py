"""What a name on the command line stands for: a candidate of a task, whole. Knows no reply."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.engine.tables import as_dict, as_table
from harness.engine.taskfile import CandidateTable, DecodingTable
from harness.engine.text_files import read_text
from harness.errors import UsageError
from harness.records import Candidate, Decoding, Json, Prompt, digest

if TYPE_CHECKING:
    from harness.engine.tasks import Task
    from harness.records import Artifact

REFERENCE = "reference"
REPLAY = "replay:"
CONSTANT = "constant:"
SERVERLESS = frozenset({"local", "sklearn", "python"})
"""Schemes of this distribution that answer in this process, at no address."""

ArtifactFinder = Callable[[str], "str | Artifact"]
"""From a name or digest prefix to an artifact, or to its digest alone where nothing is asked of it;
raises UsageError."""


def candidate_names(task: Task) -> list[str]:
    """Return the names that `--candidate` knows in `task`."""
    tuned = {task.settings.tune.name} if task.settings.tune else set()
    return sorted({*task.prompts, *task.settings.candidates, *tuned, REFERENCE})


def named_artifacts(task: Task) -> list[str]:
    """Return the artifacts that `task.toml` names anywhere: names, digest prefixes, folders."""
    s = task.settings
    asked = [*s.default_candidates, *(judge.against for judge in s.judges.values())]
    asked += [*s.advise.classical, s.advise.broad, s.advise.scoped, s.advise.people]
    own = (REPLAY, CONSTANT)
    tables = [_written(text) for text in asked if text and "@" in text and not text.startswith(own)]
    found = [table.artifact for table in (*s.candidates.values(), *tables)]
    return [name for name in (*found, s.tune and s.tune.start) if name]


def _written(text: str) -> CandidateTable:
    """Return the table that PROMPT@SCHEME:MODEL[+ARTIFACT] stands for."""
    prompt, _, backend = text.partition("@")
    backend, _, artifact = backend.partition("+")
    return CandidateTable(prompt=prompt, backend=backend, artifact=artifact or None)


def resolve_candidate(
    task: Task, text: str, *, base_url: str | None = None, artifact_digest: ArtifactFinder
) -> Candidate:
    """Return the candidate that `text` names: NAME, `PROMPT@SCHEME:MODEL[+ARTIFACT]`, `reference`,
    `replay:FILE` or `constant:TEXT`, which always answers TEXT. Raises UsageError naming what is
    known.
    """
    if text == REFERENCE or text.startswith(CONSTANT):
        return Candidate(name=text, backend=text)
    if text.startswith(REPLAY):  # replies that were edited are another candidate's
        replies = digest(read_text(replay_path(text, task.folder)))
        return Candidate(name=text, backend=text, prompt_digest=replies)
    table = task.settings.candidates.get(text)
    if table is None and "@" in text:
        table = _written(text)
    elif table is None and text in task.prompts:
        table = CandidateTable(prompt=text)
    elif table is None and (tune := task.settings.tune) and text == tune.name:
        table = CandidateTable(prompt=tune.prompt, artifact=tune.name)
    if table is None:
        known = candidate_names(task)
        asks = next(iter(task.prompts), None)
        meant = f" With a prompt: {asks}@{text}." if ":" in text and asks else ""
        raise UsageError(
            f"no candidate {text!r} in task {task.name!r}.{meant} Known: {', '.join(known)}; or "
            "write PROMPT@SCHEME:MODEL[+ARTIFACT], replay:FILE or constant:TEXT. `harness "
            "plugins` lists schemes."
        )
    prompt = _known_prompt(task, table.prompt or text)
    backend = table.backend or task.settings.model
    found = _found(table, text, task=task, backend=backend, finder=artifact_digest)
    if found is not None and not isinstance(found, str):
        backend, found = _answers(found, backend, text), found.digest
    if ":" not in backend:
        raise UsageError(
            f"candidate {text!r}: backend {backend!r} is not SCHEME:MODEL, as in "
            f"openai:gpt-x or local:smollm2-135m. `harness plugins` lists schemes."
        )
    return Candidate(
        name=text,
        backend=backend,
        prompt=prompt.name,
        prompt_digest=task.prompt_digest(prompt),
        family=prompt.family,
        decoding=_decoding(
            task.settings.decoding, as_table(DecodingTable, prompt.decoding), table.decoding
        ),
        artifact=found,
        base_url=_address(backend, text, named=table.base_url, given=base_url, task=task),
        options=_with_template(task, backend_options(task, backend) | table.options),
        epoch=task.settings.epoch or None,
    )


def _address(
    backend: str, text: str, *, named: str | None, given: str | None, task: Task
) -> str | None:
    """Return the base URL of a candidate: none where no server answers, or one candidate would be
    two, and a local baseline asked anew, for an address that only the other one has.
    """
    if backend.partition(":")[0] not in SERVERLESS:
        return given or named or task.settings.base_url
    if named is not None:
        raise UsageError(
            f"candidate {text!r}: base_url is the address of a server, and {backend} answers in "
            "this process. Leave it out."
        )
    return None


def _found(
    table: CandidateTable, text: str, *, task: Task, backend: str, finder: ArtifactFinder
) -> str | Artifact | None:
    """Return the artifact of a candidate: by name, by digest, or where `finder` takes folders by
    path, which a task file writes from its own folder.
    """
    if not table.artifact or "/" not in table.artifact:
        return finder(table.artifact) if table.artifact else None
    take: Callable[..., str | Artifact] | None = getattr(finder, "by_path", None)
    if take is None:
        raise UsageError(
            f"candidate {text!r}: {table.artifact} is a folder, and an artifact goes by its name "
            f"or digest here. Adopt it first: harness model adopt {table.artifact} --base "
            f"{backend} --task {task.name} --prompt {table.prompt or text}"
        )
    is_in_file = text in task.settings.candidates
    place = Path(table.artifact).expanduser()
    return take(task.folder / place if is_in_file else place, backend=backend)


def _answers(artifact: Artifact, asked: str, text: str) -> str:
    """Return what answers with `artifact`: a classical or hosted model is no part of its base."""
    if artifact.makes == "scorer":
        raise UsageError(
            f"candidate {text!r}: artifact {artifact.name!r} is a reward model, made by "
            f"{artifact.tuner}: it gives a number for a reply and makes none, so it cannot be "
            "evaluated or gated. Rank replies with it: harness_trl.scorer.load_scorer."
        )
    if artifact.backend is None:
        return asked
    if asked not in {artifact.backend, artifact.base}:
        raise UsageError(
            f"candidate {text!r}: artifact {artifact.name!r} is answered by {artifact.backend}, "
            f"and not by {asked}. Leave the backend out."
        )
    return artifact.backend


def backend_options(task: Task, backend: str) -> dict[str, Json]:
    """Return the settings of `backend`: those of its scheme, then those of its full name.

    A `chat_template` that names a .jinja file of the task's folder is that file's text. Raises
    TaskError where there is none.
    """
    tables = task.settings.backends
    return _with_template(
        task, {**tables.get(backend.partition(":")[0], {}), **tables.get(backend, {})}
    )


def _with_template(task: Task, options: dict[str, Json]) -> dict[str, Json]:
    template = options.get("chat_template")
    if isinstance(template, str) and template.endswith((".jinja", ".j2")):
        return options | {"chat_template": read_text(task.folder / template)}
    return options


def replay_path(backend: str, folder: Path) -> Path:
    """Return the file of a `replay:` backend: as named, else relative to the task's folder."""
    name = backend.removeprefix(REPLAY)
    return Path(name) if Path(name).is_file() else folder / name


def _decoding(*tables: DecodingTable) -> Decoding:
    merged: dict[str, object] = {}
    for table in tables:
        merged |= as_dict(table, without="none")
    return dataclasses.replace(Decoding(), **merged)  # type: ignore[arg-type]


def _known_prompt(task: Task, name: str) -> Prompt:
    if name not in task.prompts:
        known = ", ".join(task.prompts) or "none"
        raise UsageError(
            f"no prompt {name!r} in {task.folder / 'prompts'}. Known: {known}. "
            f"A prompt is a file NAME.md there."
        )
    return task.prompts[name]
