"""What `advise` is told of a task: read from runs, tags and the dated table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.core.advice import advise
from harness.core.advice_evidence import Evidence
from harness.core.pairs import Pair, compare
from harness.core.release import judge_release
from harness.core.tries import build_tries
from harness.engine.advise import gather
from harness.engine.ladder import read_ladder, scored_cases, try_scores
from harness.engine.providers import provisions, read_table
from harness.engine.walls import wall_entry
from harness.errors import UsageError
from harness.records import Condition, Fault, LedgerEntry, ReleaseVerdict, WallVerdict
from tests.engine.small import Workshop, rows, write_settings
from tests.engine.test_tune import TUNE, tune

Make = Callable[..., Workshop]
NOWHERE = Path("/nowhere")


def told(workshop: Workshop) -> Evidence:
    return gather(workshop.task, workshop.store, pool=workshop.pool, root=NOWHERE)


def tagged(*tags: str, dev: int = 60) -> list[dict[str, Any]]:
    some = rows(dev=dev)
    return [r | {"tags": [tags[n % len(tags)]]} for n, r in enumerate(some)]


def wall(workshop: Workshop, answer: Any = "WALL") -> None:
    """Record a verdict on the present tries, the best of them on top."""
    task = workshop.task
    ladder = read_ladder(task, workshop.store)
    tries = build_tries(try_scores(task, ladder), [c.cluster for c in scored_cases(task, ladder)])
    best = max(tries, key=lambda t: t.estimate.mean).candidate
    verdict = WallVerdict(
        task=task.name, answer=answer, reason="r.", tries=tuple(tries), best=best, mid=0.05,
        conditions=(Condition(name="labels", holds=True, text="30 labels read, none wrong"),),
        target=task.settings.target, profile="quick", inputs_digest=task.inputs_digest("dev"),
        labels_digest=task.labels_digest("dev"), evals_digest=task.evals_digest,
        policy_digest=task.policy_digest,
    )  # fmt: skip
    workshop.store.record(wall_entry(verdict, at=workshop.at()))


def test_a_constant_that_reaches_the_target_is_enough(make: Make) -> None:
    workshop = make(some=rows(dev=60))
    workshop.run("constant:7", score=lambda case, reply: 1.0)
    workshop.run("plain", score=lambda case, reply: 0.0)
    evidence = told(workshop)
    assert [c.name for c in evidence.classical] == ["constant:7"]
    assert advise(evidence).answer == "USE_CLASSICAL"


def test_a_replayed_baseline_is_no_person_where_the_facts_say_so(make: Make) -> None:
    workshop = make(some=rows(dev=60), advise={"classical": ["replay:knn.jsonl"]})
    (workshop.folder / "knn.jsonl").write_text('{"id": "c0", "reply": "0"}\n')
    with pytest.raises(UsageError, match=r"advise\.classical: no complete, current run"):
        told(workshop)
    workshop.run("replay:knn.jsonl", score=lambda case, reply: 1.0)
    evidence = told(workshop)
    assert evidence.people is None
    assert [c.name for c in evidence.classical] == ["replay:knn.jsonl"]


def test_a_broad_candidate_that_is_worse_on_the_same_cases_narrows_the_scope(make: Make) -> None:
    workshop = make(some=rows(dev=60), advise={"broad": "plain", "scoped": "terse"})
    workshop.run("plain", score=lambda case, reply: float(int(case.id[1:]) % 2))
    with pytest.raises(UsageError, match="no complete, current run of 'terse'"):
        told(workshop)
    workshop.run("terse", score=lambda case, reply: float(int(case.id[1:]) % 6 > 0))
    found = advise(told(workshop))
    assert found.answer == "NARROW_SCOPE"
    assert "terse gains 33.3 points" in found.summary


def test_a_tag_within_which_the_best_prompt_is_good_enough_narrows_it_too(make: Make) -> None:
    workshop = make(some=tagged("easy", "hard", dev=100), advise={"scope": "easy"})
    workshop.run("plain", score=lambda case, reply: float("easy" in case.tags))
    wall(workshop)
    evidence = told(workshop)
    assert evidence.labels == "30 labels read, none wrong"
    assert advise(evidence).answer == "NARROW_SCOPE"
    write_settings(workshop.folder, advise={"scope": "none"})
    with pytest.raises(UsageError, match="no scored case of dev is tagged 'none'"):
        told(workshop)


def test_what_was_not_measured_is_neither_a_miss_nor_a_failure_of_people(make: Make) -> None:
    workshop = make(some=tagged("knowledge", "format"))
    answers = [f'{{"id": "c{n}", "reply": "0"}}\n' for n in range(40)]
    (workshop.folder / "people.jsonl").write_text("".join(answers))
    workshop.run("replay:people.jsonl", score=lambda case, reply: 1.0)
    down = Fault(origin="backend", message="down", is_missing=True)
    lost = {f"c{n}": down for n in range(10)}
    workshop.run("plain", score=lambda case, reply: 0.0, faults=lost)
    wall(workshop)
    evidence = told(workshop)
    assert evidence.people is not None
    shown = evidence.people.estimate
    assert (shown.n, shown.mean, shown.upper) == (40, 1.0, 1.0)
    assert shown.lower < 0.67
    assert evidence.misses is not None
    assert evidence.misses.misses == 50
    workshop = make(some=rows(dev=60))
    (workshop.folder / "people.jsonl").write_text('{"id": "other", "reply": "0"}\n')
    workshop.run("replay:people.jsonl")
    assert told(workshop).people is None


def test_misses_are_told_by_the_kind_that_people_tagged(make: Make) -> None:
    workshop = make(some=tagged("knowledge", "knowledge", "format"))
    workshop.run("plain", score=lambda case, reply: 0.0)
    wall(workshop)
    misses = told(workshop).misses
    assert misses is not None
    assert (misses.misses, dict(misses.kinds)) == (
        60,
        {"knowledge": 40, "rules": 0, "format": 20},
    )
    assert advise(told(workshop)).answer == "KEEP_PROMPTING"


def released(workshop: Workshop, *names: str) -> ReleaseVerdict:
    """Record that the second of two candidates was blocked against the first."""
    runs = workshop.run(*names, split="test", score=lambda case, reply: 0.0)
    worse = Pair(name="right", candidate=[0.0] * 60, baseline=[1.0] * 60)
    compared = compare(
        worse, task=workshop.task.name, split="test", baseline=names[0], candidate=names[1],
        baseline_run=runs[0].id, candidate_run=runs[1].id,
    )  # fmt: skip
    verdict = judge_release(compared, primary=worse, look=1)
    assert verdict.answer == "BLOCK"
    workshop.store.record(
        LedgerEntry(kind="release", task=workshop.task.name, at=workshop.at(), payload=verdict)
    )
    return verdict


def test_a_blocked_prompt_is_no_tuned_model_and_a_blocked_tuned_one_stays_on_record(
    make: Make,
) -> None:
    workshop = make(some=rows(dev=60), tune=TUNE)
    workshop.run("plain", score=lambda case, reply: 0.0)
    wall(workshop)
    released(workshop, "terse", "plain")
    assert told(workshop).release is None
    assert advise(told(workshop)).answer == "FINE_TUNE"
    tune(workshop)
    verdict = released(workshop, "plain", "tuned")
    released(workshop, "plain", "terse")  # newer, and again of prompts
    assert told(workshop).release == verdict
    found = advise(told(workshop))
    assert found.answer == "KEEP_MANUAL"
    assert "tuned model was tried and blocked" in found.summary


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("python:app:climber", "only the answers are seen"),
        ("anthropic:claude-x", "closed to newcomers"),
        ("unheard:of", "the table has none"),
        ("local:SmolLM2", None),
    ],
)
def test_a_wall_of_a_model_that_cannot_be_tuned_here_says_so(
    make: Make, model: str, says: str | None
) -> None:
    workshop = make(some=rows(dev=60))
    settings = msgspec.structs.replace(workshop.task.settings, model=model, tune=None)
    task = replace(workshop.task, settings=settings)
    evidence = replace(
        gather(task, workshop.store, pool=workshop.pool, root=NOWHERE),
        wall=WallVerdict(
            task="double", answer="WALL", reason="r.", conditions=(), tries=(), target=0.8,
            mid=0.05, profile="quick",
        ),
        why_stale=None,
    )  # fmt: skip
    found = advise(evidence)
    assert found.answer == "FINE_TUNE"
    told_so = [r.text for r in found.reasons if r.evidence == "tunable.toml" and r.decides]
    assert [f"tune {model} is known here" in text and says in text for text in told_so] == (
        [True] if says else []
    )


# ---------------------------------------------------------------- the table


def test_every_entry_of_the_shipped_table_has_a_source_and_says_whether_it_was_read() -> None:
    table = read_table(NOWHERE)
    entries = [*table.tuning.values(), *table.outputs.values()]
    assert len(entries) >= 10
    assert all(e.source for e in entries)
    assert all(not e.checked or e.checked >= "2026-11-22" for e in entries)
    assert any(not e.checked for e in entries)


def test_an_entry_that_names_the_model_wins_over_the_schemes_own() -> None:
    table = read_table(NOWHERE)
    [llama] = provisions(table, "none:x", teacher="openai:Llama-3.3-70B-Instruct")
    assert "begins with Llama" in llama.text
    [hosted] = provisions(table, "none:x", teacher="openai:gpt-x")
    assert "compete with OpenAI" in hosted.text
    [closed] = provisions(table, "openai:gpt-x")
    assert not closed.is_open
    assert provisions(table, "unheard:of", teacher="unheard:of") == []
