"""Answers that rows may be made of: references, and the replies of recorded runs.

Knows no verdict. Only train cases have any here: a reply to a dev or test case that is trained on
is a leak, and is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.core.answers import answer_of, reference_reply
from harness.core.examples import Example
from harness.engine.candidates import REFERENCE
from harness.engine.data.forms import cases as case_form
from harness.engine.data.offered import DIALOGUE, dialogue_text, said_turns
from harness.engine.tasks import Task
from harness.engine.text_files import strict_json
from harness.errors import UsageError
from harness.records import Candidate, Case, Json, Message, Reply, Run, Split, digest
from harness.store.store import Store

TRAIN: Split = "train"
REFERENCES = Candidate(name=REFERENCE, backend=REFERENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer to a case. `run_id` and `reply_key` find a recorded one; `number` tells answers
    of one candidate to one case apart; `turns` are what was said after the request when healed.
    """

    reply: Reply
    candidate: Candidate
    run_id: str | None = None
    reply_key: str | None = None
    number: int = 0
    turns: tuple[Message, ...] = ()

    @property
    def is_reference(self) -> bool:
        """Whether it is the row's own answer."""
        return self.candidate is REFERENCES


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A row with the answers to it. `why_not` says why it may not be used."""

    case: Case
    answers: tuple[Answer, ...]
    why_not: str = ""


@dataclass(slots=True, kw_only=True)
class Recorded:
    """The runs whose replies are curated, and their answers by case."""

    runs: list[Run] = field(default_factory=list)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)


def reference_of(case: Case) -> tuple[Answer, ...]:
    """Return a row's own answer, if it has one."""
    reply = reference_reply(case)
    return () if reply is None else (Answer(reply=reply, candidate=REFERENCES),)


def recorded_answers(task: Task, names: Sequence[str], *, store: Store) -> Recorded:
    """Return the replies to train cases in the newest run of each of `names`, candidates or runs.

    Raises UsageError where there is none, or it is of another split.
    """
    found = Recorded()
    cases = {c.id: c for c in task.split(TRAIN)}
    for name in names:
        run = _run_named(task, name, store=store)
        found.runs.append(run)
        keys = [t.reply_key for t in run.trials if t.reply_key is not None]
        replies = store.known_replies(keys)
        prompt = task.prompts.get(run.candidate.prompt or "")
        for trial in run.trials:
            case = cases.get(trial.case_id)
            reply = replies.get(trial.reply_key or "")
            if case is None or reply is None:
                continue
            if trial.case_digest is not None and trial.case_digest != case.digest[:16]:
                found.changed.add(case.id)
                continue
            mine = found.answers.setdefault(case.id, [])
            mine.append(
                Answer(
                    reply=reply if prompt is None else answer_of(prompt, reply),
                    candidate=run.candidate,
                    run_id=run.id,
                    reply_key=trial.reply_key,
                    number=len(mine),
                )
            )
    return found


def _run_named(task: Task, name: str, *, store: Store) -> Run:
    """Return the newest complete run of a candidate over train, else its newest one there; or the
    run whose id begins so.
    """
    rows = store.runs(task=task.name, split=TRAIN)
    mine = [r for r in rows if r.candidate == name and r.backend != REFERENCE]
    if mine:
        whole = [r for r in mine if r.is_complete] or mine
        return store.run(max(whole, key=lambda r: r.last_at).id)
    by_id = [r for r in store.runs(task=task.name) if len(name) >= 4 and r.id.startswith(name)]
    if len(by_id) == 1:
        run = store.run(by_id[0].id)
        if run.split != TRAIN:
            raise UsageError(
                f"run {run.id} is of {run.split}: its replies are no training data, for what is "
                "measured there would be learnt. Ask the train cases: harness eval "
                f"{task.name} --split train --candidate {run.candidate.name}"
            )
        return run
    known = sorted({r.candidate for r in rows if r.backend != REFERENCE}) or ["none"]
    raise UsageError(
        f"--replies {name}: no recorded run of it over the train cases of {task.name!r}. Recorded "
        f"there: {', '.join(known)}. Record one: harness eval {task.name} --split train "
        f"--candidate {name}"
    )


# ---------------------------------------------------------------- rows


def task_rows(task: Task, recorded: Recorded | None) -> Iterator[Asked]:
    """Yield the train cases with their answers: references, or what was recorded."""
    for case in task.split(TRAIN):
        if recorded is None:
            yield Asked(case=case, answers=reference_of(case))
            continue
        answers = tuple(recorded.answers.get(case.id, ()))
        why_not = ""
        if not answers:
            changed = "the case was changed since it was asked"
            why_not = changed if case.id in recorded.changed else "no recorded reply"
        yield Asked(case=case, answers=answers, why_not=why_not)


def file_rows(examples: Iterable[Example], *, inputs: Collection[str] = ()) -> Iterator[Asked]:
    """Yield the rows of a file; those of dev or test may not be used. `inputs` are those of the
    task: where it has one text, a row's turns are that.
    """
    seen: set[str] = set()
    for number, example in enumerate(examples, start=1):
        case = case_of(_fitted(example, inputs), number=number)
        why_not = "" if case.split == TRAIN else f"a row of {case.split}: only train rows are used"
        if case.id in seen:
            why_not = "a second row with its id"
        seen.add(case.id)
        yield Asked(case=case, answers=reference_of(case), why_not=why_not)


def _fitted(example: Example, inputs: Collection[str]) -> Example:
    """Return a row that asks by messages as the task made of such rows asks: so its prompt fits,
    and a row that stands in another split is seen.
    """
    turns = said_turns(example.messages)
    if not turns or example.inputs or example.images or len(inputs) != 1 or "messages" in inputs:
        return example
    [name] = inputs
    is_one = len(turns) == 1 and name != DIALOGUE
    text = turns[0][1] if is_one else dialogue_text(turns)
    return replace(example, inputs={name: text}, messages=())


def case_of(example: Example, *, number: int) -> Case:
    """Return an example as a case of train, unless it says that it is another split's."""
    whole = replace(example, id=example.id or f"row-{number}", split=example.split or TRAIN)
    try:
        row: dict[str, Any] = case_form.write(whole)
    except ValueError as exc:
        raise UsageError(f"{example.place}: {exc}") from exc
    return Case(
        id=row["id"],
        inputs=row["inputs"],
        split=row["split"],
        reference=row.get("reference"),
        cluster=row.get("cluster") or row["id"],
        tags=tuple(row.get("tags", ())),
        line=example.place,
        images=example.images,
        checks=tuple(row.get("checks", ())),
        documents=tuple(row.get("documents", ())),
        rejected=row.get("rejected"),
        provenance=row.get("provenance", {}),
        also_right=tuple(row.get("also_right", ())),
    )


def as_reference(reply: Reply, *, like: Json) -> Json:
    """Return a reply as a reference: JSON where the row's own is JSON, tool calls as such."""
    if reply.tool_calls:
        value: dict[str, Json] = {"tool_calls": list(reply.tool_calls)}
        return value | ({"content": reply.text} if reply.text else {})
    if like is None or isinstance(like, str):
        return reply.text
    try:
        return strict_json(reply.text)
    except ValueError:
        return reply.text


def answered(case: Case, answer: Answer, *, tag: str, made: Mapping[str, Json]) -> Case:
    """Return a row with an answer that was had for it, and where that came from. Its id is its
    own, so that it can stand beside the case.
    """
    reference = as_reference(answer.reply, like=case.reference)
    lineage: dict[str, Json] = {"from": [case.id], "candidate": answer.candidate.name}
    lineage["model"] = answer.reply.model or answer.candidate.backend
    lineage |= {"run": answer.run_id} if answer.run_id else {}
    lineage |= {"reply": answer.reply_key[:16]} if answer.reply_key else {}
    return replace(
        case,
        id=f"{case.id}~{digest(reference)[:8]}",
        reference=reference,
        rejected=None,
        cluster=case.cluster or case.id,
        tags=tuple(dict.fromkeys([*case.tags, tag])),
        provenance={**made, **lineage},
    )
