"""The shape of `task.toml`. Knows nothing of cases or prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from harness.core.repeats import check_verdict
from harness.engine.tables import Misfit, Strict, as_dict, as_table, keys_of
from harness.engine.text_files import read_text, read_toml
from harness.errors import TaskError, UsageError
from harness.records import FAMILIES, canonical_json

Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Part = Annotated[float, msgspec.Meta(gt=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
CountOrNone = Annotated[int, msgspec.Meta(ge=0)]
Margin = Annotated[float, msgspec.Meta(ge=0, le=1)]


class DecodingTable(Strict, frozen=True, kw_only=True):
    """How replies are drawn."""

    temperature: Amount | None = None
    """0 (the default) is greedy."""
    max_tokens: Count | None = None
    """The longest reply, in tokens (default 256)."""
    top_p: Part | None = None
    """Nucleus sampling."""
    seed: int | None = None
    """The seed of a drawn reply, where the backend honours one."""
    stop: tuple[str, ...] | None = None
    """Texts at which a reply ends."""
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    """Ask for log probabilities: of each token, and of so many alternatives to it."""


class CandidateTable(Strict, frozen=True, kw_only=True):
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
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    """The backend's own settings, beyond those of `[backends]`."""

    def __post_init__(self) -> None:
        _hold_json(self.options, "options")


class JudgeTable(Strict, frozen=True, kw_only=True):
    """A model that scores replies. It gives a score of its own name in every eval run."""

    backend: str
    """SCHEME:MODEL of the judge."""
    rubric: str
    """What is judged: a text, or the name of a file `*.md` in the task's folder."""
    kind: Literal["rubric", "g-eval", "pairwise"] = "rubric"
    """How: one verdict with a reason; steps and a graded scale; or against another's reply."""
    against: str | None = None
    """Kind `pairwise`: the candidate whose reply is the other side, by what `--candidate` takes:
    a name, `reference`, `PROMPT@SCHEME:MODEL`, `replay:FILE` or `constant:TEXT`."""
    steps: tuple[str, ...] = ()
    """Kind `g-eval`: the steps that the judge goes through."""
    scale: tuple[int, int] = (1, 5)
    """Kind `g-eval`: the worst and the best grade."""
    pass_at: Part | None = None
    """The score from which a reply passes (1); below it is a miss (0). Without it, as graded."""
    shows: tuple[str, ...] = ()
    """The inputs that the judge is shown (default: all of them)."""
    shows_reference: bool = True
    """Whether the judge is shown the reference answer, where there is one."""
    longest_reason: Count | None = None
    """The longest reason, in characters, where the backend honours a schema: for a small model
    that would go on until its tokens end."""
    base_url: str | None = None
    """The base URL of an OpenAI-compatible server; the task's own is not the judge's."""
    decoding: DecodingTable = DecodingTable()
    """How verdicts are drawn (default: greedy, at most 512 tokens)."""

    def __post_init__(self) -> None:
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


class StageTable(Strict, frozen=True, kw_only=True):
    """One of several trainings, each of which goes on from the one before."""

    tuner: str
    """A tuner's name; `harness plugins` lists them."""
    recipe: str | None = None
    """The recipe: a file, relative to the task's folder, or a name that `harness plugins` lists."""
    rows: str | None = None
    """A tag: only the cases that have it are trained on (default: all that the tuner can use)."""


class TuneTable(Strict, frozen=True, kw_only=True):
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
    max_cut: CountOrNone = 0
    """How many rows may be left out because they are too long or teach nothing. More: refused."""
    check_every: CountOrNone | None = None
    """Score dev after each so many steps; 0: never (default: five times, on this machine)."""
    check_cases: Count = 50
    """How many dev cases such a look asks at most, always the same ones."""
    patience: Count = 3
    """Stop after so many looks at dev without a better score."""

    def __post_init__(self) -> None:
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


class BudgetTable(Strict, frozen=True, kw_only=True):
    """Limits that a release must keep."""

    p95_latency_s: Positive | None = None
    """Seconds that 95 % of the replies must stay below; needs 59 cases, of as many sources."""
    mean_cost_usd: Amount | None = None
    """Dollars a case, on average."""


class ReleaseTable(Strict, frozen=True, kw_only=True):
    """What a release is watched for beside its own scores."""

    off_task: bool | None = None
    """Whether a tuned model and its base are asked the off-task pack: 42 plain questions and
    requests that have nothing to do with the task (default: where both answer on this machine).
    `false` is a waiver, on record and shown with every release."""
    off_task_reason: str | None = None
    """Why not, in a sentence; `off_task = false` needs it."""
    off_task_margin: Share = 0.10
    """How much of the pack may be lost: a loss shown to be above it blocks."""

    def __post_init__(self) -> None:
        if self.off_task is False and len((self.off_task_reason or "").split()) < 3:
            raise ValueError(
                "off_task = false needs off_task_reason, in a sentence: it is recorded"
            )


class AdviseTable(Strict, frozen=True, kw_only=True):
    """Facts that no measurement can tell; `harness advise` cites them. Other keys are kept, and
    shown as they stand.
    """

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
    volume_per_month: Amount | None = None
    """Requests a month."""
    latency_needed_s: Positive | None = None
    """Seconds within which 95 % of the replies are needed."""
    training_cost_usd: Amount | None = None
    """Dollars for one training, people's time included."""
    hosting_usd_per_month: Amount | None = None
    """Dollars a month for serving a tuned model."""
    manual_usd_per_case: Positive | None = None
    """Dollars that a case costs when people do it."""
    usd_per_million_in: Amount | None = None
    """Price of the prompted model's input tokens, where replies do not tell what they cost."""
    usd_per_million_out: Amount | None = None
    """Price of its output tokens."""
    tuned_usd_per_million_in: Amount | None = None
    """Price of a tuned model's input tokens."""
    tuned_usd_per_million_out: Amount | None = None
    """Price of its output tokens."""
    can_serve: bool | str | None = None
    """Who can serve a tuned model, and on what."""
    owner: str | None = None
    """Who owns it once it runs."""
    monitoring: bool | str | None = None
    """How it is watched after release."""
    others: dict[str, Any] = msgspec.field(default_factory=dict, name="")  # no key of its own

    def __post_init__(self) -> None:
        for key, value in self.others.items():
            if not isinstance(value, bool | int | float | str):
                raise Misfit("Input should be true, false, a number or a text", key)

    def facts(self) -> dict[str, Any]:
        """Return what was stated, in the order of the table."""
        named = as_dict(self, without="defaults")
        others: dict[str, Any] = named.pop("others", {})
        return named | others


class TaskFile(Strict, frozen=True, kw_only=True):
    """The keys of `task.toml`."""

    about: str
    """What the model must do, in one sentence."""
    model: str
    """The task's model, SCHEME:MODEL: the one that tries are counted on."""
    cases: str | tuple[str, ...]
    """The case file, or several, relative to the task's folder."""
    primary: str = "all"
    """The score that decides: an eval's name, or `all` (1 if every eval passes)."""
    target: Part
    """The mean of the primary score that is needed, in (0, 1]."""
    target_reason: str
    """Why that much."""
    goal: Literal["beat", "match"] = "beat"
    """What a release must do to the baseline: beat it, or match it and be better in something."""
    margin: Share | None = None
    """Goal `match`: how much of the score may be lost."""
    better_in: Literal["cost", "latency", "boundary"] | None = None
    """Goal `match`: what must be better."""
    mid: Share = 0.05
    """The smallest difference that matters to the wall."""
    min_gain: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.02
    """The smallest gain that matters to a release."""
    profile: Literal["quick", "standard"] = "standard"
    """How much a wall rests on: 14 tries, or 7 (`quick`: it speaks for the next try only)."""
    repeats: Count = 1
    """How often each case is asked."""
    repeat_verdict: str = "mean"
    """How the repeats of a case become one number: `mean`, `K of N`, `pass@K` or `pass^K`. But for
    `mean`, a repeat passes where its score is 1."""
    epoch: CountOrNone = 0
    """Raise it to ask everything anew: a hosted model that changed behind its name."""
    eval_timeout_s: Positive = 60.0
    """Seconds after which an eval, or what its own fixtures do before or after it, is a fault."""
    near: Annotated[float, msgspec.Meta(ge=0.5, le=1)] = 0.8
    """The share of word sequences from which inputs in two splits are copies: a leak."""
    images: tuple[str, ...] = ()
    """The inputs that name image files (PNG, JPEG, WebP, GIF), relative to the case file."""
    documents: str | tuple[str, ...] = ()
    """What prompts with `documents = N` search: files of the task's folder, by pattern, as in
    `docs/*.md`: Markdown, text, or JSON Lines with `id` and `text`."""
    passage_characters: Annotated[int, msgspec.Meta(ge=100)] = 1200
    """The longest passage that documents are cut into, in characters."""
    needs_knowledge: bool = False
    """Whether the answers stand in documents: then `rag` must be tried too."""
    base_url: str | None = None
    """The base URL of an OpenAI-compatible server."""
    default_candidates: tuple[str, ...] = ("reference",)
    """What `pytest` and `harness eval` run without `--candidate`."""
    decoding: DecodingTable = DecodingTable()
    """How replies are drawn."""
    backends: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    """Settings of backends, by scheme (`openai`) or in full (`"openai:gpt-x"`), which wins."""
    judges: dict[str, JudgeTable] = msgspec.field(default_factory=dict)
    """Models that score replies, by the name of their score."""
    candidates: dict[str, CandidateTable] = msgspec.field(default_factory=dict)
    """Candidates by name, beside the automatic one of each prompt."""
    guardrails: dict[str, Margin] = msgspec.field(default_factory=dict)
    """Scores that a release may not lose more of than this margin."""
    must_hold_slices: tuple[str, ...] = ()
    """Tags whose cases may not lose more than 5 points; at most four."""
    budgets: BudgetTable = BudgetTable()
    """Limits that a release must keep."""
    release: ReleaseTable = ReleaseTable()
    """What a release is watched for beside its own scores."""
    waivers: dict[str, str] = msgspec.field(default_factory=dict)
    """Families (or `labels`, the audit) that are not tried, each with a written reason."""
    tune: TuneTable | None = None
    """What `harness tune` does."""
    advise: AdviseTable = AdviseTable()
    """Facts that no measurement can tell: privacy, volume, latency needed, scope."""

    def __post_init__(self) -> None:
        for backend, options in self.backends.items():
            _hold_json(options, "backends", backend)
        for name, reason in self.waivers.items():
            if name not in {*FAMILIES, "labels"}:
                said = f"{name!r} is neither a family ({', '.join(FAMILIES)}) nor labels"
                raise Misfit(said, "waivers")
            if len(reason.split()) < 3:
                said = f"the waiver of {name} needs a written reason, in a sentence"
                raise Misfit(said, "waivers")
        try:
            check_verdict(self.repeat_verdict, repeats=self.repeats)
        except UsageError as exc:
            raise Misfit(str(exc), "repeat_verdict") from exc
        msgspec.structs.force_setattr(self, "repeat_verdict", self.repeat_verdict.strip())
        if self.goal == "match" and (self.margin is None or self.better_in is None):
            raise ValueError(
                'goal = "match" needs `margin` and `better_in` (cost, latency, boundary)'
            )


def read_task_file(path: Path) -> TaskFile:
    """Return the settings in `path`. Raises TaskError with file and line."""
    plain, text = read_toml(path), read_text(path)
    if isinstance(stated := plain.get("advise"), dict):
        plain["advise"] = _with_others(stated)
    try:
        return as_table(TaskFile, plain)
    except Misfit as exc:
        keys = [key for key in exc.keys if isinstance(key, str)]
        raise TaskError(f"{path}:{_line_of(text, keys)}: {exc.told('task')}") from exc


def _hold_json(options: Mapping[str, Any], *keys: str) -> None:
    """Raise Misfit for what TOML has and JSON has not (a date, `nan`): options are identity."""
    for key, value in options.items():
        try:
            canonical_json(value)
        except (TypeError, ValueError) as exc:
            raise Misfit(f"Input should be what JSON can hold: {exc}", *keys, key) from exc


def _with_others(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `[advise]` says, with the keys that nobody knows below one of their own."""
    known = keys_of(AdviseTable)
    others = {key: value for key, value in stated.items() if key not in known}
    return {**{key: value for key, value in stated.items() if key in known}, "": others}


def _line_of(text: str, keys: list[str]) -> int:
    """Return where `keys`, from the outermost, stand; the deepest one that is found."""
    lines, found = text.split("\n"), 0
    for key in keys:
        mark = re.compile(rf"""\s*(\[[^=#]*?)?["']?\b{re.escape(key)}\b""")
        found = next((n for n in range(found, len(lines)) if mark.match(lines[n])), found)
    return found + 1
