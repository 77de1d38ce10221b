from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from harness import hookimpl
from harness.core.coverage import profile_named
from harness.core.making import Plan, choose, is_as_made, plan_prompts, prompt_text, toml_value
from harness.core.tips import Missed
from harness.engine.candidates import resolve_candidate
from harness.engine.making import facts_of, missed_on_dev, named_apart, seed_of, write_prompts
from harness.engine.requests import Requests
from harness.errors import TaskError, UsageError
from harness.records import Candidate, Decoding
from tests.engine.small import Letters, Plugin, Workshop, rows, write_settings

Make = Callable[..., Workshop]


class Strict(Plugin):
    """Letters that are held to a schema, and leave this machine where `away` says so."""

    def __init__(self, *, away: bool = False) -> None:
        super().__init__()
        self.away = away

    @hookimpl
    def harness_backends(self) -> Mapping[str, Any]:
        def build(config: Any) -> Letters:
            letters = Letters(config)
            letters.honours = frozenset({"schema"})  # type: ignore[attr-defined]
            letters.is_external = self.away  # type: ignore[attr-defined]
            return letters

        return {"letters": build}


def plan(workshop: Workshop, *missed: Missed, seed: str | None = None) -> Plan:
    task = workshop.task
    live = workshop.pool.get(Candidate(name="model", backend=task.settings.model))
    facts = facts_of(task, live, seed=seed_of(task, seed), missed=missed)
    return named_apart(task, plan_prompts(facts))


def only_plain(workshop: Workshop) -> Workshop:
    for name in ("terse", "shots", "near"):
        (workshop.folder / f"prompts/{name}.md").unlink()
    return workshop


@pytest.mark.parametrize("profile", ["quick", "standard"])
def test_one_prompt_gives_enough_tries_of_enough_families(make: Make, profile: str) -> None:
    workshop = only_plain(make(some=rows(train=12), plugin=Strict()))
    wanted = profile_named(profile)
    made = choose(plan(workshop), have=["zero-shot"], profile=wanted, waived={})
    assert len(made) + 1 == wanted.tries
    families = Counter(["zero-shot", *(p.family for p in made)])
    assert sum(n >= wanted.tries_each for n in families.values()) >= wanted.families
    for family in ("instructions", "few-shot", "dynamic-few-shot", "chain-of-thought"):
        assert families[family] >= wanted.tries_each
    assert len({p.name for p in made}) == len({prompt_text(p) for p in made}) == len(made)


def test_every_prompt_that_can_be_made_is_read_back_and_rendered(make: Make) -> None:
    workshop = only_plain(make(some=rows(train=12), plugin=Strict()))
    made = plan(workshop, Missed(case_id="c0", name="right", reason="")).prompts
    assert len(write_prompts(workshop.task, made)) == len(made) > 20
    task = workshop.task
    for prompt in made:
        there = task.prompts[prompt.name]
        assert (there.family, there.sections) == (prompt.family, prompt.sections)
        candidate = resolve_candidate(task, prompt.name, artifact_digest=str)
        request = workshop.evaluate(prompt.name)._requests.of(candidate, task.split("dev")[0])
        assert "Double 0." in request.messages[-1].content
    cot = resolve_candidate(task, "cot", artifact_digest=str)
    assert cot.decoding == Decoding(max_tokens=512)
    assert write_prompts(task, made) == [], "what is there stays"


def test_an_edited_file_is_known_and_never_written_again(make: Make) -> None:
    workshop = only_plain(make(some=rows(train=12)))
    write_prompts(workshop.task, plan(workshop).prompts)
    path = workshop.folder / "prompts/made/few-shot-4.md"
    assert is_as_made(path.read_text())
    edited = path.read_text().replace("@examples", "@system\nBe brief.\n@examples")
    path.write_text(edited)
    assert not is_as_made(edited)
    write_settings(workshop.folder, about="Twice a number.")
    assert write_prompts(workshop.task, plan(workshop).prompts) == []
    again = write_prompts(workshop.task, plan(workshop).prompts, remake=True)
    assert "instructions" in again
    assert "few-shot-4" not in again
    assert path.read_text() == edited
    assert "Twice a number." in (workshop.folder / "prompts/made/instructions.md").read_text()


def test_what_cannot_be_made_is_told_with_its_reason(make: Make) -> None:
    found = plan(make(some=rows(train=4)))
    assert found.left_out == {
        "constrained": "letters:small does not honour schema",
        "8 examples": "8 rows with a reference needed, 4 to be had from train",
    }
    assert "dynamic-8" not in {p.name for p in found.prompts}


def test_a_waived_family_is_not_made(make: Make) -> None:
    workshop = make(some=rows(train=12))
    waived = {"chain-of-thought": "no time to think"}
    made = choose(plan(workshop), have=[], profile=profile_named("standard"), waived=waived)
    assert len(made) == 14
    assert "chain-of-thought" not in {p.family for p in made}


def test_a_name_that_a_person_gave_is_left_to_them(make: Make) -> None:
    workshop = make(some=rows(train=12))
    (workshop.folder / "prompts/cot.md").write_text("@user\n{{ n }}\n")
    names = {p.name for p in plan(workshop).prompts}
    assert "cot-made" in names
    assert "cot" not in names


def test_rows_that_may_not_leave_this_machine_are_in_no_prompt(make: Make) -> None:
    some = rows(train=12)
    for row in some:
        row["tags"] = ["internal"] if row["split"] == "train" else []
    here, away = make(some=some, plugin=Strict()), make(some=some, plugin=Strict(away=True))
    assert "few-shot-4" in {p.name for p in plan(here).prompts}
    found = plan(away)
    families = {p.family for p in found.prompts}
    assert families == {"zero-shot", "instructions", "chain-of-thought"}
    assert "may not leave this machine" in found.left_out["few-shot and dynamic"]


def test_examples_for_a_model_elsewhere_are_drawn_without_the_internal_rows(make: Make) -> None:
    some = rows(train=12)
    last = next(row for row in some if row["split"] == "train")
    last["tags"] = ["internal"]
    away, here = make(some=some, plugin=Strict(away=True)), make(some=some, plugin=Strict())
    for workshop in (away, here):
        found = plan(workshop)
        shown = [p for p in found.prompts if p.settings.get("shots")]
        assert {"few-shot-4", "dynamic-4", "few-shot-8"} <= {p.name for p in shown}
        tag = "internal" if workshop is away else None
        assert {p.settings.get("without") for p in shown} == {tag}
        write_prompts(workshop.task, shown)
    note = next(p.note for p in plan(away).prompts if p.name == "few-shot-4")
    assert f"without 1 row that may not leave this machine (tag internal, as {last['id']})" in note
    digests = [w.task.prompts["few-shot-4"].digest for w in (away, here)]
    assert digests[0] != digests[1], "another rule is another prompt"
    # every row but that one is asked for, and nothing of it is sent
    path = away.folder / "prompts/made/dynamic-8.md"
    path.write_text(path.read_text().replace("shots = 8", "shots = 11"))
    requests = Requests(away.task)
    sent = [requests.examples("dynamic-8", case) for case in away.task.split("dev")]
    assert {c.id for some in sent for c in some} == {
        row["id"] for row in some if row["split"] == "train" and row is not last
    }
    run = away.run("few-shot-4")[0]
    assert all(t.fault is None for t in run.trials)


def test_without_any_prompt_the_fields_of_the_cases_are_enough(make: Make) -> None:
    workshop = only_plain(make(some=rows(train=12)))
    (workshop.folder / "prompts/plain.md").unlink()
    sections = next(p for p in plan(workshop).prompts if p.name == "few-shot-4").sections
    assert dict(sections)["user"] == "{{ n | tojson }}"
    assert dict(sections)["system"].startswith("Double a number.")


def test_tips_come_from_the_misses_of_the_best_try(make: Make) -> None:
    workshop = make()
    evals = 'def test_right(case, reply):\n    """The number, doubled."""\n    assert reply.text\n'
    (workshop.folder / "eval_double.py").write_text(evals)
    workshop.run("plain", score=lambda case, reply: float(case.id == "c0"))
    missed = missed_on_dev(workshop.task, workshop.store)
    assert {m.case_id for m in missed} == {"c1", "c2", "c3", "c4", "c5"}
    text = prompt_text(plan(workshop, *missed).prompts[0])
    assert "it was often missed: The number, doubled." in text


def test_words_that_look_like_a_template_are_said_and_not_run(make: Make) -> None:
    workshop = make(some=rows(train=12), about="Fill {{ nothing }} in, or {% raise %}.")
    write_prompts(workshop.task, plan(workshop).prompts)
    task = workshop.task
    candidate = resolve_candidate(task, "instructions", artifact_digest=str)
    request = workshop.evaluate("instructions")._requests.of(candidate, task.split("dev")[0])
    assert "Fill {{ nothing }} in, or {% raise %}." in request.messages[0].content


def test_an_unknown_seed_and_a_wrong_decoding_are_told(make: Make) -> None:
    workshop = make()
    with pytest.raises(UsageError, match="--from nothing: no such prompt"):
        plan(workshop, seed="nothing")
    head = "+++\ndecoding = { max_tokens = 0 }\n+++\n@user\nx\n"
    (workshop.folder / "prompts/plain.md").write_text(head)
    with pytest.raises(TaskError, match=r"plain\.md:1: decoding\.max_tokens: .*greater"):
        _ = workshop.task


def test_settings_are_written_as_toml_reads_them() -> None:
    import tomllib

    value = {"a": [1, 'x\n"y"\x7f'], "b": True, "c": {}}
    assert tomllib.loads(f"v = {toml_value(value)}") == {"v": value}
