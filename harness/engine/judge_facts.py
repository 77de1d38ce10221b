"""What of a task's judges can change a score. Knows nothing of what they were asked."""

from __future__ import annotations

from harness.engine.candidates import CONSTANT, REFERENCE, REPLAY, backend_options, replay_path
from harness.engine.tables import as_dict
from harness.engine.taskfile import CandidateTable
from harness.engine.tasks import Task, rubric_text
from harness.engine.text_files import read_text
from harness.records import HANDLING, Json, digest


def judge_facts(task: Task) -> list[Json]:
    """Return all of the judges that can change a score: tables, rubrics, and who is the other
    side of a pair.
    """
    facts: list[Json] = []
    for name, table in sorted(task.settings.judges.items()):
        other = table.against if table.against not in {None, REFERENCE} else None
        facts.append(
            [
                name,
                as_dict(table, without="defaults"),  # so that a new key changes no digest
                rubric_text(task, name),
                _deciding_options(task, table.backend),
                _facts_of_other(task, other) if other else None,
            ]
        )
    return facts


def _facts_of_other(task: Task, name: str) -> Json:
    if name.startswith(CONSTANT):  # the table has its text, which is all that there is
        return None
    if name.startswith(REPLAY):
        return digest(read_text(replay_path(name, task.folder)))
    s = task.settings
    table = s.candidates.get(name, CandidateTable())
    prompt = task.prompts.get(table.prompt or name.partition("@")[0])
    shots = task.train_digest if prompt and prompt.shots else None
    passages = [task.documents_digest] if prompt and prompt.documents else []
    backend = table.backend or s.model
    drawn = as_dict(s.decoding, without="defaults")
    drawn |= prompt.decoding if prompt else {}
    common = [backend, s.base_url, drawn, _deciding_options(task, backend), s.epoch]
    facts = as_dict(table, without="defaults")
    return [facts, prompt.digest if prompt else None, shots, *common, *passages]


def _deciding_options(task: Task, backend: str) -> dict[str, Json]:
    return {k: v for k, v in backend_options(task, backend).items() if k not in HANDLING}
