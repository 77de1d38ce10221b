"""What an eval item holds, and that nobody who looks at one can tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.surface import eval_properties, eval_reports
from tests.surface.inprocess import Cli
from tests.surface.toy import Toy, sums

LEAN = pytest.mark.skipif(
    pytest.version_tuple < (9, 1),
    reason="pytest has ids of items as objects from 9.1 on; before, an eval item is pytest's own",
)
PEEP = """
from harness.surface import eval_properties
eval_properties.MANY = 0
import json, os, pytest
from harness.surface.eval_items import EvalItem

def told(item):
    return {
        "nodeid": item.nodeid, "name": item.name, "original": item.originalname,
        "path": str(item.path), "location": list(item.location), "repr": repr(item),
        "fixtures": list(item.fixturenames), "keywords": sorted(item.keywords),
        "markers": [m.name for m in item.iter_markers()], "params": list(item.callspec.params),
        "callspec": item.callspec.id, "indices": item.callspec.indices,
        "function": item.function.__name__, "kind": isinstance(item, pytest.Function),
        "module": item.module.__name__, "class": item.cls and item.cls.__name__,
        "stash": len(item.stash), "mine": getattr(item, "mine", None),
        "differs": differs(item),
    }

def differs(item):
    # what is answered by ours, and not as pytest answers it
    marks = list(pytest.Item.iter_markers_with_node(item))
    place = pytest.Item.location.func(item)
    return [place != item.location, marks != list(item.iter_markers_with_node())]

def whole(items):
    return [type(i) is not pytest.Function and type(i) is EvalItem for i in items]

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    config.whole = whole(items)
    if "LOOK" in os.environ:
        before = [told(i) for i in items]
        for item in items:
            item.mine = item.nodeid
        (config.rootpath / "before.json").write_text(json.dumps(before))

def pytest_sessionfinish(session):
    after = whole(session.items)
    seen = [told(i) for i in session.items]
    properties = [dict(i.user_properties) for i in session.items]
    place = session.config.rootpath / "after.json"
    place.write_text(json.dumps([session.config.whole, after, seen, properties]))
"""
EVALS = """
import pytest

@pytest.mark.filterwarnings("default")
def test_right(case, reply):
    assert reply.text == case.reference

@pytest.mark.filterwarnings("ignore::UserWarning")
class TestOfAClass:
    seen = 0
    def test_own_instance(self, case, reply, tmp_path, record_property):
        self.seen += 1
        record_property("seen", self.seen)
        assert self.seen == 1 and tmp_path.exists()

@pytest.mark.parametrize("n", [1, 2])
def test_of_two(case, reply, n):
    assert n

def test_mean(trials):
    assert trials
"""
ONE = "def test_right(case, reply):\n    assert reply.text == case.reference\n"
WEIGH = """
import gc, tracemalloc, pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session):
    tracemalloc.start()
    return (yield)

@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session):
    held, _ = tracemalloc.get_traced_memory()
    gc.collect()
    tracemalloc.stop()
    (session.config.rootpath / "held").write_text(str(held))
    return (yield)
"""


TELL = """
import json, pickle, pytest
from harness.surface import eval_properties
eval_properties.MANY = 0  # so that few items show it

told = {}

def of(report):
    names = "id nodeid location outcome longrepr when user_properties sections duration start stop"
    found = {n: getattr(report, n) for n in (*names.split(), "passed", "caplog", "head_line")}
    return found | {"keywords": dict(report.keywords), "mark": getattr(report, "harness_mark", "")}

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report):
    if report.when == "call":
        told[report.nodeid] = (of(report), report._to_json())

def pytest_terminal_summary(terminalreporter, config):
    seen = {}
    for category in ("passed", "missed", "unscored"):
        for report in terminalreporter.stats.get(category, []):
            assert not hasattr(report, "_pdbshown") and isinstance(report, pytest.TestReport)
            before, plain = told[report.nodeid]
            seen[report.nodeid] = [type(report).__name__, category]
            again = pickle.loads(pickle.dumps(report))
            assert of(again) == of(report) == before, (of(report), before)
            assert report._to_json().keys() == plain.keys()
            assert report._to_json()["nodeid"] == report.nodeid
    ids = config.pluginmanager.get_plugin("nfplugin").cached_nodeids
    mine = {id(i.id) for i in config.items}
    shared = sum(id(i) in mine for i in ids)
    (config.rootpath / "told.json").write_text(json.dumps([seen, len(ids), shared, len(mine)]))

def pytest_collection_finish(session):
    session.config.items = session.items
"""


def peep(toy: Toy, **environment: str) -> Any:
    done = toy.pytest("evals/toy", "--candidate=plain", "--candidate=reference", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((toy.root / "after.json").read_text())


@LEAN
def test_an_item_that_nobody_looked_into_is_like_one_that_pytest_made(tmp_path: Path) -> None:
    toy = Toy(tmp_path, dev=4)
    (toy.task / "eval_toy.py").write_text(EVALS)
    (toy.root / "conftest.py").write_text(PEEP)
    whole, after, seen, properties = peep(toy)
    _, _, looked, again = peep(toy, LOOK="1")
    before = json.loads((toy.root / "before.json").read_text())
    assert not any(whole)
    assert not any(after)  # before they ran, and again once they did
    lean = [t["original"] != "test_of_two" for t in seen]  # those are pytest's own
    assert [t for t, ours in zip(seen, lean, strict=True) if ours] == [
        t for t, ours in zip(before, lean, strict=True) if ours
    ]
    assert [t | {"mine": None} for t in looked] == seen
    assert all(t["differs"] == [False, False] for t in seen)
    assert [t["mine"] for t in looked] == [t["nodeid"] for t in looked]  # what others put in stays
    assert properties == again
    assert {p["seen"] for p in properties if p["eval"] == "own_instance"} == {1}
    names = [t["nodeid"].partition("::")[2] for t in seen]
    assert names == [
        *(f"test_right[{who}-c{n}]" for who in ("plain", "reference") for n in range(4)),
        *(
            f"TestOfAClass::test_own_instance[{who}-c{n}]"
            for who in ("plain", "reference")
            for n in range(4)
        ),
        *(
            f"test_of_two[{who}-c{n}-{k}]"
            for who in ("plain", "reference")
            for n in range(4)
            for k in (1, 2)
        ),
        "test_mean[plain]",
        "test_mean[reference]",
    ]


def test_ids_that_pytest_writes_in_its_own_way_are_left_to_it(tmp_path: Path) -> None:
    toy = Toy(tmp_path, dev=0)
    names = ["é", "a\\b", "c", "c-1"]  # the second repeat of c is called as c-1 is
    toy.write_cases(
        [
            {"id": name, "split": "dev", "inputs": {"a": 1, "b": 2}, "reference": "3"}
            for name in names
        ]
    )
    (toy.task / "eval_toy.py").write_text(ONE)
    arguments = ("evals/toy", "--candidate=plain", "--repeats=2", "--collect-only", "-q")
    found = toy.pytest(*arguments).stdout.splitlines()[:8]
    shown = [line.partition("[")[2].removesuffix("]") for line in found]
    assert shown[:5] == [
        "plain-\\xe9", "plain-\\xe9-1", "plain-a\\\\b", "plain-a\\\\b-1", "plain-c",
    ]  # fmt: skip
    assert len(set(shown)) == 8


@LEAN
def test_a_report_that_the_terminal_keeps_says_all_that_it_said(tmp_path: Path) -> None:
    toy = Toy(tmp_path, dev=3)
    (toy.task / "eval_toy.py").write_text(
        "import pytest\n\n"
        "class TestOf:\n    def test_class(self, case, reply):\n        assert reply\n\n"
        "def test_none(case, reply):\n    pytest.skip('nothing to score')\n\n"
        "def test_missed(case, reply):\n    assert reply.text == 'other'\n\n"
        "def test_loud(reply):\n    print('said')\n\n"
        "def test_own(reply, record_property):\n    record_property('n', [1])\n\n"
        "def test_right(reply, score):\n    score(0.5)\n\n"
        "def test_mean(trials):\n    assert trials\n"
    )
    (toy.root / "conftest.py").write_text(TELL)
    for _ in range(2):  # the second knows the ids of the first
        done = toy.pytest("evals/toy", "--candidate=plain", "--floor=class=0")
        assert done.returncode == 0, done.stdout + done.stderr
        seen, ids, shared, items = json.loads((toy.root / "told.json").read_text())
        kinds = {name.partition("::")[2].partition("[")[0]: kind for name, kind in seen.items()}
        assert kinds == {
            "TestOf::test_class": ["_Brief", "passed"],
            "test_none": ["TestReport", "unscored"],
            "test_missed": ["TestReport", "missed"],
            "test_loud": ["TestReport", "passed"],
            "test_own": ["TestReport", "passed"],
            "test_right": ["_Brief", "passed"],
            "test_mean": ["_Brief", "passed"],
        }
        assert ids == shared == items == 3 * 6 + 1
    done = toy.pytest("evals/toy", "--candidate=plain", "-k", "test_class")
    *_, ids, shared, items = json.loads((toy.root / "told.json").read_text())
    assert (ids, shared, items) == (19, 3, 3)  # --nf goes on to know those that did not run


ONCE = """
def pytest_sessionfinish(session):
    from harness.records import Case
    from harness.surface.eval_session import SESSION
    known, (task,) = session.config.stash[SESSION].known_task, session.config.stash[SESSION].tasks
    assert known is not task and known.cases == task.cases
    ids = {id(c) for c in (*known.cases, *task.cases)}
    (session.config.rootpath / "held").write_text(f"{len(ids)} of {len(task.cases)}")
"""


def test_eval_holds_a_case_once(tmp_path: Path) -> None:
    """The verb reads the task, and the session that it starts reads it again."""
    toy = Toy(tmp_path, dev=5)
    (toy.task / "eval_toy.py").write_text(ONE)
    (toy.root / "conftest.py").write_text(ONCE)
    done = toy.harness("eval", "toy", "--candidate=reference")
    assert done.returncode == 0, done.stdout + done.stderr
    cases = len((toy.task / "cases.jsonl").read_text().splitlines())
    assert (toy.root / "held").read_text() == f"{cases} of {cases}"


def held(cli: Cli, *, cases: int) -> int:
    """Return the bytes that a session over `cases` holds when all of them ran."""
    cli.toy.write_cases(sums(["dev"] * cases))
    done = cli.pytest("evals/toy", "--candidate=reference", "-q", "-p", "no:cacheprovider")
    assert done.code == 0, done.out + done.err
    return int((cli.toy.root / "held").read_text())


@LEAN
def test_an_item_that_ran_holds_less_than_one_of_a_parametrised_test(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A no-op item of pytest holds about 5 kB, and one of ours holds 1.9 kB with its case."""
    monkeypatch.setattr(eval_properties, "MANY", 100)  # so that few items show it
    (cli.toy.task / "eval_toy.py").write_text(ONE)
    (cli.toy.root / "conftest.py").write_text(WEIGH)
    held(cli, cases=10)  # what is loaded once
    few, many = (held(cli, cases=cases) for cases in (300, 900))
    assert (many - few) / 600 < 2300


def test_reports_of_setup_are_forgotten_unless_somebody_will_read_them(tmp_path: Path) -> None:
    toy = Toy(tmp_path, dev=3)
    (toy.task / "eval_toy.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef loud():\n    yield\n    print('on the way out')\n\n"
        "def test_right(reply, loud):\n    assert reply\n"
    )
    (toy.root / "conftest.py").write_text(
        "from harness.surface import eval_properties\neval_properties.MANY = -1\n"
        "def pytest_terminal_summary(terminalreporter):\n"
        "    quiet = terminalreporter.stats.get('', [])\n"
        "    print('kept', [r.when for r in quiet])\n"
        "    words = terminalreporter.stats['passed'][0].keywords\n"
        "    print('words', sorted(words), len(words), words['toy'], 'test_right' in words)\n"
    )
    run = ("evals/toy", "--candidate=plain")
    assert "kept ['teardown', 'teardown', 'teardown']" in toy.pytest(*run).stdout
    keywords = [tmp_path.name, "eval_toy.py", "evals", "plain-c0", "test_right[plain-c0]", "toy"]
    assert f"words {sorted(['', *keywords])} 7 1 False" in toy.pytest(*run).stdout
    done = toy.pytest(*run, "-rA")
    assert done.stdout.count("on the way out") == 3
    done = toy.pytest(*run, "--durations=0", "-vv")
    assert done.stdout.count("s setup ") == 3
    assert done.stdout.count("s call ") == 3


def test_a_report_of_a_pytest_that_gives_it_no_id_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those before 9.1; a run of more than 1,000 items broke off there."""
    report = pytest.TestReport(
        nodeid="eval_toy.py::test_right[c0]",
        location=("eval_toy.py", 1, "test_right[c0]"),
        keywords={},
        outcome="passed",
        longrepr=None,
        when="call",
    )
    with monkeypatch.context() as patch:  # pytest itself asks for it once this ends
        for kind in pytest.TestReport.__mro__:
            if "id" in vars(kind):
                patch.delattr(kind, "id")
        assert not hasattr(report, "id")
        assert eval_reports._brief(report) is None
