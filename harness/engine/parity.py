"""What is trained against what each runtime makes of the same cases.

Knows nothing of tokenizers or servers: a tuner shows its ids, a backend what it can (its ids, or
only how many; its log probabilities, or only its replies). What it cannot show is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.parity import Serving, check_parity
from harness.core.parity_counts import check_counts
from harness.core.parity_endings import check_endings, unseen_ends
from harness.core.parity_logits import check_logits
from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.parity_probes import (
    fingerprint_findings,
    greedy_replies,
    probe_findings,
    sampling_findings,
    taught_ends,
    tokenizer_findings,
    view_findings,
)
from harness.engine.parity_views import Sides, pixels, prompt_ids, said, template_digest
from harness.engine.requests import Requests
from harness.engine.tasks import Task
from harness.errors import BackendError, UsageError
from harness.ports.backends import ShowsTokens
from harness.records import Candidate, ParityFinding, PreparedRow, Request, TrainingRow

COUNTED = 20
"""Where a server shows only lengths, each costs a request: so many rows are enough."""


def served_parity(
    task: Task,
    candidate: Candidate,
    prepared: Sequence[PreparedRow],
    *,
    rows: Sequence[TrainingRow],
    pool: BackendPool,
    trained_template: str | None = None,
) -> tuple[ParityFinding, ...]:
    """Compare prepared rows with what `candidate`, as inference makes its requests, would send.

    Raises BackendError where the backend cannot show its tokens.
    """
    live = pool.get(candidate, folder=task.folder)
    requests = Requests(task)
    cases = {c.id: c for c in task.split("train")}
    asked = {row.case_id: requests.of(candidate, cases[row.case_id]) for row in rows}
    return findings_by_ids(
        rows, prepared, requests=asked, trained=live, served=live, template=trained_template
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it: `compared` and `unknown` are lines for a person."""

    findings: tuple[ParityFinding, ...]
    compared: tuple[str, ...]
    unknown: tuple[str, ...]
    probes: int = 0


def compare(sides: Sides, *, with_logits: bool = True) -> Outcome:
    """Compare everything that the runtime shows. Raises BackendError where it shows nothing."""
    served, trained = sides.served, sides.trained
    found: list[ParityFinding] = []
    compared: list[str] = []
    unknown: list[str] = []
    probes = 0
    if isinstance(served.backend, ShowsTokens):
        found += findings_by_ids(
            sides.rows,
            sides.prepared,
            requests=sides.requests,
            trained=trained,
            served=served,
            template=sides.template,
        )
        compared.append(f"{len(sides.prepared)} rows id by id")
        if served is not trained:
            more, probes = probe_findings(trained, served, by_ids=findings_by_ids)
            found += more
            found += view_findings(sides)
            compared.append(f"{probes} probes")
            if not served.backend.stop_ids():
                unknown.append(
                    "the runtime does not tell which ids end its replies: the artifact's were taken"
                )
    elif callable(getattr(served.backend, "count_tokens", None)):
        found += _by_counts(sides)
        compared.append(f"the lengths of {min(len(sides.prepared), COUNTED)} prompts")
        unknown.append(
            f"{served.name} shows no token ids: prompts of equal length may still differ. Name "
            "the kind of server at the end of its URL, as #vllm or #llama.cpp, where it is one"
        )
    else:
        raise BackendError(
            f"{served.name} cannot show the token ids that it sends, so parity with training "
            "cannot be checked"
        )
    found += fingerprint_findings(sides)
    if served is not trained:
        found += sampling_findings(served)
        tokenizer_findings(sides, found, compared)
    if served is not trained and with_logits:
        answers = greedy_replies(sides)
        if isinstance(answers, str):
            unknown.append(answers)
        else:
            found += check_logits(answers)
            found += check_endings(answers)
            unknown += filter(None, [unseen_ends(answers, taught_ends(sides))])
            by_words = not any(p.theirs for p in answers)
            compared.append(f"{len(answers)} greedy replies" + (", by words" if by_words else ""))
            if by_words:
                unknown.append("the runtime shows no log probabilities: near ties are not told")
    return Outcome(
        findings=_sorted(found), compared=tuple(compared), unknown=tuple(unknown), probes=probes
    )


def _sorted(found: Sequence[ParityFinding]) -> tuple[ParityFinding, ...]:
    first: dict[str, ParityFinding] = {}
    for one in found:
        first.setdefault(f"{one.severity} {one.name}", one)
    return tuple(sorted(first.values(), key=lambda f: f.severity != "fail"))


# ---------------------------------------------------------------- what ids and lengths show


def findings_by_ids(
    rows: Sequence[TrainingRow],
    prepared: Sequence[PreparedRow],
    *,
    requests: Mapping[str, Request | str],
    trained: LiveBackend,
    served: LiveBackend,
    template: str | None,
) -> tuple[ParityFinding, ...]:
    """Compare ids. A runtime may not tell all its stop ids: the trained ones count too."""
    backend, ours = served.backend, trained.backend
    if not isinstance(backend, ShowsTokens) or not isinstance(ours, ShowsTokens):
        name = trained.name if isinstance(backend, ShowsTokens) else served.name
        raise BackendError(
            f"{name} cannot show the token ids that it sends, so parity with training cannot be "
            "checked"
        )
    is_remote = served is not trained
    text = said(served, "chat_template")
    found = check_parity(
        rows,
        prepared,
        serving=Serving(
            prompt_ids={row.case_id: prompt_ids(served, requests[row.case_id]) for row in rows},
            stop_ids=backend.stop_ids() | (ours.stop_ids() if is_remote else frozenset()),
            decode=ours.decode,
            served_decode=backend.decode if is_remote else None,
            special_ids=frozenset(said(trained, "special_ids") or ()),
            template=template_digest(text) if is_remote else served.identity.get("template"),
            template_text=text,
            pad_id=said(trained, "pad_id"),
            is_remote=is_remote,
            pixels=pixels(served, requests),
        ),
        trained_template=template,
    )
    return (*found, *_stops(prepared, told=backend.stop_ids())) if is_remote else found


def _stops(prepared: Sequence[PreparedRow], *, told: frozenset[int]) -> list[ParityFinding]:
    """Rows should end at the id that the runtime names as its end, where it names one."""
    learnt = [
        (row, {i for i, label in zip(row.input_ids, row.labels, strict=True) if label == i})
        for row in prepared
        if any(label >= 0 for label in row.labels)
    ]
    missed = [row.case_id for row, ids in learnt if not ids & told]
    if not told or not missed:
        return []
    return [
        ParityFinding(
            severity="warn",
            name="stop-ids-differ",
            case_id=missed[0],
            detail=f"the runtime names {sorted(told)} as the end of a text, and {len(missed)} of "
            f"{len(learnt)} rows never teach it: it must know the end of a turn by itself",
        )
    ]


def _by_counts(sides: Sides) -> tuple[ParityFinding, ...]:
    ours = sides.trained.backend
    if not isinstance(ours, ShowsTokens):
        raise BackendError(f"{sides.trained.name} cannot show the token ids that were trained")
    some = sides.rows[:COUNTED]
    if any(isinstance(sides.requests[r.case_id], str) for r in some):
        raise UsageError(
            f"{sides.served.name} shows no token ids, and the prepared rows hold no messages: "
            "there is nothing to ask it. Keep the column `messages` when you prepare"
        )
    trained = {r.case_id: prompt_ids(sides.trained, sides.requests[r.case_id]) for r in some}
    counts: dict[str, int] = {}
    count: Any = sides.served.backend
    for row in some:
        told = count.count_tokens(sides.requests[row.case_id])
        if told is None:
            raise BackendError(
                f"{sides.served.name} tells neither the ids of a prompt nor how many it has: "
                "parity cannot be checked there"
            )
        counts[row.case_id] = told
    own = served_by_training(sides)
    found = check_counts(
        some,
        trained,
        counts=counts,
        decode=ours.decode,
        special_ids=frozenset(said(sides.trained, "special_ids") or ()),
    )
    return (*own, *found)


def served_by_training(sides: Sides) -> tuple[ParityFinding, ...]:
    """Compare the prepared rows with what the trained side itself would be sent: what a runtime
    does not show must at least hold here.
    """
    return findings_by_ids(
        sides.rows,
        sides.prepared,
        requests=sides.requests,
        trained=sides.trained,
        served=sides.trained,
        template=sides.template,
    )
