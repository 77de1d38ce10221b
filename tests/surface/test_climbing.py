"""`harness ladder` from one prompt file to a wall verdict, with a backend that answers by rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.surface.inprocess import Cli

# Sorts messages by a rule of its own: each system text has its own mistakes, so that no two
# prompts get the same replies. What it is asked to think about, it thinks about first.
CLERK = """
import hashlib, json, os
import harness

LABELS = ["account", "billing", "delivery", "other"]

class Clerk:
    concurrency = 8
    is_external = False
    def __init__(self, config):
        self.identity = {"version": "1"}
        self.honours = frozenset({"schema", "stop"}) if config.model == "strict" else frozenset()
    def answer(self, request):
        with open(os.environ["SENT"], "a") as log:
            log.write(json.dumps([[m.role, m.content] for m in request.messages]) + "\\n")
        said = "|".join(m.content for m in request.messages)
        digits = hashlib.sha256(said.encode()).digest()
        text = LABELS[digits[0] % 4]
        if request.schema is not None:
            text = json.dumps({"answer": text})
        elif "Answer:" in request.messages[0].content + request.messages[-1].content:
            text = "It is about billing, or other.\\nAnswer: " + text
            text = text[: 4 * request.decoding.max_tokens]
        return harness.Reply(text=text, input_tokens=len(said) // 4, output_tokens=2)

@harness.hookimpl
def harness_backends():
    return {"clerk": Clerk}
"""


@pytest.fixture
def clerk(cli: Cli) -> Cli:
    """A project with the starter's task, but for all prompts but one."""
    (cli.toy.root / "site/adder.py").write_text(CLERK)
    assert cli("init", "mail", "--model", "clerk:strict").code == 0
    for name in ("few-shot", "instructions"):
        (task(cli) / f"prompts/{name}.md").unlink()
    settings = (task(cli) / "task.toml").read_text().replace('"standard"', '"quick"')
    assert settings.rstrip().endswith('reason about."')
    waived = 'optimised = "There is no stronger model here to propose prompts."'
    (task(cli) / "task.toml").write_text(f"{settings}\n{waived}\n")
    return cli


def task(cli: Cli) -> Path:
    return cli.toy.root / "evals/mail"


def made(cli: Cli) -> dict[str, str]:
    return {p.stem: p.read_text() for p in (task(cli) / "prompts/made").glob("*.md")}


def test_one_prompt_file_climbs_to_a_covered_wall_verdict(clerk: Cli) -> None:
    settings = (task(clerk) / "task.toml").read_text()
    (task(clerk) / "task.toml").write_text(settings.replace('"quick"', '"standard"'))
    said = clerk("ladder", "mail", "--json")
    tries = said.json["tries"]
    counted = [t for t in tries if t["is_counted"]]
    assert len(counted) >= 14
    families = [t["family"] for t in counted]
    for family in ("zero-shot", "instructions", "few-shot", "dynamic-few-shot"):
        assert families.count(family) >= 2
    assert families.count("chain-of-thought") >= 2
    assert families.count("constrained") >= 1
    assert "tips" in [t["candidate"] for t in counted]
    assert len(made(clerk)) + 1 == len(tries)

    wall = clerk("wall", "mail", "--json")
    coverage = next(c for c in wall.json["verdict"]["conditions"] if c["name"] == "coverage")
    assert coverage["holds"] is True, coverage["text"]


def test_evals_see_the_answer_and_the_store_keeps_all_that_was_said(clerk: Cli) -> None:
    clerk("ladder", "mail")
    said = clerk("eval", "mail", "--candidate", "cot", "--candidate", "constrained", "--json")
    for run in said.json["runs"]:
        known = [
            s["value"] for t in run["run"]["trials"] for s in t["scores"] if s["name"] == "known"
        ]
        assert known == [1.0] * 12, "each answer is one of the four words"
    report = clerk("report", "mail")
    assert report.code == 0
    page = next((clerk.toy.root / ".harness/reports").glob("*.html")).read_text()
    assert "It is about billing, or other." in page


def test_a_dry_run_and_only_files_make_nothing(clerk: Cli) -> None:
    said = clerk("ladder", "mail", "--dry-run")
    assert "few-shot-4 (few-shot)" in said.out
    assert "Nothing was written or asked." in said.out
    assert not clerk.toy.sent
    assert not (task(clerk) / "prompts/made").exists()
    tries = clerk("ladder", "mail", "--only-files", "--json").json["tries"]
    assert [t["candidate"] for t in tries] == ["zero-shot"]
    assert not (task(clerk) / "prompts/made").exists()


def test_hand_written_prompts_count_and_keep_their_names(clerk: Cli) -> None:
    mine = "+++\nfamily = 'instructions'\n+++\n@system\nSort it.\n@user\n{{ message }}\n"
    (task(clerk) / "prompts/instructions.md").write_text(mine)
    (task(clerk) / "prompts/few-shot-4.md").write_text(mine)
    assert clerk("ladder", "mail").code == 0
    assert (task(clerk) / "prompts/instructions.md").read_text() == mine
    assert {"few-shot-4-made", "tips"} <= set(made(clerk))
    assert "instructions-made" not in made(clerk), "there is one of that family"
    assert "Sort it." in made(clerk)["few-shot-4-made"]


def test_the_quick_profile_makes_seven_and_asks_nothing_twice(clerk: Cli) -> None:
    assert clerk("ladder", "mail", "--only-files").code == 0
    tries = clerk("ladder", "mail", "--json").json["tries"]
    assert sum(t["is_counted"] for t in tries) == 7
    asked = len(clerk.toy.sent)
    assert asked == 7 * 12
    again = clerk("ladder", "mail", "--max-cost", "1")
    assert "0 new requests, 84 recorded" in again.out
    assert len(clerk.toy.sent) == asked


def test_an_unknown_seed_is_told(clerk: Cli) -> None:
    said = clerk("ladder", "mail", "--from", "nothing")
    assert said.code == 2
    assert "--from nothing: no such prompt" in said.err
