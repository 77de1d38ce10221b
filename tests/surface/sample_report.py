"""A report's data as a finished run of a task like `nl_query` would give it; seeded, no model.

The numbers are of the size that the small local model reaches, invented here to draw a page.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scipy import stats

from harness.records import (
    Artifact,
    Case,
    Check,
    Comparison,
    Condition,
    Decoding,
    Estimate,
    Fault,
    Json,
    LedgerEntry,
    Message,
    ParityFinding,
    ReleaseVerdict,
    Reply,
    Request,
    Score,
    Split,
    Trial,
    Try,
    WallVerdict,
    digest,
)
from harness.surface.report.model import CaseView, ParityView, ReplyView, ReportData, Rung
from harness.surface.report.page import write_report
from harness.surface.report.summaries import cost_rows, data_page

SERVICES = {
    "checkout": ("cart.total", "payment.provider", "user.id", "coupon.code"),
    "search": ("search.term", "result.count", "index.shard", "user.id"),
    "inventory": ("sku", "warehouse.id", "db.system", "db.rows"),
    "shipping": ("carrier", "parcel.weight_g", "destination.country", "quote.count"),
    "login": ("auth.method", "user.id", "client.address", "mfa.used"),
    "billing": ("invoice.id", "plan.name", "currency", "retry.count"),
    "gateway": ("http.request.method", "upstream.name", "client.address", "region"),
    "mailer": ("template.name", "smtp.code", "queue.depth", "tenant.id"),
}
COMMON = (
    "duration_ms",
    "service.name",
    "http.route",
    "http.response.status_code",
    "error",
    "trace.parent_id",
)
FAMILY = {
    "zero-shot": "zero-shot",
    "instructions": "instructions",
    "few-shot": "few-shot",
    "few-shot-8": "few-shot",
    "dynamic": "dynamic-few-shot",
    "constrained": "constrained",
    "constrained-tips": "constrained",
}
RIGHT = {"dynamic": 4, "constrained": 1, "tuned": 36}
ROOT = {"column": "trace.parent_id", "op": "does-not-exist"}
SCHEMA = {
    "type": "object",
    "properties": {
        "calculations": {"type": "array"},
        "filters": {"type": "array"},
        "breakdowns": {"type": "array"},
        "orders": {"type": "array"},
        "limit": {"type": "integer"},
        "time_range": {"type": "integer"},
    },
    "additionalProperties": False,
}
TIPS = """You turn a question about a service into a query. Answer with one JSON object.

Keys: calculations, filters, filter_combination, breakdowns, orders, havings, limit, time_range.
House rules:
- "slow" means HEATMAP and MAX of duration_ms over root spans (trace.parent_id does-not-exist).
- "errors" means a filter: error = true.
- A time range is in seconds; where the question gives none, leave it out.
- "top" or "worst" orders by the calculation, descending, with a limit of 10.\t
"""


def asked(service: str, rng: random.Random) -> tuple[str, Json, str]:
    """Return a question, its query, and a tag."""
    column = rng.choice(SERVICES[service])
    hours = rng.choice((1, 2, 6, 12, 24))
    kind = rng.randrange(5)
    if kind == 0:
        query = {
            "calculations": [
                {"op": "HEATMAP", "column": "duration_ms"},
                {"op": "MAX", "column": "duration_ms"},
            ],
            "filters": [ROOT, {"column": "service.name", "op": "=", "value": service}],
        }
        return f"Which {service} requests are slow?", query, "slow"
    if kind == 1:
        query = {
            "calculations": [{"op": "COUNT"}],
            "filters": [{"column": "error", "op": "=", "value": True}],
            "breakdowns": [column],
            "time_range": hours * 3600,
        }
        return f"How many errors by {column} in the last {hours} hours?", query, "errors"
    if kind == 2:
        query = {
            "calculations": [{"op": "P99", "column": "duration_ms"}],
            "breakdowns": ["http.route"],
            "orders": [{"op": "P99", "column": "duration_ms", "order": "descending"}],
            "limit": 10,
        }
        return f"Show the worst {service} routes by p99 latency", query, "top"
    if kind == 3:
        query = {
            "calculations": [{"op": "COUNT_DISTINCT", "column": column}],
            "filters": [{"column": "http.response.status_code", "op": ">=", "value": 500}],
        }
        return f"How many different {column} saw a server error?", query, "errors"
    query = {
        "calculations": [
            {"op": "HEATMAP", "column": "duration_ms"},
            {"op": "MAX", "column": "duration_ms"},
        ],
        "filters": [ROOT],
        "breakdowns": [column],
        "time_range": hours * 3600,
    }
    return f"Slow requests over the past {hours} h, split by {column}", query, "slow"


def cases_of(split: Split, count: int, rng: random.Random) -> list[Case]:
    """Return `count` cases of one split."""
    made = []
    for i in range(count):
        service = list(SERVICES)[i % len(SERVICES)]
        question, query, tag = asked(service, rng)
        made.append(
            Case(
                id=f"{split}-{i + 1:04}",
                split=split,
                cluster=f"{service}-{i // 10}",
                inputs={
                    "question": question,
                    "columns": [*COMMON, *SERVICES[service]],
                },
                reference=query,
                tags=(tag, service),
                line=f"fixtures/nl_query/cases.jsonl:{i + 1}",
            )
        )
    return made


def messages_of(name: str, case: Case, shots: Sequence[Case]) -> tuple[Message, ...]:
    """Return what a prompt would send."""
    system = Message(role="system", content=TIPS if name != "zero-shot" else TIPS[:88])
    if name in {"tuned", "slim"}:
        system = Message(role="system", content="Query JSON.")
    turns = []
    for shot in shots:
        turns.append(Message(role="user", content=user_text(shot)))
        turns.append(Message(role="assistant", content=shot.reference_text or ""))
    return (system, *turns, Message(role="user", content=user_text(case)))


def user_text(case: Case) -> str:
    """Return the user turn of a case."""
    return f"Columns: {', '.join(case.inputs['columns'])}\n\nQuestion: {case.inputs['question']}"


def reply_of(name: str, case: Case, *, is_right: bool, rng: random.Random) -> str:
    """Return what such a candidate tends to say."""
    query = json.loads(json.dumps(case.reference))
    if is_right:
        return case.reference_text or ""
    if name == "zero-shot":
        return (
            f'To answer the question "{case.inputs["question"]}", you can look at the '
            f"`{case.inputs['columns'][-1]}` column and compare it with the other columns.\n\n"
            "```sql\nSELECT * FROM spans WHERE duration_ms > 1000;\n```\n\n"
            "This query selects every span that took longer than one second."
        )
    if name == "instructions":
        return '{"query": "' + str(case.inputs["question"]) + '", "columns": ["duration_ms"]}'
    if name == "tuned":
        query["filters"] = [f for f in query.get("filters", []) if f != ROOT]
        query["filters"] += [{"column": "error", "op": "exists"}] * (query == case.reference)
        return json.dumps(query, separators=(",", ":"))
    query["calculations"] = [{"op": rng.choice(("AVG", "SUM", "COUNT"))}]
    query["breakdowns"] = [rng.choice(COMMON)]
    if name.startswith("constrained"):
        query["limit"] = 100
        query.pop("filters", None)
    return json.dumps(query, separators=(",", ":"))


def judge(case: Case, text: str) -> tuple[Score, ...]:
    """Return the scores of one reply, as the evals of the task would."""
    try:
        query = json.loads(text)
    except ValueError as exc:
        reason = f"not JSON: {exc}"
        return tuple(
            Score(name=n, value=0.0, reason=reason) for n in ("parses", "valid", "same_query")
        )
    strange = sorted(set(query) - set(SCHEMA["properties"]))  # type: ignore[arg-type]
    is_same = query == case.reference
    return (
        Score(name="parses", value=1.0),
        Score(
            name="valid",
            value=0.0 if strange else 1.0,
            reason=f"unknown keys {strange}" if strange else "",
        ),
        Score(
            name="same_query",
            value=1.0 if is_same else 0.0,
            reason="" if is_same else "calculations or filters differ from the reference",
        ),
    )


def view(case: Case, name: str, *, is_right: bool, shots: Sequence[Case], key: str) -> ReplyView:
    """Return one candidate's answer to one case."""
    rng = random.Random(f"{case.id} {name}")
    if name == "instructions" and case.id == "dev-0013":
        fault = Fault(
            origin="backend", message="the prompt has 2,212 tokens; the model holds 2,048"
        )
        return ReplyView(
            candidate=name,
            trial=Trial(case_id=case.id, fault=fault),
            request=Request(messages=messages_of(name, case, shots)),
        )
    if name == "reference":
        text, request = case.reference_text or "", None
        reply = Reply(text=text, finish_reason="reference")
    else:
        text = reply_of(name, case, is_right=is_right, rng=rng)
        request = Request(
            messages=messages_of(name, case, shots),
            decoding=Decoding(max_tokens=110),
            schema=SCHEMA if name.startswith("constrained") else None,
        )
        size = sum(len(m.content) for m in request.messages)
        reply = Reply(
            text=text,
            finish_reason="stop" if name != "zero-shot" else "length",
            input_tokens=size // 4,
            output_tokens=max(12, len(text) // 4),
            latency_s=0.25 + size / 4000 + len(text) / 220 + rng.random() / 4,
            model="smollm2-135m",
        )
    scores = judge(case, text)
    return ReplyView(
        candidate=name,
        trial=Trial(case_id=case.id, reply_key=key, scores=scores),
        request=request,
        reply=reply,
        primary=scores[-1].value,
    )


def bounds(right: int, n: int, *, clusters: int, alpha: float = 0.05) -> Estimate:
    """Return a share with exact one-sided bounds."""
    return Estimate(
        mean=right / n,
        lower=float(stats.beta.ppf(alpha, right, n - right + 1)) if right else 0.0,
        upper=float(stats.beta.ppf(1 - alpha, right + 1, n - right)) if right < n else 1.0,
        n=n,
        clusters=clusters,
        alpha=alpha,
    )


def compared(cases: Sequence[CaseView], *, baseline: str, candidate: str) -> Comparison:
    """Return the paired comparison of two candidates."""
    pairs = []
    for case in cases:
        by_name = {r.candidate: r.primary or 0.0 for r in case.replies}
        pairs.append((case.case.id, by_name[baseline], by_name[candidate]))
    n = len(pairs)
    wins = sum(after > before for _, before, after in pairs)
    losses = sum(after < before for _, before, after in pairs)
    clusters = len({c.case.cluster for c in cases})
    mean = (wins - losses) / n
    half = 1.75 * math.sqrt(((wins + losses) / n - mean**2) / n)
    return Comparison(
        task="nl_query",
        split=cases[0].case.split,
        baseline=baseline,
        candidate=candidate,
        baseline_run="5f0c6a1be2d94417",
        candidate_run="c2a9d3e07b1f8846",
        baseline_estimate=bounds(int(sum(b for _, b, _ in pairs)), n, clusters=clusters),
        candidate_estimate=bounds(int(sum(a for _, _, a in pairs)), n, clusters=clusters),
        delta=Estimate(
            mean=mean,
            lower=mean - half,
            upper=min(1.0, mean + half),
            n=n,
            clusters=clusters,
            alpha=0.04,
        ),
        wins=wins,
        losses=losses,
        ties=n - wins - losses,
        newly_missed=tuple(i for i, before, after in pairs if after < before),
        newly_passed=tuple(i for i, before, after in pairs if after > before),
    )


def sample_report(*, dev: int = 40, test: int = 60, seed: int = 7) -> ReportData:
    """Return the data of a whole loop: a wall, a tuned model, a release."""
    rng = random.Random(seed)
    train = cases_of("train", 200, rng)
    dev_cases, test_cases = cases_of("dev", dev, rng), cases_of("test", test, rng)
    names = [*FAMILY, "tuned", "reference"]
    right = {n: set(rng.sample(range(dev), RIGHT.get(n, 0) * dev // 40)) for n in names}
    right["reference"] = set(range(dev))
    dev_views = []
    for i, case in enumerate(dev_cases):
        replies = []
        for name in names:
            shots = {"few-shot": 5, "few-shot-8": 8, "dynamic": 5}.get(name, 0)
            replies.append(
                view(
                    case,
                    name,
                    is_right=i in right[name],
                    shots=rng.sample(train, shots) if name == "dynamic" else train[:shots],
                    key=digest([case.id, name])[:16],
                )
            )
        dev_views.append(CaseView(case=case, replies=tuple(replies)))
    lucky = set(rng.sample(range(test), max(1, test // 10)))
    unlucky = {min(lucky), *rng.sample(sorted(set(range(test)) - lucky), test // 12)}
    test_views = [
        CaseView(
            case=case,
            replies=tuple(
                view(
                    case,
                    name,
                    is_right=(i in lucky) if name == "dynamic" else i not in unlucky,
                    shots=train[i : i + 5] if name == "dynamic" else (),
                    key=digest([case.id, name])[:16],
                )
                for name in ("dynamic", "tuned")
            ),
        )
        for i, case in enumerate(test_cases)
    ]
    clusters = len({c.cluster for c in dev_cases})
    tries = {
        name: Try(
            candidate=name,
            family=FAMILY.get(name, name),
            run_id=digest(name)[:16],
            estimate=bounds(len(right[name]), dev, clusters=clusters),
            wins=0,
            losses=0 if name == "dynamic" else 4,
            faults=1 if name == "instructions" else 0,
            latency_s=None if name == "reference" else 1.2,
            is_counted=name in FAMILY,
            note="labels as replies: the positive control" if name == "reference" else "",
        )
        for name in names
    }
    comparison = compared(test_views, baseline="dynamic", candidate="tuned")
    wall = wall_verdict(tuple(tries[n] for n in FAMILY), dev=dev, clusters=clusters)
    release = release_verdict(comparison)
    tuned = artifact(wall.id)
    views = (*dev_views, *test_views)
    return ReportData(
        task="nl_query",
        about="A question about a service becomes a query in JSON, by the house rules.",
        generated_at="2026-11-22T14:05:09Z",
        harness_version="0.1.0",
        primary="same_query",
        model="local:smollm2-135m",
        git_sha="e33279c4b1a05d7f9e6c2a8b4d1f0e9c7b6a5d43",
        versions={"Python": "3.11.14", "torch": "2.13.0", "transformers": "5.23.0"},
        target=0.6,
        target_reason="six of ten right saves more time than checking costs",
        wall=wall,
        release=release,
        comparisons=(compared(dev_views, baseline="dynamic", candidate="tuned"),),
        rungs=tuple(
            Rung(
                result=tries[n],
                kind="tuned" if n == "tuned" else "reference" if n == "reference" else "prompt",
            )
            for n in names
        ),
        cases=views,
        costs=cost_rows(views),
        artifacts=(tuned,),
        parity=ParityView(rows=200),
        waivers=dict(wall.waivers),
        ledger=ledger(wall, release, tuned),
        data=data_page([*train, *dev_cases, *test_cases]),
        commands=(
            "# the same seed gives the same result",
            "harness eval nl_query",
            "harness wall nl_query",
            "harness tune nl_query",
            "harness gate nl_query --baseline dynamic --candidate tuned",
            "harness report nl_query",
        ),
    )


def full_report(*, dev: int = 8, test: int = 6) -> ReportData:
    """Return data in which every optional field says something."""
    data = sample_report(dev=dev, test=test)
    assert data.wall is not None
    assert data.release is not None
    first = data.cases[0]
    answered = first.replies[0]
    assert answered.request is not None
    assert answered.reply is not None
    call = {"name": "run_query", "arguments": {"dataset": "spans-of-all"}}
    talk = replace(
        answered,
        request=replace(
            answered.request,
            messages=(
                *answered.request.messages,
                Message(role="assistant", content="asking a tool", tool_calls=(call,)),
                Message(role="tool", content="the tool told", tool_call_id="call-77"),
            ),
            decoding=Decoding(
                temperature=0.7, top_p=0.9, seed=11, max_tokens=64, stop=("END-OF-QUERY",)
            ),
            tools=({"name": "run_query_tool"},),
        ),
        reply=replace(answered.reply, tool_calls=({"name": "called-back"},), cost_usd=0.00042),
        trial=replace(
            answered.trial,
            scores=(
                *answered.trial.scores,
                Score(name="tone", value=0.5, reason="half polite"),
                Score(name="judged", value=None, reason="the judge refused"),
            ),
        ),
    )
    gone = replace(
        first.replies[1],
        reply=None,
        primary=None,
        trial=Trial(
            case_id=first.case.id,
            fault=Fault(origin="backend", message="lost after 5 retries", is_missing=True),
        ),
    )
    again = replace(first.replies[4], trial=replace(first.replies[4].trial, repeat=1))
    case = CaseView(case=first.case, replies=(talk, gone, *first.replies[2:], again))
    finding = ParityFinding(
        severity="fail", name="end token", case_id="train-0007", detail="trained <|im_end|>, sent"
    )
    override = "the release owner wants it today"
    data_numbers = data.data
    assert data_numbers is not None
    return replace(
        data,
        cases=(case, *data.cases[1:]),
        costs=cost_rows((case, *data.cases[1:])),
        wall=replace(data.wall, need_cases=420, is_climbing=True),
        release=replace(data.release, overrides=(override,), need_cases=310),
        artifacts=(
            replace(data.artifacts[0], parity=(finding,), folder="artifacts/nl_query-lora"),
            replace(
                data.artifacts[0], name="by-hand", wall_verdict=None, override="a pilot, by hand"
            ),
        ),
        parity=ParityView(rows=200, findings=(finding,)),
        ledger=(
            *data.ledger,
            LedgerEntry(
                kind="override",
                task="other_task",
                at="2026-11-22T15:00:00Z",
                payload={"who": "release-owner"},
                text="shipped against the gate",
            ),
        ),
        data=replace(data_numbers, findings=("3 near-duplicates between dev and train",)),
        notes=("made from recorded runs",),
        waivers={**data.waivers, "rag": "no documents to search"},
    )


def wall_verdict(tries: tuple[Try, ...], *, dev: int, clusters: int) -> WallVerdict:
    """Return the verdict that lets tuning start."""
    best = max(tries, key=lambda t: t.estimate.mean)
    top = round(best.estimate.upper * 100, 1)
    return WallVerdict(
        task="nl_query",
        answer="WALL",
        reason=(
            f"You tried {len(tries)} prompts from 5 families on {dev} cases; the best is very "
            f"likely below 60 % (at most {top} %, 95 % sure), and scores have stopped rising."
        ),
        conditions=(
            Condition(name="Coverage", holds=True, text="5 of 5 families tried, 3 waived"),
            Condition(
                name="Level", holds=True, text=f"every try is below the target: at most {top} %"
            ),
            Condition(
                name="Reach",
                holds=True,
                text="chance that the next try reaches 60 %: 0.1 % (at most 5 %)",
            ),
            Condition(name="Not climbing", holds=True, text="no upward trend: p = 0.38"),
            Condition(
                name="Resolution",
                holds=True,
                text="a gain of 14 points could have been seen; the gap is 50",
            ),
            Condition(
                name="Positive control",
                holds=True,
                text=f"the reference answers score 100 % in {clusters} clusters",
            ),
            Condition(name="Labels audited", holds=None, text="waived, see below"),
        ),
        tries=tries,
        target=0.6,
        mid=0.05,
        profile="quick",
        best=best.candidate,
        horizon=1,
        reach=0.001,
        resolution=0.14,
        next_step="Fine-tuning may start: harness tune nl_query",
        inputs_digest=digest("inputs"),
        labels_digest=digest("labels"),
        evals_digest=digest("evals"),
        policy_digest=digest("policy"),
        waivers={
            "chain-of-thought": "110 output tokens hold the query, not a train of thought",
            "optimised": "a 135M model cannot reflect on its own prompt",
            "labels": "references come from the generator that made the questions",
        },
        notes=("quick: speaks for the next try only",),
    )


def release_verdict(comparison: Comparison) -> ReleaseVerdict:
    """Return the verdict that ships the tuned model."""
    delta = comparison.delta
    parses = Estimate(mean=0.02, lower=-0.01, upper=0.06, n=delta.n, clusters=delta.clusters)
    return ReleaseVerdict(
        task="nl_query",
        answer="SHIP",
        reason=(
            f"Better by {delta.mean * 100:.0f} points on {delta.n} sealed cases (at least "
            f"{delta.lower * 100:.0f}), no must-hold score loses more than its margin."
        ),
        checks=(
            Check(
                name="same_query",
                kind="primary",
                answer="SHIP",
                text="better than the prompt it replaces",
                delta=delta,
                threshold=0.0,
            ),
            Check(
                name="parses",
                kind="guardrail",
                answer="SHIP",
                text="not worse by more than 3 points",
                delta=parses,
                threshold=-0.03,
            ),
            Check(
                name="p95 latency",
                kind="budget",
                answer="SHIP",
                text="1.6 s at the 95th percentile, of 3 s",
            ),
            Check(name="parity", kind="condition", answer="SHIP", text="200 rows, no difference"),
        ),
        comparison=comparison,
        goal="beat",
        min_gain=0.02,
        look=1,
        alpha=0.04,
        alpha_left=0.01,
        policy_digest=digest("policy"),
    )


def artifact(wall_id: str) -> Artifact:
    """Return the tuned adapter."""
    return Artifact(
        digest=digest("adapter"),
        name="nl_query-lora",
        task="nl_query",
        tuner="torch-lora",
        base="local:smollm2-135m",
        base_digest=digest("base"),
        template_digest=digest("template"),
        prompt="slim",
        prompt_digest=digest("slim"),
        data_digest=digest("data"),
        rows=200,
        recipe={"rank": 16, "epochs": 3, "batch": 4, "learning_rate": 0.001, "dtype": "bf16"},
        seed=7,
        wall_verdict=wall_id,
        environment={"device": "cpu", "torch": "2.13.0"},
        metrics={"loss_first": 2.31, "loss_last": 0.04, "train_s": 204.0},
    )


def ledger(wall: WallVerdict, release: ReleaseVerdict, made: Artifact) -> tuple[LedgerEntry, ...]:
    """Return the record of the loop."""
    told = (
        ("waiver", "13:41:02", "label audit waived", dict(wall.waivers)),
        ("wall", "13:52:40", "WALL on dev, quick profile", {"id": wall.id}),
        ("tune", "13:57:31", "nl_query-lora from 200 rows", {"artifact": made.digest[:12]}),
        ("look", "14:03:12", "look 1 at the sealed cases", {"alpha": 0.04}),
        ("release", "14:04:55", "SHIP nl_query-lora", {"id": release.id}),
    )
    return tuple(
        LedgerEntry(
            kind=kind,  # type: ignore[arg-type]
            task="nl_query",
            at=f"2026-11-22T{at}Z",
            payload=payload,
            text=text,
        )
        for kind, at, text, payload in told
    )


if __name__ == "__main__":
    write_report(sample_report(), Path(sys.argv[1]))
