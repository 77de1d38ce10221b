"""The off-task pack: what it can tell, what it costs, and when it asks nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import BackendConfig, BackendError, hookimpl
from harness.core.pairs import align, compare
from harness.core.release import judge_release
from harness.engine.off_task import FOLDER, OffTask, off_task, pack, waiver_entry
from harness.engine.plain_evals import PlainEvals
from harness.errors import TaskError
from harness.records import Artifact, Candidate, ReleaseVerdict, Reply, Request
from tests.engine.off_task_replies import GOOD, NO
from tests.engine.small import Workshop, write_settings, write_task

REASON = "It stands behind a form that asks one thing."
QUESTIONS = {c.inputs["instruction"]: c.id for c in pack().cases}


class Assistants:
    """The backend `talk:`. What was tuned has forgotten the cases that `forgets` names."""

    def __init__(self) -> None:
        self.forgets: frozenset[str] = frozenset()
        self.asked: list[str] = []
        self.external = False
        self.down = False

    def _make(self, config: BackendConfig) -> Any:
        maker = self

        class Assistant:
            is_external = maker.external

            def answer(self, request: Request) -> Reply:
                case = QUESTIONS[request.messages[-1].content]
                maker.asked.append(case)
                if maker.down and not config.artifact:
                    raise BackendError("connection refused")
                has_forgotten = config.artifact is not None and case in maker.forgets
                return Reply(text='{"query": 1}' if has_forgotten else GOOD[case], latency_s=0.01)

        return Assistant()

    @hookimpl
    def harness_backends(self) -> Mapping[str, Any]:
        return {"talk": self._make}


class Bench:
    """A task whose model was tuned, and what answers."""

    def __init__(self, root: Path) -> None:
        self.folder = write_task(root, model="talk:small")
        self.shop = Workshop(self.folder)
        self.assistants = Assistants()
        self.shop.plugins.register(self.assistants, name="talk")

    def ask(self, *, backend: str | None = None) -> OffTask:
        artifact = Artifact(
            digest="d" * 64, name="tuned", task="double", tuner="any", base="talk:small",
            base_digest="", template_digest="", prompt="plain", prompt_digest="", data_digest="",
            rows=8, recipe={}, seed=0, backend=backend,
        )  # fmt: skip
        tuned = Candidate(
            name="tuned", backend=backend or "talk:small", prompt="plain", artifact=artifact.digest
        )
        return off_task(
            self.shop.task, tuned, artifact=artifact, store=self.shop.store, pool=self.shop.pool
        )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.shop.close()


def verdict(watched: OffTask) -> ReleaseVerdict:
    """A clear gain on the task itself, with the pack beside it."""
    names = [f"c{n}" for n in range(100)]
    pair = align(
        "right", dict.fromkeys(names, 1.0), baseline={n: float(n < "c5") for n in names},
        clusters={n: n for n in names},
    )  # fmt: skip
    told = compare(
        pair, task="t", split="test", baseline="b", candidate="c", baseline_run="1",
        candidate_run="2",
    )  # fmt: skip
    assert watched.guard is not None
    return judge_release(told, primary=pair, guards=[watched.guard], look=1)


def test_a_good_assistant_passes_every_case_and_one_that_refuses_only_the_harmful() -> None:
    harmful = {c.id for c in pack().cases if "harmful" in c.tags}
    assert set(GOOD) == {c.id for c in pack().cases}
    with PlainEvals(pack()) as evals:
        for case in pack().cases:
            [good] = evals.scores(case, Reply(text=GOOD[case.id])).scores
            assert good.value == 1, (case.id, good.reason)
            [refused] = evals.scores(case, Reply(text=NO)).scores
            assert refused.value == float(case.id in harmful), case.id
            for nonsense in ("", '{"query": 1}', "the the the the the"):
                [bad] = evals.scores(case, Reply(text=nonsense)).scores
                assert bad.value == 0, (case.id, nonsense)


def test_a_model_that_lost_nothing_ships_and_the_same_two_are_asked_once(bench: Bench) -> None:
    found = bench.ask()
    assert found.text == "off-task: 100 % of 42 cases, its base 100 %; nothing lost"
    assert verdict(found).answer == "SHIP"
    sent = len(bench.assistants.asked)
    assert sent == 2 * len(GOOD)
    assert bench.ask().text == found.text
    assert len(bench.assistants.asked) == sent


def test_a_model_that_forgot_how_to_answer_is_blocked_with_the_cases_named(bench: Bench) -> None:
    bench.assistants.forgets = frozenset(GOOD) - {"json-list", "bomb"}
    found = bench.ask()
    told = verdict(found)
    assert told.answer == "BLOCK"
    assert "off-task lost" in told.reason
    assert "say-banana" in found.text and "bomb" not in found.text  # noqa: PT018


def test_a_small_loss_blocks_nothing_and_asks_for_no_proof(bench: Bench) -> None:
    """42 cases could not show that nothing is lost: it is watched, and said what is excluded."""
    bench.assistants.forgets = frozenset({"legs", "plural", "greet"})
    told = verdict(bench.ask())
    [check] = [c for c in told.checks if c.name == "off-task"]
    assert (told.answer, check.answer) == ("SHIP", "INSUFFICIENT_EVIDENCE")
    assert "watched only" in check.text
    assert told.need_cases is None


def test_a_margin_of_the_task_is_kept(bench: Bench) -> None:
    bench.assistants.forgets = frozenset(list(GOOD)[:18])
    assert verdict(bench.ask()).answer == "BLOCK"
    write_settings(bench.folder, model="talk:small", release={"off_task_margin": 0.6})
    assert verdict(bench.ask()).answer == "SHIP"


def test_a_base_that_cannot_be_asked_is_said_and_nothing_is_judged(bench: Bench) -> None:
    bench.assistants.external = True
    found = bench.ask()
    assert found.guard is None
    assert "off_task = true in [release]" in found.text
    assert bench.assistants.asked == []
    write_settings(bench.folder, model="talk:small", release={"off_task": True})
    assert bench.ask().guard is not None
    elsewhere = bench.ask(backend="sklearn:ridge")
    assert elsewhere.guard is None
    assert "sklearn:ridge is no tuned form of talk:small" in elsewhere.text


def test_a_base_that_is_down_leaves_the_watch_open_and_stops_nothing(bench: Bench) -> None:
    bench.assistants.down = True
    found = bench.ask()
    assert found.text.endswith("its base nothing; 42 without an answer; nothing lost")
    told = verdict(found)
    [check] = [c for c in told.checks if c.name == "off-task"]
    assert (told.answer, check.answer) == ("SHIP", "INSUFFICIENT_EVIDENCE")
    assert "have no answer in one arm" in check.text


def test_a_waiver_asks_nothing_stands_on_record_and_is_another_policy(bench: Bench) -> None:
    before = bench.shop.task.policy_digest
    assert waiver_entry(bench.shop.task, at=bench.shop.at()) is None
    write_settings(
        bench.folder, model="talk:small", release={"off_task": False, "off_task_reason": REASON}
    )
    found = bench.ask()
    assert found.guard is None
    assert found.text == f"off-task: waived: {REASON}"
    assert bench.assistants.asked == []
    entry = waiver_entry(bench.shop.task, at=bench.shop.at())
    assert entry is not None
    assert (entry.kind, entry.payload["reason"]) == ("waiver", REASON)
    assert bench.shop.task.policy_digest != before
    write_settings(bench.folder, model="talk:small")
    assert bench.shop.task.policy_digest == before
    write_settings(bench.folder, model="talk:small", release={"off_task": False})
    with pytest.raises(TaskError, match="needs off_task_reason"):
        _ = bench.shop.task


def test_the_pack_is_in_the_package_and_asks_under_a_plain_prompt(bench: Bench) -> None:
    bench.ask()
    assert FOLDER.is_dir()
    assert {c.split for c in pack().cases} == {"dev"}
    assert replace(pack().prompts["general"], path="").sections == (("user", "{{ instruction }}"),)
