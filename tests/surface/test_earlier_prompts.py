"""A prompt that was edited: what its earlier text scored is not said of the present one."""

from __future__ import annotations

import json
from dataclasses import replace

from harness.engine.ladder import read_ladder
from harness.engine.project import find_project
from harness.engine.tasks import load_task
from harness.store.store import Store
from harness.surface.report_gather import gather
from tests.surface.inprocess import Cli
from tests.surface.toy import PLAIN, Toy

RIGHT = PLAIN.replace("@user", "@system\nAdd.\n@user")


def edited(cli: Cli) -> Toy:
    """Run the prompt `plain` when every answer to it is right, and again after an edit."""
    toy = cli.toy
    toy.write_cases(
        [
            {"id": f"c{n}", "split": split, "inputs": {"a": n, "b": n}, "reference": str(2 * n)}
            for n, split in enumerate(["dev"] * 40 + ["test"] * 40)
        ]
    )
    for text in (RIGHT, PLAIN):
        (toy.task / "prompts/plain.md").write_text(text)
        assert cli("eval", "toy", "--candidate", "plain").code == 0
    return toy


def test_a_confirmation_spends_no_look_on_another_text_than_the_one_that_was_good(
    cli: Cli,
) -> None:
    edited(cli)
    said = cli("wall", "toy", "--confirm")
    assert "no look at the sealed cases is spent" in said.out
    assert "plain (earlier, run " in said.out
    with Store.open(find_project(cli.toy.root).store) as store:
        assert store.ledger(task="toy", kind="look") == []


def test_the_ladder_tells_the_two_texts_apart(cli: Cli) -> None:
    edited(cli)
    tries = cli("ladder", "toy", "--show", "--json").json["tries"]
    assert [t["candidate"] == "plain" for t in tries] == [False, True]
    assert [t["estimate"]["mean"] == 1 for t in tries] == [True, False]


def test_the_report_compares_with_the_prompt_as_it_is_now(cli: Cli) -> None:
    toy = edited(cli)
    project = find_project(toy.root)
    at = "2026-01-01T00:00:00+00:00"
    with Store.open(project.store) as store:
        task = load_task(toy.task)
        digest = task.prompt_digest(task.prompts["plain"])
        runs = {run.candidate.prompt_digest: run for run in read_ladder(task, store).runs}
        ran = runs[digest].candidate
        tuned = replace(ran, name="plain@adder:small+tuned", artifact="ab" * 32)
        store.add_run(replace(runs[digest], candidate=tuned), at=at)
        data = gather(task, store, project=project, at=at)
    names = {reply.candidate for case in data.cases for reply in case.replies}
    assert len(runs) == 2
    assert len(names) == 3
    assert {"plain", tuned.name} < names
    [found] = data.comparisons
    assert (found.baseline, found.delta.mean) == ("plain", 0.0)  # below the earlier text


def test_a_verdict_on_a_score_of_all_replies_together_is_refused_before_a_look(cli: Cli) -> None:
    settings = cli.toy.task / "task.toml"
    settings.write_text(settings.read_text().replace('"right"', '"mean_length"'))
    said = cli("gate", "toy", "--candidate", "shots", "--baseline", "plain", "--json")
    assert said.code == 2
    assert "'mean_length' gives one number for all replies" in json.loads(said.out)["error"]
    assert not find_project(cli.toy.root).store.exists()
