"""SFT, then DPO or GRPO on top of it, on the real model and task: does the score rise?

    python -m tests.studies.preferences [--work DIR] [--sft ADAPTER_ARTIFACT] [--only dpo|grpo]

The task is `evals/nl_query`. A short SFT leaves a model that is right about half of the time. DPO
learns from that model's own misses on rows that it was trained on: the reference is preferred to
what it said instead. GRPO is told nothing but what the task's eval says of the replies that it
draws. Each is scored greedily on train cases that nothing was trained on, and on dev, with the mean
difference to the SFT model and a 90 % interval over clusters. About a quarter of an hour on two
idle cores.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness
from harness import TrainingRow, TuneJob
from harness.engine.requests import Requests
from harness.engine.tasks import Task, load_task, resolve_candidate
from harness.ports.protocols import BackendConfig, TrainProgress
from harness.records import Case

ROOT = Path(__file__).resolve().parents[2]
MODEL = "smollm2-135m"
SFT = {"rank": 16, "epochs": 1, "batch_size": 4, "learning_rate": 2e-3, "max_length": 256}
DPO = {
    "learning_rate": 5e-4,
    "epochs": 3,
    "batch_size": 4,
    "loss": ["sigmoid", "sft"],
    "max_length": 256,
    "precompute_ref_log_probs": True,
}
GRPO = {
    "learning_rate": 2e-4,
    "batch_size": 3,
    "group": 8,
    "max_new_tokens": 90,
    "max_length": 300,
}


def replies(task: Task, cases: Sequence[Case], *, artifact: Path | None) -> dict[str, str]:
    """Return the greedy replies of the model, perhaps tuned, as the harness would ask for them."""
    from harness_transformers.backend import LocalBackend

    candidate = resolve_candidate(task, f"slim@local:{MODEL}", artifact_digest=str)
    requests = Requests(task)

    async def asked() -> list[Any]:
        backend: Any = LocalBackend(BackendConfig(model=MODEL, artifact=artifact))
        try:
            return list(
                await asyncio.gather(
                    *(backend.answer(requests.of(candidate, case)) for case in cases)
                )
            )
        finally:
            backend.close()

    return {c.id: r.text for c, r in zip(cases, asyncio.run(asked()), strict=True)}


def scores(reward: harness.Reward, said: Mapping[str, str]) -> dict[str, float]:
    """Return the primary score of each reply."""
    values = reward.many(said.items())
    return {case_id: float(v or 0.0) for case_id, v in zip(said, values, strict=True)}


def preferred(pairs: Sequence[TrainingRow], *, artifact: Path) -> dict[str, float]:
    """Return for each pair whether the model finds the chosen reply likelier, a token."""
    import torch
    from harness_transformers.artifacts import parts_of
    from harness_transformers.encoding import IGNORED, encode_pair
    from harness_transformers.models import find_model, load_model, load_tokenizer

    parts = parts_of(find_model(MODEL), artifact, name=MODEL)
    model, tokenizer = (
        load_model(parts.model, adapter=parts.adapter),
        load_tokenizer(parts.tokenizer),
    )

    def likely(ids: Sequence[int], labels: Sequence[int]) -> float:
        with torch.inference_mode():
            logits = model(torch.tensor([ids], device=model.device)).logits[0, :-1].float()
        wanted = torch.tensor(labels[1:], device=model.device)
        return -float(torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED))

    found = {}
    for row in (encode_pair(tokenizer, pair) for pair in pairs):
        better = likely(row.input_ids, row.labels)
        found[row.case_id] = float(better > likely(row.rejected_ids, row.rejected_labels))
    return found


def pairs_of(
    task: Task, said: Mapping[str, str], right: Mapping[str, float], cases: Sequence[Case]
) -> list[TrainingRow]:
    """Return the references, each preferred to what the model said instead."""
    requests = Requests(task)
    return [
        replace(requests.training_row("slim", c), rejected=said[c.id])
        for c in cases
        if right[c.id] < 1 and said[c.id].strip()
    ]


def difference(
    before: Mapping[str, float], after: Mapping[str, float], cases: Sequence[Case]
) -> tuple[float, float, float]:
    """Return the mean paired difference and its 90 % interval, by a bootstrap over clusters."""
    clusters: dict[str, list[float]] = {}
    for case in cases:
        clusters.setdefault(case.cluster, []).append(after[case.id] - before[case.id])
    groups, chance = list(clusters.values()), random.Random(0)
    means = sorted(
        statistics.fmean(d for group in chance.choices(groups, k=len(groups)) for d in group)
        for _ in range(4000)
    )
    mean = statistics.fmean(d for group in groups for d in group)
    return mean, means[200], means[3799]


def tuned(
    tuner: Any, rows: Sequence[TrainingRow], out: Path, *, recipe: Mapping[str, Any], **more: Any
) -> Path:
    """Train, tell how it goes, and return the artifact's folder."""
    job = TuneJob(base=MODEL, rows=tuple(rows), recipe=recipe, out_dir=out, seed=1, **more)
    prepared = tuner.prepare(job)

    def told(step: TrainProgress) -> None:
        numbers = " ".join(f"{k} {v:.3f}" for k, v in step.numbers.items())
        print(
            f"  {out.name} {step.step}/{step.steps} loss {step.loss:.3f} {numbers} "
            f"{step.seconds:.0f} s",
            flush=True,
        )

    began = time.monotonic()
    result = tuner.train(job, prepared, report=told)
    kept = {k: round(v, 3) for k, v in result.metrics.items() if k.startswith(("first_", "final_"))}
    print(f"{out.name}: {len(rows)} rows, {time.monotonic() - began:.0f} s, {kept}", flush=True)
    return out


def main() -> None:
    """Run the study and print what came of it."""
    from harness_trl.torch_lora import TorchLora
    from harness_trl.trl_dpo import TrlDpo
    from harness_trl.trl_grpo import TrlGrpo

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(".harness/preferences"))
    parser.add_argument("--sft", type=Path, help="an artifact to start from, not to be trained")
    parser.add_argument("--sft-rows", type=int, default=480)
    parser.add_argument("--pair-cases", type=int, default=160)
    parser.add_argument("--grpo-steps", type=int, default=16)
    parser.add_argument("--only", choices=("dpo", "grpo"))
    wish = parser.parse_args()
    task = load_task(ROOT / "evals/nl_query")
    train, dev = task.split("train"), task.split("dev")
    requests = Requests(task)
    work = wish.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    start = wish.sft
    if start is None:
        rows = [requests.training_row("slim", c) for c in train[: wish.sft_rows]]
        start = tuned(TorchLora(), rows, work / "sft", recipe=SFT)
    asked = train[: wish.pair_cases]
    held = [*train[wish.sft_rows :], *dev]
    with harness.reward(task.folder) as reward:
        heard = replies(task, held, artifact=start)
        base = scores(reward, heard)
        unseen = pairs_of(task, heard, base, held)
        print(f"SFT: {statistics.fmean(base.values()):.3f} of {len(held)} cases", flush=True)
        made = {}
        if wish.only != "grpo":
            said = replies(task, asked, artifact=start)
            right = scores(reward, said)
            pairs = pairs_of(task, said, right, asked)
            print(f"pairs: {len(pairs)} misses of {len(asked)} cases", flush=True)
            made["dpo"] = tuned(TrlDpo(), pairs, work / "dpo", recipe=DPO, start=start)
        if wish.only != "dpo":
            prompts = [requests.training_row("slim", c) for c in asked]
            made["grpo"] = tuned(
                TrlGrpo(),
                prompts,
                work / "grpo",
                recipe=GRPO | {"max_steps": wish.grpo_steps, "epochs": 10},
                start=start,
                task_folder=task.folder,
            )
        for name, folder in made.items():
            after = scores(reward, replies(task, held, artifact=folder))
            mean, low, high = difference(base, after, held)
            print(
                f"{name}: {statistics.fmean(after.values()):.3f}, "
                f"{mean:+.3f} [{low:+.3f}, {high:+.3f}] against SFT, {len(held)} cases",
                flush=True,
            )
            if unseen:
                then, now = preferred(unseen, artifact=start), preferred(unseen, artifact=folder)
                mean, low, high = difference(then, now, [c for c in held if c.id in now])
                print(
                    f"{name} on {len(unseen)} unseen pairs: right in "
                    f"{statistics.fmean(now.values()):.3f}, "
                    f"{mean:+.3f} [{low:+.3f}, {high:+.3f}] against SFT",
                    flush=True,
                )


if __name__ == "__main__":
    main()
