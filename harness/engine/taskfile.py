"""The shape of `task.toml`. Knows nothing of cases or prompts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pydantic

from harness.core.repeats import check_verdict
from harness.engine.text_files import read_text, read_toml
from harness.errors import TaskError, UsageError
from harness.records import FAMILIES


class Strict(pydantic.BaseModel):
    """A table in which an unknown key is an error."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class DecodingTable(Strict):
    """How replies are drawn."""

    temperature: float | None = pydantic.Field(default=None, ge=0)
    """0 (the default) is greedy."""
    max_tokens: int | None = pydantic.Field(default=None, ge=1)
    """The longest reply, in tokens (default 256)."""
    top_p: float | None = pydantic.Field(default=None, gt=0, le=1)
    """Nucleus sampling."""
    seed: int | None = None
    """The seed of a drawn reply, where the backend honours one."""
    stop: tuple[str, ...] | None = None
    """Texts at which a reply ends."""
    logprobs: int | None = pydantic.Field(default=None, ge=0, le=20)
    """Ask for log probabilities: of each token, and of so many alternatives to it."""


class CandidateTable(Strict):
    """What differs from the automatic candidate of a prompt."""

    prompt: str | None = None
    """The prompt's name (default: the candidate's own)."""
    backend: str | None = None
    """SCHEME:MODEL (default: the task's model)."""
    artifact: str | None = None
    """A tuned artifact: its name (the newest of that name) or the start of its digest."""
    base_url: str | None = None
    """The base URL of an OpenAI-compatible server."""
    decoding: DecodingTable = DecodingTable()
    """What differs from the task's decoding."""
    options: dict[str, Any] = {}
    """The backend's own settings, beyond those of `[backends]`."""


class JudgeTable(Strict):
    """A model that scores replies. It gives a score of its own name in every eval run."""

    backend: str
    """SCHEME:MODEL of the judge."""
    rubric: str
    """What is judged: a text, or the name of a file `*.md` in the task's folder."""
    kind: Literal["rubric", "g-eval", "pairwise"] = "rubric"
    """How: one verdict with a reason; steps and a graded scale; or against another's reply."""
    against: str | None = None
    """Kind `pairwise`: the candidate whose reply is the other side (`reference` too)."""
    steps: tuple[str, ...] = ()
    """Kind `g-eval`: the steps that the judge goes through."""
    scale: tuple[int, int] = (1, 5)
    """Kind `g-eval`: the worst and the best grade."""
    pass_at: float | None = pydantic.Field(default=None, gt=0, le=1)
    """The score from which a reply passes (1); below it is a miss (0). Without it, as graded."""
    shows: tuple[str, ...] = ()
    """The inputs that the judge is shown (default: all of them)."""
    shows_reference: bool = True
    """Whether the judge is shown the reference answer, where there is one."""
    longest_reason: int | None = pydantic.Field(default=None, ge=1)
    """The longest reason, in characters, where the backend honours a schema: for a small model
    that would go on until its tokens end."""
    base_url: str | None = None
    """The base URL of an OpenAI-compatible server; the task's own is not the judge's."""
    decoding: DecodingTable = DecodingTable()
    """How verdicts are drawn (default: greedy, at most 512 tokens)."""

    @pydantic.model_validator(mode="after")
    def _terms_fit_the_kind(self) -> JudgeTable:
        if not self.rubric.strip():
            raise ValueError("the rubric is empty")
        if ":" not in self.backend:
            raise ValueError(f"backend {self.backend!r} is not SCHEME:MODEL")
        if (self.kind == "pairwise") != (self.against is not None):
            raise ValueError('`against` and kind = "pairwise" go together')
        if self.steps and self.kind != "g-eval":
            raise ValueError('`steps` are for kind = "g-eval"; write them into the rubric')
        if self.scale[0] >= self.scale[1]:
            raise ValueError(f"scale {list(self.scale)}: the worst grade is not below the best")
        return self


class StageTable(Strict):
    """One of several trainings, each of which goes on from the one before."""

    tuner: str
    """A tuner's name; `harness plugins` lists them."""
    recipe: str | None = None
    """The recipe: a file, relative to the task's folder, or a name that `harness plugins` lists."""
    rows: str | None = None
    """A tag: only the cases that have it are trained on (default: all that the tuner can use)."""


class TuneTable(Strict):
    """What `harness tune` does."""

    tuner: str = ""
    """A tuner's name; `harness plugins` lists them. Needed, unless there are `stages` or a
    `command`."""
    prompt: str
    """The prompt that is trained, and served ever after."""
    recipe: str | None = None
    """The recipe: a file, relative to the task's folder, or a name that `harness plugins` lists."""
    name: str = "tuned"
    """What the artifact is called."""
    command: str | None = None
    """A training line of your own, as `axolotl train config.yml`: the tuner `command` runs it on
    the rows that passed, in the task's folder."""
    stages: tuple[StageTable, ...] = ()
    """Trainings in a row, `[[tune.stages]]`, as SFT and then DPO; instead of `tuner`, `recipe`."""
    start: str | None = None
    """An artifact to go on from: its name, or the start of its digest (default: the base)."""
    max_cut: int = pydantic.Field(default=0, ge=0)
    """How many rows may be left out because they are too long or teach nothing. More: refused."""
    check_every: int | None = pydantic.Field(default=None, ge=0)
    """Score dev after each so many steps; 0: never (default: five times, on this machine)."""
    check_cases: int = pydantic.Field(default=50, ge=1)
    """How many dev cases such a look asks at most, always the same ones."""
    patience: int = pydantic.Field(default=3, ge=1)
    """Stop after so many looks at dev without a better score."""

    @pydantic.model_validator(mode="after")
    def _one_way_to_train(self) -> TuneTable:
        ways = [bool(self.stages), bool(self.command) or bool(self.tuner)]
        if sum(ways) != 1:
            raise ValueError(
                "either `tuner` (with its recipe), or `command`, or [[tune.stages]] says how it is "
                "trained"
            )
        if self.command and self.tuner not in {"", "command"}:
            raise ValueError(f"`command` is run by the tuner 'command', not by {self.tuner!r}")
        if self.stages and self.recipe:
            raise ValueError("each of [[tune.stages]] has a recipe of its own")
        return self


class BudgetTable(Strict):
    """Limits that a release must keep."""

    p95_latency_s: float | None = pydantic.Field(default=None, gt=0)
    """Seconds that 95 % of the replies must stay below; needs 59 cases, of as many sources."""
    mean_cost_usd: float | None = pydantic.Field(default=None, ge=0)
    """Dollars a case, on average."""


class ReleaseTable(Strict):
    """What a release is watched for beside its own scores."""

    off_task: bool | None = None
    """Whether a tuned model and its base are asked the off-task pack: 42 plain questions and
    requests that have nothing to do with the task (default: where both answer on this machine).
    `false` is a waiver, on record and shown with every release."""
    off_task_reason: str | None = None
    """Why not, in a sentence; `off_task = false` needs it."""
    off_task_margin: float = pydantic.Field(default=0.10, gt=0, lt=1)
    """How much of the pack may be lost: a loss shown to be above it blocks."""

    @pydantic.model_validator(mode="after")
    def _waivers_have_reasons(self) -> ReleaseTable:
        if self.off_task is False and len((self.off_task_reason or "").split()) < 3:
            raise ValueError(
                "off_task = false needs off_task_reason, in a sentence: it is recorded"
            )
        return self


class AdviseTable(Strict):
    """Facts that no measurement can tell; `harness advise` cites them. Other keys are kept, and
    shown as they stand.
    """

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, bool | float | str] = pydantic.Field(init=False)

    bespoke: bool | str | None = None
    """Behaviour that no public text has."""
    privacy: bool | str | None = None
    """What may not leave the network; cases that may not are tagged `internal`."""
    scope: str | None = None
    """A tag: the narrower task that could be served alone."""
    broad: str | None = None
    """A candidate that serves the whole scope; with `scoped`, the two are compared."""
    scoped: str | None = None
    """A candidate that serves the narrower scope, run on the same cases."""
    can_narrow: bool | None = None
    """Whether the scope may be narrowed; `false` rules NARROW_SCOPE out."""
    people: str | None = None
    """The candidate whose replies people wrote (default: the first `replay:FILE` that was run)."""
    classical: tuple[str, ...] = ()
    """Candidates without a language model, beside those of `constant:` and `sklearn:`."""
    teacher: str | None = None
    """SCHEME:MODEL whose outputs would be training data."""
    volume_per_month: float | None = pydantic.Field(default=None, ge=0)
    """Requests a month."""
    latency_needed_s: float | None = pydantic.Field(default=None, gt=0)
    """Seconds within which 95 % of the replies are needed."""
    training_cost_usd: float | None = pydantic.Field(default=None, ge=0)
    """Dollars for one training, people's time included."""
    hosting_usd_per_month: float | None = pydantic.Field(default=None, ge=0)
    """Dollars a month for serving a tuned model."""
    manual_usd_per_case: float | None = pydantic.Field(default=None, gt=0)
    """Dollars that a case costs when people do it."""
    usd_per_million_in: float | None = pydantic.Field(default=None, ge=0)
    """Price of the prompted model's input tokens, where replies do not tell what they cost."""
    usd_per_million_out: float | None = pydantic.Field(default=None, ge=0)
    """Price of its output tokens."""
    tuned_usd_per_million_in: float | None = pydantic.Field(default=None, ge=0)
    """Price of a tuned model's input tokens."""
    tuned_usd_per_million_out: float | None = pydantic.Field(default=None, ge=0)
    """Price of its output tokens."""
    can_serve: bool | str | None = None
    """Who can serve a tuned model, and on what."""
    owner: str | None = None
    """Who owns it once it runs."""
    monitoring: bool | str | None = None
    """How it is watched after release."""

    def facts(self) -> dict[str, Any]:
        """Return what was stated, in the order of the table."""
        return self.model_dump(exclude_none=True, exclude_defaults=True)


class TaskFile(Strict):
    """The keys of `task.toml`."""

    about: str
    """What the model must do, in one sentence."""
    model: str
    """The task's model, SCHEME:MODEL: the one that tries are counted on."""
    cases: str | tuple[str, ...]
    """The case file, or several, relative to the task's folder."""
    primary: str = "all"
    """The score that decides: an eval's name, or `all` (1 if every eval passes)."""
    target: float = pydantic.Field(gt=0, le=1)
    """The mean of the primary score that is needed, in (0, 1]."""
    target_reason: str
    """Why that much."""
    goal: Literal["beat", "match"] = "beat"
    """What a release must do to the baseline: beat it, or match it and be better in something."""
    margin: float | None = pydantic.Field(default=None, gt=0, lt=1)
    """Goal `match`: how much of the score may be lost."""
    better_in: Literal["cost", "latency", "boundary"] | None = None
    """Goal `match`: what must be better."""
    mid: float = pydantic.Field(default=0.05, gt=0, lt=1)
    """The smallest difference that matters to the wall."""
    min_gain: float = pydantic.Field(default=0.02, ge=0, lt=1)
    """The smallest gain that matters to a release."""
    profile: Literal["quick", "standard"] = "standard"
    """How much a wall rests on: 14 tries, or 7 (`quick`: it speaks for the next try only)."""
    repeats: int = pydantic.Field(default=1, ge=1)
    """How often each case is asked."""
    repeat_verdict: str = "mean"
    """How the repeats of a case become one number: `mean`, `K of N`, `pass@K` or `pass^K`."""
    epoch: int = pydantic.Field(default=0, ge=0)
    """Raise it to ask everything anew: a hosted model that changed behind its name."""
    eval_timeout_s: float = pydantic.Field(default=60.0, gt=0)
    """Seconds after which an eval, or what its own fixtures do before or after it, is a fault."""
    near: float = pydantic.Field(default=0.8, ge=0.5, le=1)
    """The share of word sequences from which inputs in two splits are copies: a leak."""
    images: tuple[str, ...] = ()
    """The inputs that name image files (PNG, JPEG, WebP, GIF), relative to the case file."""
    documents: str | tuple[str, ...] = ()
    """What prompts with `documents = N` search: files of the task's folder, by pattern, as in
    `docs/*.md`: Markdown, text, or JSON Lines with `id` and `text`."""
    passage_characters: int = pydantic.Field(default=1200, ge=100)
    """The longest passage that documents are cut into, in characters."""
    needs_knowledge: bool = False
    """Whether the answers stand in documents: then `rag` must be tried too."""
    base_url: str | None = None
    """The base URL of an OpenAI-compatible server."""
    default_candidates: tuple[str, ...] = ("reference",)
    """What `pytest` and `harness eval` run without `--candidate`."""
    decoding: DecodingTable = DecodingTable()
    """How replies are drawn."""
    backends: dict[str, dict[str, Any]] = {}
    """Settings of backends, by scheme (`openai`) or in full (`"openai:gpt-x"`), which wins."""
    judges: dict[str, JudgeTable] = {}
    """Models that score replies, by the name of their score."""
    candidates: dict[str, CandidateTable] = {}
    """Candidates by name, beside the automatic one of each prompt."""
    guardrails: dict[str, float] = {}
    """Scores that a release may not lose more of than this margin."""
    must_hold_slices: tuple[str, ...] = ()
    """Tags whose cases may not lose more than 5 points; at most four."""
    budgets: BudgetTable = BudgetTable()
    """Limits that a release must keep."""
    release: ReleaseTable = ReleaseTable()
    """What a release is watched for beside its own scores."""
    waivers: dict[str, str] = {}
    """Families (or `labels`, the audit) that are not tried, each with a written reason."""
    tune: TuneTable | None = None
    """What `harness tune` does."""
    advise: AdviseTable = AdviseTable()
    """Facts that no measurement can tell: privacy, volume, latency needed, scope."""

    @pydantic.field_validator("waivers")
    @classmethod
    def _waivers_have_reasons(cls, waivers: dict[str, str]) -> dict[str, str]:
        for name, reason in waivers.items():
            if name not in {*FAMILIES, "labels"}:
                raise ValueError(f"{name!r} is neither a family ({', '.join(FAMILIES)}) nor labels")
            if len(reason.split()) < 3:
                raise ValueError(f"the waiver of {name} needs a written reason, in a sentence")
        return waivers

    @pydantic.field_validator("repeat_verdict")
    @classmethod
    def _repeats_can_give_it(cls, verdict: str, info: pydantic.ValidationInfo) -> str:
        try:
            check_verdict(verdict, repeats=info.data.get("repeats", 1))
        except UsageError as exc:
            raise ValueError(str(exc)) from exc
        return verdict.strip()

    @pydantic.model_validator(mode="after")
    def _match_names_its_terms(self) -> TaskFile:
        if self.goal == "match" and (self.margin is None or self.better_in is None):
            raise ValueError(
                'goal = "match" needs `margin` and `better_in` (cost, latency, boundary)'
            )
        return self


def read_task_file(path: Path) -> TaskFile:
    """Return the settings in `path`. Raises TaskError with file and line."""
    plain, text = read_toml(path), read_text(path)
    try:
        return TaskFile.model_validate(plain)
    except pydantic.ValidationError as exc:
        first = exc.errors()[0]
        keys = [str(k) for k in first["loc"] if isinstance(k, str)]
        what = ".".join(str(k) for k in first["loc"]) or "task"
        known = ""
        if first["type"] == "extra_forbidden":
            tables = [TABLES[k] for k in keys[:-1] if k in TABLES]
            fields = (tables[-1] if tables else TaskFile).model_fields
            known = f" Known keys: {', '.join(sorted(fields))}."
        message = PLAINER.get(first["type"], first["msg"]).removeprefix("Value error, ")
        raise TaskError(f"{path}:{_line_of(text, keys)}: {what}: {message}.{known}") from exc


TABLES: dict[str, type[Strict]] = {
    "decoding": DecodingTable,
    "candidates": CandidateTable,
    "judges": JudgeTable,
    "tune": TuneTable,
    "stages": StageTable,
    "advise": AdviseTable,
    "budgets": BudgetTable,
    "release": ReleaseTable,
}


PLAINER = {"extra_forbidden": "no such key", "missing": "it is missing"}
"""What pydantic says about a key, in the words of this house, by its type of error."""


def _line_of(text: str, keys: list[str]) -> int:
    """Return where `keys`, from the outermost, stand; the deepest one that is found."""
    lines, found = text.split("\n"), 0
    for key in keys:
        mark = re.compile(rf"""\s*(\[[^=#]*?)?["']?\b{re.escape(key)}\b""")
        found = next((n for n in range(found, len(lines)) if mark.match(lines[n])), found)
    return found + 1
