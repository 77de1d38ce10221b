"""A small task on disk, and real plugins to run it with: a backend and a tuner by letters."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness import BackendConfig, hookimpl
from harness.engine.backends import BackendPool
from harness.engine.candidates import resolve_candidate
from harness.engine.evaluate import Evaluation, TrialId, fetch_all
from harness.engine.fetch import Silence
from harness.engine.project import Project, artifact_folder, find_project
from harness.engine.tasks import Task, load_task
from harness.ports.manager import Plugins
from harness.ports.tuners import TrainProgress, TrainResult, TuneJob
from harness.records import Case, Fault, PreparedRow, Reply, Request, Run, Score, Split
from harness.store.store import Store

SETTINGS: dict[str, Any] = {
    "about": "Double a number.",
    "model": "letters:small",
    "cases": "cases.jsonl",
    "primary": "right",
    "target": 0.9,
    "target_reason": "A number is right or wrong.",
}
EVALS = """
def test_right(case, reply):
    assert reply.text == case.reference
"""
PLAIN = "+++\nfamily = 'zero-shot'\n+++\n@user\nDouble {{ n }}.\n"
TERSE = "+++\nfamily = 'instructions'\n+++\n@system\nBe terse.\n@user\n{{ n }}\n"
SHOTS = "+++\nfamily = 'few-shot'\nshots = 3\n+++\n@examples\n@user\nDouble {{ n }}.\n"
NEAR = SHOTS.replace("shots = 3", "shots = 3\nretrieve = true").replace(
    "few-shot", "dynamic-few-shot"
)

Row = dict[str, Any]


def rows(*, dev: int = 6, train: int = 8, test: int = 4, start: int = 0) -> list[Row]:
    splits = ["dev"] * dev + ["train"] * train + ["test"] * test
    return [
        {
            "id": f"c{n}",
            "split": split,
            "cluster": f"k{n}",
            "inputs": {"n": n},
            "reference": str(2 * n),
        }
        for n, split in enumerate(splits, start=start)
    ]


def write_rows(folder: Path, some: Iterable[Row]) -> None:
    (folder / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))


def write_settings(folder: Path, **changes: Any) -> None:
    lines, tables = [], []
    for key, value in (SETTINGS | changes).items():
        if isinstance(value, Mapping):
            tables += [f"[{key}]", *(f"{k} = {json.dumps(v)}" for k, v in value.items())]
        else:
            lines.append(f"{key} = {json.dumps(value)}")
    (folder / "task.toml").write_text("\n".join(lines + tables) + "\n")


def write_task(root: Path, *, some: Sequence[Row] | None = None, **changes: Any) -> Path:
    """Write a project with one task, and return the task's folder."""
    folder = root / "evals" / "double"
    (folder / "prompts").mkdir(parents=True)
    (root / "pyproject.toml").write_text("[tool.harness]\ntasks = 'evals'\n")
    (folder / "eval_double.py").write_text(EVALS)
    for name, text in [("plain", PLAIN), ("terse", TERSE), ("shots", SHOTS), ("near", NEAR)]:
        (folder / f"prompts/{name}.md").write_text(text)
    write_settings(folder, **changes)
    write_rows(folder, rows() if some is None else some)
    return folder


def codes(request: Request) -> list[int]:
    """The ids that are sent: one a letter, and 1 before each turn."""
    return [i for m in request.messages for i in [1, *map(ord, m.content)]] + [1]


class Letters:
    """Doubles what it was taught by heart, and else what `knows` allows; tokens are letters."""

    concurrency = 4

    def __init__(self, config: BackendConfig, *, knows: Callable[[Request], str] | None = None):
        self.taught: dict[str, str] = {}
        if config.artifact is not None:
            self.taught = json.loads((config.artifact / "known.json").read_text())
        self.knows = knows or (lambda request: "?")
        self.asked: list[Request] = []

    async def answer(self, request: Request) -> Reply:
        self.asked.append(request)
        last = request.messages[-1].content
        return Reply(text=self.taught.get(last) or self.knows(request), latency_s=0.01)

    def token_ids(self, request: Request) -> list[int]:
        return codes(request)

    def stop_ids(self) -> frozenset[int]:
        return frozenset({0})

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(f"<{i}>" if i < 2 else chr(i) for i in ids)


class ByHeart:
    """A tuner that learns its rows by heart. `trained` counts the calls of `train`."""

    def __init__(self) -> None:
        self.trained = 0

    def prepare(self, job: TuneJob) -> list[PreparedRow]:
        found = []
        for row in job.rows:
            prompt = codes(Request(messages=row.messages))
            reply = [*map(ord, row.completion), 0]
            labels = (*[-100] * len(prompt), *reply)
            ids = (*prompt, *reply)
            found.append(PreparedRow(case_id=row.case_id, input_ids=ids, labels=labels))
        return found

    def train(
        self,
        job: TuneJob,
        rows: Sequence[PreparedRow],
        *,
        report: Callable[[TrainProgress], None],
    ) -> TrainResult:
        self.trained += 1
        report(TrainProgress(step=1, steps=1, loss=0.5, tokens=10, seconds=0.1))
        known = {row.messages[-1].content: row.completion for row in job.rows}
        (job.out_dir / "known.json").write_text(json.dumps(known, sort_keys=True))
        return TrainResult(
            base_digest="b", template_digest="t", metrics={"loss": 0.5}, environment={}
        )


class Plugin:
    """What a distribution would register: the backend `letters:` and the tuner `by-heart`."""

    def __init__(
        self, *, tuner: ByHeart | None = None, knows: Callable[[Request], str] | None = None
    ) -> None:
        self.tuner = tuner or ByHeart()
        self.knows = knows
        self.made: list[Letters] = []

    def _make(self, config: BackendConfig) -> Letters:
        self.made.append(Letters(config, knows=self.knows))
        return self.made[-1]

    @hookimpl
    def harness_backends(self) -> Mapping[str, Any]:
        return {"letters": self._make}

    @hookimpl
    def harness_tuners(self) -> Mapping[str, Any]:
        return {"by-heart": lambda: self.tuner}


class Workshop:
    """A project, its store, plugins and backends, as a verb would open them."""

    def __init__(self, folder: Path, plugin: Plugin | None = None) -> None:
        self.folder = folder
        self.plugin = plugin or Plugin()
        self.project: Project = find_project(folder)
        self.store = Store.open(self.project.store)
        self.plugins = Plugins()
        self.plugins.register(self.plugin, name="letters")
        self.pool = BackendPool(
            self.plugins, artifact_folder=partial(artifact_folder, self.project)
        )
        self._minute = 0

    def close(self) -> None:
        self.pool.close()
        self.store.close()

    @property
    def task(self) -> Task:
        """The task as it stands on the disk now."""
        return load_task(self.folder)

    def at(self) -> str:
        """A clock: a minute later each time."""
        self._minute += 1
        return f"2026-01-01T{self._minute // 60:02}:{self._minute % 60:02}:00+00:00"

    def evaluate(self, *names: str, split: Split = "dev", only: Iterable[str] | None = None):  # type: ignore[no-untyped-def]
        task = self.task
        finder = lambda text: self.store.artifact(text, task=task.name).digest  # noqa: E731
        candidates = [resolve_candidate(task, n, artifact_digest=finder) for n in names]
        return Evaluation(task, candidates, split=split, pool=self.pool, case_ids=only)

    def run(
        self,
        *names: str,
        split: Split = "dev",
        only: Iterable[str] | None = None,
        score: Callable[[Case, Reply], float | None] | None = None,
        faults: Mapping[str, Fault] | None = None,
    ) -> list[Run]:
        """Ask, score by equality (or `score`), and record one run a candidate."""
        evaluation = self.evaluate(*names, split=split, only=only)
        trials = evaluation.trial_ids()
        fetch_all([(evaluation, trials)], store=self.store, progress=Silence())
        judge = score or (lambda case, reply: float(reply.text == case.reference))
        scores: dict[TrialId, list[Score]] = {}
        for trial in trials:
            reply = evaluation.outcomes[trial].reply
            value = judge(evaluation.cases[trial.case_id], reply) if reply else None
            scores[trial] = [Score(name="right", value=value)]
        runs = evaluation.runs(
            scores,
            faults={t: f for t in trials for c, f in (faults or {}).items() if t.case_id == c},
            aggregates={},
            is_complete=lambda _: only is None,
        )
        moment = self.at()
        for run in runs:
            self.store.add_run(run, at=moment)
        return runs
