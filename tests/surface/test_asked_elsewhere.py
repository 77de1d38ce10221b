"""Runs of another server, epoch or option: what was asked there is no try of what is asked now."""

from __future__ import annotations

import pytest

from harness.engine.making import counted_families
from harness.engine.project import find_project
from harness.engine.tasks import load_task
from harness.engine.tune_plan import licence
from harness.errors import Refused
from harness.store.store import Store
from tests.surface.inprocess import Cli
from tests.surface.toy import BACKEND, PLAIN

OLD, NEW = "http://old.test/v1", "http://new.test/v1"
NAMES = [f"p{n}" for n in range(8)]
ALL = [f"--candidate={name}" for name in NAMES]
FAMILIES = ["zero-shot", "instructions", "few-shot", "chain-of-thought", "optimised"]
WAIVERS = """
[waivers]
labels = "A person read every label."
"""


@pytest.fixture
def moved(cli: Cli) -> Cli:
    """Eight prompts of which the old server, first epoch or unset option got nothing right."""
    toy = cli.toy
    right = "self.right = config.base_url == 'http://new.test/v1' or 'right' in config.options"
    answer = BACKEND.replace("self.model = config.model", f"self.model = config.model; {right}")
    # each prompt gets a wrong reply of its own, so that no two are one try
    text = '"what?" if len(request.messages) == 1 and a % 3 == 0 else str(a + b)'
    assert text in answer
    answer = answer.replace(text, "str(a + b) if self.right else request.messages[0].content")
    (toy.root / "site/adder.py").write_text(answer)
    for path in (toy.task / "prompts").glob("*.md"):
        path.unlink()
    for name, family in zip(NAMES, [*FAMILIES, *FAMILIES[:3]], strict=True):
        body = PLAIN.replace("zero-shot", family).replace("@user", f"@system\n{name}.\n@user")
        (toy.task / f"prompts/{name}.md").write_text(body)
    toy.write_cases(
        [
            {"id": f"c{n}", "split": split, "inputs": {"a": n, "b": n}, "reference": str(2 * n)}
            for n, split in enumerate(["dev"] * 30 + ["train"] * 6 + ["test"] * 40)
        ]
    )
    write(cli, 'profile = "quick"', after=WAIVERS)
    return cli


def write(cli: Cli, line: str, *, after: str = "") -> None:
    """Begin the task's settings with `line`, in place of the one that was put there before."""
    path = cli.toy.task / "task.toml"
    kept = [t for t in path.read_text().splitlines() if not t.startswith("base_url")]
    path.write_text("\n".join([line, *kept, after]) + "\n")


def ask(cli: Cli, *more: str) -> None:
    assert cli("eval", "toy", *ALL, *more).code in (0, 1)


def wall(cli: Cli) -> dict[str, object]:
    said = cli("wall", "toy", "--json")
    assert said.code in (0, 1, 3), said.err
    verdict: dict[str, object] = said.json["verdict"]
    return verdict


def unlicensed(cli: Cli) -> str | None:
    """Return why tuning would be refused."""
    with Store.open(find_project(cli.toy.root).store) as store:
        try:
            licence(load_task(cli.toy.task), store, override=None)
        except Refused as exc:
            return str(exc)
    return None


def test_runs_of_the_server_of_before_are_no_wall(moved: Cli) -> None:
    write(moved, f'base_url = "{OLD}"')
    ask(moved)
    assert wall(moved)["answer"] == "WALL"
    assert unlicensed(moved) is None
    write(moved, f'base_url = "{NEW}"')
    said = moved("wall", "toy")
    assert said.code == 3
    assert f"8 runs not asked as the task asks now (another base_url: {OLD}): no try." in said.err
    assert "harness eval toy --candidate 'p0' --candidate 'p1'" in said.err
    # the licence that the old server gave is none for the new one
    assert "the server, epoch or options of the model changed since" in (unlicensed(moved) or "")
    assert "server, epoch or options" in moved("advise", "toy").out
    gate = moved("gate", "toy", "--candidate", "p1")
    assert gate.code == 3
    assert "no try to compare with" in gate.err
    assert f"another base_url: {OLD}" in gate.err


def test_once_asked_again_the_runs_of_now_decide_and_the_old_are_shown(moved: Cli) -> None:
    write(moved, f'base_url = "{OLD}"')
    ask(moved)
    write(moved, f'base_url = "{NEW}"')
    ask(moved)
    verdict = wall(moved)
    assert verdict["answer"] != "WALL"
    tries = {t["candidate"]: t for t in verdict["tries"]}  # type: ignore[attr-defined]
    assert tries["p0"]["is_counted"]
    assert tries["p0"]["estimate"]["mean"] == 1
    [old] = [t for name, t in tries.items() if name.startswith("p0 (earlier, run ")]
    assert (old["is_counted"], old["note"]) == (False, f"another base_url: {OLD}")
    assert not any("Ask again" in note for note in verdict["notes"])  # type: ignore[attr-defined]
    shown = moved("ladder", "toy", "--show")
    assert f"8 runs not asked as the task asks now (another base_url: {OLD})" in shown.out
    assert "1 try counts" in shown.out  # all the others gave the replies of the first


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("epoch = 1", "another epoch: 0"), ("", "other options: right")],
)
def test_another_epoch_or_option_is_asked_anew_though_the_replies_are_the_same(
    moved: Cli, setting: str, reason: str
) -> None:
    ask(moved)
    assert wall(moved)["answer"] == "WALL"
    write(moved, setting, after="" if setting else '[backends."adder:small"]\nright = true')
    said = moved("wall", "toy")
    assert said.code == 3
    assert f"({reason}): no try." in said.err
    ask(moved)
    verdict = wall(moved)
    counted = [t["candidate"] for t in verdict["tries"] if t["is_counted"]]  # type: ignore[attr-defined]
    # in another epoch the same replies come, and repeat no run of the epoch before
    assert counted == (NAMES if setting else ["p0"])


def test_a_server_given_on_the_command_line_is_that_of_the_newest_runs(moved: Cli) -> None:
    """The task file names none: what was asked last is what is judged."""
    ask(moved, "--base-url", OLD)
    assert wall(moved)["answer"] == "WALL"
    ask(moved, "--base-url", NEW)
    verdict = wall(moved)
    assert verdict["answer"] != "WALL"
    counted = [t["candidate"] for t in verdict["tries"] if t["is_counted"]]  # type: ignore[attr-defined]
    assert counted == ["p0"]


def test_a_server_that_the_task_does_not_name_makes_no_try_beside_one_that_it_does(
    moved: Cli,
) -> None:
    write(moved, f'base_url = "{OLD}"')
    ask(moved)
    ask(moved, "--base-url", NEW)
    assert wall(moved)["answer"] == "WALL"
    # two candidates that are named with their server are compared as before
    said = moved("compare", "toy", "--candidate=p1", "--baseline=p0", f"--base-url={NEW}")
    assert said.code == 0, said.err


def test_what_a_ladder_at_another_server_lacks_is_counted_there(moved: Cli) -> None:
    """Its prompts are made from the misses at the server that it asks."""
    write(moved, f'base_url = "{NEW}"')
    ask(moved, "--base-url", OLD)
    task = load_task(moved.toy.task)
    with Store.open(find_project(moved.toy.root).store) as store:
        assert counted_families(task, store) == []
        assert len(counted_families(task, store, base_url=OLD)) == len(NAMES)


def test_a_confirmation_asks_the_server_of_its_try(moved: Cli) -> None:
    """The task file names none, and the one without a name would answer all of it wrongly."""
    ask(moved, "--base-url", NEW)
    said = moved("wall", "toy", "--confirm")
    assert "confirming p0 on sealed cases" in said.out
    assert "SHIP_PROMPT" in said.out
