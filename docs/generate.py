"""Writes the reference pages from the program itself; a test holds them equal.

Run it as `python docs/generate.py`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
from msgspec.structs import FieldInfo, fields

from harness.checks.peers import PROMPTFOO
from harness.checks.registry import FAMILIES, named
from harness.core.judging import Judge
from harness.engine import case_rows, tables, taskfile
from harness.engine.data.linting import ALL_RULES
from harness.ports import hookspecs
from harness.records import Case
from harness.surface.cli import VERBS, group
from harness.surface.judge_prompts import prompt_lines, prompts_of

DOCS = Path(__file__).parent
NOTE = "<!-- Made by docs/generate.py; change the program, then run it again. -->\n"


def cli() -> str:
    """Return the page of the command line."""
    context = _context(group, "harness")
    parts = [NOTE, "# The command line\n", _block(group.get_help(context))]
    for verb in VERBS:
        command = importlib.import_module(f"harness.surface.cli.{verb}_verb").command
        parts += _command(command, _context(command, verb, parent=context))
    return "\n".join(parts) + "\n"


def _context(
    command: click.Command, name: str, *, parent: click.Context | None = None
) -> click.Context:
    # below its parent, as it is when it runs: -h is the group's
    settings = {**command.context_settings, "max_content_width": 100, "terminal_width": 100}
    return click.Context(command, info_name=name, parent=parent, **settings)


def _command(command: click.Command, context: click.Context) -> list[str]:
    parts = [f"## {context.command_path}\n", _block(command.get_help(context))]
    if isinstance(command, click.Group):
        for sub, inner in sorted(command.commands.items()):
            parts += _command(inner, _context(inner, sub, parent=context))
    return parts


def _block(text: str) -> str:
    return f"```text\n{text}\n```\n"


def task() -> str:
    """Return the page of task.toml."""
    parts = [NOTE, "# task.toml\n", "An unknown key is an error that names the known ones.\n"]
    shown: list[tuple[str, type[tables.Strict]]] = [
        ("", taskfile.TaskFile),
        ("[decoding]", taskfile.DecodingTable),
        ("[candidates.NAME]", taskfile.CandidateTable),
        ("[judges.NAME]", taskfile.JudgeTable),
        ("[tune]", taskfile.TuneTable),
        ("[[tune.stages]]", taskfile.StageTable),
        ("[budgets]", taskfile.BudgetTable),
        ("[release]", taskfile.ReleaseTable),
        ("[advise]", taskfile.AdviseTable),
    ]
    for heading, model in shown:
        parts.append(f"## {heading or 'Top level'}\n\n{inspect.getdoc(model)}\n")
        parts.append("| key | default | meaning |\n| --- | --- | --- |")
        said = _meanings(model)
        parts += [f"| `{f.name}` | {_default(f)} | {said[f.name]} |" for f in _keys(model)]
        parts.append("")
    parts.append("## A row of the case file\n")
    parts.append(
        "JSON Lines, UTF-8; a row is "
        + ", ".join(
            f"`{field.name}`{'' if field.required else ' (optional)'}"
            for field in _keys(case_rows.CaseRow)
        )
        + "."
    )
    parts.append(
        "\n`also_right` are further texts that are as right as `reference`: an eval reads them as "
        "`case.also_right`. What is learned and shown is the reference."
    )
    return "\n".join(parts) + "\n"


def _keys(model: type[tables.Strict]) -> list[FieldInfo]:
    known = tables.keys_of(model)
    return [field for field in fields(model) if field.name in known]


def _meanings(model: type) -> dict[str, str]:
    """Return the text below each key."""
    (table,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(table, ast.ClassDef)
    return {
        ast.unparse(key.target): " ".join(ast.literal_eval(text.value).split())
        for key, text in pairwise(table.body)
        if isinstance(key, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def _default(field: FieldInfo) -> str:
    if field.required:
        return "needed"
    value = tables.default_of(field)
    if value is None or isinstance(value, tables.Strict) or value in ({}, ()):
        return ""
    return f"`{value if not isinstance(value, tuple) else ', '.join(map(str, value))}`"


def plugins() -> str:
    """Return the page of the hooks."""
    parts = [NOTE, "# Plugins\n", inspect.getdoc(hookspecs) or "", ""]
    for name, function in vars(hookspecs).items():
        if name.startswith("harness_"):
            signature = ", ".join(inspect.signature(function).parameters)
            parts += [f"## {name}({signature})\n", inspect.getdoc(function) or "", ""]
    offered = {
        "backends": ("Backend", "BackendConfig"),
        "tuners": ("Tuner", "TuneJob"),
        "optimisers": ("Optimizer", "OptimiseJob", "ScoredReply", "OptimisedPrompt"),
    }
    for module, names in offered.items():
        home = importlib.import_module(f"harness.ports.{module}")
        for name in names:
            parts += [f"## {name}\n", inspect.getdoc(getattr(home, name)) or "", ""]
    return "\n".join(parts).rstrip() + "\n"


JUDGES = """# Judges

A judge is a model with a rubric. It scores what no assertion can: tone, clarity, faithfulness. It
is declared in `task.toml`, and gives a score of its own name in every eval run; its requests are
made once the replies are there, all at once, and are found in the store the next time.

```toml
[judges.polite]
backend = "openai:gpt-x"       # any backend; it costs apart from the candidates
rubric = "polite.md"           # a text, or a file of the task's folder
kind = "rubric"                # or "g-eval", or "pairwise" with against = "CANDIDATE"
```

An eval may ask a judge itself; then its own assertion decides, and where it has the judge's name it
takes the place of the judge's score:

```python
def test_polite(case, reply, judge):
    verdict = judge("polite")
    assert verdict.value >= 0.5, verdict.reason
```

What comes of it:

* `rubric`: 1 or 0. `g-eval`: the grade as a share of the scale; where the judge's backend honours
  `logprobs` and each grade is one digit, the mean of the grades weighted by the probabilities of
  their token (the reason says which). `pairwise`: both orders are asked; a side that wins in both
  scores 1 or 0, and all else is 0.5. A judge that flips on more than 30 % of the pairs with their
  order cannot tell the two sides apart, and the table says so; beside it stand wins, ties and
  losses of each candidate, the win rate, and the exact sign test on the pairs that were decided.
* With `pass_at`, a value at or above it is 1, and a lower one a miss.
* An answer that is no verdict is unscored, and counted; unscored, too, is a reply that the judge's
  backend refuses to read (a content filter, a text too long for it). A judge that does not answer
  is a fault of the harness, and makes its own score missing; it is no failure of the candidate. The
  command ends with exit code 4, as where a candidate's backend is down, and asks the judge again
  the next time.
* The model, its settings, the prompt and the rubric are part of a score's identity. After a change
  of any the recorded replies are judged anew, and no candidate is asked again.
* A case with the tag `internal` reaches no external backend, a judge's included.

## A judge that searches the web

What is true today (a price, a version, who won) a model does not know. A judge may search, where
its backend does: a tool of Anthropic's own servers, or what a server that speaks OpenAI's chat API
takes beside a request, as OpenRouter its plugin `web`.

```toml
[judges.current]
backend = "anthropic:claude-x"
rubric = "The price that the reply names is within 2 % of today's."

[backends."anthropic:claude-x"]
body = { tools = [{ type = "web_search_20250305", name = "web_search", max_uses = 3 }] }
honours = []                   # no schema: the verdict stands in the text after the search

[backends."openai:vendor/model"]         # with base_url = "https://openrouter.ai/api/v1"
body = { plugins = [{ id = "web" }] }
```

The verdict is that of the day on which it was asked, and is recorded: the same reply is not judged
again until the task's `epoch` is raised. What a search costs stands in no price table, so it is not
in the cost that is shown.

## A judge advises; a certified judge decides

Until people have labelled replies and their agreement with the judge is on record (a `certificate`
in the ledger), its score is shown and decides nothing: where `primary` or a guardrail is a judge's
score, `harness wall` says neither WALL nor SHIP_PROMPT and `harness gate` ends with exit code 3
before it opens the sealed cases, so that neither spends a look at them; `harness compare` raises no
alarm, and a `--floor` on it fails no run: each says what the judge would have it say. The
certificate is for one identity: a changed rubric or model needs another.

## What is sent

`harness data look TASK --judges` prints it for a task. Every piece of data stands between fences
with a mark that is made from the data and stands in none of them, so that no reply can end its
fence. No instruction protects a weak model wholly: the certificate, and not the prompt, says
whether a judge can be trusted. Where the backend honours `schema`, an answer of another shape
cannot be given; elsewhere it is read strictly, and two verdicts that differ are none.
"""


def judges() -> str:
    """Return the page of judges, with the messages that one of each kind is sent."""
    case = Case(id="c1", split="dev", inputs={"question": "Where is my order?"})
    kinds: list[Judge] = [
        Judge(name="polite", backend="openai:gpt-x", rubric="The reply is polite."),
        Judge(
            name="clear",
            backend="openai:gpt-x",
            rubric="The reply is clear.",
            kind="g-eval",
            steps=("Read the question.", "Look for words that a customer may not know."),
        ),
        Judge(
            name="kinder",
            backend="openai:gpt-x",
            rubric="The kinder reply.",
            kind="pairwise",
            against="reference",
        ),
    ]
    parts = [NOTE, JUDGES]
    for judge in kinds:
        first = next(prompts_of(judge, case))
        parts.append(f"### `{judge.kind}`\n")
        if judge.kind == "pairwise":
            parts.append("The second request has the two replies in the other order.\n")
        parts.append(_block("\n".join(prompt_lines(first)).rstrip()))
    return "\n".join(parts).rstrip() + "\n"


OF_PLUGINS = (
    ("harness_classifiers", "classifier", "local"),
    ("harness_embeddings", "similar", "embeddings"),
    ("harness_apps", "webhook", ""),
    ("harness_apps", "pi", ""),
)
"""The checks of plugins, each with the extra that it needs."""


def checks() -> str:
    """Return the page of the checks."""
    parts = [
        NOTE,
        "# Checks\n",
        inspect.getdoc(importlib.import_module("harness.checks")) or "",
        "",
    ]
    back: dict[str, list[str]] = {}
    for theirs, ours in PROMPTFOO.items():
        for name in re.findall(r"`checks\.(?:no\.)?(\w+)", ours):
            back.setdefault(name, []).append(f"`{theirs}`")
    for family, names in FAMILIES.items():
        about = inspect.getdoc(importlib.import_module(f"harness.checks.{family}")) or ""
        parts += [f"## {family.rstrip('_')}\n", about.split("\n\n")[0].replace("\n", " ") + "\n"]
        parts.append("| check | holds where, or scores | promptfoo |\n| --- | --- | --- |")
        for name in names:
            function = named(name)
            first = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
            cells = (_call(name, function), first, ", ".join(back.get(name, ())))
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append("")
    for plugin, name, extra in OF_PLUGINS:
        check = getattr(importlib.import_module(plugin), name)
        told = re.sub(r"\s+", " ", inspect.getdoc(check) or "")
        heading = f"## The plugin {plugin}\n"
        parts += [heading] if heading not in parts else []
        parts.append(f"{_call(name, check)}: {told}\n")
        if extra:
            parts.append(f"It needs `pip install 'tuning-harness[{extra}]'`.\n")
    parts.append("## Coming from promptfoo\n\n| its assertion | here |\n| --- | --- |")
    parts += [
        f"| `{theirs}` | {ours.replace('|', chr(92) + '|')} |" for theirs, ours in PROMPTFOO.items()
    ]
    parts.append("\n`not-NAME` is `checks.no.NAME`.")
    return "\n".join(parts) + "\n"


def _call(name: str, function: Any) -> str:
    plain = [p.replace(annotation=p.empty) for p in inspect.signature(function).parameters.values()]
    # a table of every secret's shape is no default to read
    plain = [p if len(str(p.default)) < 40 else p.replace(default=...) for p in plain]
    return f"`{name}{inspect.Signature(plain)}`".replace("=Ellipsis", "=...")


def lints() -> str:
    """Return the page of the lint rules."""
    parts = [NOTE, (DOCS / "lints.head.md").read_text(encoding="utf-8")]
    parts.append("| rule | severity | found | false alarms | what it finds | what to do |")
    parts.append("| --- | --- | --- | --- | --- | --- |")
    measured = json.loads((DOCS / "lints.measured.json").read_text(encoding="utf-8"))
    for rule in ALL_RULES:
        of = measured[rule.name]
        found = f"{of['found']} of {of['planted']} {of['unit']}s"
        alarms = f"{of['named']} of {of['clean']:,}"
        cells = (f"`{rule.name}`", rule.severity, found, alarms, rule.about, rule.fix)
        parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(parts) + "\n"


PAGES = {
    "checks.md": checks,
    "cli.md": cli,
    "judges.md": judges,
    "lints.md": lints,
    "task.md": task,
    "plugins.md": plugins,
}


def main() -> None:
    """Write every page, and the recipes that plugins ship."""
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
    importlib.import_module("recipe_files").write()  # beside this file, which is being run


if __name__ == "__main__":
    main()
