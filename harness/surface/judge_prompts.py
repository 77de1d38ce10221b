"""What judges are asked, word for word, so that a person can read it. Asks nobody anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.core.judging import Judge, judge_messages, schema_of
from harness.engine.judges import judge_named
from harness.engine.tasks import Task
from harness.records import Case, Json, Message, Reply
from harness.surface.words import clean

REPLY = "(the candidate's reply)"
OTHER = "(the other side's reply)"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgePrompt:
    """One request of a judge: its messages, and the schema that its answer is held to."""

    judge: str
    backend: str
    case_id: str
    messages: tuple[Message, ...]
    schema: Json


def judge_prompts(task: Task, case: Case) -> Iterator[JudgePrompt]:
    """Yield every request that the judges of `task` would be sent about `case`.

    Its reference stands in for the candidate's reply.
    """
    for name in sorted(task.settings.judges):
        yield from prompts_of(judge_named(task, name), case)


def prompts_of(judge: Judge, case: Case) -> Iterator[JudgePrompt]:
    """Yield the requests of one judge about `case`."""
    reply = Reply(text=case.reference_text or REPLY)
    for messages in judge_messages(judge, case, reply, other=Reply(text=OTHER)):
        yield JudgePrompt(
            judge=judge.name,
            backend=judge.backend,
            case_id=case.id,
            messages=messages,
            schema=schema_of(judge),
        )


def prompt_lines(prompt: JudgePrompt) -> list[str]:
    """Return a request as a person reads it."""
    head = f"judge {prompt.judge} ({clean(prompt.backend)}) of case {clean(prompt.case_id)}"
    lines = [head]
    for message in prompt.messages:
        rows = clean(message.content).split("\n")
        lines += [f"@{message.role}", *(f"  {row}".rstrip() for row in rows)]
    return [*lines, ""]
