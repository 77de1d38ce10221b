"""`--max-cost` and `--batch` as a user meets them: with workers, and killed at a bad moment."""

from __future__ import annotations

import json
import time

import pytest

from harness.store.batches import waiting_batches
from harness.store.store import Store
from tests.surface.inprocess import Cli
from tests.surface.judging import judged, with_judge
from tests.surface.toy import BACKEND, Toy, sums

# Hosted: each reply costs a cent. Its batches stand in files, as a provider's outlive us; they are
# done once the file `ready` exists.
HOSTED = """
import json, os, re, uuid
from pathlib import Path
import harness

HERE = Path(os.environ["SENT"]).parent

class Adder:
    concurrency = 4
    is_external = True
    def __init__(self, config):
        self.identity = {}
    def price(self):
        return None if os.environ.get("MODE") == "unpriced" else 0.01
    def reply(self, text, cost):
        a, b = map(int, re.findall(r"\\d+", text))
        return harness.Reply(text=str(a + b), cost_usd=cost)
    async def answer(self, request):
        text = request.messages[-1].content
        with open(os.environ["SENT"], "a") as log:
            log.write(text + "\\n")
        return self.reply(text, self.price())
    def submit_batch(self, requests):
        name = uuid.uuid4().hex
        texts = {key: r.messages[-1].content for key, r in requests.items()}
        (HERE / f"{name}.batch").write_text(json.dumps(texts))
        return name
    def collect_batch(self, name):
        texts = json.loads((HERE / f"{name}.batch").read_text())
        (HERE / "looked").touch()
        if not (HERE / "ready").exists():
            return harness.BatchState(is_done=False, total=len(texts))
        replies = {key: self.reply(text, 0.005) for key, text in texts.items()}
        return harness.BatchState(
            is_done=True, total=len(texts), done=len(texts), replies=replies)

@harness.hookimpl
def harness_backends():
    return {"adder": Adder}
"""
PAUSE = """
async def pause():
    import asyncio
    if os.environ.get("MODE") == "hangs":
        await asyncio.sleep(60)
"""
EVAL = ("eval", "toy", "--candidate", "plain")


@pytest.fixture
def cli(cli: Cli) -> Cli:
    """A task with 40 cases, whose model is hosted."""
    cli.toy.write_cases(sums(["dev"] * 40 + ["train"] * 4 + ["test"] * 6))
    (cli.toy.root / "site/adder.py").write_text(HOSTED)
    return cli


@pytest.fixture
def toy(cli: Cli) -> Toy:
    return cli.toy


def runs_of(toy: Toy) -> list[bool]:
    with Store.open(toy.root / ".harness/harness.db", read_only=True) as opened:
        return [run.is_complete for run in opened.runs()]


def test_a_forecast_above_the_cap_is_exit_2_and_the_same_command_with_a_higher_one_goes_on(
    cli: Cli,
) -> None:
    done = cli(*EVAL, "--max-cost", "0.20")
    assert done.code == 2, done.out + done.err
    assert "forecast of plain: 40 requests, about $0.40 (0.40-0.40); pilot of 10" in done.err
    assert "--max-cost is $0.20" in done.err
    assert "--sample 13" in done.err
    assert "Traceback" not in done.out + done.err
    assert len(cli.toy.sent) == 10
    done = cli(*EVAL, "--max-cost", "0.40", "--json")
    assert done.code == 0, done.out + done.err
    assert "replies: 30 of 30" in done.err
    assert "$0.30" in done.err
    assert len(cli.toy.sent) == 40
    assert runs_of(cli.toy) == [True]


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_cap_that_is_reached_leaves_a_partial_run_that_goes_on(
    cli: Cli, workers: tuple[str, ...]
) -> None:
    """The first dialogues are cheap, so that only the cap itself holds them, over all workers."""
    (cli.toy.root / "site/adder.py").write_text(growing(12, cheap=0.005, dear=0.01))
    (cli.toy.task / "eval_toy.py").write_text(
        "def test_right(ask, case):\n    assert ask().text == case.reference\n"
    )
    done = cli.pytest("evals/toy", "--candidate", "plain", "--max-cost", "0.25", "-q", *workers)
    assert done.code == 1, done.out + done.err
    assert len(cli.toy.sent) == 31
    assert "not asked: the cost cap of $0.25 is reached. What" in done.out
    assert "31 passed, 9 faulted" in done.out
    assert runs_of(cli.toy) == [False]
    done = cli.pytest("evals/toy", "--candidate", "plain", "--max-cost", "0.25", "-q", *workers)
    assert done.code == 0, done.out + done.err
    assert len(cli.toy.sent) == 40
    assert runs_of(cli.toy) == [False, True]


def growing(first: int, *, cheap: float, dear: float) -> str:
    """The adder, of which the first replies are cheap and all later ones dear."""
    sent = "Path(os.environ['SENT']).read_text().splitlines()"
    price = f"{cheap} if len({sent}) <= {first} else {dear}"
    return HOSTED.replace('None if os.environ.get("MODE") == "unpriced" else 0.01', price)


def test_workers_know_what_a_request_costs_at_most_from_each_other(cli: Cli) -> None:
    """Each found it out by a request of its own, beyond the cap: 25, and $0.31."""
    (cli.toy.root / "site/adder.py").write_text(growing(10, cheap=0.001, dear=0.02))
    words = ("evals/toy", "--candidate", "plain", "--max-cost", "0.3", "-q", "-n", "2")
    done = cli.pytest(*words, "-k", "right")
    assert done.code == 1, done.out + done.err
    assert len(cli.toy.sent) == 24  # $0.29


def test_a_process_that_goes_on_after_another_one_knows_what_a_request_costs(toy: Toy) -> None:
    (toy.task / "eval_toy.py").write_text(
        "import os\ndef test_right(ask, case):\n    ask()\n"
        "    if case.id == 'c2':\n        os._exit(3)\n"
    )
    done = toy.harness(*EVAL, "--max-cost", "0.035")
    assert "2 of 40 cases cost $0.02" in done.stdout, done.stdout + done.stderr
    assert len(toy.sent) == 3


TWO_TURNS = "def test_right(ask, case):\n    ask()\n    assert ask('1 and 2').text == '3'\n"


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_dialogues_have_a_pilot_and_above_the_cap_nothing_more_is_sent(
    cli: Cli, workers: tuple[str, ...]
) -> None:
    """40 cases of two turns, a cent each: of $0.80 all of the cap was spent."""
    (cli.toy.task / "eval_toy.py").write_text(TWO_TURNS)
    words = ("evals/toy", "--candidate", "plain", "-q", *workers, "--max-cost")
    done = cli.pytest(*words, "0.5")
    assert done.code == pytest.ExitCode.USAGE_ERROR, done.out + done.err
    assert done.err.count("the forecast is $0.80 (up to $0.80), and --max-cost is $0.50") == 1
    assert "faulted" not in done.out
    before = len(cli.toy.sent)
    assert before in (20, 22)[: 1 + bool(workers)]  # another worker may be between two turns
    assert runs_of(cli.toy) == [False]
    # a worker may not have met yet what is recorded
    done = cli.pytest(*words, "0.80" if workers else "0.60")
    assert done.code == 0, done.out + done.err
    assert len(cli.toy.sent) == 80
    done = cli.pytest(*words, "0")
    assert done.code == 0, done.out + done.err


def test_what_workers_have_under_way_is_not_counted_twice(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(TWO_TURNS)
    words = ("evals/toy", "--candidate", "plain", "-q", "-n", "2", "--max-cost")
    done = cli.pytest(*words, "0.80")  # what it costs, to the cent
    assert done.code == 0, done.out + done.err
    told = done.out + done.err
    assert "forecast of plain: 40 cases, about $0.80 (0.80-0.80); pilot of 1" in told
    assert len(cli.toy.sent) == 80


def test_the_forecast_of_dialogues_is_told_in_a_line_and_is_exit_2_as_of_single_replies(
    cli: Cli,
) -> None:
    (cli.toy.task / "eval_toy.py").write_text(TWO_TURNS)
    done = cli(*EVAL, "--max-cost", "0.5")
    assert done.code == 2, done.out + done.err
    assert "forecast of plain: 40 cases, about $0.80 (0.80-0.80); pilot of 10 asked" in done.err
    assert done.err.splitlines()[-1].startswith("error: the forecast is $0.80")
    assert "Traceback" not in done.out + done.err
    done = cli(*EVAL, "--max-cost", "0.5")
    assert done.code == 2, done.out + done.err
    assert "forecast of plain: 30 cases, about $0.60" in done.err
    assert len(cli.toy.sent) == 20  # the same ten, known by now


def test_the_first_dialogues_of_every_candidate_and_eval_come_before_the_others(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(TWO_TURNS)
    done = cli(*EVAL, "--candidate", "shots", "--max-cost", "1.5")
    assert done.code == 2, done.out + done.err
    assert "forecast of plain: 40 cases, about $0.80" in done.err
    assert "forecast of shots: 40 cases, about $0.80" in done.err
    assert len(cli.toy.sent) == 40


def test_a_cap_that_the_pilot_of_dialogues_meets_tells_what_all_would_cost(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(TWO_TURNS)
    done = cli(*EVAL, "--max-cost", "0.05")
    assert len(cli.toy.sent) == 5
    told = "cap of $0.05 is reached: 2 of 40 cases cost $0.04, so that all would cost about $0.80"
    assert told in done.out


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_forecast_above_the_cap_stops_one_process_and_every_worker(
    cli: Cli, workers: tuple[str, ...]
) -> None:
    words = ("evals/toy", "--candidate", "plain", "--max-cost", "0.2", "-q", "-k", "right")
    done = cli.pytest(*words, *workers)
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert done.err.count("the forecast is $0.40") == 1
    assert "fault" not in done.out
    assert len(cli.toy.sent) == 10  # what was answered is kept
    assert runs_of(cli.toy) == []


def test_replies_are_counted_and_what_the_cap_held_back_is_none(cli: Cli) -> None:
    """It says that it stays here, so no pilot is asked; its replies tell a cost all the same."""
    hosted = HOSTED.replace("is_external = True", "is_external = False")
    (cli.toy.root / "site/adder.py").write_text(hosted)
    done = cli(*EVAL, "--max-cost", "0.20")
    assert len(cli.toy.sent) == 20
    assert "replies: 20 of 40, " in done.err
    assert "goes on with the rest, and counts its own cost anew" in done.out
    done = cli(*EVAL, "--max-cost", "0.20")  # the same command
    assert done.code == 0, done.out + done.err
    assert "replies: 20 of 20, " in done.err
    assert len(cli.toy.sent) == 40


def test_an_unknown_price_refuses_the_cap_after_one_request(cli: Cli) -> None:
    done = cli.pytest("evals/toy", "--candidate", "plain", "--max-cost", "1", MODE="unpriced")
    assert done.code == 4
    assert "cannot be held: what adder:small costs is not known" in done.err
    assert len(cli.toy.sent) == 1


@pytest.mark.parametrize("workers", [(), ("--", "-n", "2")])
def test_who_hangs_before_a_cost_is_known_is_asked_three_times_in_all(
    toy: Toy, workers: tuple[str, ...]
) -> None:
    """Each worker waited for all 40, one after the other."""
    impatient = "import harness.engine.spending\nharness.engine.spending.LONG_S = 0.1\n"
    hosted = HOSTED.replace(
        "        return self.reply(", "        await pause()\n        return self.reply(", 1
    )
    (toy.root / "site/adder.py").write_text(impatient + hosted + PAUSE)
    with (toy.task / "task.toml").open("a") as file:
        file.write("\n[backends.adder]\ntimeout_s = 0.3\n")
    done = toy.harness(*EVAL, "--max-cost", "1", *workers, MODE="hangs")
    assert done.returncode == 4, done.stdout + done.stderr
    assert len(toy.sent) == 3
    last = done.stderr.splitlines()[-1]
    assert "of 40 trials have no reply (c" in last
    assert "more): 3 requests in a row had no reply (adder:small: no reply within" in last
    assert "he same command asks" in last
    assert ("plain: no reply after 0.1 s." in done.stderr) == (not workers)
    done = toy.harness(*EVAL, "--max-cost", "1", *workers)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(toy.sent) == 43


def test_a_cap_that_is_no_number_is_refused(cli: Cli) -> None:
    done = cli.pytest("evals/toy", "--max-cost", "lots")
    assert done.code == 4
    assert "'lots' is no sum of dollars" in done.err


def test_kill_9_while_a_batch_is_waited_for_and_the_same_command_goes_on_with_it(
    toy: Toy,
) -> None:
    process = toy.begin("harness", *EVAL, "--batch")
    limit = time.monotonic() + 60
    while not list(toy.root.glob("*.batch")) or not waiting(toy):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.kill()
    process.communicate()
    (toy.root / "ready").touch()
    again = toy.harness(*EVAL, "--batch")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "waiting for batch" in again.stderr
    assert len(list(toy.root.glob("*.batch"))) == 1
    assert toy.sent == []
    assert runs_of(toy) == [True]
    assert waiting(toy) == []


def waiting(toy: Toy) -> list[str]:
    path = toy.root / ".harness/harness.db"
    if not path.exists():
        return []
    with Store.open(path, read_only=True) as opened:
        return [json.dumps(row.keys) for row in waiting_batches(opened) if row.state == "open"]


def test_who_takes_no_batches_is_named_and_nothing_is_sent(cli: Cli) -> None:
    (cli.toy.root / "site/adder.py").write_text(BACKEND)
    done = cli(*EVAL, "--batch")
    assert done.code == 2
    assert "--batch: adder:small takes no batches" in done.err
    assert cli.toy.sent == []


JUDGED = """
[judges.numeral]
backend = "arbiter:strict-hosted"
rubric = "A numeral, and nothing else."
"""
BY_JUDGE = "def test_right(judge):\n    assert judge('numeral').score\n"


def test_a_judges_part_is_in_the_forecast_from_a_pilot_of_the_first_replies(cli: Cli) -> None:
    with_judge(cli.toy, JUDGED, evals=BY_JUDGE)
    done = cli(*EVAL, "--max-cost", "0.42")  # enough for the candidate alone
    assert done.code == 2, done.out + done.err
    assert "forecast of plain: 40 requests, about $0.40" in done.err
    assert "forecast of judge numeral: 40 requests, about $0.04" in done.err
    assert "the forecast is $0.44" in done.err
    assert (len(cli.toy.sent), len(judged(cli.toy))) == (10, 10)
    done = cli(*EVAL, "--max-cost", "0.44")
    assert done.code == 0, done.out + done.err
    assert (len(cli.toy.sent), len(judged(cli.toy))) == (40, 40)  # recorded verdicts are asked once
    assert "forecast of judge numeral: 30 requests, about $0.03" in done.err


def test_a_judge_with_nothing_to_judge_yet_is_told_as_unknown_and_forecast_in_its_turn(
    cli: Cli,
) -> None:
    """The candidate is free and is not asked in a pilot: its replies come all at once."""
    free = HOSTED.replace("is_external = True", "is_external = False").replace("0.01", "None")
    (cli.toy.root / "site/adder.py").write_text(free)
    with_judge(cli.toy, JUDGED, evals=BY_JUDGE)
    done = cli(*EVAL, "--max-cost", "0.02")
    assert done.code == 2, done.out + done.err
    assert "forecast of judge numeral: 40 requests, cost unknown until" in done.err
    assert "forecast of judge numeral: 40 requests, about $0.04" in done.err
    assert (len(cli.toy.sent), len(judged(cli.toy))) == (40, 10)
