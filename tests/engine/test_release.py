from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from harness import BackendConfig
from harness.core.looks import alpha_of_look
from harness.engine.candidates import resolve_candidate
from harness.engine.ladder import read_ladder
from harness.engine.release import (
    Arms,
    arms_of,
    best_prompt,
    control_condition,
    look_entry,
    look_number,
    looks_spent,
    pair_key,
    release_verdict,
)
from harness.errors import NotEnoughEvidence, UsageError
from harness.records import Candidate, Condition, Fault, ReleaseVerdict
from tests.engine.small import Letters, Plugin, Row, Workshop, rows, write_rows, write_settings

Make = Callable[..., Workshop]
RELEASES = ("release", "eval")


def echo(request: Any) -> str:
    return f"re: {request.messages[-1].content}"


@pytest.fixture
def workshop(make: Make) -> Workshop:
    return make(plugin=Plugin(knows=echo))


def named(workshop: Workshop, name: str) -> Candidate:
    return resolve_candidate(workshop.task, name, artifact_digest=str)


# ---------------------------------------------------------------- looks


def look(workshop: Workshop, old: str | None, new: str, *, purpose: str = "release") -> int:
    """Look, and return which look that was."""
    task = workshop.task
    baseline = named(workshop, old) if old else None
    key = pair_key(baseline, named(workshop, new))
    entries = workshop.store.ledger(task=task.name, kind="look")
    spent = looks_spent(task, entries, purposes=RELEASES)
    if key not in spent:
        workshop.store.record(
            look_entry(
                task,
                purpose=purpose,
                baseline=baseline,
                candidate=named(workshop, new),
                at=workshop.at(),
            )
        )
    return look_number(spent, key)


def test_the_same_pair_is_the_same_look_however_often_it_is_judged(workshop: Workshop) -> None:
    assert [look(workshop, "plain", "terse") for _ in range(3)] == [1, 1, 1]


def test_another_pair_is_the_next_look_and_the_old_one_keeps_its_number(
    workshop: Workshop,
) -> None:
    pairs = [("plain", "terse"), ("plain", "shots"), ("shots", "terse"), ("plain", "terse")]
    assert [look(workshop, *pair) for pair in pairs] == [1, 2, 3, 1]


def test_a_renamed_candidate_is_the_same_look(workshop: Workshop) -> None:
    assert look(workshop, "plain", "terse") == 1
    assert look(workshop, "plain@letters:small", "terse@letters:small") == 1


def test_an_edited_prompt_is_another_candidate_and_so_the_next_look(workshop: Workshop) -> None:
    look(workshop, "plain", "terse")
    (workshop.folder / "prompts/terse.md").write_text("@user\nBriefly: {{ n }}\n")
    assert look(workshop, "plain", "terse") == 2


def test_an_edited_label_or_eval_renews_nothing(workshop: Workshop) -> None:
    """Otherwise touching a file would buy a fresh look at the same cases."""
    look(workshop, "plain", "terse")
    write_rows(workshop.folder, [r | {"reference": "other"} for r in rows()])
    (workshop.folder / "eval_double.py").write_text("def test_right(case, reply):\n    assert 1\n")
    assert look(workshop, "plain", "terse") == 1
    assert look(workshop, "plain", "shots") == 2


def fresh(n: int) -> list[Row]:
    """Rows of which `n` of the four test cases are new."""
    some = rows()
    for row in some[-n:] if n else []:
        row["inputs"] = {"n": 1000 + row["inputs"]["n"]}
    return some


@pytest.mark.parametrize(("new", "expected"), [(0, 2), (1, 2), (2, 1), (4, 1)])
def test_fresh_cases_renew_it_once_half_of_them_are_new(
    workshop: Workshop, new: int, expected: int
) -> None:
    look(workshop, "plain", "terse")
    write_rows(workshop.folder, fresh(new))
    assert look(workshop, "plain", "shots") == expected


def test_cases_that_are_added_to_a_set_that_was_seen_renew_nothing(workshop: Workshop) -> None:
    look(workshop, "plain", "terse")
    write_rows(workshop.folder, [*rows(), *rows(dev=0, train=0, test=40, start=500)])
    assert look(workshop, "plain", "shots") == 2


def test_other_ids_and_clusters_for_the_same_inputs_renew_nothing(workshop: Workshop) -> None:
    look(workshop, "plain", "terse")
    write_rows(
        workshop.folder, [r | {"id": f"x{r['id']}", "cluster": f"y{r['id']}"} for r in rows()]
    )
    assert look(workshop, "plain", "shots") == 2


def test_a_peek_by_an_eval_on_test_is_a_look_too(workshop: Workshop) -> None:
    assert look(workshop, None, "terse", purpose="eval") == 1
    assert look(workshop, None, "terse", purpose="eval") == 1
    assert look(workshop, "plain", "terse") == 2


def test_looks_of_another_purpose_are_counted_apart(workshop: Workshop) -> None:
    look(workshop, None, "plain", purpose="confirmation")
    assert look(workshop, "plain", "terse") == 1


def test_the_ledgers_line_says_what_was_looked_at(workshop: Workshop) -> None:
    look(workshop, "plain", "terse")
    [entry] = workshop.store.ledger(kind="look")
    assert entry.text == "release: terse against plain on the sealed split"
    assert len(entry.payload["cases"]) == 4


# ---------------------------------------------------------------- arms


def test_a_comparison_needs_two_whole_runs_and_names_the_command_that_makes_one(
    workshop: Workshop,
) -> None:
    workshop.run("plain")
    workshop.run("terse", only=["c0"])
    task = workshop.task
    with pytest.raises(NotEnoughEvidence, match="harness eval double --candidate 'terse'"):
        arms_of(
            task,
            read_ladder(task, workshop.store),
            baseline=named(workshop, "plain"),
            candidate=named(workshop, "terse"),
        )


def arms(workshop: Workshop, *, split: Any = "test") -> Arms:
    task = workshop.task
    return arms_of(
        task,
        read_ladder(task, workshop.store, split=split),
        baseline=named(workshop, "plain"),
        candidate=named(workshop, "terse"),
    )


def test_a_comparison_is_paired_by_case(workshop: Workshop) -> None:
    workshop.run("plain", split="test", score=lambda case, reply: float(case.id in {"c14"}))
    workshop.run("terse", split="test", score=lambda case, reply: float(case.id != "c14"))
    found = arms(workshop).comparison()
    assert (found.wins, found.losses, found.ties) == (3, 1, 0)
    assert found.newly_missed == ("c14",)
    assert found.newly_passed == ("c15", "c16", "c17")
    assert found.delta.mean == pytest.approx(0.5)


def test_the_best_prompt_is_the_best_whole_try_on_the_tasks_model(workshop: Workshop) -> None:
    workshop.run("plain", score=lambda case, reply: 0.4)
    workshop.run("terse", score=lambda case, reply: 0.6)
    workshop.run("shots", only=["c0"], score=lambda case, reply: 1.0)
    workshop.run("plain@letters:large", score=lambda case, reply: 1.0)
    workshop.run("reference")
    task = workshop.task
    assert best_prompt(task, read_ladder(task, workshop.store)) == "terse"


def test_the_best_prompt_is_one_that_can_be_asked_as_it_was(workshop: Workshop) -> None:
    """What an edited prompt scored is no score of its text of today, nor is that of one gone."""

    def best() -> str:
        return best_prompt(workshop.task, read_ladder(workshop.task, workshop.store))

    plain = workshop.folder / "prompts/plain.md"
    text = plain.read_text()
    workshop.run("terse", score=lambda case, reply: 0.6)
    workshop.run("plain", score=lambda case, reply: 0.9)
    plain.write_text(text.replace("Double", "Twice"))
    assert best() == "terse"
    workshop.run("plain", score=lambda case, reply: 0.1)
    assert best() == "terse"
    plain.write_text(text)  # as it was when it was best
    assert best() == "plain"
    plain.unlink()
    assert best() == "terse"


def test_without_a_try_there_is_no_best_prompt(workshop: Workshop) -> None:
    workshop.run("reference")
    task = workshop.task
    with pytest.raises(NotEnoughEvidence, match="`harness ladder double`"):
        best_prompt(task, read_ladder(task, workshop.store))


# ---------------------------------------------------------------- the verdict


def verdict(workshop: Workshop, *, look: int = 1, conditions: Any = ()) -> ReleaseVerdict:
    return release_verdict(
        arms(workshop),
        store=workshop.store,
        pool=workshop.pool,
        look=look,
        conditions=conditions,
        overrides=(),
    )


def sealed(make: Make, *, better: float = 0.9, **settings: Any) -> Workshop:
    """60 sealed cases: the baseline passes one in four, the candidate `better` of them."""
    workshop = make(some=rows(test=60), plugin=Plugin(knows=echo), **settings)
    numbers = {c.id: k for k, c in enumerate(workshop.task.split("test"))}
    workshop.run("plain", split="test", score=lambda c, r: float(numbers[c.id] % 4 == 0))
    workshop.run("terse", split="test", score=lambda c, r: float(numbers[c.id] < 60 * better))
    return workshop


def test_a_clear_gain_ships_and_says_what_the_look_spent(make: Make) -> None:
    found = verdict(sealed(make))
    assert found.answer == "SHIP"
    assert (found.look, found.alpha) == (1, alpha_of_look(1))
    assert found.comparison.split == "test"


def test_a_later_look_is_judged_more_strictly(make: Make) -> None:
    workshop = sealed(make)
    lower = [verdict(workshop, look=n).checks[0].delta for n in (1, 4)]
    assert lower[0] is not None
    assert lower[1] is not None
    assert lower[1].lower < lower[0].lower


def test_a_candidate_that_is_worse_is_blocked(make: Make) -> None:
    assert verdict(sealed(make, better=0.0)).answer == "BLOCK"


def test_a_broken_condition_blocks_however_good_the_scores(make: Make) -> None:
    broken = Condition(name="parity", holds=False, text="not what was trained")
    assert verdict(sealed(make), conditions=[broken]).answer == "BLOCK"


def test_a_slice_that_must_hold_and_is_not_there_is_told_with_the_tags(make: Make) -> None:
    some = [r | {"tags": ["slow"]} for r in rows(test=60)]
    workshop = sealed(make, must_hold_slices=["fast"])
    write_rows(workshop.folder, some)
    with pytest.raises(UsageError, match=r"no case of the test split is tagged 'fast'. Tags: slow"):
        verdict(workshop)


def test_a_budget_that_is_known_to_be_broken_blocks(make: Make) -> None:
    found = verdict(sealed(make, budgets={"p95_latency_s": 0.001}))
    assert found.answer == "BLOCK"
    assert "latency (p95)" in {c.name for c in found.checks}


def test_the_bound_of_a_latency_counts_the_sources_of_the_cases(make: Make) -> None:
    some = rows(test=120)
    for number, row in enumerate(some):
        row["cluster"] = f"source {number // 4}"
    workshop = sealed(lambda **more: make(**(more | {"some": some})), budgets={"p95_latency_s": 60})
    found = next(c for c in verdict(workshop).checks if c.name == "latency (p95)")
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert "120 cases from 31 sources are too few" in found.text


def test_an_unknown_cost_cannot_keep_a_budget(make: Make) -> None:
    found = verdict(sealed(make, budgets={"mean_cost_usd": 1.0}))
    assert found.answer != "SHIP"


class Zoned(Plugin):
    """Letters that say, by model, whether they answer outside; None says nothing."""

    def __init__(self, zones: Mapping[str, bool | None]) -> None:
        super().__init__(knows=echo)
        self.zones = zones

    def _make(self, config: BackendConfig) -> Letters:
        letters = super()._make(config)
        if (zone := self.zones[config.model]) is not None:
            letters.is_external = zone  # type: ignore[attr-defined]
        return letters


@pytest.mark.parametrize(
    ("zones", "answer", "says"),
    [
        ((False, True), "SHIP", "letters:small stays on this machine; the baseline's"),
        ((True, True), "BLOCK", "letters:small leaves it"),
        ((False, False), "BLOCK", "letters:large stays on this machine"),
        ((None, True), "INSUFFICIENT_EVIDENCE", "letters:small does not say where it answers"),
    ],
)
def test_the_goal_of_staying_inside_is_met_by_leaving_an_external_model(
    make: Make, zones: tuple[bool | None, bool], answer: str, says: str
) -> None:
    plugin = Zoned(dict(zip(("small", "large"), zones, strict=True)))
    workshop = make(
        some=rows(test=60), plugin=plugin, goal="match", margin=0.1, better_in="boundary"
    )
    for name in ("terse", "plain@letters:large"):
        workshop.run(name, split="test", score=lambda case, reply: 1.0)
    task = workshop.task
    pair = arms_of(
        task,
        read_ladder(task, workshop.store, split="test"),
        baseline=named(workshop, "plain@letters:large"),
        candidate=named(workshop, "terse"),
    )
    found = release_verdict(
        pair, store=workshop.store, pool=workshop.pool, look=1, conditions=(), overrides=()
    )
    assert found.answer == answer
    assert any(c.name == "boundary" and says in c.text for c in found.checks)


def test_the_reference_answers_are_the_positive_control(make: Make) -> None:
    workshop = make()

    def control(**options: Any) -> Condition:
        task = workshop.task
        workshop.run("reference", split="test", **options)
        ladder = read_ladder(task, workshop.store, split="test")
        return control_condition(task, ladder, split="test")

    assert control().holds is True
    misses_one = lambda case, reply: float(case.id != "c14")  # noqa: E731
    assert control(score=misses_one).holds is False
    write_settings(workshop.folder, target=0.5)
    assert control(score=misses_one).holds is True
    crash = Fault(origin="backend", message="down", is_missing=True)
    broken = control(faults={case.id: crash for case in workshop.task.split("test")})
    assert broken.holds is False
    assert broken.text.startswith("no reference answer could be measured")


def test_a_split_without_references_has_no_control(make: Make) -> None:
    some = rows()
    for row in some:
        row.pop("reference")
    workshop = make(some=some)
    workshop.run("reference", split="test")
    task = workshop.task
    found = control_condition(task, read_ladder(task, workshop.store, split="test"), split="test")
    assert found.holds is None
    assert "no case of test has a reference" in found.text
