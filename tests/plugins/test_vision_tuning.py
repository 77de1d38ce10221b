"""Training rows with images: learnt by both SFT tuners on exactly what is served."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
pytest.importorskip("PIL")

import harness_transformers
import harness_trl
from harness_transformers.backend import LocalBackend

from harness import BackendConfig, BackendError, Decoding, Message, Request, TrainingRow, TuneJob
from harness.engine import tune as engine
from harness.engine.parity import served_parity
from harness.engine.tune_plan import Licence
from harness.errors import UsageError
from harness.records import Artifact
from tests.engine.small import Workshop, write_settings, write_task
from tests.plugins.tiny_vision import build_tiny_vision_model, picture
from tests.plugins.tuning import ignore, losses_of, settle_imports, single_thread, tuner_of

REDS = ((230, 20, 10), (180, 0, 40), (255, 60, 60))
BLUES = ((10, 20, 230), (40, 0, 180), (60, 60, 255))
RECIPE = {"batch_size": 7, "epochs": 30, "learning_rate": 0.03, "dtype": "float32", "rank": 8}
FULL = {"method": "full", "batch_size": 7, "epochs": 30, "learning_rate": 0.003, "dtype": "float32"}
QUESTION = "Which colour?"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settle_imports()
    return build_tiny_vision_model(tmp_path_factory.mktemp("vision") / "tiny-llava")


def row(case_id: str, completion: str, *images: str) -> TrainingRow:
    asked = (Message(role="user", content=QUESTION, images=images),)
    return TrainingRow(case_id=case_id, messages=asked, completion=completion)


def rows() -> tuple[TrainingRow, ...]:
    """Reds, blues, and one without a picture."""
    made = [row(f"r{n}", "red", picture(c)) for n, c in enumerate(REDS)]
    made += [row(f"b{n}", "blue", picture(c)) for n, c in enumerate(BLUES)]
    return (*made, row("none", "none"))


def job_of(base: Path, out: Path, recipe: dict[str, Any] = RECIPE) -> TuneJob:
    return TuneJob(base=str(base), rows=rows(), recipe=recipe, out_dir=out, seed=3)


def said(base: Path, images: list[str | None], *, artifact: Path) -> list[str]:
    """Replies of `local:` to the question, with each picture."""
    backend = LocalBackend(
        BackendConfig(model=str(base), artifact=artifact, options={"dtype": "float32"})
    )

    async def go() -> list[str]:
        asked = [Message(role="user", content=QUESTION, images=(i,) if i else ()) for i in images]
        requests = [Request(messages=(m,), decoding=Decoding(max_tokens=6)) for m in asked]
        return [r.text for r in await asyncio.gather(*map(backend.answer, requests))]

    try:
        return asyncio.run(go())
    finally:
        backend.close()


NEW = [picture((205, 30, 30)), picture((30, 30, 205)), None, picture((240, 10, 40), side=50)]


@pytest.mark.parametrize("tuner", ["torch-lora", "trl-sft"])
def test_it_learns_to_tell_a_red_from_a_blue_picture(
    tuner: str, base: Path, tmp_path: Path
) -> None:
    job, seen = job_of(base, tmp_path / "out"), []
    made = tuner_of(tuner)
    with single_thread():
        made.train(job, made.prepare(job), report=seen.append)
        # none of these shades was trained
        assert said(base, NEW, artifact=job.out_dir) == ["red", "blue", "none", "red"]
    assert losses_of(seen)[0] > 5
    assert losses_of(seen)[-1] < 0.3
    from safetensors import safe_open

    with safe_open(job.out_dir / "adapter/adapter_model.safetensors", "pt") as held:
        names = list(held.keys())
    assert names
    assert all("language_model" in name for name in names)


def test_a_whole_model_that_sees_is_saved_with_its_processor(base: Path, tmp_path: Path) -> None:
    job = job_of(base, tmp_path / "out", FULL)
    made = tuner_of("torch-lora")
    with single_thread():
        made.train(job, made.prepare(job), report=ignore)
        assert said(base, NEW, artifact=job.out_dir) == ["red", "blue", "none", "red"]
        # alone, without the base that it was made of
        alone = Path(shutil.copytree(job.out_dir / "merged", tmp_path / "alone"))
        assert said(alone, NEW, artifact=alone) == ["red", "blue", "none", "red"]


def test_rows_whose_pictures_changed_after_they_were_prepared_are_not_trained(
    base: Path, tmp_path: Path
) -> None:
    job = job_of(base, tmp_path / "out")
    for tuner in ("torch-lora", "trl-sft"):
        made = tuner_of(tuner)
        prepared = made.prepare(job)
        changed = (row("r0", "red", picture((1, 2, 3))), *job.rows[1:])
        with pytest.raises(BackendError, match="row r0: its images do not become"), single_thread():
            made.train(replace(job, rows=changed), prepared, report=ignore)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tuner", ["trl-dpo", "trl-reward", "trl-grpo"])
def test_tuners_that_do_not_show_pictures_refuse_them(
    tuner: str, base: Path, tmp_path: Path
) -> None:
    some = tuple(replace(r, rejected="green") for r in rows())
    recipe = {"batch_size": 2, "epochs": 1, "dtype": "float32"}
    job = TuneJob(base=str(base), rows=some, recipe=recipe, out_dir=tmp_path / "out", seed=1)
    with pytest.raises(UsageError, match=r"takes no images, and 6 of 7 rows have some: r0, r1"):
        tuner_of(tuner).prepare(job)


def test_a_job_with_pictures_reaches_other_processes_whole(base: Path, tmp_path: Path) -> None:
    from harness_trl.launch import write_job
    from harness_trl.worker import read_job, read_rows

    job = job_of(base, tmp_path / "out")
    prepared = tuple(tuner_of("trl-sft").prepare(job))
    write_job(tmp_path, tuner="trl-sft", job=job, rows=prepared)
    plain = json.loads((tmp_path / "job.json").read_text())
    assert read_job(plain, folder=tmp_path, say=lambda *_: None).rows == job.rows
    assert read_rows(tmp_path / "rows.jsonl") == prepared


def test_a_task_with_photos_is_tuned_and_judged_from_end_to_end(base: Path, tmp_path: Path) -> None:
    colours = [("red", c) for c in REDS] + [("blue", c) for c in BLUES]
    some = [
        {"id": f"c{n}", "inputs": {"photo": f"{n}.png"}, "reference": name,
         "split": "dev" if n % 3 == 2 else "train"}
        for n, (name, _) in enumerate(colours)
    ]  # fmt: skip
    folder = write_task(tmp_path, some=some, images=["photo"])
    for n, (_, c) in enumerate(colours):
        (folder / f"{n}.png").write_bytes(base64.b64decode(picture(c).partition(",")[2]))
    (folder / "prompts/plain.md").write_text(f"@user\n{QUESTION}\n")
    write_settings(
        folder, model=f"local:{base}", decoding={"max_tokens": 4}, images=["photo"],
        tune={"tuner": "torch-lora", "prompt": "plain", "recipe": "r.toml", "check_every": 30},
    )  # fmt: skip
    recipe = RECIPE | {"batch_size": 4}
    (folder / "r.toml").write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in recipe.items()))
    shop = Workshop(folder)
    shop.plugins.register(harness_transformers, name="transformers")
    shop.plugins.register(harness_trl, name="trl")
    try:
        with single_thread():
            made = engine.drafts(
                shop.task, plugins=shop.plugins, licence=Licence(override="a test"),
                against=lambda _: {},
            )  # fmt: skip
            artifact: Artifact = engine.tune_stages(
                made, project=shop.project, plugins=shop.plugins, pool=shop.pool,
                store=shop.store, at=shop.at,
            )[-1]  # fmt: skip
            assert (artifact.rows, artifact.curve[-1].score) == (4, 1.0)
            findings(shop, made[-1], base, tmp_path)
    finally:
        shop.close()


def findings(shop: Workshop, plan: Any, base: Path, tmp_path: Path) -> None:
    """Parity sees pixels: a base with another processor has the same ids."""
    other = Path(shutil.copytree(base, tmp_path / "other"))
    config = other / "processor_config.json"
    plain = json.loads(config.read_text())
    plain["image_processor"]["image_mean"] = [0.1, 0.2, 0.3]
    config.write_text(json.dumps(plain))
    for folder, found in ((base, []), (other, ["pixels-differ"])):
        job = TuneJob(base=str(folder), rows=plan.rows, recipe=RECIPE, out_dir=tmp_path, seed=1)
        prepared = tuner_of("torch-lora").prepare(job)
        told = served_parity(shop.task, plan.candidate, prepared, rows=plan.rows, pool=shop.pool)
        assert [f.name for f in told if f.severity == "fail"] == found
