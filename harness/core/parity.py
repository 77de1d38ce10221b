"""Is what is trained what will be served? Compares token ids, not texts.

Knows nothing of tokenizers, templates, models or files: it is given ids from both sides and a
`decode` for its messages. A template bug does not stop a training run, it only makes a worse
model; so every difference is found before the first step, named after its usual cause, and shown
with the tokens around it.

Source: the mismatches are those of axolotl issues 834 and 2089 and PR 3756 (an untrained turn end),
trl issue 6105 (masks of length 2) and LLaMA-Factory issue 2509 (26 % -> 57 % by template alone).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Literal

from harness.core.parity_causes import (
    Decode,
    around,
    common_length,
    prefix_difference,
    text_of,
)
from harness.core.parity_texts import has_thinking, tells_the_date
from harness.records import ParityFinding, PreparedRow, TrainingRow

IGNORED = -100
"""The label that a loss skips."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What the serving side said of itself: prompt ids by case id, and how its replies end.

    `special_ids` are ids with a meaning beyond text (stop ids are added); `template` is the
    digest of the chat template, `None` where it is not known, `template_text` its source.
    `served_decode` is the serving side's own decoder, where it has another tokenizer. `is_remote`:
    another program renders its own copy of the template, which may be written otherwise and
    still say the same, so that the ids judge. `pixels` are digests of what the images of a case
    become, by case id, where the serving side tells them.
    """

    prompt_ids: Mapping[str, Sequence[int]]
    stop_ids: AbstractSet[int]
    decode: Decode
    special_ids: AbstractSet[int] = frozenset()
    template: str | None = None
    template_text: str | None = None
    served_decode: Decode | None = None
    pad_id: int | None = None
    is_remote: bool = False
    pixels: Mapping[str, str] = field(default_factory=dict)


def check_parity(
    rows: Sequence[TrainingRow],
    prepared: Sequence[PreparedRow],
    *,
    serving: Serving,
    trained_template: str | None = None,
    max_length: int | None = None,
) -> tuple[ParityFinding, ...]:
    """Return every kind of difference once, with its first row and how many rows share it.

    `rows` is what should be learnt, `prepared` what the tuner made of it. An empty answer means
    parity; a finding of severity `fail` must stop a tune before its first step.
    """
    by_id = {row.case_id: row for row in rows}
    found = list(_of_all(by_id, prepared, serving=serving, trained_template=trained_template))
    for one in prepared:
        if one.case_id in by_id and one.case_id in serving.prompt_ids:
            row = by_id[one.case_id]
            found += _of_row(row, one, serving=serving, max_length=max_length)
            found += _of_images(row, one, serving=serving)
            found += _of_rejected(row, one, serving=serving, max_length=max_length)
    return _grouped(found, total=len(prepared))


def failures(findings: Sequence[ParityFinding]) -> tuple[ParityFinding, ...]:
    """Return the findings that must stop a tune and block a release."""
    return tuple(f for f in findings if f.severity == "fail")


def _finding(
    name: str, case_id: str, detail: str, *, severity: Literal["fail", "warn"] = "fail"
) -> ParityFinding:
    return ParityFinding(severity=severity, name=name, case_id=case_id, detail=detail)


def _grouped(found: Sequence[ParityFinding], *, total: int) -> tuple[ParityFinding, ...]:
    """Two hundred rows with one cause are one finding; failures stand first."""
    first: dict[tuple[str, str], ParityFinding] = {}
    rows: dict[tuple[str, str], set[str]] = {}
    for one in found:
        kind = (one.severity, one.name)
        first.setdefault(kind, one)
        rows.setdefault(kind, set()).add(one.case_id)
    told = [
        replace(one, detail=f"{one.detail} [{len(rows[kind])} of {total} rows]")
        if one.case_id
        else one
        for kind, one in first.items()
    ]
    return tuple(sorted(told, key=lambda f: f.severity != "fail"))


# ---------------------------------------------------------------- all rows together


def _of_all(
    by_id: Mapping[str, TrainingRow],
    prepared: Sequence[PreparedRow],
    *,
    serving: Serving,
    trained_template: str | None,
) -> Iterator[ParityFinding]:
    if not serving.stop_ids:
        yield _finding("no-stop-ids", "", "the serving side names no stop id: replies never end")
    if trained_template is not None and serving.template is not None:
        if trained_template != serving.template:
            yield _finding(
                "template-differs",
                "",
                f"chat template trained {trained_template[:12]}, served {serving.template[:12]}: "
                "serve the template that was saved with the artifact",
                severity="warn" if serving.is_remote else "fail",
            )
    elif trained_template is not None and not serving.is_remote:
        yield _finding(
            "template-unknown",
            "",
            f"the serving side does not tell its chat template (trained {trained_template[:12]})",
            severity="warn",
        )
    clock = tells_the_date(serving.template_text or "")
    if clock:
        yield _finding(
            "date-in-template",
            "",
            f"the served chat template asks for the day ({clock}): the prompt is another one "
            "tomorrow. Give it a fixed date, for training and serving alike",
            severity="warn",
        )
    lost = [case_id for case_id in by_id if case_id not in {p.case_id for p in prepared}]
    if lost:
        yield _finding(
            "dropped-rows",
            lost[0],
            f"{len(lost)} of {len(by_id)} rows were lost in preparation (a row whose reply is cut "
            f"off or masked is often dropped in silence): {', '.join(lost[:5])}",
        )
    strangers = [p.case_id for p in prepared if p.case_id not in by_id]
    if strangers:
        yield _finding(
            "unknown-rows",
            strangers[0],
            f"{len(strangers)} prepared rows belong to no training row: {', '.join(strangers[:5])}",
        )
    unserved = [c for c in by_id if c not in serving.prompt_ids]
    if unserved:
        yield _finding(
            "not-served",
            unserved[0],
            f"{len(unserved)} rows have no served ids to compare with: {', '.join(unserved[:5])}",
        )


# ---------------------------------------------------------------- one row


def _of_row(
    row: TrainingRow, one: PreparedRow, *, serving: Serving, max_length: int | None
) -> Iterator[ParityFinding]:
    case_id = row.case_id
    served = tuple(serving.prompt_ids[case_id])
    yield from _specials(row, one, served=served, serving=serving)
    if max_length is not None and len(one.input_ids) > max_length:
        yield _finding(
            "over-max-length", case_id, f"{len(one.input_ids)} tokens, the limit is {max_length}"
        )
    problem = _label_problem(one)
    if problem:
        yield _finding("bad-labels", case_id, problem)
        return
    positions = [i for i, label in enumerate(one.labels) if label != IGNORED]
    is_cut = max_length is not None and len(one.input_ids) >= max_length
    if not positions and not is_cut and not _holds_reply(row, one, serving):
        # a prompt alone, for which replies are drawn
        yield from _prefix(row, one, start=len(one.input_ids), served=served, serving=serving)
        return
    if not positions:
        why = f"the reply was cut off at {max_length} tokens" if is_cut else "every label is masked"
        yield _finding("no-labels", case_id, f"nothing to learn: {why}")
        return
    start, end = positions[0], positions[-1] + 1
    if end - start != len(positions):
        yield _finding(
            "split-labels",
            case_id,
            f"supervised tokens are not one span: {len(positions)} of tokens {start}..{end - 1}",
        )
    yield from _reply(row, one, span=(start, end), serving=serving)
    yield from _prefix(row, one, start=start, served=served, serving=serving)


def _holds_reply(row: TrainingRow, one: PreparedRow, serving: Serving) -> bool:
    """Whether the reply stands in the row, where a request would have ended."""
    rest = serving.decode(one.input_ids[len(serving.prompt_ids[row.case_id]) :])
    return bool(row.completion) and row.completion in rest


def _prefix(
    row: TrainingRow,
    one: PreparedRow,
    *,
    start: int,
    served: Sequence[int],
    serving: Serving,
) -> Iterator[ParityFinding]:
    difference = prefix_difference(
        row,
        one.input_ids,
        start=start,
        served=served,
        decode=serving.decode,
        served_decode=serving.served_decode,
        specials=serving.special_ids | serving.stop_ids,
    )
    if difference is not None:
        yield _finding(difference.name, row.case_id, difference.detail)


def _of_images(row: TrainingRow, one: PreparedRow, *, serving: Serving) -> Iterator[ParityFinding]:
    """Ids say where images stand; what the model sees there is the processor's affair."""
    served = serving.pixels.get(row.case_id, one.pixels)
    if served != one.pixels:
        yield _finding(
            "pixels-differ",
            row.case_id,
            f"the images become other pixels: trained {one.pixels[:12] or 'none'}, served "
            f"{served[:12] or 'none'}. Use the processor_config.json (or "
            "preprocessor_config.json) of the base on both sides",
        )


def _of_rejected(
    row: TrainingRow, one: PreparedRow, *, serving: Serving, max_length: int | None
) -> Iterator[ParityFinding]:
    """The worse side of a preference is held to the same rules, and must be another one."""
    if row.rejected is None or not one.rejected_ids:
        return
    if one.rejected_ids == one.input_ids:
        yield _finding(
            "equal-sides", row.case_id, "the chosen and the rejected reply are the same tokens"
        )
    other = replace(
        one,
        input_ids=one.rejected_ids,
        labels=one.rejected_labels,
        rejected_ids=(),
        rejected_labels=(),
    )
    worse = replace(row, completion=row.rejected, calls=(), rejected=None)
    for finding in _of_row(worse, other, serving=serving, max_length=max_length):
        yield replace(finding, detail=f"rejected reply: {finding.detail}")


def _label_problem(one: PreparedRow) -> str:
    if len(one.labels) != len(one.input_ids):
        return f"{len(one.labels)} labels for {len(one.input_ids)} tokens"
    for index, (token, label) in enumerate(zip(one.input_ids, one.labels, strict=True)):
        if label not in (IGNORED, token):
            return f"label {label} at token {index}, which is {token} (labels shifted twice?)"
    return ""


def _reply(
    row: TrainingRow, one: PreparedRow, *, span: tuple[int, int], serving: Serving
) -> Iterator[ParityFinding]:
    """The supervised text is the completion, exactly, and a stop id ends it."""
    start, end = span
    ids, decode = one.input_ids, serving.decode
    learnt = [i for i in range(start, end) if one.labels[i] != IGNORED]
    stop = next((i for i in learnt if ids[i] in serving.stop_ids), None)
    text = text_of(ids, span=(start, end if stop is None else stop), decode=decode)
    head = text[0].rstrip("\ufffd")  # a cut within a letter leaves half of it
    if stop is None and row.completion not in text and row.completion.startswith(head):
        yield _finding(
            "truncated",
            row.case_id,
            f"the row ends within the reply, after {len(ids)} tokens: ...{head[-30:]!r}",
        )
        return
    if stop is None:
        masked = [i for i in range(start, len(ids)) if ids[i] in serving.stop_ids]
        why = (
            f"the stop id stands at token {masked[-1]} with its label masked"
            if masked
            else "no stop id follows the reply"
        )
        if masked and ids[masked[-1]] == serving.pad_id:
            why += " (it is the padding id too, which a stock collator masks wherever it stands)"
        known = ", ".join(f"{i}={decode([i])!r}" for i in sorted(serving.stop_ids))
        yield _finding(
            "stop-not-supervised",
            row.case_id,
            f"{why}; served replies end at {known}. A model trained so never learns to stop. "
            f"End of the row: {around(ids, end, decode=decode, start=start)}",
        )
    elif decode(ids[stop + 1 : end]).strip():
        yield _finding(
            "trained-after-stop",
            row.case_id,
            f"supervised tokens follow the stop id: {around(ids, stop, decode=decode)}",
            severity="warn",
        )
    if row.calls:
        yield from _other_calls(row, text)
    elif row.completion not in text and len(learnt) == end - start:
        yield from _other_text(row, text)


def _other_calls(row: TrainingRow, text: Sequence[str]) -> Iterator[ParityFinding]:
    """How a call is written is the template's affair; its name must stand in what is learnt."""
    names = [str(call.get("function", call).get("name")) for call in row.calls]
    lost = [name for name in names if not any(name in t for t in text)]
    if lost or not any(row.completion.strip() in t for t in text):
        what = f"the call of {lost[0]!r}" if lost else f"the text {row.completion[:40]!r}"
        yield _finding(
            "call-differs", row.case_id, f"{what} is not in the supervised text {text[0][:80]!r}"
        )


def _other_text(row: TrainingRow, text: Sequence[str]) -> Iterator[ParityFinding]:
    """The supervised text is not the completion: white space, a block for thinking, or worse."""
    alike = [t for t in text if t.strip() == row.completion.strip()]
    if any(row.completion in t for t in alike):
        return  # a template that puts a space before a reply does so at inference too
    if alike:
        yield _finding(
            "completion-trimmed",
            row.case_id,
            f"the template trims the reply {row.completion[:40]!r}: white space at its ends is "
            "never learnt. Take it out of the reference",
            severity="warn",
        )
        return
    heads = [t.removesuffix(row.completion) for t in text if t.endswith(row.completion)]
    if heads and has_thinking(heads[0][:20]):
        yield _finding(
            "thinking-supervised",
            row.case_id,
            f"the template opens each reply with {heads[0][:60]!r}, which is learnt as a part of "
            "it and will stand in served replies. Switch it off on both sides: "
            "chat_template_kwargs = { enable_thinking = false } in the backend's options",
            severity="warn",
        )
        return
    at = common_length(text[0], row.completion)
    yield _finding(
        "completion-differs",
        row.case_id,
        f"supervised text and completion part at character {at}: trained "
        f"{text[0][max(0, at - 20) : at + 20]!r}, wanted "
        f"{row.completion[max(0, at - 20) : at + 20]!r}",
    )


def _specials(
    row: TrainingRow, one: PreparedRow, *, served: Sequence[int], serving: Serving
) -> Iterator[ParityFinding]:
    contents = [*(m.content for m in row.messages), row.completion]
    for side, ids, decode in (
        ("trained", one.input_ids, serving.decode),
        ("served", served, serving.served_decode or serving.decode),
    ):
        if len(ids) > 1 and ids[0] == ids[1]:
            text = decode(ids[:1])
            # A token that opens every prompt comes from the template, not from what was said.
            if ids[0] in serving.special_ids or not any(text in c for c in contents):
                yield _finding(
                    "double-bos",
                    row.case_id,
                    f"{side} ids begin twice with {ids[0]}={text!r}: the template prints it, and "
                    f"the tokenizer adds it again. {around(ids, 1, decode=decode)}",
                )
    decode = serving.decode
    for special in sorted(serving.special_ids | serving.stop_ids):
        text = decode([special])
        said = sum(c.count(text) for c in contents) if text.strip() else 0
        # Written out in ordinary tokens it is only text, and no danger.
        spelt = decode(one.input_ids).count(text) - one.input_ids.count(special) if said else 0
        if said > spelt:
            yield _finding(
                "special-text",
                row.case_id,
                f"the content holds {text!r}, which becomes control token {special}: it can close "
                "a turn. Remove it from the case, or have the tokenizer split special tokens",
            )
