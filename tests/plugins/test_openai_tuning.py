"""Hosted tuning, against a server on this machine that speaks the vendor's API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness_openai.finetuning.prices import load_training_prices, training_cost_usd
from harness_openai.finetuning.tuner import OpenAIDpo, OpenAITuner

from harness import BackendError, Message, TrainingRow, TrainProgress, TuneJob, UsageError
from tests.plugins.loopback import Loopback, loopback
from tests.plugins.tuning_api import MODEL, TuningApi
from tests.surface.inprocess import Cli
from tests.surface.toy import Toy

KEY = "sk-of-the-test-0123456789"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("harness_openai.finetuning.tuner.LOOK_AGAIN_S", 0.01)
    with loopback() as served:
        yield served


@pytest.fixture
def api(server: Loopback) -> TuningApi:
    return TuningApi(server=server)


def rows(number: int = 12, *, rejected: bool = False) -> tuple[TrainingRow, ...]:
    return tuple(
        TrainingRow(
            case_id=f"r{n}",
            messages=(Message(role="user", content=f"Is {n} odd?\u2028"),),
            completion="yes" if n % 2 else "no",
            rejected="perhaps" if rejected else None,
        )
        for n in range(number)
    )


def job(api: TuningApi, folder: Path, **changes: Any) -> TuneJob:
    folder.mkdir(exist_ok=True)
    out, state = folder / "out", folder / "state"
    out.mkdir(exist_ok=True)
    state.mkdir(exist_ok=True)
    made = TuneJob(
        base="gpt-4o-mini-2024-07-18", rows=rows(), recipe={}, out_dir=out, state_dir=state,
        base_url=api.server.base_url, seed=7,
    )  # fmt: skip
    return replace(made, **changes)


def asked(api: TuningApi, path: str, method: str = "POST") -> int:
    return sum((s.method, s.path) == (method, f"/v1{path}") for s in api.server.seen)


def test_rows_go_up_steps_are_told_and_a_name_comes_back(api: TuningApi, tmp_path: Path) -> None:
    told: list[TrainProgress] = []
    one = job(api, tmp_path, recipe={"n_epochs": 3, "suffix": "mine"})
    assert OpenAITuner().prepare(one) == ()
    assert api.server.seen == []
    result = OpenAITuner().train(one, (), report=told.append)
    assert result.backend == f"openai:{MODEL}"
    assert [(t.step, t.steps) for t in told] == [(1, 3), (2, 3), (3, 3)]
    [sent] = api.jobs
    supervised = {"hyperparameters": {"n_epochs": 3}}
    assert sent["method"] == {"type": "supervised", "supervised": supervised}
    assert (sent["seed"], sent["suffix"], sent["training_file"]) == (7, "mine", "file-1")
    assert all(len(k) <= 64 and len(v) <= 512 for k, v in sent["metadata"].items())
    assert len(api.lines) == 12
    assert api.lines[1]["messages"][-1] == {"role": "assistant", "content": "yes"}
    assert result.environment["shutdown_date"] == "2027-01-14"
    assert result.environment["checkpoints"] == f"{MODEL}:2 at step 2"
    assert result.metrics["trained_tokens"] == 1_000_000
    assert result.cost_usd is None  # this host has no price, whatever OpenAI's is
    assert list(one.out_dir.iterdir()) == []
    assert KEY not in json.dumps([s.path for s in api.server.seen])


def test_a_price_is_of_one_host_and_dated() -> None:
    prices = load_training_prices()
    mini = prices["api.openai.com", "gpt-4o-mini-2024-07-18"]
    assert training_cost_usd(mini, 2_000_000) == pytest.approx(6.0)
    assert training_cost_usd(mini, None) is None
    assert all(p.source and p.as_of.year >= 2026 for p in prices.values())


def test_preferences_are_sent_in_their_own_shape(api: TuningApi, tmp_path: Path) -> None:
    one = job(api, tmp_path, rows=rows(rejected=True), recipe={"beta": 0.2})
    OpenAIDpo().prepare(one)
    OpenAIDpo().train(one, (), report=lambda _: None)
    assert api.jobs[0]["method"] == {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
    first = api.lines[0]
    assert set(first) == {"input", "preferred_output", "non_preferred_output"}
    assert first["preferred_output"] == [{"role": "assistant", "content": "no"}]
    assert first["non_preferred_output"] == [{"role": "assistant", "content": "perhaps"}]


@pytest.mark.parametrize(
    ("changed", "said", "about"),
    [
        ({"rows": rows(9)}, "9 rows, and the server takes files of 10", ()),
        ({"rows": (*rows(), rows()[3])}, "paid for twice", ("r3",)),
        (
            {"rows": (*rows(), replace(rows()[0], case_id="e", completion=" "))},
            "empty reply",
            ("e",),
        ),
        (
            {"rows": (*rows(), replace(rows()[0], case_id="x", completion="a" * 300_000))},
            "cuts the end in silence",
            ("x",),
        ),
        (
            {"rows": (*rows(), replace(rows()[0], case_id="t", tools=({"name": "a" * 300_000},)))},
            "cuts the end in silence",
            ("t",),
        ),
        ({"recipe": {"epochs": 2}}, "Known keys: n_epochs", ()),
        ({"recipe": {"beta": 0.1}}, "Known keys: n_epochs", ()),
        ({"recipe": {"suffix": "s" * 65}}, "at most 64", ()),
    ],
)
def test_what_the_vendor_would_find_late_is_found_before_anything_is_sent(
    api: TuningApi, tmp_path: Path, changed: dict[str, Any], said: str, about: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        OpenAITuner().prepare(job(api, tmp_path, **changed))
    assert caught.value.case_ids == about
    assert api.server.seen == []


def test_a_reply_that_is_calls_is_learnt_as_calls(api: TuningApi, tmp_path: Path) -> None:
    bare = {"name": "price_of", "arguments": {"item": "lamp"}}
    own = {"id": "c7", "type": "function", "function": {**bare, "arguments": '{"item": "lamp"}'}}
    some = rows()
    said = (replace(some[0], completion="", calls=(bare,)), replace(some[1], calls=(own, bare)))
    one = job(api, tmp_path, rows=(*said, *some[2:]))
    OpenAITuner().prepare(one)
    OpenAITuner().train(one, (), report=lambda _: None)
    first, second = (line["messages"][-1] for line in api.lines[:2])
    assert first == {"role": "assistant", "tool_calls": [{**own, "id": "call_0"}]}
    assert second["content"] == "yes"
    assert second["tool_calls"] == [own, {**own, "id": "call_1"}]
    pairs = tuple(replace(r, rejected="perhaps") for r in one.rows)
    with pytest.raises(UsageError, match=r"^rows that have a reply that is a tool call"):
        OpenAIDpo().prepare(replace(one, rows=pairs))


def test_equal_sides_of_a_preference_are_refused(api: TuningApi, tmp_path: Path) -> None:
    same = tuple(replace(r, rejected=r.completion) for r in rows())
    with pytest.raises(UsageError, match="equals the better"):
        OpenAIDpo().prepare(job(api, tmp_path, rows=same))


def test_a_failed_job_says_why_and_the_same_command_begins_anew(
    api: TuningApi, tmp_path: Path
) -> None:
    api.states = ["queued", "failed"]
    api.error = {"code": "invalid", "message": "line 3 is empty", "param": "training_file"}
    one = job(api, tmp_path)
    with pytest.raises(BackendError, match=r"line 3 is empty \(training_file\)"):
        OpenAITuner().train(one, (), report=lambda _: None)
    assert one.state_dir is not None
    assert list(one.state_dir.iterdir()) == []
    api.states, api.error = ["running", "succeeded"], None
    assert OpenAITuner().train(one, (), report=lambda _: None).backend
    assert len(api.jobs) == 2


def test_a_cancelled_job_is_said(api: TuningApi, tmp_path: Path) -> None:
    api.states = ["running", "cancelled"]
    with pytest.raises(BackendError, match="ftjob-1 was cancelled at the server"):
        OpenAITuner().train(job(api, tmp_path), (), report=lambda _: None)


def test_a_refused_job_names_the_parameter_and_is_not_asked_for_again(
    api: TuningApi, tmp_path: Path
) -> None:
    api.faults = {"POST /fine_tuning/jobs": [400]}
    api.refusal = {
        "error": {"message": "model gpt-x cannot be tuned", "param": "model", "code": "bad_model"}
    }
    with pytest.raises(BackendError, match="model gpt-x cannot be tuned"):
        OpenAITuner().train(job(api, tmp_path), (), report=lambda _: None)
    assert asked(api, "/fine_tuning/jobs") == 1


def test_lost_connections_while_waiting_are_waited_out(api: TuningApi, tmp_path: Path) -> None:
    api.faults = {"GET /fine_tuning/jobs/ftjob-1": ["cut", 503, "cut"],
                  "GET /fine_tuning/jobs/ftjob-1/events": ["cut"]}  # fmt: skip
    result = OpenAITuner().train(job(api, tmp_path), (), report=lambda _: None)
    assert result.backend == f"openai:{MODEL}"
    assert len(api.jobs) == 1


def test_a_job_whose_answer_was_lost_is_found_and_not_paid_for_twice(
    api: TuningApi, tmp_path: Path
) -> None:
    api.faults = {"POST /fine_tuning/jobs": ["lost"]}
    result = OpenAITuner().train(job(api, tmp_path), (), report=lambda _: None)
    assert result.backend == f"openai:{MODEL}"
    assert len(api.jobs) == 1


def test_it_waits_no_longer_than_its_patience_and_keeps_the_job(
    api: TuningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness_openai.finetuning.tuner.LOST", 3)
    api.faults = {"GET /fine_tuning/jobs/ftjob-1": [503, 503, 503]}
    one = job(api, tmp_path)
    with pytest.raises(BackendError, match="the same command goes on waiting"):
        OpenAITuner().train(one, (), report=lambda _: None)
    assert OpenAITuner().train(one, (), report=lambda _: None).backend
    assert (len(api.jobs), len(api.files)) == (1, 1)
    # other rows are another job
    other = replace(one, rows=rows(13))
    api.states = ["succeeded"]
    assert OpenAITuner().train(other, (), report=lambda _: None).backend
    assert len(api.jobs) == 2


def test_a_key_that_is_missing_later_does_not_lose_a_job(
    api: TuningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = job(api, tmp_path, options={"preset": "openai"})
    with monkeypatch.context() as patch:
        patch.delenv("OPENAI_API_KEY")
        with pytest.raises(UsageError, match="needs a key"):
            OpenAITuner().train(one, (), report=lambda _: None)
    monkeypatch.setattr("harness_openai.finetuning.tuner.LOST", 1)
    api.faults = {"GET /fine_tuning/jobs/ftjob-1": [503]}
    with pytest.raises(BackendError):
        OpenAITuner().train(one, (), report=lambda _: None)
    with monkeypatch.context() as patch:
        patch.delenv("OPENAI_API_KEY")
        with pytest.raises(BackendError, match="ftjob-1 goes on"):  # not usage: state is kept
            OpenAITuner().train(one, (), report=lambda _: None)


def test_the_plan_tells_of_the_services_end_without_sending_anything(
    api: TuningApi, tmp_path: Path
) -> None:
    here = OpenAITuner().estimate(job(api, tmp_path), ())
    assert not any("2027-01-06" in fact for fact in here.facts)
    there = OpenAITuner().estimate(job(api, tmp_path, base_url=None), ())
    assert any("2027-01-06" in fact for fact in there.facts)
    assert any("end on 2027-01-14" in fact for fact in there.facts)
    assert there.cost_usd is not None
    assert api.server.seen == []


# ---------------------------------------------------------------- the whole road

EVALS = "def test_right(case, reply):\n    assert reply.text == case.reference\n"


def project(root: Path, base_url: str, *, tags: list[str], more: str = "") -> Toy:
    toy = Toy(root)
    for name in ("plain.md", "shots.md"):
        (toy.task / "prompts" / name).unlink()
    (toy.task / "prompts/ask.md").write_text("+++\nfamily = 'zero-shot'\n+++\n@user\n{{ q }}\n")
    (toy.task / "eval_toy.py").write_text(EVALS)
    (toy.task / "task.toml").write_text(
        'about = "Say yes."\nmodel = "openai:gpt-4o-mini-2024-07-18"\ncases = "cases.jsonl"\n'
        f'target = 0.9\ntarget_reason = "Most."\nbase_url = "{base_url}"\n'
        f'[tune]\ntuner = "openai"\nprompt = "ask"\n{more}'
    )
    splits = ["train"] * 12 + ["dev"] * 12 + ["test"] * 80
    toy.write_cases(
        [
            {"id": f"c{n}", "split": s, "inputs": {"q": f"question {n}"}, "reference": "yes",
             "tags": tags if s == "train" and n == 3 else []}
            for n, s in enumerate(splits)
        ]
    )  # fmt: skip
    return toy


def test_a_hosted_model_is_tuned_asked_and_gated_as_any_other(
    api: TuningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    cli = Cli(project(tmp_path, api.server.base_url, tags=[]), monkeypatch, capsys)
    tuned = cli("tune", "toy", "--override", "a test of the road")
    assert tuned.code == 0, tuned.err
    assert f"answered by openai:{MODEL}" in tuned.out
    gated = cli("gate", "toy", "--baseline", "ask")
    assert gated.code == 0, gated.out
    assert "shows to nobody" in gated.out  # parity, said
    assert "off-task" in gated.out
    models = {s.body["model"] for s in api.server.seen if s.path.endswith("/chat/completions")}
    assert models == {"gpt-4o-mini-2024-07-18", MODEL}


def test_internal_rows_never_leave_unless_a_person_says_why(
    api: TuningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(OpenAITuner, "sends_rows_to", lambda self, job: "api.example.com")
    cli = Cli(project(tmp_path, api.server.base_url, tags=["internal"]), monkeypatch, capsys)
    refused = cli("tune", "toy", "--override", "a test of the boundary")
    assert refused.code == 2
    assert "1 internal case would be sent to api.example.com" in refused.err
    assert api.server.seen == []
    planned = cli("tune", "toy", "--override", "a test of the boundary", "--plan")
    assert planned.code == 1
    allowed = cli(
        "tune", "toy", "--override", "a test of the boundary",
        "--override-boundary", "the owner of the data agreed",
    )  # fmt: skip
    assert allowed.code == 0, allowed.err
    gated = cli("gate", "toy", "--baseline", "ask")
    assert "the owner of the data agreed" in gated.out


def test_a_tuner_of_hosted_models_refuses_one_of_this_machine(
    api: TuningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    toy = project(tmp_path, api.server.base_url, tags=[])
    text = (toy.task / "task.toml").read_text()
    (toy.task / "task.toml").write_text(text.replace("openai:gpt-4o-mini-2024-07-18", "adder:x"))
    refused = Cli(toy, monkeypatch, capsys)("tune", "toy", "--override", "a test of schemes")
    assert refused.code == 2
    assert "tunes openai:NAME" in refused.err
    assert api.server.seen == []


def test_supervised_then_preferences_goes_on_from_the_hosted_name(
    api: TuningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    toy = project(tmp_path, api.server.base_url, tags=[])
    stages = '[[tune.stages]]\ntuner = "openai"\n[[tune.stages]]\ntuner = "openai-dpo"\n'
    text = (toy.task / "task.toml").read_text().replace('tuner = "openai"\n', "")
    (toy.task / "task.toml").write_text(text + stages)
    lines = [json.loads(x) for x in (toy.task / "cases.jsonl").read_text().splitlines()]
    toy.write_cases([{**row, "rejected": "never"} for row in lines])
    cli = Cli(toy, monkeypatch, capsys)
    tuned = cli("tune", "toy", "--override", "a test of two stages")
    assert tuned.code == 0, tuned.err
    assert [j["model"] for j in api.jobs] == ["gpt-4o-mini-2024-07-18", MODEL]


def test_ctrl_c_leaves_the_job_running_and_says_how_to_cancel_it(
    api: TuningApi, tmp_path: Path
) -> None:
    api.states = ["running"]
    toy = project(tmp_path, api.server.base_url, tags=[])
    command = [sys.executable, "-m", "harness", "tune", "toy", "--override", "a test of stopping"]
    process = subprocess.Popen(
        command, cwd=toy.root, env=toy.environment(OPENAI_API_KEY=KEY), start_new_session=True,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not asked(api, "/fine_tuning/jobs/ftjob-1", "GET"):
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 130
    assert "ftjob-1 goes on" in said
    assert "/fine_tuning/jobs/ftjob-1/cancel" in said
    assert KEY not in said
    api.states = ["succeeded"]
    again = toy.harness("tune", "toy", "--override", "a test of stopping", OPENAI_API_KEY=KEY)
    assert again.returncode == 0, again.stderr
    assert len(api.jobs) == 1
