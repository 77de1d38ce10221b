"""A task, loaded: its settings, prompts and cases. Knows nothing of replies."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from harness.checks import registry
from harness.checks.registry import binding
from harness.core.passages import Passage
from harness.core.scoring import ALL
from harness.engine.candidates import CONSTANT, REFERENCE, REPLAY, candidate_names
from harness.engine.case_rows import read_cases
from harness.engine.documents import check_needs, read_passages
from harness.engine.eval_sources import (
    aggregates,
    conftests,
    eval_functions,
    texts_in,
    texts_of,
)
from harness.engine.images import with_images
from harness.engine.imported_files import imported_files, module_roots
from harness.engine.prompt_files import prompt_files, read_prompt
from harness.engine.tables import as_dict
from harness.engine.taskfile import TaskFile, read_task_file
from harness.engine.text_files import read_text
from harness.errors import TaskError, UsageError
from harness.records import SPLITS, Case, Prompt, Split, digest, digest_rows


@dataclass(frozen=True)
class Task:
    """A folder with `task.toml`, prompts and `eval_*.py`, read and checked."""

    name: str
    folder: Path
    settings: TaskFile
    prompts: Mapping[str, Prompt]
    cases: tuple[Case, ...]

    def split(self, split: Split) -> tuple[Case, ...]:
        """Return the cases of `split`, in file order."""
        return self._splits[split]

    @cached_property
    def _splits(self) -> dict[Split, tuple[Case, ...]]:
        return {s: tuple(c for c in self.cases if c.split == s) for s in SPLITS}

    @property
    def case_files(self) -> tuple[Path, ...]:
        """Where its cases stand."""
        return tuple((self.folder / path).resolve() for path in _paths(self.settings.cases))

    @cached_property
    def evals_digest(self) -> str:
        """Identity of what scores: the Python and JSON files of the task's folder, and what of its
        project these import.
        """
        own_cases = set(self.case_files)
        found = [*self.folder.glob("*.py"), *self.folder.glob("*.json")]
        files = sorted(f for f in found if f.resolve() not in own_cases)
        files += [f for f in conftests(self.folder) if f.parent != self.folder]
        digests: list[Any] = [[f.name, hashlib.sha256(f.read_bytes()).hexdigest()] for f in files]
        if self.settings.repeat_verdict != "mean":
            digests.append(["repeat_verdict", self.settings.repeat_verdict])
        python = [f for f in files if f.suffix == ".py"]
        elsewhere = imported_files(python, roots=module_roots(self.folder))
        for name, file in elsewhere.items():
            if file not in files:
                digests.append([name, hashlib.sha256(file.read_bytes()).hexdigest()])
        strangers = _plugin_checks([*python, *elsewhere.values()], self.cases)
        if strangers:  # left out where none: older digests stand
            digests.append(["checks", strangers])
        if self.settings.judges:
            from harness.engine.judge_facts import judge_facts

            digests.append(["judges", judge_facts(self)])
        return digest(digests)

    @cached_property
    def policy_digest(self) -> str:
        """Identity of what was promised before looking: model, goal, target, margins, profile."""
        s = self.settings
        promised = [s.model, s.goal, s.target, s.margin, s.better_in, s.mid, s.min_gain, s.primary]
        kept = [s.profile, s.guardrails, s.must_hold_slices, as_dict(s.budgets)]
        later: list[Any] = [] if s.repeat_verdict == "mean" else [s.repeat_verdict]
        if watched := as_dict(s.release, without="defaults"):  # left out where nothing is set
            later.append({"release": watched})
        return digest([*promised, *kept, s.needs_knowledge, s.waivers, *later])

    @cached_property
    def train_digest(self) -> str:
        """Identity of the rows that examples are drawn from."""
        return digest_rows([c.id, c.inputs_digest, c.reference] for c in self.example_rows)

    @cached_property
    def example_rows(self) -> tuple[Case, ...]:
        """The rows that examples are drawn from: train; where there is none, dev, of which no case
        is ever shown a row of its own cluster.
        """
        return self.split("train") or self.split("dev")

    def rows_for(self, prompt: Prompt) -> tuple[Case, ...]:
        """Return the rows that the examples of `prompt` are drawn from; none without examples."""
        if not prompt.shots:
            return ()
        return tuple(c for c in self.example_rows if prompt.without not in c.tags)

    @cached_property
    def passages(self) -> tuple[Passage, ...]:
        """What prompts with `documents = N` search. Raises TaskError."""
        s = self.settings
        patterns = (s.documents,) if isinstance(s.documents, str) else s.documents
        return read_passages(self.folder, patterns, characters=s.passage_characters)

    @cached_property
    def documents_digest(self) -> str:
        """Identity of the passages."""
        return digest([[p.id, p.text] for p in self.passages])

    def prompt_digest(self, prompt: Prompt) -> str:
        """Identity of a prompt with all that it draws from: train rows, documents."""
        parts = [prompt.digest, self.train_digest if prompt.shots else None]
        return digest([*parts, self.documents_digest] if prompt.documents else parts)

    def inputs_digest(self, split: Split) -> str:
        """Identity of what is asked: ids, inputs and clusters of a split."""
        return digest_rows([c.id, c.inputs_digest, c.cluster] for c in self.split(split))

    def labels_digest(self, split: Split) -> str:
        """Identity of the right answers of a split."""

        def rows() -> Iterator[list[object]]:
            for case in self.split(split):
                row: list[object] = [case.id, case.reference]
                row += [case.checks] if case.checks or case.also_right else []
                yield [*row, case.also_right] if case.also_right else row

        return digest_rows(rows())

    @cached_property
    def eval_names(self) -> tuple[str, ...]:
        """The scores of the task: names of eval functions without `test_`, and built-in evals."""
        return tuple(sorted({*eval_functions(self.folder), *self.builtin_names}))

    @cached_property
    def builtin_names(self) -> tuple[str, ...]:
        """The scores that the task asks for without an eval function of its own."""
        checks = (CHECKS,) if any(c.checks for c in self.cases) else ()
        # a judge with an eval function of its own name is asked by that function, if at all
        judges = sorted(set(self.settings.judges) - set(eval_functions(self.folder)))
        return (*checks, *judges)


def load_task(folder: Path, *, like: Task | None = None) -> Task:
    """Return the task in `folder`. Raises TaskError naming file and line.

    Cases that are as in `like` are the same objects: a task may have 100,000, and is read again
    where it is run.
    """
    settings = read_task_file(folder / "task.toml")
    prompts = {p.stem: read_prompt(p, folder) for p in prompt_files(folder)}
    cases = list(_cases(folder, settings))
    _no_duplicate_ids(cases)
    cases = _joined(cases)
    if like is not None:
        known = {case.id: case for case in like.cases}
        cases = [was if (was := known.get(c.id)) is not None and was == c else c for c in cases]
    task = Task(folder.name, folder.resolve(), settings, prompts, tuple(cases))
    _check_names(task)
    return task


def _cases(folder: Path, settings: TaskFile) -> Iterator[Case]:
    for name in _paths(settings.cases):
        path = (folder / name).resolve()
        for case in read_cases(path):
            for check in case.checks:
                try:
                    binding(check["name"], check["arguments"])
                except UsageError as exc:
                    raise TaskError(f"{case.line}: checks: {exc}") from exc
            images = settings.images
            yield with_images(case, images, folder=path.parent) if images else case


def rubric_text(task: Task, name: str) -> str:
    """Return the rubric of a judge: the text in task.toml, or the file that it names."""
    rubric = task.settings.judges[name].rubric
    is_file = rubric.endswith(".md") and "\n" not in rubric
    text = read_text(task.folder / rubric) if is_file else rubric
    if not text.strip():
        raise TaskError(f"{task.folder / rubric}:1: the rubric is empty")
    return text


CHECKS = "checks"
"""The built-in eval that runs the checks which cases carry."""

_CHECK = re.compile(r"\bchecks\.(?:no\.)?([a-z]\w*)")
_RENAMED = re.compile(
    r"\bharness\.checks\s+import\b|\bchecks\s+as\b|=\s*checks\b(?!\s*\.)"
    r"|\bgetattr\(\s*checks\b|\bnamed\("
)


def _plugin_checks(files: Sequence[Path], cases: Sequence[Case]) -> list[list[str]]:
    """Return the checks of plugins that the evals and the cases name, each with its identity."""
    sources = [file.read_bytes().decode(errors="replace") for file in files]
    names = {name for source in sources for name in _CHECK.findall(source)}
    # called by another name: any word may be that of a check
    names |= {w for s in sources if _RENAMED.search(s) for w in re.findall(r"\w+", s)}
    rows = [row for case in cases for row in case.checks]
    names |= {name for row in rows for name in registry.names_in(row)}
    unknown = sorted(names - set(registry.HOMES) - {*registry.TOOLS, "no"})

    def texts(name: str) -> set[str]:
        given = [row.get("arguments") for row in rows if name in registry.names_in(row)]
        return texts_in(files) | texts_of(given)

    # loads plugins, where any
    found = [(n, registry.identity_of(n, texts=partial(texts, n))) for n in unknown]
    return [[name, identity] for name, identity in found if identity is not None]


def _paths(cases: str | tuple[str, ...]) -> tuple[str, ...]:
    return (cases,) if isinstance(cases, str) else cases


def _joined(cases: list[Case]) -> list[Case]:
    """Return the cases, those with the same inputs in one cluster: a repeat is no new evidence."""
    if len({c.inputs_digest for c in cases}) == len(cases):
        return cases
    from harness.core.bounds import join_repeated_cases

    names = join_repeated_cases([c.cluster for c in cases], [c.inputs_digest for c in cases])
    return [
        dataclasses.replace(c, cluster=name.removeprefix("name "))
        for c, name in zip(cases, names, strict=True)
    ]


def _no_duplicate_ids(cases: Sequence[Case]) -> None:
    seen: dict[str, Case] = {}
    for case in cases:
        if case.id in seen:
            raise TaskError(
                f"{case.line}: the id {case.id!r} stands already at {seen[case.id].line}"
            )
        seen[case.id] = case


def _check_names(task: Task) -> None:
    path, s = task.folder / "task.toml", task.settings
    names = task.eval_names
    if not names:
        raise TaskError(f"{task.folder}: no eval: write `def test_NAME(case, reply)` in eval_*.py")
    own = eval_functions(task.folder) if task.builtin_names else []
    for name in sorted(set(task.builtin_names) & set(own)):
        raise TaskError(
            f"{task.folder}: test_{name} has the name of a built-in eval, which this task's files "
            f"ask for ({name}). Give it another name."
        )
    _check_judges(task)
    if ALL in names:
        raise TaskError(
            f"{task.folder}: test_{ALL}: {ALL!r} is the score of all evals together. Give the eval "
            "another name."
        )
    _check_documents(task)
    deciding = [("primary", s.primary), *(("guardrails", g) for g in s.guardrails)]
    of_all = aggregates(task.folder) if any(name != "all" for _, name in deciding) else []
    for what, name in deciding:
        if name not in {*names, "all"}:
            raise TaskError(
                f"{path}: {what}: no eval named {name!r}. The evals: {', '.join(names)}, or all."
            )
        if name in of_all:
            raise TaskError(
                f"{path}: {what}: {name!r} gives one number for all replies together, and a "
                "verdict needs one for each case. Name an eval that asks for `case` or `reply`, "
                "or all."
            )
    if s.tune and s.tune.prompt not in task.prompts:
        raise TaskError(f"{path}: tune.prompt: no prompt {s.tune.prompt!r} in prompts/")
    clash = sorted(set(s.candidates) & set(task.prompts))
    for name in clash:
        if s.candidates[name].prompt not in {None, name}:
            raise TaskError(f"{path}: candidates.{name}: a prompt file has that name already")


def _check_documents(task: Task) -> None:
    if task.settings.documents:
        check_needs(task.cases, task.passages)
        return
    for prompt in task.prompts.values():
        if prompt.documents:
            raise TaskError(
                f"{prompt.path}:1: asks for {prompt.documents} documents, and task.toml names "
                'none. Add there: documents = "docs/*.md"'
            )
    for case in task.cases:
        if case.documents:
            raise TaskError(
                f"{case.line}: case {case.id!r} needs documents, and task.toml names none. "
                'Add there: documents = "docs/*.md"'
            )


def _check_judges(task: Task) -> None:
    path, known = task.folder / "task.toml", candidate_names(task)
    for name, table in task.settings.judges.items():
        if not name.isidentifier() or name in {"all", CHECKS}:
            raise TaskError(f"{path}: judges.{name}: a judge's name is a score's, as in `polite`")
        rubric_text(task, name)
        other = table.against or REFERENCE
        if other not in known and "@" not in other and not other.startswith((REPLAY, CONSTANT)):
            raise TaskError(
                f"{path}: judges.{name}.against: no candidate {other!r}. "
                f"Known: {', '.join(known)}; or write PROMPT@SCHEME:MODEL, replay:FILE or "
                "constant:TEXT."
            )
