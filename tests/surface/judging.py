"""A judge in the toy project: a backend that is strict about what stands between the fences."""

from __future__ import annotations

import json
from pathlib import Path

from harness.records import LedgerEntry
from harness.store.store import Store
from tests.surface.inprocess import Cli
from tests.surface.toy import TASK, Toy

JUDGE = '''
import asyncio, json, os, re
import harness

def fenced_15(user):
    return "reply\\n15\\n" in user

class Arbiter:
    """Passes a reply that is a number. Its mode says how it should misbehave."""
    concurrency = 8
    def __init__(self, config):
        self.honours = frozenset({"schema"} if "strict" in config.model else ())
        self.is_external = "hosted" in config.model
        self.identity = {"version": "1"}
    async def answer(self, request):
        system, user = (m.content for m in request.messages)
        with open(os.environ["SENT"] + ".judge", "a") as log:
            log.write(json.dumps(user) + "\\n")
        mode = os.environ.get("JUDGE", "")
        if mode == "hangs" and fenced_15(user):
            await asyncio.sleep(60)
        if mode == "down":
            raise harness.BackendError("no judge at home")
        if mode == "filters" and fenced_15(user):
            raise harness.BackendError("HTTP 400: content filter", is_systemic=True)
        if mode == "mumbles":
            return harness.Reply(text="I would say it passes.", input_tokens=50, output_tokens=6)
        def fenced(name):
            found = re.search(r"<<<(\\w{16}) " + name + r"\\n(.*?)\\n\\1>>>", user, re.DOTALL)
            return found[2] if found else None
        if "reply A" in user:
            a, b = fenced("reply A"), fenced("reply B")
            better = "A" if mode == "first" or len(a) < len(b) else "B"
            said = {"reason": "It is shorter.", "better": better}
        elif "whole number" in system:
            said = {"reason": "So so.", "grade": 5 if fenced("reply").isdigit() else 2}
        else:
            passed = fenced("reply").isdigit()
            said = {"reason": "A number." if passed else "No number.",
                    "verdict": "pass" if passed else "fail"}
        return harness.Reply(
            text=json.dumps(said), input_tokens=50, output_tokens=10, cost_usd=0.001
        )

@harness.hookimpl
def harness_backends():
    return {"arbiter": Arbiter}
'''


POLITE = """
[judges.polite]
backend = "arbiter:strict"
rubric = "The reply is a number."
"""
RIGHT = "def test_right(case, reply):\n    assert reply.text == case.reference\n"
ASKING = RIGHT + "\ndef test_polite(reply, judge):\n    assert judge('polite').value >= 0.5\n"
SECRETLY = ASKING.replace("'polite'", "WHO") + "\nWHO = 'polite'\n"
"""Its source tells of no judge before it is asked."""


def with_judge(toy: Toy, table: str, *, primary: str = "right", evals: str | None = None) -> Toy:
    """Give the project the backend `arbiter:` and judges."""
    site = toy.root / "site"
    info = site / "arbiter-1.0.dist-info"
    if not info.exists():
        info.mkdir()
        (site / "arbiter.py").write_text(JUDGE)
        (info / "entry_points.txt").write_text("[harness]\narbiter = arbiter\n")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: arbiter\nVersion: 1.0\n")
    settings = TASK.replace('primary = "right"', f'primary = "{primary}"')
    (toy.task / "task.toml").write_text(settings + table)
    if evals is not None:
        (toy.task / "eval_toy.py").write_text(evals)
    return toy


def judged(toy: Toy) -> list[str]:
    """What reached the judge, in order."""
    log = Path(f"{toy.sent_log}.judge")
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def identities(cli: Cli, name: str) -> set[str | None]:
    with Store.open(cli.toy.root / ".harness/harness.db") as store:
        rows = store.runs(task="toy")
        run = store.run(max(rows, key=lambda r: r.at).id)
    return {s.judge for t in run.trials for s in t.scores if s.name == name}


def certify(cli: Cli, judge: str | None, *, holds: bool = True) -> None:
    entry = LedgerEntry(
        kind="certificate",
        task="toy",
        at="2026-01-01T00:00:00+00:00",
        payload={"judge": judge, "holds": holds},
    )
    with Store.open(cli.toy.root / ".harness/harness.db") as store:
        store.record(entry)


def looks(cli: Cli) -> int:
    """How many looks at sealed cases are on record."""
    with Store.open(cli.toy.root / ".harness/harness.db") as store:
        return len(store.ledger(kind="look"))
