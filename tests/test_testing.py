"""What plugin authors test with keeps its own promises, and catches each broken one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import harness.testing
from harness.errors import BackendError, UsageError
from harness.ports.backends import BackendConfig
from harness.ports.tuners import TrainProgress, TrainResult, TuneJob
from harness.records import Message, PreparedRow, Reply, Request, TrainingRow
from harness.testing import (
    ScriptedBackend,
    backend_problems,
    conformance,
    make_candidate,
    make_case,
    make_run,
    temporary_store,
    tuner_conformance,
)


def ask(text: str) -> Request:
    return Request(messages=(Message(role="user", content=text),))


def answers(backend: ScriptedBackend, *texts: str) -> list[str]:
    async def all_of_them() -> list[Reply]:
        return await asyncio.gather(*(backend.answer(ask(text)) for text in texts))

    return [reply.text for reply in asyncio.run(all_of_them())]


def test_the_exported_names_are_sorted_and_exist() -> None:
    assert harness.testing.__all__ == sorted(harness.testing.__all__)
    assert all(hasattr(harness.testing, name) for name in harness.testing.__all__)


# ---------------------------------------------------------------- scripted backends


def test_a_sequence_is_answered_in_order_and_then_fails() -> None:
    backend = ScriptedBackend(["yes", "no"])
    assert answers(backend, "a", "b") == ["yes", "no"]
    with pytest.raises(BackendError, match="holds 2 replies, and this is request 3"):
        answers(backend, "c")
    assert [request.messages[0].content for request in backend.requests] == ["a", "b", "c"]


def test_a_mapping_is_answered_by_the_whole_text_then_by_the_longest_part() -> None:
    backend = ScriptedBackend({"cat": "meow", "cat and dog": "noise", "dog": "woof"})
    assert answers(backend, "dog", "A cat and dog?", "one cat") == ["woof", "noise", "meow"]
    with pytest.raises(BackendError, match="no answer to 'bird'"):
        answers(backend, "bird")


def test_a_function_may_answer_at_once_or_later() -> None:
    async def later(request: Request) -> str:
        await asyncio.sleep(0)
        return request.messages[-1].content.upper()

    assert answers(ScriptedBackend(lambda r: r.messages[-1].content[::-1]), "abc") == ["cba"]
    assert answers(ScriptedBackend(later), "abc") == ["ABC"]


def test_a_reply_is_given_as_it_is_and_an_exception_is_raised() -> None:
    whole = Reply(text="x", cost_usd=0.5)
    busy = BackendError("429", is_retryable=True, retry_after_s=1.0)
    backend = ScriptedBackend([busy, whole])
    with pytest.raises(BackendError) as raised:
        asyncio.run(backend.answer(ask("a")))
    assert raised.value is busy
    assert asyncio.run(backend.answer(ask("a"))) == whole
    with pytest.raises(TypeError, match="a script holds"):
        asyncio.run(ScriptedBackend([7]).answer(ask("a")))  # type: ignore[list-item]


def test_requests_in_flight_are_counted_whether_they_fail_or_not() -> None:
    def mixed(request: Request) -> str | BackendError:
        return BackendError("no") if request.messages[0].content == "3" else "yes"

    backend = ScriptedBackend(mixed, latency_s=0.05)

    async def all_of_them() -> None:
        sent = (backend.answer(ask(str(n))) for n in range(7))
        await asyncio.gather(*sent, return_exceptions=True)
        await backend.answer(ask("alone"))

    asyncio.run(all_of_them())
    assert backend.max_in_flight == 7
    assert backend.in_flight == 0


# ---------------------------------------------------------------- small records


def test_small_records_go_through_a_real_store(tmp_path: Path) -> None:
    cases = [make_case("a", cluster="x"), make_case("b", reference=None, tags=["slow"])]
    run = make_run(
        [0.5, BackendError("down")], cases=cases, candidate=make_candidate("cot"), task="t"
    )
    with temporary_store(tmp_path) as store:
        assert store.run(store.add_run(run, at="2026-01-01T00:00:00+00:00")) == run
    assert [trial.case_id for trial in run.trials] == ["a", "b"]
    assert run.trials[0].scores[0].value == 0.5
    assert run.trials[1].fault is not None
    assert run.trials[1].fault.is_missing


def test_a_systemic_error_is_the_systems_own_answer_and_none_is_unscored() -> None:
    overflow = BackendError("context", is_systemic=True)
    first, second = make_run([overflow, None]).trials
    assert first.fault is not None
    assert not first.fault.is_missing
    assert second.scores[0].value is None
    assert second.scores[0].reason


def test_runs_differ_by_what_was_asked_and_by_who_answered() -> None:
    ids = {
        make_run([1, 0]).id,
        make_run([1, 1]).id,
        make_run([1, 0], candidate=make_candidate("other")).id,
        make_run([1, 0], labels_digest="labels-2").id,
        make_run([1, 0], split="test").id,
    }
    assert len(ids) == 5
    assert make_run([1, 0]) == make_run([1, 0])


# ---------------------------------------------------------------- conformance of a backend


class Good:
    """A plain `def answer`, as the protocol allows, with everything declared."""

    honours: Any = frozenset({"schema"})
    identity: Any = {"weights": "abc"}  # noqa: RUF012 - a stranger's class
    concurrency: Any = 2
    is_external: Any = False
    reply: Any = Reply(text="hello", input_tokens=3, latency_s=0.1)

    def __init__(self) -> None:
        self.closed = 0

    def answer(self, request: Request) -> Reply:
        if not request.messages:
            raise BackendError("there is nothing to answer")
        return self.reply  # type: ignore[no-any-return]

    def token_ids(self, request: Request) -> Sequence[int]:
        return [1, 2, 3]

    def stop_ids(self) -> frozenset[int]:
        return frozenset({0})

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(str, ids))

    def close(self) -> None:
        self.closed += 1


def test_a_backend_that_keeps_its_promises_conforms_and_is_closed_once() -> None:
    made: list[Good] = []

    def factory(config: BackendConfig) -> Good:
        made.append(Good())
        return made[-1]

    conformance(factory)
    assert [backend.closed for backend in made] == [1]
    conformance(lambda config: ScriptedBackend(lambda request: "hello"))


class Bare:
    async def answer(self, request: Request) -> Reply:
        return Reply(text="")


def test_a_backend_of_one_method_conforms() -> None:
    conformance(lambda config: Bare())


def raises(error: BaseException) -> Callable[..., Any]:
    def function(*_: object) -> Any:
        raise error

    return function


def changes(request: Request) -> Reply:
    object.__setattr__(request, "messages", ())
    return Reply(text="")


def unstable() -> Callable[..., Any]:
    seen: list[int] = []

    def token_ids(_: object, request: Request) -> list[int]:
        seen.append(1)
        return [len(seen)]

    return token_ids


async def closes(_: object) -> None:
    """Would never be awaited."""


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"answer": None}, "has no method `answer"),
        ({"answer": staticmethod(raises(KeyError("choices")))}, "raised KeyError"),
        ({"answer": staticmethod(raises(BackendError("down")))}, "BackendError for an ordinary"),
        ({"answer": staticmethod(changes)}, "changed the request"),
        ({"answer": lambda self, r: Reply(text=r.messages[0].content)}, "without messages raised"),
        ({"answer": lambda self, r: "hello"}, "returned str, not harness.Reply"),
        ({"answer": lambda self, r: None}, "returned NoneType"),
        ({"reply": Reply(text=b"x")}, "`Reply.text` is text"),  # type: ignore[arg-type]
        ({"reply": Reply(text="", input_tokens=-1)}, "`Reply.input_tokens`"),
        ({"reply": Reply(text="", output_tokens=1.5)}, "`Reply.output_tokens`"),  # type: ignore[arg-type]
        ({"reply": Reply(text="", latency_s=math.nan)}, "`Reply.latency_s`"),
        ({"reply": Reply(text="", cost_usd=-0.1)}, "`Reply.cost_usd`"),
        ({"reply": Reply(text="", tool_calls=({1},))}, "cannot be stored as JSON"),
        ({"honours": "schema"}, "`honours` is a set of names"),
        ({"honours": {"schemas"}}, "not 'schemas'"),
        ({"honours": 3}, "`honours` is a set of names"),
        ({"concurrency": 0}, "`concurrency`"),
        ({"concurrency": "4"}, "`concurrency`"),
        ({"concurrency": True}, "`concurrency`"),
        ({"is_external": None}, "`is_external`"),
        ({"identity": {"dtype": 16}}, "'dtype': 16"),
        ({"identity": ["a"]}, "`identity` is a mapping"),
        ({"token_ids": unstable()}, "two answers"),
        ({"token_ids": lambda self, r: []}, "at least one"),
        ({"token_ids": lambda self, r: ["a"]}, "whole numbers"),
        ({"token_ids": lambda self, r: 1 / 0}, "raised ZeroDivisionError"),
        ({"stop_ids": lambda self: [0]}, "frozenset"),
        ({"stop_ids": lambda self: frozenset()}, "at least one"),
        ({"decode": lambda self, ids: list(ids)}, "`decode` returns text"),
        ({"close": 1}, "`close` is not a method"),
        ({"close": closes}, "`close` is a coroutine"),
    ],
)
def test_each_broken_promise_of_a_backend_is_named(
    attributes: Mapping[str, object], message: str
) -> None:
    broken = type("Broken", (Good,), dict(attributes))
    with pytest.raises(AssertionError, match="broken promises") as raised:
        conformance(lambda config: broken())
    assert message in str(raised.value)


def test_every_broken_promise_is_listed_at_once() -> None:
    broken = type("Broken", (Good,), {"concurrency": 0, "identity": {1: 2}, "honours": {"x"}})
    config = BackendConfig(model="m")
    assert len(backend_problems(lambda c: broken(), config, request=ask("hello"))) == 3


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UsageError("no such model"), "refused 'conformance'.*no such model"),
        (ValueError("boom"), "raised ValueError .boom., not a HarnessError"),
    ],
)
def test_a_factory_that_fails_is_a_broken_promise(error: Exception, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        conformance(raises(error))


# ---------------------------------------------------------------- conformance of a tuner


class GoodTuner:
    """Counts letters; learns nothing, but keeps every promise."""

    def prepare(self, job: TuneJob) -> Sequence[PreparedRow]:
        rows = []
        for row in job.rows:
            asked, said = list(row.messages[-1].content.encode()), list(row.completion.encode())
            labels = (*(-100 for _ in asked), *said)
            rows.append(PreparedRow(case_id=row.case_id, input_ids=(*asked, *said), labels=labels))
        return rows

    def train(
        self,
        job: TuneJob,
        rows: Sequence[PreparedRow],
        *,
        report: Callable[[TrainProgress], None],
    ) -> TrainResult:
        for step in (1, 2):
            report(TrainProgress(step=step, steps=2, loss=1 / step, tokens=9, seconds=0.1 * step))
        (job.out_dir / "letters.json").write_text(str(sum(len(row.labels) for row in rows)))
        return TrainResult(
            base_digest="0" * 64, template_digest="f" * 64, metrics={"loss": 0.5}, environment={}
        )


def job_in(tmp_path: Path) -> TuneJob:
    rows = tuple(
        TrainingRow(
            case_id=f"c-{n}", messages=(Message(role="user", content=f"q{n}"),), completion="yes"
        )
        for n in range(3)
    )
    return TuneJob(base="tiny", rows=rows, recipe={}, out_dir=tmp_path / "out")


def test_a_tuner_that_keeps_its_promises_conforms(tmp_path: Path) -> None:
    result = tuner_conformance(GoodTuner, job=job_in(tmp_path))
    assert result is not None
    assert result.metrics == {"loss": 0.5}
    assert (tmp_path / "out" / "letters.json").exists()
    assert tuner_conformance(GoodTuner, job=job_in(tmp_path / "b"), is_trained=False) is None
    assert not (tmp_path / "b" / "out").exists()


def altered(change: Callable[[list[PreparedRow]], list[PreparedRow]]) -> Callable[..., Any]:
    return lambda self, job: change(list(GoodTuner.prepare(self, job)))


def trained(**changes: Any) -> Callable[..., Any]:
    def train(self: Any, job: TuneJob, rows: Any, *, report: Any) -> TrainResult:
        return replace(GoodTuner.train(self, job, rows, report=report), **changes)

    return train


def steps(*numbers: int, loss: float = 1.0) -> Callable[..., Any]:
    def train(self: Any, job: TuneJob, rows: Any, *, report: Any) -> TrainResult:
        for n in numbers:
            report(TrainProgress(step=n, steps=9, loss=loss, tokens=1, seconds=0.1))
        return GoodTuner.train(self, job, rows, report=lambda progress: None)

    return train


def leaves(name: str) -> Callable[..., Any]:
    def train(self: Any, job: TuneJob, rows: Any, *, report: Any) -> TrainResult:
        (job.out_dir / name).write_bytes(b"")
        return GoodTuner.train(self, job, rows, report=report)

    return train


def without_files(self: Any, job: TuneJob, rows: Any, *, report: Any) -> TrainResult:
    result = GoodTuner.train(self, job, rows, report=report)
    (job.out_dir / "letters.json").unlink()
    return result


def random_rows() -> Callable[..., Any]:
    calls: list[int] = []

    def prepare(self: Any, job: TuneJob) -> list[PreparedRow]:
        calls.append(1)
        ids = (len(calls),)
        return [PreparedRow(case_id=row.case_id, input_ids=ids, labels=ids) for row in job.rows]

    return prepare


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"prepare": altered(lambda rows: rows[:-1])}, "one row for each training row"),
        ({"prepare": altered(lambda rows: rows[::-1])}, "in their order"),
        (
            {"prepare": altered(lambda rows: [replace(r, labels=r.labels[1:]) for r in rows])},
            "5 input_ids and 4 labels",
        ),
        (
            {"prepare": altered(lambda rows: [replace(r, labels=(-100,) * 5) for r in rows])},
            "no token is supervised",
        ),
        (
            {"prepare": altered(lambda rows: [replace(r, labels=(1,) * 5) for r in rows])},
            "neither -100 nor the id",
        ),
        (
            {
                "prepare": altered(
                    lambda rows: [replace(r, input_ids=(1.0,), labels=(1.0,)) for r in rows]  # type: ignore[arg-type]
                )
            },
            "whole numbers",
        ),
        ({"prepare": random_rows()}, "two answers to one job"),
        ({"train": lambda self, job, rows, *, report: None}, "returned NoneType"),
        ({"train": trained(base_digest="abc")}, "`TrainResult.base_digest` is a sha256"),
        ({"train": trained(template_digest="F" * 64)}, "`TrainResult.template_digest`"),
        ({"train": trained(metrics={"loss": math.nan})}, "finite numbers"),
        ({"train": steps()}, "reported no progress"),
        ({"train": steps(1, 1)}, "do not rise"),
        ({"train": steps(1, 2, loss=math.inf)}, "not a finite number"),
        ({"train": leaves("optimizer.pt")}, "may be a pickle"),
        ({"train": without_files}, "wrote nothing"),
    ],
)
def test_each_broken_promise_of_a_tuner_is_named(
    tmp_path: Path, attributes: Mapping[str, object], message: str
) -> None:
    broken = type("Broken", (GoodTuner,), dict(attributes))
    with pytest.raises(AssertionError, match="broken promises") as raised:
        tuner_conformance(broken, job=job_in(tmp_path))
    assert message in str(raised.value)
