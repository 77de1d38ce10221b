"""Rows that some trainer prepared: token ids and labels from a file, made comparable.

Read are JSONL files, and folders of the datasets library where the base's backend can open them;
ids with labels as axolotl, TRL, LLaMA-Factory and unsloth write them. Every reply that a row
teaches is compared by itself, for at inference each would have been asked for by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from harness.core.parity import IGNORED
from harness.core.parity_causes import Decode
from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.parity import compare
from harness.engine.parity_check import ROWS, runtime_name, told
from harness.engine.parity_views import Sides, spread
from harness.engine.text_files import json_lines
from harness.errors import UsageError
from harness.ports.backends import ShowsTokens
from harness.records import (
    Candidate,
    Message,
    ParityCheck,
    ParityFinding,
    PreparedRow,
    Request,
    TrainingRow,
)

MOST = 5000
_MASKS = ("completion_mask", "assistant_masks", "assistant_mask")
_KNOWN = ("system", "user", "assistant", "tool")
_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "function": "tool"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """The replies of prepared rows, each with the prompt that came before it."""

    rows: list[TrainingRow] = field(default_factory=list)
    prepared: list[PreparedRow] = field(default_factory=list)
    requests: dict[str, Request | str] = field(default_factory=dict)
    findings: list[ParityFinding] = field(default_factory=list)


def check_prepared(
    path: Path,
    *,
    base: Candidate,
    runtime: Candidate | None,
    pool: BackendPool,
    with_logits: bool = True,
    most: int = ROWS,
) -> ParityCheck:
    """Compare what a trainer prepared at `path` for `base` with what `runtime` would be sent.

    Raises UsageError where it cannot be read, naming the row.
    """
    trained = pool.get(base)
    if not isinstance(trained.backend, ShowsTokens):
        raise UsageError(
            f"--base {base.backend} shows no token ids: name the model that was tuned, on this "
            "machine, as local:FOLDER"
        )
    every = list(islice(read_rows(path, trained), MOST))
    if not every:
        raise UsageError(f"{path}: no row to compare")
    some = spread(every, most)
    taught = taught_replies(some, decode=trained.backend.decode, stops=trained.backend.stop_ids())
    served = pool.get(runtime) if runtime else trained
    check = ParityCheck(
        task="",
        candidate=path.name,
        runtime=runtime_name(runtime or base),
        rows=len(some),
        findings=tuple(taught.findings),
    )
    if not taught.rows:
        return check
    outcome = compare(
        Sides(
            rows=tuple(taught.rows),
            prepared=tuple(taught.prepared),
            requests=taught.requests,
            trained=trained,
            served=served,
        ),
        with_logits=with_logits,
    )
    unknown = []
    if any(isinstance(r, str) for r in taught.requests.values()):
        unknown.append(
            "the rows hold no messages: their text was cut up anew, and no template was compared. "
            "Keep the column `messages` when you prepare"
        )
    whole = replace(outcome, findings=(*taught.findings[:1], *outcome.findings))
    return told(check, whole, unknown=unknown)


def read_rows(path: Path, live: LiveBackend) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (where, row) of a JSONL file, a folder of such files, or a folder of the datasets
    library, which `live` opens.

    Raises UsageError naming file and line.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if files:
        for file in files:
            yield from _lines(file)
        return
    folder = next((p.parent for p in sorted(path.rglob("dataset_info.json"))), path)
    reader = getattr(live.backend, "read_rows", None)
    if not callable(reader):
        raise UsageError(f"{path}: no *.jsonl there, and {live.name} opens no other folder")
    for index, row in enumerate(reader(folder)):
        yield f"{path.name}[{index}]", row


def _lines(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for place, row in json_lines(file):
        if not isinstance(row, dict):
            raise UsageError(f"{place}: not an object with input_ids and labels")
        yield f"{file.name}:{place.rpartition(':')[2]}", row


def taught_replies(
    rows: Iterable[tuple[str, Mapping[str, Any]]], *, decode: Decode, stops: frozenset[int]
) -> Taught:
    """Return every reply that the rows teach, with its prompt. A row that teaches none is found.

    Where no messages are known, a reply is what stands before its stop id.
    """
    taught = Taught()
    for where, row in rows:
        messages = _messages(row, where)
        for name, ids, labels in _unpacked(row, where):
            spans = _spans(labels)
            if not spans:
                taught.findings.append(
                    ParityFinding(
                        severity="fail",
                        name="no-labels",
                        case_id=name,
                        detail=f"nothing to learn: every label of {len(ids)} tokens is masked",
                    )
                )
                continue
            replies = _replies(messages, len(spans))
            if messages and len(replies) != len(spans):  # one reply in pieces
                spans, replies = [(spans[0][0], spans[-1][1])], replies[-1:]
            for index, (start, end) in enumerate(spans):
                case_id = f"{name}#{index + 1}" if len(spans) > 1 else name
                one = PreparedRow(
                    case_id=case_id,
                    input_ids=tuple(ids[:end]),
                    labels=(*[IGNORED] * start, *labels[start:end]),
                )
                if replies:
                    before, reply = replies[index]
                else:
                    cut = next((i for i in range(start, end) if ids[i] in stops), end)
                    before, reply = (), Message(role="assistant", content=decode(ids[start:cut]))
                tools = tuple(row.get("tools") or ())
                taught.rows.append(
                    TrainingRow(
                        case_id=case_id,
                        messages=before,
                        completion=reply.content,
                        tools=tools,
                        calls=reply.tool_calls,
                    )
                )
                taught.prepared.append(one)
                taught.requests[case_id] = (
                    Request(messages=before, tools=tools) if before else decode(ids[:start])
                )
    return taught


def _unpacked(
    row: Mapping[str, Any], where: str
) -> Iterator[tuple[str, Sequence[int], Sequence[int]]]:
    """The sequences of a row: several where rows were packed into one."""
    ids = row.get("input_ids")
    if not isinstance(ids, list) or not all(type(i) is int for i in ids):
        raise UsageError(
            f"{where}: no input_ids (a list of whole numbers); rows hold {sorted(row)}"
        )
    labels = row.get("labels")
    if labels is None:
        mask = next((row[name] for name in _MASKS if row.get(name) is not None), None)
        if mask is None:
            raise UsageError(f"{where}: neither labels nor one of {', '.join(_MASKS)}")
        labels = [i if keep else IGNORED for i, keep in zip(ids, mask, strict=False)]
    if len(labels) != len(ids):
        raise UsageError(f"{where}: {len(labels)} labels for {len(ids)} input_ids")
    labels = [IGNORED if label < 0 else label for label in labels]
    places = row.get("position_ids") or ()
    cuts = [i for i, place in enumerate(places) if place == 0 and i] if places else []
    if not cuts:
        yield where, ids, labels
        return
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(ids)], strict=True), start=1):
        yield f"{where}/{number}", ids[start:end], labels[start:end]


def _spans(labels: Sequence[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    start: int | None = None
    for index, label in enumerate([*labels, IGNORED]):
        if label != IGNORED and start is None:
            start = index
        elif label == IGNORED and start is not None:
            found.append((start, index))
            start = None
    return found


def _replies(messages: Sequence[Message], spans: int) -> list[tuple[tuple[Message, ...], Message]]:
    """The last `spans` assistant turns, each with what came before it."""
    at = [i for i, m in enumerate(messages) if m.role == "assistant"][-spans:]
    return [(tuple(messages[:i]), messages[i]) for i in at]


def _messages(row: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    raw = row.get("messages") or row.get("conversations")
    if raw is None and isinstance(row.get("prompt"), list):
        raw = [*row["prompt"], *(row.get("completion") or ())]
    if not isinstance(raw, list):
        return ()
    found = []
    for one in raw:
        turn: Mapping[str, Any] = one if isinstance(one, Mapping) else {}
        role = turn.get("role", turn.get("from"))
        role = _ROLES.get(str(role), role)
        content = turn.get("content", turn.get("value"))
        if isinstance(content, list):
            content = "".join(p.get("text") or "" for p in content if isinstance(p, Mapping))
        if role not in _KNOWN:
            raise UsageError(f"{where}: a message of the role {role!r}; known: {', '.join(_KNOWN)}")
        found.append(
            Message(
                role=role,
                content=content or "",
                tool_calls=tuple(turn.get("tool_calls") or ()),
                tool_call_id=turn.get("tool_call_id"),
            )
        )
    return tuple(found)
