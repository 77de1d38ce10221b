"""SFT, then DPO or GRPO on top of it, on the real model and task: does the score rise?

    python -m tests.studies.preferences [--work DIR] [--start ADAPTER_ARTIFACT]
        [--variant NAME[:KEY=VALUE,...]] ... [--draws N] [--pair-from N] [--max-pairs N]

The task is `evals/nl_query`. A short SFT leaves a model that is right about half of the time. A
variant then learns from that model's own misses: the reference is preferred to what it said
instead, greedily or drawn. Drawn misses are of cases, too, where its greedy reply is right: from
greedy misses alone it would learn that whatever it finds likeliest is wrong. GRPO is told nothing
but what the task's eval says of the replies that it draws. Each is scored greedily on train cases
that nothing was trained on, and on dev. What is printed of each: the share that is right, the share
of unseen pairs of which the better reply is the likelier one (a token), each with its paired
difference to the SFT model and bounds at 5 % on either side, over clusters; and how far the
likelihood of the unseen references moved, in nats a reply. The last falls where the rejected reply
is unlearnt at the cost of both: likelihood displacement, docs/preferences.md. What was made is
found again in `--work`, so that more variants cost only themselves: on two idle cores SFT takes
five minutes, a variant of 40 steps about five.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness
from harness import TrainingRow, TuneJob
from harness.core.bounds import mean_bounds, paired_bounds
from harness.engine.candidates import resolve_candidate
from harness.engine.requests import Requests
from harness.engine.tasks import Task, load_task
from harness.ports.backends import BackendConfig
from harness.ports.tuners import TrainProgress
from harness.records import Case, Decoding, Estimate, digest

ROOT = Path(__file__).resolve().parents[2]
MODEL = "smollm2-135m"
SFT = {"rank": 16, "epochs": 1, "batch_size": 4, "learning_rate": 2e-3, "max_length": 256}
PAIRS = {"learning_rate": 2e-4, "epochs": 1, "batch_size": 4, "max_length": 256}
DPO = {**PAIRS, "precompute_ref_log_probs": True}
GRPO = {
    "learning_rate": 2e-4,
    "batch_size": 3,
    "group": 8,
    "max_new_tokens": 90,
    "max_length": 300,
    "epochs": 10,
    "max_steps": 16,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    # the same rows and steps, with nothing rejected: what a preference must beat
    "sft": ("trl-dpo", {**DPO, "loss": "sft"}),
    "sigmoid": ("trl-dpo", {**DPO, "loss": "sigmoid"}),
    "rpo": ("trl-dpo", {**DPO, "loss": ["sigmoid", "sft"]}),
    "rpo-anchored": (
        "trl-dpo",
        {
            **DPO,
            "loss": ["sigmoid", "sft"],
            "loss_weights": [0.1, 1.0],
            "learning_rate": 5e-4,
            "epochs": 3,
        },
    ),
    "rpo-tight": ("trl-dpo", {**DPO, "loss": ["sigmoid", "sft"], "beta": 0.5}),
    "norm": ("trl-dpo", {**DPO, "loss": ["sigmoid_norm", "sft"], "beta": 2.0}),
    # the mean score of a token is brought 1 / (2 beta) apart, and no further
    "ipo": ("trl-dpo", {**DPO, "loss": "ipo", "beta": 2.0}),
    "apo": ("trl-dpo", {**DPO, "loss": "apo_zero"}),
    "nca": ("trl-dpo", {**DPO, "loss": "nca_pair"}),
    "kto": ("trl-kto", {**PAIRS, "batch_size": 8}),
    "orpo": ("trl-orpo", PAIRS),
    "grpo": ("trl-grpo", GRPO),
}
"""Recipes by name. Sources of the losses: docs/preferences.md."""


# ---------------------------------------------------------------- what the model says


def replies(
    task: Task,
    cases: Sequence[Case],
    *,
    artifact: Path | None,
    decodings: Sequence[Decoding] = (Decoding(max_tokens=100),),
) -> list[tuple[str, str]]:
    """Return case ids with what the model, perhaps tuned, replies, once for each of `decodings`.

    A reply that was cut has "" for its text: it has no end that could be learnt or unlearnt.
    """
    from harness_transformers.backend import LocalBackend

    candidate = resolve_candidate(task, f"slim@local:{MODEL}", artifact_digest=str)
    requests = Requests(task)
    asked = [
        (case.id, requests.of(replace(candidate, decoding=decoding), case))
        for decoding in decodings
        for case in cases
    ]

    async def answered() -> list[Any]:
        backend: Any = LocalBackend(BackendConfig(model=MODEL, artifact=artifact))
        try:
            return list(await asyncio.gather(*(backend.answer(request) for _, request in asked)))
        finally:
            backend.close()

    found = asyncio.run(answered())
    return [
        (case_id, reply.text if reply.finish_reason != "length" else "")
        for (case_id, _), reply in zip(asked, found, strict=True)
    ]


def scores(reward: harness.Reward, said: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Return the primary score of one reply to each case."""
    values = reward.many(said)
    return {case_id: float(v or 0.0) for (case_id, _), v in zip(said, values, strict=True)}


def misses(
    task: Task, reward: harness.Reward, said: Sequence[tuple[str, str]], *, most: int | None = None
) -> list[TrainingRow]:
    """Return the references, each preferred to a reply that the task's evals hold for wrong.

    With `most`, so many of them at the most, and as many cases among them as there can be.
    """
    requests, cases = Requests(task), {c.id: c for c in task.cases}
    rounds: list[list[TrainingRow]] = []
    seen: dict[str, int] = {}
    once = list(dict.fromkeys(said))
    for (case_id, text), value in zip(once, reward.many(once), strict=True):
        if value != 1 and text.strip():
            nth = seen[case_id] = seen.get(case_id, -1) + 1
            rounds += [[]] if nth == len(rounds) else []
            row = requests.training_row("slim", cases[case_id])
            rounds[nth].append(replace(row, rejected=text))
    for pairs in rounds:  # a case's second miss comes after every case's first
        random.Random(0).shuffle(pairs)
    return [pair for pairs in rounds for pair in pairs][:most]


def likelihoods(
    pairs: Sequence[TrainingRow], *, artifact: Path
) -> tuple[dict[str, float], dict[str, float]]:
    """Return for each pair whether the model finds the chosen reply likelier, a token; and the
    log-likelihood of the whole chosen reply, in nats.
    """
    import torch
    from harness_transformers.artifacts import parts_of
    from harness_transformers.encoding import IGNORED, encode_pair
    from harness_transformers.models import find_model, load_model, load_tokenizer

    parts = parts_of(find_model(MODEL), artifact, name=MODEL)
    model, tokenizer = (
        load_model(parts.model, adapter=parts.adapter),
        load_tokenizer(parts.tokenizer),
    )

    def likely(ids: Sequence[int], labels: Sequence[int]) -> tuple[float, float]:
        with torch.inference_mode():
            logits = model(torch.tensor([ids], device=model.device)).logits[0, :-1].float()
        wanted = torch.tensor(labels[1:], device=model.device)
        mean = -float(torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED))
        return mean, mean * int((wanted != IGNORED).sum())

    is_preferred, nats = {}, {}
    for row in (encode_pair(tokenizer, pair) for pair in pairs):
        better, nats[row.case_id] = likely(row.input_ids, row.labels)
        worse, _ = likely(row.rejected_ids, row.rejected_labels)
        is_preferred[row.case_id] = float(better > worse)
    return is_preferred, nats


# ---------------------------------------------------------------- numbers


def share(values: Mapping[str, float], cases: Mapping[str, Case]) -> str:
    """Return a mean with its bounds, in words."""
    return _bounded(mean_bounds(list(values.values()), [cases[i].cluster for i in values]), "")


def difference(
    before: Mapping[str, float], after: Mapping[str, float], cases: Mapping[str, Case]
) -> str:
    """Return the mean paired difference with its bounds, in words."""
    apart = [after[i] - before[i] for i in before]
    return _bounded(paired_bounds(apart, [cases[i].cluster for i in before]), "+")


def _bounded(found: Estimate, sign: str) -> str:
    return (
        f"{found.mean:{sign}.3f} [{found.lower:{sign}.3f}, {found.upper:{sign}.3f}] "
        f"({found.n} in {found.clusters} clusters)"
    )


# ---------------------------------------------------------------- training


def tuned(
    tuner: str, rows: Sequence[TrainingRow], out: Path, *, recipe: Mapping[str, Any], **more: Any
) -> Path:
    """Train, unless it was done before, tell how it goes, and return the artifact's folder."""
    if (out / "train_report.json").is_file():
        print(f"{out.name}: made before", flush=True)
        return out
    made = _tuners()[tuner]()
    job = TuneJob(base=MODEL, rows=tuple(rows), recipe=recipe, out_dir=out, seed=1, **more)
    prepared = made.prepare(job)

    def told(step: TrainProgress) -> None:
        numbers = " ".join(f"{k} {v:.3f}" for k, v in step.numbers.items())
        print(
            f"  {out.name} {step.step}/{step.steps} loss {step.loss:.3f} {numbers} "
            f"{step.seconds:.0f} s",
            flush=True,
        )

    began = time.monotonic()
    result = made.train(job, prepared, report=told)
    kept = {k: round(v, 3) for k, v in result.metrics.items() if k.startswith(("first_", "final_"))}
    print(f"{out.name}: {len(rows)} rows, {time.monotonic() - began:.0f} s, {kept}", flush=True)
    return out


def _tuners() -> dict[str, Any]:
    from harness_trl.torch_lora import TorchLora
    from harness_trl.trl_dpo import TrlDpo
    from harness_trl.trl_grpo import TrlGrpo
    from harness_trl.trl_kto import TrlKto
    from harness_trl.trl_orpo import TrlOrpo

    return {
        "torch-lora": TorchLora,
        "trl-dpo": TrlDpo,
        "trl-kto": TrlKto,
        "trl-orpo": TrlOrpo,
        "trl-grpo": TrlGrpo,
    }


def variant(wish: str) -> tuple[str, str, dict[str, Any]]:
    """Return a name, a tuner and a recipe of `NAME[:KEY=VALUE,...]`, values as TOML has them.

    A value that holds a comma (a list) is written with spaces instead: `loss_weights=[0.1 1.0]`.
    """
    name, _, changes = wish.partition(":")
    if name not in VARIANTS:
        raise SystemExit(f"no variant {name!r}: one of {', '.join(VARIANTS)}")
    tuner, recipe = VARIANTS[name]
    lines = [line.replace(" ", ", ") for line in changes.split(",") if line]
    changed = tomllib.loads("\n".join(lines))
    label = "".join(f"-{key}={changed[key]}" for key in sorted(changed))
    kept = "".join(c if c.isalnum() or c in ".-=_" else "_" for c in label)
    return f"{name}{kept}", tuner, recipe | changed


def recall(file: Path, make: Callable[[], Any]) -> Any:
    """Return what `file` holds, as JSON; made and written where there is none."""
    if not file.is_file():
        file.write_text(json.dumps(make()), encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


def main() -> None:
    """Run the study and print what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path(".harness/preferences"))
    parser.add_argument("--start", type=Path, help="an artifact to start from, not to be trained")
    parser.add_argument("--sft-rows", type=int, default=480)
    parser.add_argument("--pair-cases", type=int, default=320, help="cases asked for misses")
    parser.add_argument(
        "--pair-from",
        type=int,
        default=0,
        help="the first of them; after those of --sft-rows, none of them was trained on",
    )
    parser.add_argument("--draws", type=int, default=2, help="replies drawn beside the greedy one")
    parser.add_argument("--temperature", type=float, default=0.8, help="of what is drawn")
    parser.add_argument("--max-pairs", type=int, default=160)
    parser.add_argument("--variant", action="append", help=f"of {', '.join(VARIANTS)}")
    wish = parser.parse_args()
    wanted = [variant(v) for v in wish.variant or ("sft", "rpo", "rpo-anchored", "grpo")]
    task = load_task(ROOT / "evals/nl_query")
    train, dev = task.split("train"), task.split("dev")
    cases = {c.id: c for c in task.cases}
    requests = Requests(task)
    work = wish.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if wish.start is None:
        rows = [requests.training_row("slim", c) for c in train[: wish.sft_rows]]
        start = tuned("torch-lora", rows, work / f"sft-{wish.sft_rows}", recipe=SFT)
    else:
        start = wish.start.resolve()
    drawn = [
        Decoding(max_tokens=100),
        *(
            Decoding(max_tokens=100, temperature=wish.temperature, seed=n)
            for n in range(wish.draws)
        ),
    ]
    asked = train[wish.pair_from : wish.pair_from + wish.pair_cases]
    held = [*train[max(wish.sft_rows, wish.pair_from + wish.pair_cases) :], *dev]
    settings = [c.id for c in (*asked, *held)], wish.draws, wish.temperature
    what = digest([str(start), *settings])[:8]
    with harness.reward(task.folder) as reward:
        heard, said = (
            [(case_id, text) for case_id, text in recall(work / f"{name}-{what}.json", make)]
            for name, make in (
                ("held", lambda: replies(task, held, artifact=start, decodings=drawn)),
                ("said", lambda: replies(task, asked, artifact=start, decodings=drawn)),
            )
        )
        base = scores(reward, heard[: len(held)])  # the greedy ones stand first
        unseen = list({p.case_id: p for p in reversed(misses(task, reward, heard))}.values())
        pairs = misses(task, reward, said, most=wish.max_pairs)
        then, sure = likelihoods(unseen, artifact=start)
        print(f"SFT: right {share(base, cases)}; unseen pairs {share(then, cases)}", flush=True)
        print(
            f"pairs: {len(pairs)}, of {len({p.case_id for p in pairs})} cases, from {len(said)} "
            f"replies to {len(asked)} cases",
            flush=True,
        )
        lines = []
        for name, tuner, recipe in wanted:
            what = digest([str(start), recipe, [[p.case_id, p.rejected] for p in pairs]])[:8]
            more: dict[str, Any] = {"start": start}
            rows = pairs
            if tuner == "trl-grpo":
                rows = [requests.training_row("slim", c) for c in asked]
                more["task_folder"] = task.folder
            folder = tuned(tuner, rows, work / f"{name}-{what}", recipe=recipe, **more)
            after = scores(reward, replies(task, held, artifact=folder))
            now, surer = likelihoods(unseen, artifact=folder)
            moved = statistics.fmean(surer[i] - sure[i] for i in sure)
            lines.append(
                f"{name}: right {share(after, cases)}, {difference(base, after, cases)}; unseen "
                f"pairs {share(now, cases)}, {difference(then, now, cases)}; references "
                f"{moved:+.1f} nats a reply"
            )
            print(lines[-1], flush=True)
    print("\n".join(("", "against the SFT model, on what nothing was trained on:", *lines)))


if __name__ == "__main__":
    main()
