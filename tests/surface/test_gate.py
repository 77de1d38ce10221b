"""The release as a person meets it: goals, boundaries and looks, with two scripted models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.store.store import Store
from tests.surface.inprocess import Cli
from tests.surface.toy import Toy

# `big` is outside, dear and slow; `small` is on this machine. SMALL_FAILS says how many of every
# twenty sums `small` gets wrong.
MODELS = """
import os, re
import harness

class Sums:
    concurrency = 8
    def __init__(self, config):
        self.is_external = config.model == "big"
        self.identity = {"fails": os.environ.get("SMALL_FAILS", "0")}
    async def answer(self, request):
        with open(os.environ["SENT"], "a") as log:
            log.write(request.messages[-1].content + "\\n")
        a, b = map(int, re.findall(r"\\d+", request.messages[-1].content))
        is_wrong = not self.is_external and a % 20 < int(os.environ.get("SMALL_FAILS", "0"))
        cost, seconds = (0.01 + a / 1e5, 1.0) if self.is_external else (0.001, 0.1 + a / 1e5)
        return harness.Reply(
            text="what?" if is_wrong else str(a + b), input_tokens=9, output_tokens=1,
            latency_s=seconds, cost_usd=cost)

@harness.hookimpl
def harness_backends():
    return {"adder": Sums}
"""
GATE = ["gate", "toy", "--candidate", "plain@adder:small", "--baseline", "plain"]
Rows = list[dict[str, object]]


def sums(*, test: int = 120, tags: Callable[[int], list[str]] = lambda n: []) -> Rows:
    return [
        {
            "id": f"c{n}", "split": "test" if n < test else "dev", "cluster": f"k{n}",
            "inputs": {"a": n, "b": 1}, "reference": str(n + 1), "tags": tags(n),
        }
        for n in range(test + 4)
    ]  # fmt: skip


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    made = Cli(Toy(tmp_path), monkeypatch, capsys)
    (made.toy.root / "site/adder.py").write_text(MODELS)
    (made.toy.task / "eval_toy.py").write_text(
        "def test_right(case, reply):\n    assert reply.text == case.reference\n"
    )
    made.toy.write_cases(sums())
    goal(made, 'goal = "match"\nmargin = 0.1\nbetter_in = "cost"')
    return made


def goal(cli: Cli, lines: str) -> None:
    path = cli.toy.task / "task.toml"
    head = path.read_text().partition("\ngoal")[0].replace("adder:small", "adder:big")
    path.write_text(head + "\n" + lines + "\n")


def ledger(cli: Cli, kind: str) -> list[str]:
    with Store.open(cli.toy.root / ".harness/harness.db") as opened:
        return [entry.text for entry in opened.ledger(kind=kind)]


@pytest.mark.parametrize("better_in", ["cost", "latency", "boundary"])
def test_a_small_model_that_only_has_to_match_the_big_one_ships(cli: Cli, better_in: str) -> None:
    goal(cli, f'goal = "match"\nmargin = 0.1\nbetter_in = "{better_in}"')
    said = cli(*GATE)
    assert said.code == 0, said.out
    assert "\nSHIP\n" in said.out
    assert re.search(r"difference, points +\S+ \(\S+ to \S+\), each bound 95 % sure", said.out)
    assert " at this look's 4 %): loses at most" in said.out
    told = {
        "cost": "cost 0.09",
        "latency": " times the baseline's",
        "boundary": "stays on this machine; the baseline's adder:big leaves it",
    }
    assert told[better_in] in said.out
    assert "data boundary: no case is tagged internal" in said.out
    assert "not asked of this release (task.toml sets none): guardrails, must_hold" in said.out


def test_a_small_model_that_does_not_match_is_blocked_however_cheap(cli: Cli) -> None:
    said = cli(*GATE, SMALL_FAILS="6")
    assert said.code == 1
    assert "all lost" in said.out or "right lost" in said.out
    assert re.search(r"✓ cost 0\.09\d? times", said.out)


def test_what_would_settle_an_open_release_is_told_in_cases(cli: Cli) -> None:
    cli.toy.write_cases(sums(test=40))
    goal(cli, "min_gain = 0.02\n[budgets]\np95_latency_s = 5.0")
    said = cli(*GATE, "--json")
    assert said.code == 3
    verdict = said.json["verdict"]
    budget = next(c for c in verdict["checks"] if c["name"] == "latency (p95)")
    assert "40 cases are too few for an upper bound (limit 5 s); 63 are needed" in budget["text"]
    assert verdict["need_cases"] >= 63


def test_a_release_that_no_look_could_decide_asks_and_spends_nothing(cli: Cli) -> None:
    rows = sums(test=40)
    for row in rows:  # forty cases of nine sources
        row["cluster"] = f"k{int(str(row['id'])[1:]) % 9}" if row["split"] == "test" else row["id"]
    cli.toy.write_cases(rows)
    goal(cli, "min_gain = 0.02")
    said = cli(*GATE, "--json")
    assert (said.code, said.json["exit_code"], cli.toy.sent) == (3, 3, [])
    told = said.json["error"]
    assert "test has 40 cases in 9 clusters, and below 10 nothing can be said" in told
    assert "no look is spent. Add cases to test from at least 1 more source; to show" in told
    assert "a gain of 10 points takes about 190 independent ones" in told
    assert ledger(cli, "look") == ledger(cli, "release") == []
    rows[0]["cluster"] = "one more"
    cli.toy.write_cases(rows)
    assert cli(*GATE, "--json").json["verdict"]["look"] == 1


def test_a_watch_slice_can_only_block(cli: Cli) -> None:
    """Nobody set it: every tag with 20 cases is watched."""
    cli.toy.write_cases(sums(tags=lambda n: ["low"] if n % 20 < 5 else ["high"]))
    goal(cli, 'goal = "match"\nmargin = 0.3\nbetter_in = "cost"')
    calm = cli(*GATE)
    assert calm.code == 0, calm.out
    assert "slice low" in calm.out
    assert "watched only: a loss above" in calm.out
    ruined = cli(*GATE, SMALL_FAILS="5")
    assert ruined.code == 1
    assert "slice low lost 100 points" in ruined.out


def test_made_cases_are_told_where_they_are_most_of_those_that_decide(cli: Cli) -> None:
    def told(share: int) -> list[str]:
        cli.toy.write_cases(sums(tags=lambda n: ["synthetic"] if n % 10 < share else []))
        notes: list[str] = cli(*GATE, "--json").json["verdict"].get("notes", [])
        return [note for note in notes if "synthetic" in note]

    assert told(5) == []
    [note] = told(6)
    assert note.startswith("72 of the 120 test cases are made (tag `synthetic`)")


# ---------------------------------------------------------------- the boundary


def with_internal(cli: Cli) -> None:
    cli.toy.write_cases(sums(tags=lambda n: ["internal"] if n == 7 else []))


def test_an_internal_case_stops_the_gate_before_the_first_byte(cli: Cli) -> None:
    with_internal(cli)
    said = cli(*GATE)
    assert said.code == 2
    assert "case 'c7' is tagged internal, and adder:big is an external backend" in said.err
    assert cli.toy.sent == []


def test_an_override_is_recorded_and_shown_with_every_later_release(cli: Cli) -> None:
    with_internal(cli)
    why = "the customer agreed in writing"
    said = cli(*GATE, "--override-boundary", why)
    assert said.code == 0, said.out + said.err
    line = f"1 internal case sent to adder:big, outside, for plain: {why}"
    assert f"override on record: {line}" in said.out
    assert ledger(cli, "override") == [line]
    again = cli(*GATE)  # every reply is recorded: nothing leaves, and it is still told
    assert f"override on record: {line}" in again.out
    assert ledger(cli, "override") == [line]
    assert cli("report", "toy", "--json").code == 0
    page = next((cli.toy.root / ".harness/reports").rglob("*.html")).read_text()
    assert why in page
    told = cli("advise", "toy")
    assert line in told.out


def test_a_candidate_outside_is_blocked_where_nobody_allowed_it(cli: Cli) -> None:
    """The tag came after the replies: what is recorded was never allowed to leave."""
    goal(cli, 'goal = "match"\nmargin = 0.1\nbetter_in = "latency"')
    outside = ["gate", "toy", "--candidate", "plain", "--baseline", "plain@adder:small"]
    cli(*outside)
    with_internal(cli)
    said = cli(*outside)
    assert said.code == 1
    assert "adder:big is outside with no override on record" in said.out


def test_an_override_needs_a_reason(cli: Cli) -> None:
    with_internal(cli)
    said = cli(*GATE, "--override-boundary", "  ")
    assert said.code == 2
    assert "needs a reason" in said.err
    assert cli.toy.sent == []


# ---------------------------------------------------------------- looks


def test_who_gates_after_every_try_is_judged_more_strictly_each_time(cli: Cli) -> None:
    goal(cli, "min_gain = 0.02")
    cli.toy.write_cases(sums(test=20))
    looks = []
    for k in range(4):
        (cli.toy.task / f"prompts/try{k}.md").write_text(
            f"+++\nfamily = 'instructions'\n+++\n@system\nTry {k}.\n"
            "@user\n{{ a }} + {{ b }}\n"
        )
        gate = ["gate", "toy", "--candidate", f"try{k}", "--baseline", "plain", "--json"]
        verdict = cli(*gate).json["verdict"]
        looks.append((verdict["look"], round(verdict["alpha"], 5), verdict["answer"]))
    assert [(n, a) for n, a, _ in looks] == [(1, 0.04), (2, 0.005), (3, 0.00167), (4, 0.00083)]
    assert {answer for _, _, answer in looks} == {"INSUFFICIENT_EVIDENCE"}
    again = cli(*gate).json["verdict"]
    assert again["look"] == 4
    assert len(ledger(cli, "look")) == 4


# ---------------------------------------------------------------- advise


def test_advise_cites_facts_and_writes_the_page(cli: Cli) -> None:
    path = cli.toy.task / "task.toml"
    path.write_text(
        path.read_text() + '[advise]\nvolume_per_month = 1000\nteacher = "openai:gpt-x"\n'
        'people = "replay:people.jsonl"\nhouse = "ours alone"\n'
    )
    early = cli("advise", "toy")
    assert early.code == 2
    assert "advise.people: no complete, current run of 'replay:people.jsonl'" in early.err
    replies = [{"id": r["id"], "reply": "0"} for r in sums()]
    (cli.toy.task / "people.jsonl").write_text("".join(json.dumps(r) + "\n" for r in replies))
    cli("eval", "toy", "--candidate", "plain", "--candidate", "replay:people.jsonl")
    said = cli("advise", "toy", "--memo", "memo.md")
    assert said.code in {1, 3}
    assert "people (replay:people.jsonl): 0 %" in said.out
    assert "ours alone  [[advise] house]" in said.out
    assert "outputs of openai:gpt-x as training data: with limits" in said.out
    assert "Not legal advice" in said.out
    memo = Path("memo.md").read_text()
    assert memo.startswith("# Should we fine-tune toy?\n")
    assert "## Not measured, not stated" in memo


def test_a_table_of_ones_own_wins_and_a_broken_one_is_told(cli: Cli) -> None:
    own = cli.toy.root / "tunable.toml"
    own.write_text(
        '[tuning.ours]\nschemes = ["adder"]\ncan = "our own cluster"\nsource = "intranet"\n'
    )
    assert "adder:big: our own cluster (unchecked; intranet)" in cli("advise", "toy").out
    own.write_text('[tuning.ours]\nschemes = ["adder"]\n')
    said = cli("advise", "toy")
    assert said.code == 2
    assert "tunable.toml:1: tuning.ours." in said.err


def test_a_fact_of_the_wrong_kind_is_told_with_its_line(cli: Cli) -> None:
    path = cli.toy.task / "task.toml"
    path.write_text(path.read_text() + '[advise]\nvolume_per_month = "many"\n')
    said = cli("advise", "toy")
    assert said.code == 2
    assert "advise.volume_per_month" in said.err
