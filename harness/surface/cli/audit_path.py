"""`harness wall TASK --audit`: people read labels, in the terminal or in a sheet.

Knows nothing of the verdict. Who reads sees the input and the reference, never a reply or a score.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from harness.core.audit import LABELS, Label, LabelAudit, audit_text
from harness.core.words import count
from harness.engine.tasks import Task
from harness.errors import NotEnoughEvidence, UsageError
from harness.records import Case, LedgerEntry
from harness.surface.cli.app import App, now
from harness.surface.words import clean

KEYS = "[r]ight  [w]rong  [u]nsure  [b]ack  [q]uit; what stands after the letter is kept as a note"


def audit_labels(
    app: App, name: str, *, sheet_out: Path | None, sheet_in: Path | None, asks: bool
) -> int:
    """Ask, write or read a sheet; return the exit code: 0 done, 1 too many wrong, 3 unfinished."""
    from harness.engine.label_audit import audit_of, auditable, sample_of
    from harness.engine.ladder import read_ladder
    from harness.surface.audit_sheet import read_sheet, write_sheet

    task = app.task(name)
    app.refuse_leaks(task, "dev")
    cases = {c.id: c for c in auditable(task)}
    if not cases:
        raise NotEnoughEvidence(f"task {name!r} has no dev case with a reference to be read")
    ladder = read_ladder(task, app.store)
    sample, said = sample_of(task, ladder, _entries(app, task))
    to_read = [cases[c] for c in sample.order if c not in said]
    if sheet_in is not None:
        found = read_sheet(sheet_in, {c.id: c for c in task.split("dev")})
        news = [j for j in found if said.get(j.case.id) != j.label]
        for judgement in news:
            _record(app, task, judgement.case, judgement.label, judgement.note)
        app.say(f"{sheet_in}: {count(len(found), 'label')} read, {len(news)} of them new")
    elif sheet_out is not None:
        write_sheet(sheet_out, to_read)
        app.say(
            f"{sheet_out}: {count(len(to_read), 'case')} to read. Fill in `label` "
            f"({', '.join(LABELS)}), then: harness wall {name} --audit-import {sheet_out}"
        )
    elif asks and not app.as_json:
        _ask(app, task, to_read, said)
    audit = audit_of(task, ladder, _entries(app, task))
    if audit is None:
        app.answer({"judged": 0, "needed": len(to_read), "ceiling": None})
        app.say(f"no label was read yet; {len(to_read)} to read")
        return 3
    app.answer(audit)
    app.say(clean(audit_text(audit)), next_line(task, audit))
    return code_of(task, audit)


def code_of(task: Task, audit: LabelAudit) -> int:
    """Return the exit code of an audit."""
    if audit.ceiling is not None and audit.ceiling.upper < task.settings.target:
        return 1
    return 0 if audit.is_complete else 3


def next_line(task: Task, audit: LabelAudit) -> str:
    """Return what to do after it."""
    code = code_of(task, audit)
    if code == 1:
        return "next: correct the labels; recorded replies are scored again, the tries are kept"
    if code == 3:
        return f"next: harness wall {task.name} --audit goes on with the {audit.needed} left"
    if audit.wrong:
        labels = count(len(audit.wrong), "wrong label")
        return f"next: correct the {labels} (the target stays in reach); harness wall {task.name}"
    return f"next: harness wall {task.name}"


def _entries(app: App, task: Task) -> list[LedgerEntry]:
    return app.store.ledger(task=task.name, kind="audit")


def _record(app: App, task: Task, case: Case, label: str, note: str) -> None:
    from harness.engine.label_audit import audit_entry

    app.store.record(audit_entry(task, case, label, note=note, at=now()))


def _ask(app: App, task: Task, to_read: Sequence[Case], said: Mapping[str, Label]) -> None:
    """Ask case by case. Each answer is in the ledger before the next question."""
    from harness.surface.audit_sheet import shown_input, shown_reference

    done, position = len(said), 0
    if to_read:
        app.say(f"{count(len(to_read), 'label')} to read ({done} were read before). {KEYS}")
    while position < len(to_read):
        case = to_read[position]
        app.say(
            "",
            f"--- {position + 1} of {len(to_read)}",
            clean(shown_input(case)),
            *([f"({count(len(case.images), 'image')}, not shown)"] if case.images else []),
            f"→ {clean(shown_reference(case))}",
        )
        key, note = _answer()
        if key == "q":
            app.say("stopped; what was said is kept")
            return
        if key == "b":
            position = max(0, position - 1)
            continue
        label = next(name for name in LABELS if name.startswith(key))
        _record(app, task, case, label, note)
        position += 1


def _answer() -> tuple[str, str]:
    """Return a key and the note after it; the end of the input is `q`."""
    while True:
        click.echo("? ", nl=False)
        line = sys.stdin.readline()
        if not line:
            return "q", ""
        word, _, note = line.strip().partition(" ")
        word = word.lower()
        if word and any(name.startswith(word) for name in (*LABELS, "quit", "back")):
            return word[0], note.strip()
        click.echo(f"  {KEYS}")


def only_one(**given: object) -> None:
    """Raise UsageError where two of the options stand together."""
    names = [name for name, value in given.items() if value]
    if len(names) > 1:
        shown = " and ".join(f"--{name.replace('_', '-')}" for name in names)
        raise UsageError(f"{shown} do not go together: one at a time")
