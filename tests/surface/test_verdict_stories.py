"""Whole stories, through the command line with a scripted model: what people do, what they read."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.store.store import Store
from tests.surface.inprocess import Cli, Said

# Answers as right as the prompt's first number says, of a hundred, by lot of case and prompt; what
# was learnt is always right. Each prompt's replies are its own, so that no two tries are one.
MODEL = """
import hashlib, json, os
import harness

def lot(*parts):
    return int(hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest(), 16) % 100

def codes(messages):
    return [i for m in messages for i in [1, *map(ord, m.content)]] + [1]

class Dial:
    concurrency = 8
    def __init__(self, config):
        self.identity = {"template": "t"}
        self.learnt = 0
        if config.artifact is not None:
            self.learnt = json.loads((config.artifact / "learnt.json").read_text())["rows"]
    async def answer(self, request):
        with open(os.environ["SENT"], "a") as log:
            log.write(request.messages[-1].content + "\\n")
        level, name = request.messages[0].content.split()[:2]
        a, b = [int(x) for x in request.messages[-1].content.split() if x.isdigit()]
        right = lot(a, b, name) < int(level) or lot(a, b) < self.learnt * 2
        return harness.Reply(text=str(a + b) if right else f"{name} {a}", latency_s=0.01)
    def token_ids(self, request):
        return codes(request.messages)
    def stop_ids(self):
        return frozenset({0})
    def decode(self, ids):
        return "".join(map(chr, ids))

class Learns:
    def prepare(self, job):
        found = []
        for row in job.rows:
            prompt, reply = codes(row.messages), [*map(ord, row.completion), 0]
            found.append(harness.PreparedRow(
                case_id=row.case_id, input_ids=(*prompt, *reply),
                labels=(*[-100] * len(prompt), *reply)))
        return found
    def train(self, job, rows, *, report):
        with open(os.environ["SENT"] + ".trained", "a") as log:
            log.write(" ".join(r.case_id for r in job.rows) + "\\n")
        report(harness.TrainProgress(step=1, steps=2, loss=0.1, tokens=9, seconds=0.1))
        report(harness.TrainProgress(step=2, steps=2, loss=0.1, tokens=9, seconds=0.2))
        (job.out_dir / "learnt.json").write_text(json.dumps({"rows": len(job.rows)}))
        return harness.TrainResult(
            base_digest="b", template_digest="t", metrics={"loss": 0.1}, environment={})

@harness.hookimpl
def harness_backends():
    return {"adder": Dial}

@harness.hookimpl
def harness_tuners():
    return {"learns": Learns}
"""
EVALS = "def test_right(case, reply):\n    assert reply.text == case.reference\n"
SETTINGS = """
about = "Add two numbers."
model = "adder:small"
cases = "cases.jsonl"
primary = "right"
target = {target}
target_reason = "A sum is right or wrong."
profile = "quick"
[tune]
tuner = "learns"
prompt = "p0"
[waivers]
optimised = "No optimiser for a sum."
"""
FAMILIES = ["instructions", "few-shot", "chain-of-thought", "zero-shot", "constrained"]


def settings(cli: Cli, *, target: float = 0.8, more: str = "") -> None:
    (cli.toy.task / "task.toml").write_text(SETTINGS.format(target=target) + more)


def write_prompts(cli: Cli, *levels: int) -> None:
    for path in (cli.toy.task / "prompts").iterdir():
        path.unlink()
    for k, level in enumerate(levels):
        family = FAMILIES[k % len(FAMILIES)]
        shots, examples = ("shots = 1\n", "@examples\n") if family == "few-shot" else ("", "")
        (cli.toy.task / f"prompts/p{k}.md").write_text(
            f"+++\nfamily = '{family}'\n{shots}+++\n@system\n{level} p{k} Add.\n{examples}"
            "@user\n{{ a }} + {{ b }}\n"
        )


def write_cases(cli: Cli, *, dev: int = 40, train: int = 8, test: int = 40) -> None:
    splits = ["dev"] * dev + ["train"] * train + ["test"] * test
    cli.toy.write_cases(
        [
            {
                "id": f"c{n}", "split": split, "cluster": f"k{n}", "reference": str(3 * n),
                "inputs": {"a": n, "b": 2 * n},
            }
            for n, split in enumerate(splits)
        ]
    )  # fmt: skip


def edit(cli: Cli, case: str, **changes: Any) -> None:
    rows = [json.loads(x) for x in (cli.toy.task / "cases.jsonl").read_text().splitlines()]
    cli.toy.write_cases([r | changes if r["id"] == case else r for r in rows])


def ledger(cli: Cli, kind: str) -> list[Any]:
    with Store.open(cli.toy.root / ".harness/harness.db", read_only=True) as opened:
        return opened.ledger(task="toy", kind=kind)


@pytest.fixture
def dial(cli: Cli) -> Cli:
    """A task whose prompts score what is written in them."""
    (cli.toy.root / "site/adder.py").write_text(MODEL)
    (cli.toy.task / "eval_toy.py").write_text(EVALS)
    settings(cli)
    write_cases(cli)
    return cli


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is typed, line by line."""

    def type_in(*lines: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    return type_in


# ---------------------------------------------------------------- forecast first


def test_forty_cases_ten_points_short_are_told_to_be_too_few_before_anything_is_asked(
    dial: Cli,
) -> None:
    write_prompts(dial, 70)
    said = dial("wall", "toy", "--plan")
    assert said.code == 3
    assert said.out.startswith("INSUFFICIENT_EVIDENCE  (nothing was asked; quick profile")
    assert "not at 10 points. A gap of 10 points needs about 190 more" in said.out
    assert "5 points: 750, 10 points: 190, 15 points: 70" in said.out
    assert "SHIP_PROMPT is possible: a look at 40 sealed clusters" in said.out
    assert "useful meanwhile:\n  - read the misses" in said.out
    plain = dial("wall", "toy", "--plan", "--json").json
    assert (plain["answer"], plain["more_at_gap"], plain["can_wall"]) == (
        "INSUFFICIENT_EVIDENCE", 190, True,
    )  # fmt: skip
    assert dial.toy.sent == []
    assert dial("wall", "toy", "--plan", "--gap", ".3").code == 0
    assert "harness wall toy --plan" in dial("wall", "toy").err


def test_eval_and_ladder_begin_with_it_for_people_and_for_dev_alone(dial: Cli) -> None:
    write_prompts(dial, 70)
    first = "forecast: 40 cases in 40 clusters can show a wall where prompts stay"
    for verb in (["eval", "toy"], ["ladder", "toy", "--only-files", "--show"]):
        assert dial(*verb).out.startswith(first)
    assert "forecast" not in dial("eval", "toy", "--split", "test").out
    assert "runs" in dial("eval", "toy", "--json").json


def test_it_is_told_of_a_whole_run_that_nothing_stands_in_the_way_of(
    dial: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts(dial, 70, 71)
    (dial.toy.task / "eval_toy.py").write_text(EVALS + EVALS.replace("_right", "_again"))
    one = ["eval", "toy", "--candidate", "p0"]
    partial = [
        ["--sample", "3"], ["--only", "missed"], ["--only", "faults"], ["--repeats", "2"],
        ["--", "-k", "right"], ["--", "-n", "2", "-p", "no:cacheprovider"],
    ]  # fmt: skip
    refused = [
        ["eval", "toy", "--candidate", "p0@nobody:m"],
        ["eval", "toy", "--candidate", "p0@openai:gpt-x"],  # its key is not set
        ["eval", "toy", "--candidate", "p0", "--floor", "nothing=1"],
    ]
    assert dial(*one, "--offline").out.count("forecast") == 0
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for command in refused:
        said = dial(*command)
        assert (said.code, "error: " in said.err) == (2, True)
        assert "forecast" not in said.out
    for wrong in (["--candidate", "p9"], ["--candidate", "p0@nobody:m"]):
        said = dial("ladder", "toy", *wrong)
        assert (said.code, said.out) == (2, "")
    assert dial.toy.sent == []
    assert dial(*one).out.count("forecast: ") == 1
    for more in partial:
        assert "forecast" not in dial(*one, *more).out, more
    edit(dial, "c7", tags=["internal"])
    (dial.toy.root / "site/adder.py").write_text(
        MODEL.replace("concurrency = 8", "concurrency = 8\n    is_external = True", 1)
    )
    one[-1] = "p1"  # of which no reply is recorded
    held = dial(*one)
    assert "case 'c7' is tagged internal" in held.err
    assert "forecast" not in held.out
    assert dial(*one, "--override-boundary", "It may, once.").out.count("forecast: ") == 1


def test_once_there_is_a_verdict_the_forecast_asks_for_as_many_cases_as_it_does(dial: Cli) -> None:
    write_prompts(dial, 70, 72, 71, 70, 73, 70, 72)
    dial("ladder", "toy", "--only-files")
    verdict = dial("wall", "toy", "--json").json["verdict"]
    assert verdict["answer"] == "INSUFFICIENT_EVIDENCE"
    need = verdict["need_cases"]
    assert f"Add about {need - 40} cases to dev" in verdict["next_step"]
    own = f"about {need - 40} more would settle it (about {need} in all): so the last wall verdict"
    for verb in (["eval", "toy"], ["ladder", "toy", "--show"], ["wall", "toy", "--plan"]):
        said = " ".join(dial(*verb).out.split())
        assert own in said
        assert "A gap of 10 points needs" not in said
    assert dial("wall", "toy", "--plan", "--json").json["measured_need"] == need
    # another gap was asked for; and of other cases the verdict says nothing
    assert "A gap of 10 points needs" in dial("wall", "toy", "--plan", "--gap", ".1").out
    write_cases(dial, dev=41)
    assert "A gap of 10 points needs" in dial("wall", "toy", "--plan").out


def test_that_no_number_of_tries_can_decide_is_said(dial: Cli) -> None:
    write_cases(dial, dev=12, test=6)
    write_prompts(dial, 70)
    said = dial("wall", "toy", "--plan")
    assert said.code == 3
    assert "No number of tries can give a verdict on 12 cases in 12 clusters" in said.out
    assert "SHIP_PROMPT is not possible: test has 6 clusters, 15 are needed" in said.out
    begun = dial("eval", "toy").out
    assert begun.startswith(
        "forecast: no verdict can come of 12 cases in 12 clusters yet: that takes about 240, "
        "from at least 30\n"
        "  sources. Scores are measured all the same. More: harness wall toy --plan\n"
    )
    for cases in (5, 40, 60, 200):  # each in two lines
        write_cases(dial, dev=cases, test=20)
        lines = dial("eval", "toy", "--candidate", "p0").out.splitlines()
        assert lines[0].startswith("forecast: ")
        assert max(map(len, lines[:2])) <= 100
        assert not lines[2].startswith("  ")


# ---------------------------------------------------------------- a prompt that is good enough


def test_a_prompt_that_meets_the_target_ships_after_a_look_at_sealed_cases(dial: Cli) -> None:
    settings(dial, target=0.75)
    write_prompts(dial, 60, 98)
    dial("ladder", "toy", "--only-files")
    said = dial("wall", "toy")
    assert said.code == 1
    assert "SHIP_PROMPT  (quick profile, target 75 %)" in said.out
    assert "next: Spend one sealed look to confirm p1: harness wall toy --confirm." in said.out
    said = dial("wall", "toy", "--confirm")
    assert said.code == 1
    assert "on 40 cases that it was never tuned on" in said.out
    assert "Fine-tuning is not needed." in said.out
    assert "note: Confirmation: 1 look spent 4 % of 5 %" in said.out
    assert re.search(r"^what a wall would need:\n  [✓✗–] ", said.out, flags=re.MULTILINE)
    assert "– labels: labels neither audited nor waived" in said.out
    refused = dial("tune", "toy")
    assert refused.code == 1
    assert "the last verdict is SHIP_PROMPT" in refused.err


def test_a_look_that_could_confirm_no_prompt_is_not_spent(dial: Cli) -> None:
    """At a target of 75 % eleven sealed clusters say nothing of a perfect prompt; twelve do."""
    settings(dial, target=0.75)
    write_cases(dial, dev=40, test=11)
    write_prompts(dial, 98)
    dial("ladder", "toy", "--only-files")
    asked = len(dial.toy.sent)
    said = dial("wall", "toy", "--confirm")
    assert said.code == 1
    assert "no look at the sealed cases is spent: test has 11 clusters, 12 are needed" in said.out
    assert "next: Add sealed cases from other sources: no look can confirm p0 yet" in said.out
    assert len(dial.toy.sent) == asked
    write_cases(dial, dev=40, test=12)
    assert (
        "confirming p0 on sealed cases: look 1, at 4.00 %" in dial("wall", "toy", "--confirm").out
    )


def test_the_next_step_is_the_cheapest_thing_that_was_not_tried(dial: Cli) -> None:
    write_prompts(dial, 30, 35, 30)
    (dial.toy.task / "prompts/p0.md").unlink()
    settings(dial, more='rag = "Sums are in no document."\n')
    text = (dial.toy.task / "task.toml").read_text()
    (dial.toy.task / "task.toml").write_text(text.replace('prompt = "p0"', 'prompt = "p1"'))
    dial("ladder", "toy", "--only-files")
    said = dial("wall", "toy")
    assert said.code == 1
    assert "next: Write a prompt of instructions (rules, format and edge cases" in said.out
    assert "optimised waived: No optimiser for a sum." in said.out


def test_a_ladder_whose_prompts_change_no_reply_says_what_would_help(dial: Cli) -> None:
    write_prompts(dial, 50, 50, 50, 50)
    alike = MODEL.replace("lot(a, b, name)", "lot(a, b)").replace('f"{name} {a}"', '"?"')
    (dial.toy.root / "site/adder.py").write_text(alike)
    dial("ladder", "toy", "--only-files")
    said = dial("ladder", "toy", "--show")
    told = said.out.partition("needed for a wall verdict\n")[2].splitlines()
    assert told[0].startswith("tried, with the very replies of another try: few-shot or dynamic")
    assert "see that adder:small is sent what the prompts say" in told[1]
    assert "write a prompt of that family" not in said.out
    assert "have it made" not in dial("wall", "toy").out


@pytest.mark.parametrize("honours", [False, True])
def test_a_schema_is_suggested_only_where_the_backend_honours_one(dial: Cli, honours: bool) -> None:
    write_prompts(dial, 30, 35, 30, 33)
    if honours:
        model = MODEL.replace("concurrency = 8", "concurrency = 8\n    honours = {'schema'}")
        (dial.toy.root / "site/adder.py").write_text(model)
    dial("ladder", "toy", "--only-files")
    said = dial("wall", "toy")
    assert said.code == 1
    step = said.out.partition("next: ")[2].partition("\n")[0]
    assert step.startswith("Write a prompt of dynamic-few-shot")
    assert ("constrained" in step) is honours


# ---------------------------------------------------------------- grader and labels


def test_a_broken_grader_is_named_with_the_cases_whose_reference_fails(dial: Cli) -> None:
    write_prompts(dial, 30, 40)
    (dial.toy.task / "eval_toy.py").write_text(
        "def test_right(case, reply):\n    assert reply.text == str(3 * (case.inputs['a'] % 30))\n"
    )
    dial("ladder", "toy", "--only-files")
    said = dial("wall", "toy")
    assert said.code == 1
    assert "FIX_DATA" in said.out
    assert "The reference answers themselves score only 75 %" in said.out
    assert "next: Look at the cases that the reference misses: c30, c31, c32" in said.out


def stuck(cli: Cli) -> None:
    """Seven prompts of five families, far below the target."""
    write_prompts(cli, 30, 35, 30, 33, 36, 31, 34)
    assert cli("ladder", "toy", "--only-files").code == 0


def answers(cli: Cli, keys: Any, *, wrong: str = "", limit: int = 999) -> list[str]:
    """Type r, or w for the cases whose reference is in `wrong`, as they are shown."""
    seen: list[str] = []

    class Reader(io.StringIO):
        def readline(self, *_: Any) -> str:
            shown = cli._capsys.readouterr().out
            seen.append(shown)
            if len(seen) > limit:
                return "q\n"
            reference = re.findall(r"^→ (.*)$", shown, re.MULTILINE)[-1]
            return "w the sum is off\n" if reference in wrong.split() else "r\n"

    keys()
    cli._monkeypatch.setattr("sys.stdin", Reader())
    return seen


def test_an_audit_can_be_left_and_taken_up_again_and_shows_no_outcome(dial: Cli, keys: Any) -> None:
    stuck(dial)
    said = dial("wall", "toy")
    assert said.code == 3
    assert "The scores look like a wall, but the labels were neither audited" in said.out
    assert "(harness wall toy --audit)" in said.out
    sent = len(dial.toy.sent)
    shown = answers(dial, keys, limit=10)
    said = dial("wall", "toy", "--audit")
    assert said.code == 3
    assert "stopped; what was said is kept\nlabels of 10 cases read" in said.out
    first = "".join(shown)
    assert "--- 1 of " in first
    assert "a: " in first
    assert "p0" not in first
    assert not re.search(r"miss|fail|pass|score", first)
    half = dial("wall", "toy")
    assert half.code == 3
    assert "(harness wall toy --audit)" in half.out
    answers(dial, keys)
    done = dial("wall", "toy", "--audit")
    assert done.code == 0
    assert "right in 100 % (89.9 % to 100 %)" in done.out
    wall = dial("wall", "toy")
    assert wall.code == 0, wall.out
    assert "\nWALL  (quick profile, target 80 %)" in wall.out
    assert "✓ labels: labels of" in wall.out
    assert len(dial.toy.sent) == sent  # nobody was asked anything


def test_one_wrong_label_is_to_be_corrected_though_the_target_stays_in_reach(
    dial: Cli, keys: Any
) -> None:
    edit(dial, "c3", reference="9003")
    stuck(dial)
    answers(dial, keys, wrong="9003")
    said = dial("wall", "toy", "--audit")
    assert said.code == 0
    assert "next: correct the 1 wrong label (the target stays in reach)" in said.out
    wall = dial("wall", "toy")
    assert re.search("✓ labels: .*wrong: c3; correct the 1 wrong label", wall.out)
    assert "next: Correct the 1 wrong label that the audit found (c3); recorded" in wall.out


def test_bad_labels_are_named_and_a_corrected_one_keeps_the_tries_and_is_read_again(
    dial: Cli, keys: Any
) -> None:
    for n in range(0, 40, 3):
        edit(dial, f"c{n}", reference=str(9000 + n))
    stuck(dial)
    answers(dial, keys, wrong=" ".join(str(9000 + n) for n in range(0, 40, 3)))
    said = dial("wall", "toy", "--audit")
    assert said.code == 1
    assert "next: correct the labels" in said.out
    wall = dial("wall", "toy")
    assert wall.code == 1
    assert "FIX_DATA" in wall.out
    assert re.search(r"too many wrong labels \(c0, c3, c6, .* more\): at most", wall.out)
    assert "✗ labels: " in wall.out
    sent = len(dial.toy.sent)
    for n in range(0, 40, 3):
        edit(dial, f"c{n}", reference=str(3 * n))
    again = dial("wall", "toy", "--json").json["verdict"]
    assert len(dial.toy.sent) == sent
    assert sum(t.get("is_counted", True) for t in again["tries"]) == 7
    assert again["answer"] != "FIX_DATA"
    asked = answers(dial, keys)
    assert dial("wall", "toy", "--audit").code == 0
    assert "--- 1 of " in asked[0]
    assert len(asked) == len(
        {e.payload["case"] for e in ledger(dial, "audit") if "note" in e.payload}
    )


# ---------------------------------------------------------------- the sheet


def sheet(cli: Cli, name: str = "labels.csv") -> tuple[Path, list[dict[str, str]]]:
    path = cli.toy.root / name
    assert cli("wall", "toy", "--audit-csv", str(path)).code == 3
    return path, list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))


def write_back(path: Path, rows: list[dict[str, str]], *, delimiter: str = ",") -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(b"\xef\xbb\xbf" + text.getvalue().encode())


def test_a_sheet_from_excel_is_read_and_reading_it_twice_changes_nothing(dial: Cli) -> None:
    write_prompts(dial, 30)
    edit(dial, "c1", inputs={"a": '=1+1; "x"\nnew line', "b": 2})
    path, rows = sheet(dial)
    assert len(rows) == 30
    again = dial("wall", "toy", "--audit-csv", str(path))
    assert again.code == 2
    assert "exists already" in again.err
    write_back(path, [r | {"label": "Right", "note": "ok; fine"} for r in rows], delimiter=";")
    said = dial("wall", "toy", "--audit-import", str(path))
    assert said.code == 0, said.err
    assert "30 labels read, 30 of them new" in said.out
    assert "30 labels read, 0 of them new" in dial("wall", "toy", "--audit-import", str(path)).out
    assert len(ledger(dial, "audit")) == 30
    assert ledger(dial, "audit")[0].payload["note"] == "ok; fine"


def test_a_sheet_that_is_wrong_is_refused_whole_with_every_line(dial: Cli) -> None:
    write_prompts(dial, 30)
    path, rows = sheet(dial)
    rows = [r | {"label": "right"} for r in rows]
    edit(dial, rows[0]["case"], reference="7")
    rows[1]["case"] = "c999"
    rows[2]["label"] = "maybe"
    rows[3] |= {"case": rows[4]["case"], "version": rows[4]["version"], "label": "wrong"}
    write_back(path, rows)
    before = path.read_bytes()
    said = dial("wall", "toy", "--audit-import", str(path))
    assert said.code == 2
    for line, what in [
        (2, f"{rows[0]['case']} is not what it was when the sheet was written"),
        (3, "no dev case 'c999'"),
        (4, f"label 'maybe' of {rows[2]['case']}: write right, wrong, unsure"),
        (6, f"a second label of {rows[4]['case']}"),
    ]:
        assert f"line {line}: {what}" in said.err
    assert "nothing was recorded" in said.err
    assert path.read_bytes() == before
    assert ledger(dial, "audit") == []
    path.write_bytes("case,label\r\nc1,richtig für immer".encode("latin-1"))
    assert "not UTF-8" in dial("wall", "toy", "--audit-import", str(path)).err
    path.write_text("id,label\nc1,right\n")
    assert "no column case, version" in dial("wall", "toy", "--audit-import", str(path)).err


# ---------------------------------------------------------------- pre-registration


def test_a_target_that_is_lowered_after_scores_were_seen_is_printed_ever_after(dial: Cli) -> None:
    settings(dial, target=0.9)
    write_prompts(dial, 60, 70)
    dial("ladder", "toy", "--only-files")
    dial("wall", "toy")
    assert len(ledger(dial, "policy")) == 1
    settings(dial, target=0.5)
    wall = dial("wall", "toy")
    changed = r"note: target changed from 90 % to 50 % after 2 tries were seen \(\d{4}-\d\d-\d\d\)"
    assert re.search(changed, wall.out)
    gate = dial("gate", "toy", "--candidate", "p1", "--baseline", "p0")
    assert re.search(changed, gate.out)
    settings(dial, target=0.6)
    again = dial("gate", "toy", "--candidate", "p1", "--baseline", "p0", "--json").json["verdict"]
    assert again["look"] == 1
    assert any("from 50 % to 60 %" in note for note in again["notes"])
    other = dial("gate", "toy", "--candidate", "p0", "--baseline", "p1", "--json").json["verdict"]
    assert (other["look"], round(other["alpha"], 6)) == (2, 0.005)  # no look is renewed


def test_a_target_that_is_changed_before_any_score_was_seen_is_nobodys_business(dial: Cli) -> None:
    write_prompts(dial, 60)
    dial("eval", "toy")  # the reference alone
    settings(dial, target=0.5)
    dial("ladder", "toy", "--only-files")
    assert "changed from" not in dial("wall", "toy").out


# ---------------------------------------------------------------- sealed cases


def test_a_sealed_input_that_changed_after_a_look_makes_the_gate_refuse(dial: Cli) -> None:
    write_prompts(dial, 40, 95)
    dial("ladder", "toy", "--only-files")
    gate = ["gate", "toy", "--candidate", "p1", "--baseline", "p0"]
    assert dial(*gate).code == 0
    sent = len(dial.toy.sent)
    edit(dial, "c70", reference="7")  # a corrected label is scored anew, and asked of nobody
    assert dial(*gate).code == 0
    edit(dial, "c70", reference="210", inputs={"a": 1070, "b": 140})
    said = dial(*gate)
    assert said.code == 1
    assert "cases.jsonl:71: the input of the sealed case 'c70' changed after it was" in said.err
    assert len(dial.toy.sent) == sent
    assert len(ledger(dial, "look")) == 1
    edit(dial, "c70", id="c70b", reference="1210")  # a case of its own
    assert dial(*gate).code == 0


# ---------------------------------------------------------------- the pilot


def trained(cli: Cli) -> list[list[str]]:
    path = Path(f"{cli.toy.sent_log}.trained")
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def pilot(cli: Cli, *more: str) -> Said:
    return cli("tune", "toy", "--pilot", *more)


def test_a_pilot_draws_a_curve_without_a_wall_and_nothing_of_it_can_be_released(dial: Cli) -> None:
    write_cases(dial, dev=50, train=64, test=40)
    write_prompts(dial, 20)
    said = pilot(dial)
    assert said.code == 0, said.err
    assert [len(rows) for rows in trained(dial)] == [4, 8, 16, 32]
    sets = [set(rows) for rows in trained(dial)]
    assert sets[0] < sets[1] < sets[2] < sets[3]
    assert re.search(r"^32 rows: [78]\d", said.out, re.MULTILINE)
    assert "from 16 to 32 rows: +" in said.out
    assert "rows still help" in said.out
    assert re.search(r"about 32 more rows \(they are there\) would help by \+", said.out)
    assert dial("tune", "toy").code == 1  # the wall stands
    plain = pilot(dial, "--json").json
    assert len(trained(dial)) == 4  # what was trained is not trained again
    assert [s["rows"] for s in plain["stages"]] == [4, 8, 16, 32]
    digest = plain["stages"][-1]["artifact"][:16]
    dial("ladder", "toy", "--only-files")
    for arms in (
        ["--candidate", f"p0@adder:small+{digest}", "--baseline", "p0"],
        ["--candidate", "p0", "--baseline", f"p0@adder:small+{digest}"],
    ):
        gate = dial("gate", "toy", *arms)
        assert gate.code == 1
        assert "is a pilot, trained on 32 rows" in gate.err
    assert ledger(dial, "look") == []
    assert dial("eval", "toy", "--candidate", "tuned").code == 2
    assert dial("eval", "toy", "--candidate", "p0@adder:small+tuned-pilot-32").code == 2
    kinds = [e.payload.get("stages") for e in ledger(dial, "pilot")]
    assert [len(s) for s in kinds if s] == [4, 4]
    tries = dial("ladder", "toy", "--only-files", "--show", "--json").json["tries"]
    assert [t["candidate"] for t in tries if t.get("is_counted", True)] == ["p0"]


def test_the_same_files_tuned_in_earnest_can_be_released_after_a_pilot(dial: Cli) -> None:
    """A tuner that makes the same of fewer rows must not taint what was licensed."""
    write_cases(dial, train=16)
    write_prompts(dial, 20)
    assert pilot(dial).code == 0
    learns = (dial.toy.root / "site/adder.py").read_text()
    (dial.toy.root / "site/adder.py").write_text(learns.replace("len(job.rows)", "8", 1))
    assert dial("tune", "toy", "--override", "it is time").code == 0
    pilot(dial)
    dial("ladder", "toy", "--only-files")
    gate = dial("gate", "toy", "--candidate", "tuned", "--baseline", "p0")
    assert gate.code in {0, 3}
    assert "pilot" not in gate.err


def test_a_pilot_keeps_to_its_rows_and_minutes_and_says_so(dial: Cli) -> None:
    write_cases(dial, train=64)
    write_prompts(dial, 20)
    said = pilot(dial, "--rows", "8")
    assert said.code == 0
    assert [len(rows) for rows in trained(dial)] == [4, 8]
    assert "2 points tell a trend, and no curve to read off" in said.out
    late = pilot(dial, "--minutes", "0.00001")
    assert late.code == 0  # what is known costs no time; then it is over
    assert "ended early: the 1e-05 minutes were over while training on 16 rows" in late.out
    few = pilot(dial, "--override", "x")
    assert few.code == 2
    write_cases(dial, train=12)
    assert pilot(dial).code == 3
