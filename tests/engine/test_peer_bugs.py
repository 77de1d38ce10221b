"""Errors that were reproduced in, or reported of, other harnesses: here they are regressions.

Each test names its source. Resuming after kill -9 is in tests/surface/test_resume.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import BackendConfig, hookimpl
from harness.core.scoring import case_values
from harness.engine.candidates import resolve_candidate
from harness.engine.evaluate import Evaluation, fetch_all
from harness.engine.fetch import Silence
from harness.engine.ladder import read_ladder
from harness.engine.release import arms_of
from harness.errors import BackendError, NotEnoughEvidence
from harness.records import Artifact, Candidate, Reply, Request, Run
from harness.testing import make_run
from tests.engine.small import Plugin, Workshop, rows, write_rows, write_task
from tests.plugins.loopback import Answer, completion, loopback
from tests.surface.inprocess import Cli
from tests.surface.toy import Toy

Make = Callable[..., Workshop]


class Says(Plugin):
    """Backends that tell who they are; `asked` counts the requests of each."""

    def __init__(self, knows: Callable[[Request], str] | None = None) -> None:
        super().__init__(knows=knows)
        self.asked: dict[str, int] = {}
        self.reply: Callable[[str, Request], Reply] = lambda who, request: Reply(text=who)

    @hookimpl
    def harness_backends(self) -> Mapping[str, Any]:
        plugin = self

        class Backend:
            def __init__(self, config: BackendConfig) -> None:
                known = config.artifact and (config.artifact / "known.json").read_text()
                parts = [config.model, config.base_url, known, dict(config.options)]
                self.who = json.dumps(parts)

            async def answer(self, request: Request) -> Reply:
                plugin.asked[self.who] = plugin.asked.get(self.who, 0) + 1
                return plugin.reply(self.who, request)

        return {"letters": Backend}


@pytest.fixture
def plugin() -> Says:
    return Says()


@pytest.fixture
def workshop(make: Make, plugin: Says) -> Workshop:
    return make(plugin=plugin, some=rows(dev=4, train=0, test=4))


def texts(workshop: Workshop, *candidates: Candidate) -> dict[str, list[str]]:
    """Ask for `candidates` over dev, and return what each is given, case by case."""
    evaluation = Evaluation(workshop.task, candidates, split="dev", pool=workshop.pool)
    trials = evaluation.trial_ids()
    fetch_all([(evaluation, trials)], store=workshop.store, progress=Silence())
    found: dict[str, list[str]] = {}
    for trial in trials:
        reply = evaluation.outcomes[trial].reply
        found.setdefault(trial.candidate, []).append(reply.text if reply else "no reply")
    return found


def plain(workshop: Workshop) -> Candidate:
    return resolve_candidate(workshop.task, "plain", artifact_digest=str)


# ---------------------------------------------------------------- the key of a reply


@pytest.mark.parametrize(
    "change",
    [
        {"backend": "letters:other"},
        {"base_url": "http://other"},
        {"options": {"dtype": "float16"}},
        {"epoch": 1},
    ],
    ids=["model", "url", "options", "epoch"],
)
def test_another_model_is_never_given_the_first_ones_replies(
    workshop: Workshop, plugin: Says, change: dict[str, Any]
) -> None:
    """lm_eval 0.4.13: --use_cache with another model at another URL: 0 requests, A's scores."""
    first = plain(workshop)
    second = replace(first, name="second", **change)
    before = texts(workshop, first)
    after = texts(workshop, second)
    assert sum(plugin.asked.values()) == 8
    assert first.digest != second.digest
    if "epoch" not in change:  # which is the same model, asked anew
        assert set(before["plain"]).isdisjoint(after["second"])
    assert texts(workshop, first, second) == before | after
    assert sum(plugin.asked.values()) == 8


def test_two_servers_behind_one_store_each_give_their_own_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, as it was reproduced: one store, two servers, over HTTP."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ExitStack() as stack:
        paris, london = (stack.enter_context(loopback()) for _ in range(2))
        paris.answer = lambda _: Answer(body=completion("Paris"))
        london.answer = lambda _: Answer(body=completion("London"))
        folder = write_task(tmp_path, some=rows(dev=5, train=0, test=0), model="openai:m")
        workshop = Workshop(folder)
        workshop.plugins.load()
        stack.callback(workshop.close)
        one, two = (replace(plain(workshop), name=n, base_url=s.base_url) for n, s in
                    [("one", paris), ("two", london)])  # fmt: skip
        assert texts(workshop, one) == {"one": ["Paris"] * 5}
        assert texts(workshop, two) == {"two": ["London"] * 5}
        assert (len(paris.seen), len(london.seen)) == (5, 5)


def test_an_adapter_that_was_trained_again_under_its_name_is_another_candidate(
    workshop: Workshop, plugin: Says
) -> None:
    """pytorch/ao#3073: stale results for a re-trained model under the same id."""
    said = []
    for number, name in enumerate(["a" * 64, "b" * 64]):
        folder = workshop.project.home / "artifacts" / name[:16]
        folder.mkdir(parents=True)
        (folder / "known.json").write_text(f"trained {number} times")
        artifact = Artifact(
            digest=name, name="mine", task="double", tuner="by-heart", base="letters:small",
            base_digest="b", template_digest="t", prompt="plain", prompt_digest="p",
            data_digest="d", rows=1, recipe={}, seed=0,
        )  # fmt: skip
        workshop.store.add_artifact(artifact, at=f"2026-01-0{number + 1}")
        [run] = workshop.run("plain@letters:small+mine")
        known = workshop.store.known_replies(t.reply_key or "" for t in run.trials)
        said.append((run.candidate.digest, {r.text for r in known.values()}))
    assert said[0][0] != said[1][0]
    assert said[0][1].isdisjoint(said[1][1])
    assert sum(plugin.asked.values()) == 8


def test_repeats_do_not_collapse_into_one_key(make: Make, plugin: Says) -> None:
    """lm-eval#3046, #3715; promptfoo#1431: repeat and cache."""
    workshop = make(plugin=plugin, some=rows(dev=2, train=0, test=0), repeats=3)
    numbers = iter(range(100))
    plugin.reply = lambda who, request: Reply(text=str(next(numbers)))
    first = texts(workshop, plain(workshop))["plain"]
    assert sorted(first) == [str(n) for n in range(6)]
    assert texts(workshop, plain(workshop))["plain"] == first
    assert sum(plugin.asked.values()) == 6


def test_two_cases_with_one_prompt_share_a_reply_and_keep_a_trial_each(
    make: Make, plugin: Says
) -> None:
    """promptfoo action#669: two cases, same prompt: one of them vanished."""
    some = rows(dev=2, train=0, test=0)
    some[1] |= {"inputs": some[0]["inputs"], "reference": "another"}
    workshop = make(plugin=plugin, some=some)
    plugin.reply = lambda who, request: Reply(text="another")
    [run] = workshop.run("plain")
    assert sum(plugin.asked.values()) == 1
    assert [t.case_id for t in run.trials] == ["c0", "c1"]
    assert len({t.reply_key for t in run.trials}) == 1
    assert case_values(run, "right") == {"c0": 0.0, "c1": 1.0}


def test_cases_that_change_places_are_the_same_cases(workshop: Workshop, plugin: Says) -> None:
    """deepeval#1265: the score went from 0.3 to 0.98 by moving the case."""
    plugin.reply = lambda who, request: Reply(text=request.messages[-1].content)
    [before] = workshop.run("plain")
    write_rows(workshop.folder, reversed(rows(dev=4, train=0, test=4)))
    [after] = workshop.run("plain")
    assert sum(plugin.asked.values()) == 4
    assert case_values(after, "right") == case_values(before, "right")


# ---------------------------------------------------------------- what is kept of a reply


def test_latency_and_cost_are_the_first_ones_when_a_reply_is_found_again(
    workshop: Workshop, plugin: Says
) -> None:
    """promptfoo#980: latency was replaced on a hit."""
    plugin.reply = lambda who, request: Reply(text="x", latency_s=1.25, cost_usd=0.02)
    [first] = workshop.run("plain")
    [again] = workshop.run("plain")
    assert again.id == first.id
    for run in (first, again):
        known = workshop.store.known_replies(t.reply_key or "" for t in run.trials)
        assert {(r.latency_s, r.cost_usd) for r in known.values()} == {(1.25, 0.02)}
    assert read_ladder(workshop.task, workshop.store).usages[0].cost_usd == pytest.approx(0.08)
    assert sum(plugin.asked.values()) == 4


def test_a_fault_is_never_found_again(workshop: Workshop, plugin: Says) -> None:
    """An error that was cached scores 0 for ever."""

    def fails(who: str, request: Request) -> Reply:
        raise BackendError("context overflow", is_systemic=True)

    plugin.reply = fails
    assert texts(workshop, plain(workshop)) == {"plain": ["no reply"] * 4}
    plugin.reply = lambda who, request: Reply(text="here")
    assert texts(workshop, plain(workshop)) == {"plain": ["here"] * 4}
    assert sum(plugin.asked.values()) == 8


# ---------------------------------------------------------------- what a gate reads


@pytest.fixture
def two_runs(make: Make) -> Workshop:
    workshop = make(plugin=Says(), some=rows(dev=0, train=0, test=30))
    workshop.run("plain", "terse", split="test")
    return workshop


def arms(workshop: Workshop) -> tuple[Run, Run]:
    task = workshop.task
    found = arms_of(
        task,
        read_ladder(task, workshop.store, split="test"),
        baseline=resolve_candidate(task, "plain", artifact_digest=str),
        candidate=resolve_candidate(task, "terse", artifact_digest=str),
    )
    return found.baseline, found.candidate


@pytest.mark.parametrize("changed", ["evals", "labels", "inputs", "prompt"])
def test_a_gate_refuses_the_runs_of_what_was_before(two_runs: Workshop, changed: str) -> None:
    """pytest-evals 0.3.4: the analysis passed on an older run's file after the new one crashed."""
    assert arms(two_runs)[0].candidate.name == "plain"
    folder = two_runs.folder
    some = rows(dev=0, train=0, test=30)
    if changed == "evals":
        (folder / "eval_double.py").write_text("def test_right(case, reply):\n    assert 0\n")
    elif changed == "prompt":
        (folder / "prompts/terse.md").write_text("@user\nQuick: {{ n }}\n")
    else:
        some[3] |= {"reference": "7"} if changed == "labels" else {"inputs": {"n": 99}}
        write_rows(folder, some)
    with pytest.raises(NotEnoughEvidence, match="no complete, current run"):
        arms(two_runs)


def test_a_gate_refuses_a_part_of_the_cases(two_runs: Workshop) -> None:
    (two_runs.folder / "eval_double.py").write_text("def test_right(case, reply):\n    pass\n")
    two_runs.run("plain", "terse", split="test", only=[f"c{n}" for n in range(29)])
    with pytest.raises(NotEnoughEvidence, match="no complete, current run"):
        arms(two_runs)


def test_a_verdict_names_the_runs_that_it_read(two_runs: Workshop) -> None:
    task = two_runs.task
    found = arms_of(
        task,
        read_ladder(task, two_runs.store, split="test"),
        baseline=resolve_candidate(task, "plain", artifact_digest=str),
        candidate=resolve_candidate(task, "terse", artifact_digest=str),
    ).comparison()
    for name in (found.baseline_run, found.candidate_run):
        assert two_runs.store.run(name).id == name
    assert make_run().id not in (found.baseline_run, found.candidate_run)


# ---------------------------------------------------------------- a check that changed


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cli]:
    return Cli(Toy(tmp_path, dev=4), monkeypatch, capsys)


@pytest.mark.parametrize("where", ["environment", "eval file", "reference"])
def test_a_check_that_expects_something_else_is_scored_anew(cli: Cli, where: str) -> None:
    """deepeval 4.3.1: PatternMatchMetric(pattern=$PAT) passed from cache with another pattern."""
    toy = cli.toy
    checks = "import os\ndef test_right(case, reply):\n    assert reply.text == EXPECTED\n"
    sources = {
        "environment": "os.environ['EXPECTED']",
        "eval file": "'9'",
        "reference": "case.reference",
    }
    toy.task.joinpath("eval_toy.py").write_text(checks.replace("EXPECTED", sources[where]))
    first = cli("eval", "toy", "--candidate", "shots", "--json", EXPECTED="9").json["runs"][0]
    lines = [json.loads(line) for line in (toy.task / "cases.jsonl").read_text().splitlines()]
    if where == "eval file":
        toy.task.joinpath("eval_toy.py").write_text(checks.replace("EXPECTED", "'42'"))
    elif where == "reference":
        is_asked = lambda row: row["split"] == "dev"  # noqa: E731 - train is what prompts show
        toy.write_cases([row | ({"reference": "42"} if is_asked(row) else {}) for row in lines])
    sent = len(toy.sent)
    again = cli("eval", "toy", "--candidate", "shots", "--json", EXPECTED="42").json["runs"][0]

    def passed(run: Any) -> int:
        return sum(t["scores"][0].get("value") == 1 for t in run["run"]["trials"])

    assert passed(first) == (4 if where == "reference" else 1)
    assert passed(again) == 0
    assert first["id"] != again["id"]
    assert len(toy.sent) == sent  # replies are found again, scores are not
