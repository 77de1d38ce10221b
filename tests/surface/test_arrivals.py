"""Evals run while later replies are on their way, where both are quick; else after all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engine import sending
from harness.engine.evaluate import Evaluation
from harness.records import Run
from harness.store.store import Store
from harness.surface import eval_arrivals
from tests.surface.inprocess import Cli
from tests.surface.toy import sums

CASES = 120
BACKEND = """
import asyncio, os, pathlib, re, time
import harness

class Adder:
    concurrency = 8
    only_waits = True
    identity = {"version": "1"}
    def __init__(self, config):
        pass
    async def answer(self, request):
        began = time.perf_counter()
        number = int(re.findall(r"\\d+", request.messages[-1].content)[0])
        with open(os.environ["SENT"], "a") as log:
            log.write(f"ask {number}\\n")
        await asyncio.sleep(0.02)
        if number == int(os.environ.get("LATE", "-1")):
            await self.others()
        with open(os.environ["SENT"], "a") as log:
            log.write(f"told {number}\\n")
        if number == int(os.environ.get("BAD", "-1")):
            raise harness.BackendError("context overflow", is_systemic=True)
        return harness.Reply(text=str(3 * number), latency_s=time.perf_counter() - began)
    async def others(self):
        began = time.perf_counter()
        while time.perf_counter() < began + 10:
            if "ask LAST\\n" in pathlib.Path(os.environ["SENT"]).read_text():
                return
            await asyncio.sleep(0.02)

@harness.hookimpl
def harness_backends():
    return {"adder": Adder}
""".replace("LAST", str(CASES - 1))
EVALS = """
import os, time

def test_right(case, reply):
    number = case.inputs["a"]
    with open(os.environ["SENT"], "a") as log:
        log.write(f"eval {number}\\n")
    if number in map(int, os.environ.get("LONG", "-1").split()):
        time.sleep(0.4)
    if 20 <= number < 36:
        time.sleep(float(os.environ.get("EACH", "0")))
    if number == int(os.environ.get("STOP", "-1")):
        raise KeyboardInterrupt
    assert reply.text == case.reference
"""
WIDE = """
import pytest

@pytest.fixture(scope="module", autouse=True)
def world():
    yield
"""
ASYNC = """
plain = test_right

async def test_right(case, reply):
    plain(case, reply)
"""
CALM = """
from harness.engine import sending
from harness.surface import eval_arrivals

sending.LONG_S = eval_arrivals.SLOW_S = 0.25  # of a busy machine
eval_arrivals.QUICK_S = (0.01, 5.0)
"""
RUN = ("eval", "toy", "--candidate", "plain")


@pytest.fixture
def quick(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The toy with a backend that waits for another process, and one quick eval, on a machine that
    may be busy: what takes long takes very long here.
    """
    monkeypatch.setattr(sending, "LONG_S", 0.25)
    monkeypatch.setattr(eval_arrivals, "SLOW_S", 0.25)
    monkeypatch.setattr(eval_arrivals, "QUICK_S", (0.01, 5.0))
    toy = cli.toy
    (toy.root / "site" / "adder.py").write_text(BACKEND)
    (toy.task / "eval_toy.py").write_text(EVALS)
    toy.write_cases(sums(["dev"] * CASES))
    return cli


def asked_before(cli: Cli, number: int) -> int:
    """How many requests had been sent when the eval of a case began."""
    log = cli.toy.sent
    return sum(line.startswith("ask ") for line in log[: log.index(f"eval {number}")])


def latencies(cli: Cli) -> list[float | None]:
    with Store.open(cli.toy.root / ".harness/harness.db", read_only=True) as store:
        run = next(store.newest_runs("toy", "dev", candidate="plain"))
        keys = [t.reply_key for t in run.trials if t.reply_key]
        return [reply.latency_s for reply in store.known_replies(keys).values()]


def run_of(cli: Cli, **environment: str) -> Run:
    cli(*RUN, **environment)
    with Store.open(cli.toy.root / ".harness/harness.db", read_only=True) as store:
        return next(store.newest_runs("toy", "dev", candidate="plain"))


def test_quick_evals_run_while_later_replies_are_on_their_way(quick: Cli) -> None:
    done = quick(*RUN)
    assert (done.code, "100 %" in done.out) == (0, True), done.err
    assert asked_before(quick, 0) < 40, "the first wave, not all of them"
    assert asked_before(quick, 60) < CASES
    asked = [line for line in quick.toy.sent if line.startswith("ask")]
    assert asked == [f"ask {i}" for i in range(CASES)], "each once, in the order of the items"
    assert "replies: " not in done.err, "the dots show how far it is"
    assert all(taken is not None and 0.015 < taken < 5 for taken in latencies(quick))
    again = quick(*RUN)
    assert (again.code, len(quick.toy.sent)) == (0, 4 * CASES), "the second run asks for nothing"


def test_what_is_worked_out_before_the_first_reply_holds_up_no_reply(
    quick: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    def endless(evaluation: Evaluation) -> Iterator[None]:
        while True:
            sent.append(len(quick.toy.sent))
            time.sleep(0.001)
            yield

    monkeypatch.setattr(Evaluation, "identify", endless)
    done = quick(*RUN)
    assert (done.code, "100 %" in done.out) == (0, True), done.err
    assert sent[0] > 0, "once the first requests are on their way"
    assert asked_before(quick, 0) < 40
    assert all(taken is not None and 0.015 < taken < 5 for taken in latencies(quick))


def test_what_they_measure_is_what_a_run_of_two_phases_measures(
    quick: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    between = run_of(quick, BAD="70")
    assert asked_before(quick, 60) < CASES
    (quick.toy.root / ".harness/harness.db").unlink()
    monkeypatch.setattr(eval_arrivals, "QUICK_S", (2.0, 5.0))
    after = run_of(quick, BAD="70")
    assert [t.scores for t in between.trials] == [t.scores for t in after.trials]
    assert [t.fault for t in between.trials] == [t.fault for t in after.trials]
    assert [t.case_id for t in between.trials if t.fault] == ["c70"]
    assert between.is_complete == after.is_complete


@pytest.mark.parametrize(
    ("why", "limits", "environment"),
    [
        ("replies take longer than evals ever will", (0.01, 0.0), {}),
        ("replies come at once", (2.0, 5.0), {}),
        ("the second eval is slow", (0.01, 5.0), {"LONG": "0 1"}),
    ],
)
def test_all_replies_are_fetched_first_where(
    quick: Cli,
    monkeypatch: pytest.MonkeyPatch,
    why: str,
    limits: tuple[float, float],
    environment: dict[str, str],
) -> None:
    monkeypatch.setattr(eval_arrivals, "QUICK_S", limits)
    done = quick(*RUN, **environment)
    assert (done.code, "100 %" in done.out) == (0, True), done.err
    shown = 2 if environment else 0
    assert asked_before(quick, shown) == CASES, why
    assert f"replies: {CASES} of {CASES}" in done.err
    assert None not in latencies(quick), "nothing was on its way while a slow eval ran"


@pytest.mark.parametrize("late", ["0", "5"])
def test_one_slow_reply_at_the_beginning_holds_up_no_other(
    quick: Cli, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """It comes when the last of them was asked."""
    monkeypatch.setattr(eval_arrivals, "QUICK_S", (0.01, 0.3))
    assert quick(*RUN, LATE=late).code == 0
    log = quick.toy.sent
    assert log.index(f"ask {CASES - 1}") < log.index(f"told {late}")
    assert None not in latencies(quick)


def test_a_slow_first_eval_alone_changes_nothing(quick: Cli) -> None:
    assert quick(*RUN, LONG="0").code == 0
    assert asked_before(quick, 60) < CASES, "it had things to load"
    assert None not in latencies(quick)


def test_evals_that_take_as_long_as_replies_cost_no_latency(quick: Cli) -> None:
    """What arrived lay there for as long as eight of them take, if nothing moved on in between."""
    assert quick(*RUN, EACH="0.06").code == 0
    assert asked_before(quick, 20) < CASES
    assert None not in latencies(quick)


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("task.toml", "[budgets]\np95_latency_s = 1\n"),
        ("task.toml", "[advise]\nlatency_needed_s = 1\n"),
        ("eval_toy.py", WIDE),
        ("eval_toy.py", ASYNC),
        ("../../site/adder.py", "Adder.only_waits = False\n"),
    ],
)
def test_all_replies_are_fetched_first_where_latencies_decide_or_evals_or_replies_need_the_process(
    quick: Cli, what: str, text: str
) -> None:
    path: Path = quick.toy.task / what
    path.write_text(path.read_text() + text)
    assert quick(*RUN).code == 0
    assert asked_before(quick, 0) == CASES


def test_all_replies_are_fetched_first_where_a_person_may_stand_at_a_debugger(quick: Cli) -> None:
    assert quick(*RUN, "--", "--pdb").code == 0
    assert asked_before(quick, 0) == CASES


def test_all_replies_are_fetched_first_where_they_are_few(quick: Cli) -> None:
    few = eval_arrivals.MANY - 1
    file = quick.toy.task / "cases.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:few]))
    assert quick(*RUN).code == 0
    assert asked_before(quick, 0) == few


def test_an_eval_that_takes_long_all_of_a_sudden_costs_latencies_and_tells_no_wrong_one(
    quick: Cli,
) -> None:
    done = quick(*RUN, LONG="50")
    assert (done.code, "100 %" in done.out) == (0, True), done.err
    assert asked_before(quick, 50) < CASES == asked_before(quick, 51)
    taken = latencies(quick)
    assert 1 <= taken.count(None) <= 8, "those that were in flight"
    assert all(seconds < 0.4 for seconds in taken if seconds is not None)


def test_ctrl_c_in_an_eval_keeps_what_arrived_and_the_next_run_asks_for_the_rest(
    quick: Cli,
) -> None:
    stopped = quick(*RUN, STOP="60")
    assert stopped.code == 130
    asked = {line for line in quick.toy.sent if line.startswith("ask")}
    assert 60 < len(asked) < CASES
    quick.toy.sent_log.unlink()
    done = quick(*RUN)
    assert (done.code, "100 %" in done.out) == (0, True), done.err
    again = [line for line in quick.toy.sent if line.startswith("ask")]
    assert len(again) < CASES - 60 + 2, "what had arrived when it stopped is known"
    assert len(set(again) & asked) <= 8, "at most what was in flight is asked twice"


def test_stopping_at_the_first_fault_asks_for_little_more(quick: Cli) -> None:
    (quick.toy.root / "conftest.py").write_text(CALM)
    done = quick.toy.pytest("evals/toy", "--candidate", "plain", "-x", BAD="20")
    assert (done.returncode, "context overflow" in done.stdout) == (1, True), done.stdout
    asked = [line for line in quick.toy.sent if line.startswith("ask")]
    assert 20 < len(asked) < 60
    assert "eval 21" not in quick.toy.sent


def test_a_store_that_fails_midway_stops_the_run_with_its_reason(
    quick: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.errors import UsageError

    real, calls = Store.add_replies, []

    def failing(self: Store, rows: object) -> object:
        calls.append(rows)
        if len(calls) > 4:
            raise UsageError("the disk is full")
        return real(self, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "add_replies", failing)
    done = quick(*RUN)
    assert (done.code, "the disk is full" in done.err) == (2, True), (done.out, done.err)
    assert "eval 0" in quick.toy.sent
    assert "eval 119" not in quick.toy.sent


def test_an_ordinary_test_beside_evals_runs_when_nothing_is_on_its_way(quick: Cli) -> None:
    (quick.toy.task / "test_other.py").write_text(
        "import os\n\ndef test_other():\n    open(os.environ['SENT'], 'a').write('eval -5\\n')\n"
    )
    (quick.toy.root / "conftest.py").write_text(CALM)
    done = quick.toy.pytest("evals/toy", "--candidate", "plain", "-p", "no:randomly", "-v")
    assert done.returncode == 0, done.stdout
    assert f"{CASES + 1} passed" in done.stdout
    assert asked_before(quick, 0) < CASES
    assert asked_before(quick, -5) == CASES
