"""Reads what `promptfoo eval -o out.json` writes, or `out.jsonl`. Knows promptfoo's fields only.

Metric `pass` is what promptfoo counts, `score` its weighted score, the others its named scores. A
test that ended in an error (no answer) is missing, not failed. Promptfoo writes each repeat as one
more test: tests with the same variables and assertions are repeats of a case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from harness.engine.scores.source import Source, Tasked, fraction, number_of, short_name
from harness.engine.scores.table import ScoreRow
from harness.engine.scores.texts import json_lines, json_object
from harness.errors import UsageError
from harness.records import digest

PASS, WEIGHTED = "pass", "score"
ERROR = 2  # ResultFailureReason.ERROR of promptfoo's types; 1 is a failed assertion


def read_json(source: Source) -> Iterator[Tasked]:
    """Yield the rows of an output file. Raises UsageError."""
    plain = json_object(source.path)
    body = plain.get("results")
    results = body.get("results") if isinstance(body, dict) else None
    if not isinstance(results, list):
        raise UsageError(f"{source.shown}: no results.results: is it promptfoo's -o out.json?")
    started = number_of(str(_of(body, "timestamp")))
    yield from _rows(source, enumerate(results, start=1), started=started)


def read_jsonl(source: Source) -> Iterator[Tasked]:
    """Yield the rows of an output of one result a line. Raises UsageError with file:line."""
    yield from _rows(source, json_lines(source.path), started=None)


def _rows(
    source: Source, results: Iterator[tuple[int, Any]], *, started: float | None
) -> Iterator[Tasked]:
    source.default_metric = PASS
    found = []
    for number, result in results:
        if not isinstance(result, dict) or "success" not in result:
            raise UsageError(f"{source.shown}:{number}: not a result of promptfoo")
        found.append((number, result))
    prompts = {_prompt(r)[0]: _prompt(r)[1] for _, r in found}
    providers = {_provider(r) for _, r in found}
    seen: Counter[tuple[str, str]] = Counter()
    errors = 0
    for number, result in found:
        key, label = _prompt(result)
        provider = _provider(result)
        parts = [label] * (len(prompts) > 1 or len(providers) == 1)
        parts += [provider] * (len(providers) > 1)
        who = " @ ".join(parts)
        if list(prompts.values()).count(label) > 1:
            who += f" #{list(prompts).index(key) + 1}"
        if source.name:
            who = source.name if len(prompts) * len(providers) == 1 else f"{source.name} {who}"
        case, content = _case(result)
        repeat = seen[who, case]
        seen[who, case] += 1
        # the order of prompts within one file is that in which they were written
        order = None if started is None else started + 1e-3 * list(prompts).index(key)
        is_error = result.get("failureReason") == ERROR
        errors += is_error
        meta = {**(_of(result, "testCase", "metadata") or {})}
        row = ScoreRow(
            line=number,
            case=case,
            who=who,
            metric=PASS,
            score=None if is_error else float(bool(result["success"])),
            repeat=str(repeat),
            cluster=str(meta.get("cluster") or ""),
            slice=str(meta.get("slice") or ""),
            family=str(meta.get("family") or ""),
            model=provider,
            order=order,
            content=content,
            prompt=digest([key, provider]),
            reply=None if is_error else digest(_of(result, "response", "output")),
        )
        yield "", row
        scores = {WEIGHTED: result.get("score"), **(result.get("namedScores") or {})}
        for name, value in scores.items():
            shown = fraction(None if is_error else value, name, source=source)
            yield "", row._replace(metric=name, score=shown, reply=None)
    if errors:
        source.notes.append(f"{errors} results ended in an error: missing, not failed")


def _of(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _provider(result: Mapping[str, Any]) -> str:
    provider = result.get("provider")
    if isinstance(provider, str):
        return provider
    return str(_of(provider, "label") or _of(provider, "id") or "")


def _prompt(result: Mapping[str, Any]) -> tuple[str, str]:
    """Return a prompt's identity and a short name: promptfoo appends its text to the label."""
    label = str(_of(result, "prompt", "label") or _of(result, "prompt", "raw") or "prompt")
    head = label.split(": ")
    # "name: file: text" or "file: text" where the prompt is a file; else the text itself
    is_file = next((part for part in head[:2] if part.endswith((".txt", ".md", ".json"))), None)
    name = head[0] if is_file else label
    # promptIdx is no identity: it counts pairs of prompt and provider
    return str(result.get("promptId") or label), short_name(name)


def _case(result: Mapping[str, Any]) -> tuple[str, str]:
    """Return a case's name and the digest of what it asks and asserts."""
    values = _of(result, "vars") or _of(result, "testCase", "vars") or {}
    values = {k: v for k, v in values.items() if k != "_conversation"}
    content = digest([values, _of(result, "testCase", "assert")])
    only = next(iter(values.values())) if len(values) == 1 else None
    text = only if isinstance(only, str) else str(values)
    return f"{short_name(text)} ~{content[:6]}", content
