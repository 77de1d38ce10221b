"""The errors of chat rows by the names that OpenAI's cookbook gives them, and the turns' order.

What keeps a row from being read comes as a reason of the reader; the rest is seen in the row.
Source: OpenAI cookbook, "Data preparation and analysis for chat model fine-tuning": its seven
format errors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from typing import ClassVar

from harness.core import words
from harness.core.examples import Example
from harness.core.lints.base import KEPT, Finding, Hits, Lint, Place, Row, Rule
from harness.records import Message

KNOWN_KEYS = frozenset(
    {"role", "content", "name", "weight", "function_call", "tool_calls", "tool_call_id", "refusal",
     "audio", "annotations", "parts"}
)  # fmt: skip
EXTRAS = "message_extras"
_OLDER = "function_call"
"""The key of a call before there were `tool_calls`."""
UNREADABLE = "unreadable"
_MARK = re.compile(
    r"<\|[\w.:/-]{1,60}\|>|<｜[^\s｜]{1,60}｜>|\[/?INST\]|</?s>|<</?SYS>>"
    r"|<(?:start|end)_of_turn>|<(?:bos|eos)>"
)


class ChatLint(Lint):
    """Finds what is wrong with messages. `refuse` tells it of the rows that could not be read."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="data_type",
            severity="error",
            about="A row, or a message in it, is not an object.",
            fix='Write one object a line: {"messages": [{"role": ..., "content": ...}, ...]}.',
        ),
        Rule(
            name="missing_messages_list",
            severity="error",
            about="A row has no list of messages.",
            fix="Give each row `messages`, a list of turns.",
        ),
        Rule(
            name="message_missing_key",
            severity="error",
            about="A message has no `role` or no `content`.",
            fix="Give each message a `role` and a `content`.",
        ),
        Rule(
            name="message_unrecognized_key",
            severity="error",
            about="A message has a key that no chat format has, so that it is dropped or refused "
            "by the trainer.",
            fix=f"Keep to these keys: {', '.join(sorted(KNOWN_KEYS - {'parts'}))}.",
        ),
        Rule(
            name="unrecognized_role",
            severity="error",
            about="A message has a role that no chat format has.",
            fix="Use system, developer, user, assistant or tool.",
        ),
        Rule(
            name="missing_content",
            severity="error",
            about="A message's content is null or no text, and it calls no tool.",
            fix="Write what the turn said, or leave the turn out.",
        ),
        Rule(
            name="example_missing_assistant_message",
            severity="error",
            about="A chat row has no answer of the assistant at its end: there is nothing to learn "
            "or to score.",
            fix="End each row with the assistant's turn.",
        ),
        Rule(
            name=UNREADABLE,
            severity="error",
            about="A row could not be read: broken JSON, another encoding, a missing key.",
            fix="Repair the row, or leave it out.",
        ),
        Rule(
            name="role-order",
            severity="warn",
            about="Turns in an order that chat templates refuse or join: a system message after "
            "others, the assistant first, two turns of one side in a row, a tool's answer without "
            "a call.",
            fix="Put the system message first, join turns of one side, let user and assistant take "
            "turns.",
        ),
        Rule(
            name="control-token",
            severity="warn",
            about="A text holds a mark of chat templates, as `<|im_end|>`: most tokenizers make it "
            "a control token, which ends the turn.",
            fix="Take the marks out: the chat template writes them.",
        ),
    )

    def __init__(self, *, needs_answers: bool = True) -> None:
        self._hits = {rule.name: Hits() for rule in self.rules}
        self._unread: dict[str, list[Place]] = {}
        self._unread_counts: Counter[str] = Counter()
        self._needs_answers = needs_answers

    def refuse(self, place: str, reason: str, *, count: int = 1) -> None:
        """Count a row that could not be read; `reason` may begin with a name of OpenAI's."""
        name = reason.partition(":")[0]
        known = name if any(r.name == name for r in self.rules) else UNREADABLE
        self._unread_counts[known] += count
        if place:
            detail = reason.partition(": ")[2] if known == name else reason
            self._unread.setdefault(known, []).append(Place("", place, detail))

    def see(self, row: Row) -> None:
        """Look at the messages of a row."""
        example = row.example
        for text in (row.asked, row.answer or ""):
            # most texts hold neither sign: looking for them is quicker than the pattern
            if ("<" in text or "[" in text) and (mark := _MARK.search(text)):
                self._hits["control-token"].add(row, mark[0])
                break
        if not example.messages:
            return
        extras = example.other.get(EXTRAS)
        if isinstance(extras, Mapping):
            strange = sorted(
                {k for one in extras.values() if isinstance(one, Mapping) for k in one} - KNOWN_KEYS
            )
            if strange:
                self._hits["message_unrecognized_key"].add(row, ", ".join(map(str, strange)))
        if self._needs_answers and row.answer is None and not example.inputs:
            self._hits["example_missing_assistant_message"].add(row)
        called = calling_turns(example)
        for number, message in enumerate(example.messages):
            if message.role == "assistant" and not message.content and number not in called:
                self._hits["missing_content"].add(row, f"messages[{number}] says nothing")
        # inputs beside an answered dialogue are its next turn, as in Alpaca's `history`
        is_answered = row.answer is not None and not example.inputs
        wrong = order_problem(example.messages, is_answered=is_answered, called=called)
        if wrong:
            self._hits["role-order"].add(row, wrong)

    def findings(self) -> Iterable[Finding]:
        """Return a finding for each rule that found something."""
        for rule in self.rules:
            hits, unread = self._hits[rule.name], self._unread.get(rule.name, [])
            count = hits.count + self._unread_counts[rule.name]
            if count:
                rows = [*unread, *hits.rows][:KEPT]
                yield self.found(
                    rule.name,
                    _SAID[rule.name].format(words.count(count, "row")),
                    count=count,
                    rows=rows,
                )


_SAID = {
    "data_type": "{} no object, or with a message that is none",
    "missing_messages_list": "{} without a list of messages",
    "message_missing_key": "{} with a message without role or content",
    "message_unrecognized_key": "{} with unknown keys in a message",
    "unrecognized_role": "{} with a message of an unknown role",
    "missing_content": "{} with a message without content",
    "example_missing_assistant_message": "{} without an answer of the assistant at the end",
    UNREADABLE: "{} not readable",
    "role-order": "{} with turns out of order",
    "control-token": "{} with a mark of chat templates in the text",
}


def calling_turns(example: Example) -> frozenset[int]:
    """Return which turns call a tool, the answer counted: as OpenAI writes calls, or once did."""
    found = {number for number, m in enumerate(example.messages) if m.tool_calls}
    if example.calls:
        found.add(len(example.messages))
    extras = example.other.get(EXTRAS)
    if isinstance(extras, Mapping):
        older = (n for n, more in extras.items() if isinstance(more, Mapping) and _OLDER in more)
        found.update(int(n) for n in older)
    return frozenset(found)


def order_problem(
    messages: tuple[Message, ...], *, is_answered: bool, called: Collection[int] = ()
) -> str:
    """Return what is wrong with the order of turns, or nothing. `called` are the turns that call a
    tool.
    """
    roles = [m.role for m in messages]
    if "system" in roles[1:]:
        return f"messages[{roles.index('system', 1)}] is a system message after others"
    turns = [(number, m.role) for number, m in enumerate(messages) if m.role != "system"]
    if turns and turns[0][1] in {"assistant", "tool"}:
        return f"the first turn is of the {turns[0][1]}"
    for (number, before), (_, after) in pairwise(turns):
        if before == after and after in {"user", "assistant"}:
            return f"two turns of the {after} in a row"
        if after == "tool" and before != "tool" and number not in called:
            return "a tool answers, and nothing was called"
    if is_answered and turns and turns[-1][1] == "assistant":
        return "two turns of the assistant in a row at the end"
    return ""
