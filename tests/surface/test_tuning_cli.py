"""`harness tune` as a person meets it: before, during and after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.engine.tasks import load_task
from harness.engine.tune_preview import Preview
from harness.ports.tuners import TrainProgress, TuneEstimate
from harness.surface.cli.tune_show import preview_lines, step_line
from harness.surface.cli.tune_verb import against_rows
from tests.surface.inprocess import Cli
from tests.surface.judging import with_judge

TUNER = '''
import json, os, pathlib, time
import harness

def codes(messages):
    return [i for m in messages for i in [1, *map(ord, m.content)]] + [1]

class Sums:
    """Knows the sums whose first number is below what its artifact says."""
    is_external = False
    def __init__(self, config):
        known = config.artifact and config.artifact / "known.json"
        self.below = json.loads(known.read_text()) if known else 0
    def answer(self, request):
        a, b = [int(x) for x in request.messages[-1].content.split() if x.isdigit()]
        return harness.Reply(text=str(a + b) if a < self.below else "?")
    def token_ids(self, request):
        return codes(request.messages)
    def stop_ids(self):
        return frozenset({0})
    def decode(self, ids):
        return "".join(map(chr, ids))

class Slow:
    """Ten steps; keeps where it stands, and stops to wait where PAUSE_AT says."""
    def prepare(self, job):
        found = []
        for row in job.rows:
            prompt, reply = codes(row.messages), [*map(ord, row.completion), 0]
            labels = (*[-100] * len(prompt), *reply)
            found.append(harness.PreparedRow(
                case_id=row.case_id, input_ids=(*prompt, *reply), labels=labels))
        return found
    def steps(self, job, rows):
        return 10
    has_tokens = os.environ.get("NO_TOKENS") is None
    def estimate(self, job, rows):
        return harness.TuneEstimate(steps=10, seconds=90.0, memory_gb=0.5, facts=("a small model",))
    def train(self, job, rows, *, report):
        state = job.state_dir / "step.json"
        first = json.loads(state.read_text()) if state.is_file() else 0
        if "rat" in job.recipe:
            raise harness.RecipeError("unknown key 'rat'", keys=["rat"])
        for step in range(first + 1, 11):
            if os.environ.get("PAUSE_AT") == str(step):
                pathlib.Path("paused").touch()
                time.sleep(60)
            if os.environ.get("BREAK_AT") == str(step):
                raise KeyboardInterrupt
            if os.environ.get("FAIL_AT") == str(step):
                raise harness.Refused("nothing to learn")
            report(harness.TrainProgress(
                step=step, steps=10, loss=1 / step, tokens=10 * step, seconds=step, memory_gb=1.5,
                numbers={"reward": 0.5}))
            (job.out_dir / "known.json").write_text(str(step))
            state.write_text(str(step))
            if job.check and step % job.check_every == 0:
                folder = job.out_dir
                if not job.check(harness.Checkpoint(step=step, steps=10, folder=folder)):
                    break
        return harness.TrainResult(
            base_digest="b", template_digest="t", metrics={"first": float(first)}, environment={})

@harness.hookimpl
def harness_backends():
    return {"adder": Sums}

@harness.hookimpl
def harness_tuners():
    return {"slow": Slow}
'''


@pytest.fixture
def toy(cli: Cli) -> Cli:
    (cli.toy.root / "site/adder.py").write_text(TUNER)
    text = (cli.toy.task / "task.toml").read_text()
    (cli.toy.task / "task.toml").write_text(text + '[tune]\ntuner = "slow"\nprompt = "plain"\n')
    (cli.toy.task / "eval_toy.py").write_text(
        "def test_right(case, reply):\n    assert reply.text == case.reference\n"
    )
    return cli


OVERRIDE = ("--override", "a test")


def kept(cli: Cli) -> list[Path]:
    return list((cli.toy.root / ".harness").glob("tuning/*/state/*"))


def test_a_plan_tells_all_and_starts_nothing(toy: Cli) -> None:
    said = toy("tune", "toy", "--plan")
    assert said.code == 1
    for line in (
        "tuned: slow on adder:small, prompt plain",
        "  rows      4",
        "longest row ",
        "  estimate  10 steps, about 90 s, 0.5 GB of memory",
        "            a small model",
        "  dev       12 cases after each 2 steps; the best checkpoint is kept",
        "  parity    4 rows compared id by id, no difference",
        "  refused   tuning 'toy' is refused: there is no wall verdict",
        "it would be refused",
    ):
        assert line in said.out
    allowed = toy("tune", "toy", "--plan", *OVERRIDE, "--json")
    assert allowed.code == 0
    [one] = allowed.json["trainings"]
    assert (allowed.json["can_start"], one.get("refusals"), one["rows"]) == (True, None, 4)
    assert not (toy.toy.root / ".harness/artifacts").exists()
    assert not (toy.toy.root / ".harness/tuning").exists()


def test_a_training_is_told_as_it_goes_and_the_artifact_tells_its_curve(toy: Cli) -> None:
    said = toy("tune", "toy", *OVERRIDE)
    assert said.code == 0
    assert "step 1 of 10, loss 1.000, reward 0.5, 10 tokens/s, 1.5 GB, 1 s\n" in said.err
    assert "step 2: dev 17 %, the best so far: kept" in said.err
    assert "dev: 5 looks at 12 cases, best 83 % at step 10; a choice on dev" in said.out
    made = toy("tune", "toy", *OVERRIDE, "--json").json
    assert [(p["step"], round(p["score"], 2)) for p in made["curve"]] == [
        (2, 0.17), (4, 0.33), (6, 0.5), (8, 0.67), (10, 0.83),
    ]  # fmt: skip
    assert toy("report", "toy").code == 0
    [page] = (toy.toy.root / ".harness/reports").rglob("*.html")
    assert 'class="curve"' in page.read_text()


def test_a_stopped_training_says_how_to_go_on_and_goes_on(toy: Cli) -> None:
    said = toy("tune", "toy", *OVERRIDE, BREAK_AT="5")
    assert said.code == 130
    assert "cut short after step 4 of 10; its state is kept: the same command goes on" in said.err
    assert len(kept(toy)) == 1
    other = toy("tune", "toy", *OVERRIDE, "--seed", "7", FAIL_AT="2")
    assert (other.code, "nothing of it is kept" in other.err) == (1, True), other.err
    again = toy("tune", "toy", *OVERRIDE)
    assert "going on with a training that was cut short" in again.err
    assert "step 5 of 10" in again.err
    assert kept(toy) == []
    toy("tune", "toy", *OVERRIDE, BREAK_AT="5")
    fresh = toy("tune", "toy", *OVERRIDE, "--fresh", "--json").json
    assert fresh["metrics"]["first"] == 0


def test_a_mistake_in_a_recipe_is_told_with_file_and_line(toy: Cli) -> None:
    (toy.toy.task / "r.toml").write_text("epochs = 3\n\nrat = 1\n")
    said = toy("tune", "toy", *OVERRIDE, "--recipe", str(toy.toy.task / "r.toml"))
    assert said.code == 2
    assert f"{Path('evals/toy/r.toml')}:3: unknown key 'rat'" in said.err


def test_a_model_without_tokens_is_told_without_what_it_has_not(
    toy: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = toy("tune", "toy", *OVERRIDE)
    assert "training on 4 rows with slow; first each row is compared with what will be" in said.out
    assert "tokens/s" in said.err
    said = toy("tune", "toy", *OVERRIDE, "--fresh", NO_TOKENS="1")
    assert "training on 4 rows with slow\n" in said.out
    step = TrainProgress(step=2, steps=26, loss=None, tokens=0, seconds=3.0, numbers={"own_e": 0.5})
    first = replace(step, step=1, seconds=2.0)
    assert step_line(step, since=first) == "step 2 of 26, own e 0.5, 3 s, about 24 s to go"
    assert step_line(first, since=first) == "step 1 of 26, own e 0.5, 2 s"


def test_a_plan_gives_both_figures_of_a_busy_machine() -> None:
    known = Preview(
        name="t", tuner="x", base="b", prompt="p", start=None, rows=1, dropped=(), recipe={},
        estimate=TuneEstimate(steps=1, seconds=300.0, least_seconds=62.0),
    )  # fmt: skip
    [line] = [x for x in preview_lines(known) if "estimate" in x]
    assert line == "  estimate  1 step, about 62 s to 5 min, memory not known"


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is of POSIX")
def test_a_training_that_was_killed_goes_on_too(toy: Cli) -> None:
    whole = toy("tune", "toy", *OVERRIDE, "--json").json
    root = toy.toy.root
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "tune", "toy", *OVERRIDE, "--seed", "0"],
        cwd=root, env=toy.toy.environment(PAUSE_AT="7"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (root / "paused").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert len(kept(toy)) == 1
    resumed = toy("tune", "toy", *OVERRIDE, "--json").json
    assert resumed["metrics"].pop("first") == 6
    assert whole["metrics"].pop("first") == 0
    assert resumed == whole
    assert kept(toy) == []


def test_stages_and_a_start_are_one_command_each(toy: Cli) -> None:
    text = (toy.toy.task / "task.toml").read_text().replace('tuner = "slow"\n', "check_every = 0\n")
    stage = '[[tune.stages]]\ntuner = "slow"\n'
    (toy.toy.task / "task.toml").write_text(text + stage + stage)
    said = toy("tune", "toy", *OVERRIDE)
    assert said.code == 0
    assert "artifact tuned-1-slow " in said.out
    assert "stage 2 of 2: slow, 4 rows" in said.err
    assert "  gone on from " in said.out
    assert said.out.rstrip().endswith("harness eval toy --candidate tuned")
    one = toy("tune", "toy", *OVERRIDE, "--tuner", "slow", "--start", "tuned-1-slow", "--json").json
    assert one["start"] is not None
    missing = toy("tune", "toy", *OVERRIDE, "--tuner", "slow", "--start", "nothing")
    assert (missing.code, "'nothing' is not an artifact" in missing.err) == (2, True)


@pytest.mark.parametrize(
    ("extra", "code", "says"),
    [
        (("--devices", "2"), 2, "slow trains on one device; --devices 2 needs a tuner that knows"),
        (("--pilot", "--plan"), 2, "it knows no --plan, --start, --fresh and --devices"),
        (("--tuner", "magic"), 2, "no tuner 'magic'"),
        (("--start", "."), 2, "Adopt it first: harness model adopt . --base adder:small"),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(
    toy: Cli, extra: tuple[str, ...], code: int, says: str
) -> None:
    more = () if "--pilot" in extra else OVERRIDE
    said = toy("tune", "toy", *more, *extra)
    assert (said.code, says in said.err) == (code, True), said.err
    assert kept(toy) == []


def test_a_reference_fails_no_eval_that_finds_nothing_to_measure_in_it(cli: Cli) -> None:
    """A reference took no time and cost nothing; one that is wrong is left out all the same, and
    so is one on which an eval crashes, which is told as what it is.
    """
    task = cli.toy.task
    (task / "eval_toy.py").write_text(
        "from harness import checks\n\n"
        "def test_fast(case, reply):\n    checks.latency(reply, at_most_s=2)\n\n"
        "def test_right(case, reply):\n    assert int(reply.text) == 3 * case.inputs['a']\n"
    )
    rows = [json.loads(line) for line in (task / "cases.jsonl").read_text().splitlines()]
    rows[-7] |= {"reference": "1"}
    rows[-8] |= {"reference": "three"}
    assert {row["split"] for row in rows[-8:-6]} == {"train"}
    cli.toy.write_cases(rows)
    loaded = load_task(task)
    bad = against_rows(loaded, cli.toy.root / ".harness/harness.db")(loaded.split("train"))
    assert set(bad) == {rows[-8]["id"], rows[-7]["id"]}
    assert bad[rows[-7]["id"]] == "for they fail the task's own evals"
    crash = "for an eval crashed on them (right: ValueError: invalid literal for int() with base 10"
    assert bad[rows[-8]["id"]].startswith(crash)


@pytest.mark.parametrize(
    ("extra", "mode", "code", "says"),
    [
        ((), "down", 4, "20 of 20 trials were not judged: judge nice: no judge at home"),
        (
            ("--max-cost", "0.015"),
            "",
            4,
            "5 of 20 references were not judged: not asked: the cost cap",
        ),
        (("--max-cost", "0.02"), "", 0, "it could start"),
    ],
)
def test_a_judge_that_does_not_answer_drops_no_row_and_is_asked_within_the_cap(
    cli: Cli, extra: tuple[str, ...], mode: str, code: int, says: str
) -> None:
    table = '[judges.nice]\nbackend = "arbiter:x"\nrubric = "Is it a number?"\n'
    (cli.toy.root / "site/adder.py").write_text(TUNER)
    evals = "def test_right(case, reply):\n    assert reply.text == case.reference\n"
    with_judge(cli.toy, f'{table}[tune]\ntuner = "slow"\nprompt = "plain"\n', evals=evals)
    rows: list[dict[str, object]] = [
        {"id": f"c{n}", "split": "train", "inputs": {"a": n, "b": n}, "reference": str(2 * n)}
        for n in range(20)
    ]
    cli.toy.write_cases([*rows, {"id": "d", "split": "dev", "inputs": {"a": 77, "b": 1}}])
    said = cli("tune", "toy", "--plan", *OVERRIDE, *extra, JUDGE=mode)
    assert (said.code, says in said.out + said.err) == (code, True), said.out + said.err
