"""The same prompts on other models: shown beside the tries, and what the wall makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from harness import BackendConfig
from harness.core.wall import judge_wall
from harness.engine.ladder import read_ladder, wall_input
from harness.engine.model_ladder import model_rungs, models_named
from harness.errors import UsageError
from harness.records import Case, Reply, Request
from tests.engine.small import Letters, Plugin, Workshop, rows, write_rows, write_settings

TURNED = {
    "terse-2": "+++\nfamily = 'instructions'\n+++\n@system\nBe brief.\n@user\n{{ n }}\n",
    "thinking": "+++\nfamily = 'chain-of-thought'\n+++\n@user\nThink. Double {{ n }}.\n",
    "strict": "+++\nfamily = 'constrained'\n+++\n@user\nOnly digits. Double {{ n }}.\n",
}
PROMPTS = ("plain", "terse", "shots", "near", *TURNED)


class Sizes(Plugin):
    """`letters:small` is right one time in five, `letters:large` always; both in 10 ms."""

    def _make(self, config: BackendConfig) -> Letters:
        def knows(request: Request) -> str:
            said = [m.content for m in request.messages]
            return "right" if config.model == "large" else f"wrong {said}"

        return Letters(config, knows=knows)


def score(case: Case, reply: Reply) -> float:
    number = int(case.id[1:])
    return float(reply.text in {"right", case.reference} or number % 5 == len(reply.text) % 5)


@pytest.fixture
def climbed(make: Any) -> Workshop:
    """Seven tries on the small model that are far below the target, and one prompt on the large."""
    workshop: Workshop = make(plugin=Sizes())
    for name, text in TURNED.items():
        (workshop.folder / f"prompts/{name}.md").write_text(text)
    write_rows(workshop.folder, rows(dev=80))
    settle(workshop)
    workshop.run("reference", *PROMPTS, "plain@letters:large", score=score)
    return workshop


def settle(workshop: Workshop, **more: Any) -> None:
    waivers = {"labels": "Two of us have read every label.", "optimised": "No optimiser is here."}
    write_settings(workshop.folder, profile="quick", waivers=waivers, **more)


def judged(workshop: Workshop) -> Any:
    return judge_wall(wall_input(workshop.task, read_ladder(workshop.task, workshop.store)))


def test_a_stronger_model_that_keeps_the_budget_ships_with_the_prompt(climbed: Workshop) -> None:
    verdict = judged(climbed)
    assert (verdict.answer, verdict.best) == ("SHIP_PROMPT", "plain@letters:large")
    assert sum(t.is_counted for t in verdict.tries) == len(PROMPTS)


def test_outside_the_budget_it_makes_the_wall_one_of_cost(climbed: Workshop) -> None:
    settle(climbed, budgets={"p95_latency_s": 0.005})
    verdict = judged(climbed)
    assert verdict.answer == "WALL", verdict.reason
    says = "The wall is one of cost: plain@letters:large reaches it outside the budget."
    assert says in verdict.reason


def test_models_stand_in_the_order_given_each_prompt_beside_the_tasks_own(
    climbed: Workshop,
) -> None:
    task = climbed.task
    models = models_named("letters:large,letters:small", task)
    rungs = model_rungs(task, read_ladder(task, climbed.store), models)
    assert [r.model for r in rungs] == ["letters:large", *["letters:small"] * len(PROMPTS)]
    deltas: Mapping[str, float | None] = {r.model: r.delta and r.delta.mean for r in rungs}
    own = next(r for r in rungs if r.is_own and r.prompt == "plain")
    assert deltas["letters:large"] == pytest.approx(1 - own.estimate.mean)
    assert own.delta is None


def test_the_tasks_model_is_always_one_of_them(climbed: Workshop) -> None:
    assert models_named("letters:large", climbed.task) == ["letters:small", "letters:large"]
    assert models_named("a:x, letters:small,a:x", climbed.task) == ["a:x", "letters:small"]
    for wrong in ("", "large", "letters:", ":x"):
        with pytest.raises(UsageError, match="--models"):
            models_named(wrong, climbed.task)


def test_a_model_is_compared_on_the_very_same_prompt(make: Any) -> None:
    """Neither on an earlier text of it, nor on the same text drawn in another way."""
    workshop: Workshop = make(plugin=Sizes())
    short = {"prompt": "plain"}
    drawn = {"max_tokens": 1}
    settings = {"candidates.short": short, "candidates.short.decoding": drawn}
    write_settings(workshop.folder, **settings)
    workshop.run("plain", "plain@letters:large", score=lambda case, reply: 0.5)
    workshop.run("short", score=lambda case, reply: 0.0)

    def deltas() -> dict[str, float | None]:
        ladder = read_ladder(workshop.task, workshop.store)
        rungs = model_rungs(workshop.task, ladder, ["letters:small", "letters:large"])
        return {r.model: r.delta.mean if r.delta else None for r in rungs if not r.is_own}

    assert deltas() == {"letters:large": 0.0}
    (workshop.folder / "prompts/plain.md").write_text("@user\nTwice {{ n }}.\n")
    workshop.run("plain", score=lambda case, reply: 0.0)
    assert deltas() == {}
    workshop.run("plain@letters:large", score=lambda case, reply: 1.0)
    assert deltas() == {"letters:large": 1.0}
