"""The engine of `harness tune` with the real tuners and `local:`, on a tiny model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness_transformers
import harness_trl
import pytest

from harness.engine import tune as engine
from harness.engine.candidates import resolve_candidate
from harness.engine.gate import candidate_conditions
from harness.engine.tune_plan import Licence, Plan
from harness.errors import UsageError
from harness.ports.tuners import TrainProgress
from harness.records import Artifact
from tests.engine.small import Workshop, rows, write_settings, write_task

RECIPE = {"batch_size": 4, "epochs": 6, "learning_rate": 0.01, "dtype": "float32", "rank": 8}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def shop(base: Path, tmp_path: Path) -> Any:
    folder = write_task(tmp_path, some=rows(train=8, dev=3))
    settings = {"model": f"local:{base}", "decoding": {"max_tokens": 4}}
    tune = {"tuner": "torch-lora", "prompt": "plain", "recipe": "r.toml", "check_every": 4}
    write_settings(folder, **settings, tune={**tune, "patience": 9})
    (folder / "r.toml").write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in RECIPE.items()))
    made = Workshop(folder)
    made.plugins.register(harness_transformers, name="transformers")
    made.plugins.register(harness_trl, name="trl")
    yield made
    made.close()


def plans(shop: Workshop, **options: Any) -> list[Plan]:
    return engine.drafts(
        shop.task, plugins=shop.plugins, licence=Licence(override="a test"),
        against=lambda _: {}, **options,
    )  # fmt: skip


def train(
    shop: Workshop, made: list[Plan], report: Callable[[TrainProgress], None] = lambda _: None
) -> Artifact:
    return engine.tune_stages(
        made, project=shop.project, plugins=shop.plugins, pool=shop.pool, store=shop.store,
        at=shop.at, listener=engine.Listener(report=report),
    )[-1]  # fmt: skip


def test_a_stopped_training_ends_with_the_bytes_of_one_that_was_not(shop: Workshop) -> None:
    def stop(step: TrainProgress) -> None:
        if step.step == 7:
            raise KeyboardInterrupt

    steps: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        train(shop, plans(shop), stop)
    assert shop.store.artifacts() == []
    resumed = train(shop, plans(shop), lambda s: steps.append(s.step))
    assert 1 < steps[0] <= 7
    whole = train(shop, plans(shop))
    assert resumed.digest == whole.digest
    assert [(p.step, p.loss, p.score) for p in resumed.curve] == [
        (p.step, p.loss, p.score) for p in whole.curve
    ]
    assert [p.step for p in whole.curve] == [4, 8, 12]
    assert all(p.score is not None for p in whole.curve)
    assert not (shop.project.home / "tuning").exists()


def test_rows_that_are_too_long_are_named_and_may_be_left_out(shop: Workshop) -> None:
    recipe = shop.folder / "r.toml"
    some = rows(train=8, dev=3)
    some[4]["inputs"] = {"n": "many words " * 20}
    (shop.folder / "cases.jsonl").write_text("".join(json.dumps(r) + "\n" for r in some))
    recipe.write_text(recipe.read_text() + "max_length = 32\n")
    with pytest.raises(UsageError, match=r"longer than max_length = 32.*max_cut = 1 in \[tune\]"):
        train(shop, plans(shop))
    text = (shop.folder / "task.toml").read_text()
    (shop.folder / "task.toml").write_text(
        text.replace("check_every = 4", "check_every = 0\nmax_cut = 1")
    )
    assert train(shop, plans(shop)).rows == 7


def test_a_base_model_with_a_plain_template_and_two_stages_passes_the_gates_parity(
    shop: Workshop, base: Path, tmp_path: Path
) -> None:
    """What is prepared anew for the gate is prepared as it was for the training."""
    bare = tmp_path / "bare"
    shutil.copytree(base, bare)
    (bare / "chat_template.jinja").unlink()
    table = {f'backends."local:{bare}"': {"chat_template": "plain", "dtype": "float32"}}
    tune = {"prompt": "plain", "check_every": 0}
    write_settings(
        shop.folder, model=f"local:{bare}", decoding={"max_tokens": 4}, tune=tune, **table
    )
    with (shop.folder / "task.toml").open("a") as file:
        file.write('[[tune.stages]]\ntuner = "torch-lora"\nrecipe = "r.toml"\n' * 2)
    made = train(shop, plans(shop))
    assert made.start is not None
    finder = lambda name: shop.store.artifact(name, task="double")  # noqa: E731
    candidate = resolve_candidate(shop.task, "tuned", artifact_digest=finder)
    [run] = shop.run("tuned")
    assert len(run.trials) == 3
    assert not any(t.fault for t in run.trials)
    conditions, _ = candidate_conditions(
        shop.task, candidate, store=shop.store, pool=shop.pool, plugins=shop.plugins,
        project=shop.project,
    )  # fmt: skip
    [parity] = [c for c in conditions if c.name == "parity"]
    assert parity.holds is True, parity.text
    assert "8 rows compared id by id between training and serving" in parity.text
