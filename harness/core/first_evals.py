"""An eval to begin with: what was guessed, why, and the file that is written. Runs nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

TOLERANCE = 0.01
SIMILAR = (
    "Words in common say whether a reply is near the row's answer, not whether it is right: read "
    "the misses, then write down what must hold."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstCheck:
    """Evals to begin with. `kind` and `why` say what was guessed, `caution` what it cannot tell."""

    kind: str
    why: str
    body: str
    primary: str = "answer"
    caution: str = ""


def file_of(check: FirstCheck, *, task: str, origin: str) -> str:
    """Return the text of the eval file."""
    names = ["import json\n"] if re.search(r"\bjson\.(dumps|loads)\(", check.body) else []
    names += ["from pathlib import Path\n"] if "Path(" in check.body else []
    names += ["\n"] if names else []
    names += ["from harness import checks\n\n"] if "checks." in check.body else []
    head = (
        f'"""Evals of {task}: each function is a score, 1 when it returns and 0 when it misses.\n\n'
        f"The first ones were guessed: {check.why} ({origin}). Sharpen them as you read misses.\n"
        f'"""\n\n'
    )
    body = check.body.lstrip("\n")
    return head + "".join(names) + ("\n" if body.startswith("def ") else "") + body
