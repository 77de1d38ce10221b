"""Training rows as the vendor's lines of JSON, and what is wrong with them. Sends nothing.

The server checks a file minutes after it was handed in, cuts what is too long in silence, and
trains (and bills) a row twice that stands there twice: all of it is found here first.
Sources: https://developers.openai.com/api/docs/guides/supervised-fine-tuning (at least 10 rows,
`messages`, the last an assistant's), .../guides/direct-preference-optimization (`input`,
`preferred_output`, `non_preferred_output`); the limit of a row is that of its gpt-4o and gpt-4.1.
Replies that are calls: https://learn.microsoft.com/azure/ai-services/openai/how-to/fine-tuning-functions
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness import Message, TrainingRow, UsageError
from harness_openai.wire import message_out, tool_out

FEWEST = 10
LONGEST_TOKENS = 65_536
CHARACTERS_A_TOKEN = 4  # of English; no tokenizer of theirs is here
MOST_BYTES = 512_000_000


def supervised_line(row: TrainingRow) -> dict[str, Any]:
    """Return a row as a conversation whose last turn is learnt."""
    messages = [message_out(m) for m in row.messages]
    return {"messages": [*messages, _learnt(row)], **_tools(row)}


def _learnt(row: TrainingRow) -> dict[str, Any]:
    calls = tuple({"id": f"call_{n}", **call} for n, call in enumerate(row.calls))
    learnt = message_out(Message(role="assistant", content=row.completion, tool_calls=calls))
    if calls and not row.completion:
        del learnt["content"]  # as the vendor's example writes it
    return learnt


def preference_line(row: TrainingRow) -> dict[str, Any]:
    """Return a row as a question with a better and a worse reply."""
    return {
        "input": {"messages": [message_out(m) for m in row.messages], **_tools(row)},
        "preferred_output": [{"role": "assistant", "content": row.completion}],
        "non_preferred_output": [{"role": "assistant", "content": row.rejected}],
    }


def _tools(row: TrainingRow) -> dict[str, Any]:
    return {"tools": [tool_out(t) for t in row.tools]} if row.tools else {}


def file_of(rows: Sequence[TrainingRow], *, is_preference: bool) -> bytes:
    """Return the file of `rows`. Raises UsageError, with the rows that it is about."""
    _check(rows, is_preference=is_preference)
    shape = preference_line if is_preference else supervised_line
    # ascii escapes: a line separator within a text would end a line for some readers
    data = b"".join(json.dumps(shape(row)).encode() + b"\n" for row in rows)
    if len(data) > MOST_BYTES:
        raise UsageError(f"the rows have {len(data) / 1e6:.0f} MB; a file may have 512 MB")
    return data


def guessed_tokens(row: TrainingRow) -> int:
    """Return about how many tokens a row has, its tools and both its replies among them."""
    texts = [*(m.content for m in row.messages), row.completion, row.rejected or ""]
    texts += [json.dumps(shape) for shape in (*row.tools, *row.calls)]
    return sum(len(t) for t in texts) // CHARACTERS_A_TOKEN + 4 * len(texts)


def _check(rows: Sequence[TrainingRow], *, is_preference: bool) -> None:
    called = [r.case_id for r in rows if r.calls] if is_preference else []
    if called:
        raise _about("have a reply that is a tool call; preferences are of texts", called)
    empty = [r.case_id for r in rows if not r.completion.strip() and not r.calls]
    if empty:
        raise _about("have an empty reply, from which nothing is learnt", empty)
    open_ended = [r.case_id for r in rows if r.messages and r.messages[-1].role == "assistant"]
    if open_ended:
        raise _about(
            "end with an assistant's turn already; the reply to learn would be a second one",
            open_ended,
        )
    if is_preference:
        lacking = [r.case_id for r in rows if r.rejected is None or r.rejected == r.completion]
        if lacking:
            raise _about("have no worse reply, or one that equals the better", lacking)
    seen: set[str] = set()
    repeats = []
    for row in rows:
        line = json.dumps([supervised_line(row), row.rejected], sort_keys=True)
        if line in seen:
            repeats.append(row.case_id)
        seen.add(line)
    if repeats:
        raise _about("repeat another row word for word, and would be paid for twice", repeats)
    long = [r.case_id for r in rows if guessed_tokens(r) > LONGEST_TOKENS]
    if long:
        raise _about(
            f"have about more than {LONGEST_TOKENS:,} tokens (guessed), of which the server cuts "
            "the end in silence",
            long,
        )
    if len(rows) < FEWEST:
        raise UsageError(f"{len(rows)} rows, and the server takes files of {FEWEST} or more")


def _about(text: str, case_ids: Sequence[str]) -> UsageError:
    some = ", ".join(case_ids[:5])
    more = f" and {len(case_ids) - 5} more" if len(case_ids) > 5 else ""
    error = UsageError(f"rows that {text}: {some}{more}")
    error.case_ids = tuple(case_ids)
    return error
