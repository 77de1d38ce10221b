"""Makes a ladder's prompts from one prompt and the facts of its task. Knows no files or models.

The order is that of their worth: what a wall must rest on comes first, so that the first seven
suit the profile `quick` and fourteen `standard`. Nothing here asks a model; an optimiser does.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from harness.core.coverage import Profile
from harness.core.prompts import front_matter, parse_prompt
from harness.core.shapes import Shape
from harness.errors import TaskError
from harness.records import Json, Prompt

MARKER = "Answer:"
THOUGHTS = 256
"""Tokens that a model is given to think, beyond those of its answer."""
WRAPPING = 16
"""Tokens of a JSON object around an answer."""
TIPS = "tips"
THINK = (
    "Think first, step by step, in a few short sentences. Then write a last line that begins with "
    f"`{MARKER}` and goes on with the answer."
)
_FILLED = re.compile(r"\{[{%#]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What prompts are made from. `seed` is the prompt that they take their words from, and
    `settings` those of its file; `fields` names the inputs, each with whether it is text.
    `rules` are what the evals want; `examples` counts the rows that may be shown, of the split
    `drawn_from`, and `without` is the tag of those that may not. `refuses_schema` says why the
    model's backend holds to none; empty where it does.
    """

    about: str
    fields: Mapping[str, bool]
    shape: Shape
    seed: Prompt | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    tips: tuple[str, ...] = ()
    examples: int = 0
    drawn_from: str = "train"
    without: str = ""
    max_tokens: int = 256
    has_stop: bool = False
    refuses_schema: str = ""
    has_documents: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MadePrompt:
    """A prompt that can be written to a file. `settings` are those beyond its family and note."""

    name: str
    family: str
    sections: tuple[tuple[str, str], ...]
    note: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    schema: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What can be made, the most useful first, and what cannot, each with the reason."""

    prompts: tuple[MadePrompt, ...]
    left_out: Mapping[str, str]


def plan_prompts(facts: Facts) -> Plan:
    """Return every prompt that can be made from `facts`."""
    w = _Words(facts)
    made: list[MadePrompt] = []
    left_out: dict[str, str] = {}
    if facts.tips:  # first: what the recorded misses teach is worth more than another wording
        tips = w.instructions(tips=True)
        made.append(w.prompt(TIPS, "instructions", sections=tips, note="instructions and tips"))
    made.append(
        w.prompt(
            "instructions", "instructions", sections=w.instructions(), note="its words in order"
        )
    )
    made += [
        *w.shots("few-shot", "few-shot-4", k=4),
        *w.shots("dynamic-few-shot", "dynamic-4", k=4, retrieve=True),
        w.thinking("cot", "instructions, thoughts first"),
        w.prompt("zero-shot", "zero-shot", sections=w.bare(), note="the task in a sentence"),
    ]
    schema = facts.shape.schema if not facts.refuses_schema else None
    if schema is not None:
        made.append(w.constrained("constrained", shots=0))
    else:
        left_out["constrained"] = facts.refuses_schema or facts.shape.why_no_schema
    if facts.has_documents and "documents" not in facts.fields:
        made += [w.informed("rag-4", 4), w.informed("rag-2", 2)]
    made += [
        w.prompt(
            "instructions-last",
            "instructions",
            sections=w.turned(),
            note="instructions after the input",
        ),
        *w.thinking_with_examples("cot-examples", 4),
        *w.shots("few-shot", "few-shot-8", k=8),
        *w.shots("dynamic-few-shot", "dynamic-8", k=8, retrieve=True),
        w.prompt(
            "zero-shot-one-turn", "zero-shot", sections=w.one_turn(), note="the task in one turn"
        ),
    ]
    if schema is not None and facts.examples >= 4:
        made.append(w.constrained("constrained-4", shots=4))
    made += [
        *w.shots("few-shot", "few-shot-2", k=2),
        *w.shots("dynamic-few-shot", "dynamic-2", k=2, retrieve=True),
        *w.shots("few-shot", "few-shot-4-other", k=4, seed=1),
        *w.shots("dynamic-few-shot", "dynamic-4-instructions", k=4, retrieve=True, is_full=True),
        *w.shots("few-shot", "few-shot-4-instructions", k=4, is_full=True),
        *w.shots("few-shot", "few-shot-8-other", k=8, seed=1),
        *w.shots("few-shot", "few-shot-2-other", k=2, seed=1),
        *w.shots("few-shot", "few-shot-4-third", k=4, seed=2),
        *w.shots("dynamic-few-shot", "dynamic-8-instructions", k=8, retrieve=True, is_full=True),
    ]
    for name, k in (("few-shot and dynamic", 2), ("4 examples", 4), ("8 examples", 8)):
        if facts.examples < k:
            had = f"{facts.examples} to be had from {facts.drawn_from}"
            left_out[name] = f"{k} rows with a reference needed, {had}"
            break
    return Plan(prompts=tuple(made), left_out=left_out)


def choose(
    plan: Plan,
    *,
    have: Sequence[str],
    profile: Profile,
    waived: Mapping[str, str],
    taken: Sequence[str] = (),
    reserve: int = 0,
) -> list[MadePrompt]:
    """Return what is to be made, so that with the families in `have` (one a try) the profile is
    covered and its number of tries reached, but for `reserve`. `taken` names are not made again.
    """
    families = Counter(have)
    total = len(have)
    open_ = [p for p in plan.prompts if p.name not in taken and p.family not in waived]
    chosen: list[MadePrompt] = []
    for prompt in open_:
        if families[prompt.family] < profile.tries_each:
            chosen.append(prompt)
            families[prompt.family] += 1
    for prompt in open_:
        if total + len(chosen) >= profile.tries - reserve:
            break
        if prompt not in chosen:
            chosen.append(prompt)
    return [p for p in open_ if p in chosen]


# ---------------------------------------------------------------- the words


class _Words:
    """The texts of one task, to be put together."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        still, self.user = _seed_words(facts)
        about = _plain(" ".join(facts.about.split()))
        self.task = still or about
        self.about = about
        self.reply = _plain(facts.shape.words)
        self.rules = [_plain(" ".join(rule.split())) for rule in facts.rules]

    def bare(self) -> list[tuple[str, str]]:
        return [("system", _joined([self.about, self.reply])), ("user", self.user)]

    def one_turn(self) -> list[tuple[str, str]]:
        return [("user", _joined([self.about, self.user, self.reply]))]

    def instructions(self, *, tips: bool = False) -> list[tuple[str, str]]:
        return [("system", self.full(tips=tips)), ("user", self.user)]

    def turned(self) -> list[tuple[str, str]]:
        return [("user", _joined(["INPUT\n" + self.user, self.full()]))]

    def full(self, *, tips: bool = False, reply: str = "", examples: str = "") -> str:
        """Return role, task, output form and constraints, each under its head."""
        parts = ["You do one task, exactly as it is described here.", f"TASK\n{self.about}"]
        if self.task != self.about:
            parts.append(self.task)
        parts.append(f"REPLY\n{reply or self.reply}" if reply or self.reply else "")
        parts.append(_bullets("RULES", self.rules))
        parts.append(_bullets("TIPS", [_plain(t) for t in self.facts.tips]) if tips else "")
        return _joined([*parts, examples])

    def shots(
        self,
        family: str,
        name: str,
        *,
        k: int,
        seed: int = 0,
        retrieve: bool = False,
        is_full: bool = False,
    ) -> list[MadePrompt]:
        """Return a prompt with `k` examples as turns; none where there are too few rows."""
        if self.facts.examples < k:
            return []
        settings: dict[str, Any] = {"shots": k}
        settings |= {"retrieve": True} if retrieve else {}
        settings |= {"seed": seed} if seed else {}
        system = self.full() if is_full else _joined([self.task, self.reply])
        sections = [("system", system), ("examples", ""), ("user", self.user)]
        which = "the nearest" if retrieve else "the same"
        note = f"{k} examples of {self.facts.drawn_from}, {which} for every input"
        return [self.prompt(name, family, sections=sections, note=note, settings=settings)]

    def thinking(self, name: str, note: str, *, k: int = 0) -> MadePrompt:
        reply = _joined(
            [
                THINK,
                f"For what follows `{MARKER}`: {self.reply}" if self.reply else "",
            ]
        )
        shown = (
            "EXAMPLES of inputs and last lines\n{% for example in examples %}\n"
            "{{ example.user }}\n{{ example.reply }}\n\n{% endfor %}"
        )
        decoding: dict[str, Any] = {"max_tokens": self.facts.max_tokens + THOUGHTS}
        decoding |= {"stop": []} if self.facts.has_stop else {}
        settings: dict[str, Any] = {"shots": k} if k else {}
        settings |= {"answer_after": MARKER, "decoding": decoding}
        system = self.full(reply=reply, examples=shown if k else "")
        sections = [("system", system), ("user", self.user)]
        return self.prompt(
            name, "chain-of-thought", sections=sections, note=note, settings=settings
        )

    def thinking_with_examples(self, name: str, k: int) -> list[MadePrompt]:
        # a field of the cases' own would stand where the examples are filled in
        if self.facts.examples < k or "examples" in self.facts.fields:
            return []
        note = f"thoughts first, {k} examples of {self.facts.drawn_from} as text"
        return [self.thinking(name, note, k=k)]

    def informed(self, name: str, k: int) -> MadePrompt:
        shown = (
            "DOCUMENTS\n{% for document in documents %}\n[{{ document.id }}]\n"
            "{{ document.text }}\n\n{% endfor %}"
        )
        sections = [("system", self.full(examples=shown)), ("user", self.user)]
        note = f"instructions, and the {k} passages nearest to the input"
        return self.prompt(name, "rag", sections=sections, note=note, settings={"documents": k})

    def constrained(self, name: str, *, shots: int) -> MadePrompt:
        shape = self.facts.shape
        reply = self.reply
        settings: dict[str, Any] = {"shots": shots} if shots else {}
        if shape.answer_key:
            reply += f'\n\nWrite it as a JSON object: {{"{shape.answer_key}": ...}}'
            settings["answer_key"] = shape.answer_key
            settings["decoding"] = {"max_tokens": self.facts.max_tokens + WRAPPING}
        sections = [("system", self.full(reply=reply)), ("user", self.user)]
        if shots:
            sections.insert(1, ("examples", ""))
        note = "every token held to the shape that the references have"
        return self.prompt(
            name,
            "constrained",
            sections=sections,
            note=note,
            settings=settings,
            schema=shape.schema,
        )

    def prompt(
        self,
        name: str,
        family: str,
        *,
        sections: Sequence[tuple[str, str]],
        note: str,
        settings: Mapping[str, Any] | None = None,
        schema: Json = None,
    ) -> MadePrompt:
        seed = f"from {self.facts.seed.name}" if self.facts.seed else "from the task"
        kept = {k: v for k, v in self.facts.settings.items() if k in ("tools", "documents")}
        given = dict(settings or {})
        if given.get("shots") and self.facts.without:
            given["without"] = self.facts.without
        return MadePrompt(
            name=name,
            family=family,
            sections=tuple((role, text.strip("\n").rstrip()) for role, text in sections),
            note=f"made {seed}: {note}",
            settings=kept | given,
            schema=schema,
        )


def _seed_words(facts: Facts) -> tuple[str, str]:
    """Return the words of the seed that are the same for every case, and those that are filled in.

    Paragraphs of the last user section without a mark are instructions too. A statement may span
    paragraphs: where there is one, the section stays whole.
    """
    if facts.seed is None:
        lines = [
            f"{name}: {{{{ {name} }}}}" if is_text else f"{name}: {{{{ {name} | tojson }}}}"
            for name, is_text in facts.fields.items()
        ]
        return "", "\n".join(lines) if len(lines) != 1 else lines[0].partition(": ")[2]
    still = [text for role, text in facts.seed.sections if role == "system"]
    user = next(text for role, text in reversed(facts.seed.sections) if role == "user")
    if "{%" not in user and "{{" in user:
        parts = [p for p in re.split(r"\n\s*\n", user) if p.strip()]
        still += [p for p in parts if not _FILLED.search(p)]
        user = "\n\n".join(p for p in parts if _FILLED.search(p))
    return _joined(still), user


def _plain(text: str) -> str:
    """Return a text as a template that says it: nobody's words are taken for a mark."""
    return f"{{% raw %}}{text}{{% endraw %}}" if _FILLED.search(text) else text


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part.strip("\n") for part in parts if part.strip())


def _bullets(head: str, lines: Sequence[str]) -> str:
    return "\n".join([head, *(f"- {line}" for line in lines)]) if lines else ""


# ---------------------------------------------------------------- the files


def prompt_text(made: MadePrompt) -> str:
    """Return the file of a made prompt. Its setting `made` is the digest of all the rest, so that
    a file that a person edited is known by it. Raises TaskError where it would read as another.
    """
    settings = {"family": made.family} | dict(made.settings) | {"note": made.note}
    body = "".join(f"@{role}\n{text}\n" if text else f"@{role}\n" for role, text in made.sections)
    lines = [f"{key} = {toml_value(value)}\n" for key, value in settings.items()]
    text = "".join(["+++\n", *lines, "+++\n", body])
    read = parse_prompt(text, name=made.name, path=f"{made.name}.md")
    if read.sections != made.sections:
        raise TaskError(f"prompt {made.name}: a file cannot hold its words")
    return "".join(["+++\n", *lines, f'made = "{_mark(text)}"\n', "+++\n", body])


def is_as_made(text: str) -> bool:
    """Tell whether a prompt file is as it was made: nobody has edited it since."""
    mark = front_matter(text, path="")[0].get("made") if text.startswith("+++\n") else None
    return bool(mark) and _mark(text.replace(f'made = "{mark}"\n', "", 1)) == mark


def toml_value(value: Any) -> str:
    """Return a value as TOML: texts, numbers, truth values, lists and tables within a line."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {toml_value(v)}" for key, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    # JSON's texts are TOML's, but for one control character
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _mark(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
