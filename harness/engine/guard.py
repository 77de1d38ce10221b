"""Checks replies at inference with a task's evals, and heals bad ones by asking again.

Knows nothing of pytest, and writes nothing: every attempt is in the result, and told to `record`.

    guard = harness.guard("evals/nl_query", candidate="few-shot", tries=3)
    result = guard({"question": "durations in the last hour", "columns": [...]})
"""

from __future__ import annotations

import asyncio
import random
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from harness.core.answers import answer_of
from harness.core.prompts import check_text
from harness.core.words import count
from harness.engine.attempts import Attempt, GuardResult, failed, reasons_of, result_of
from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.candidates import CONSTANT, REFERENCE, REPLAY, resolve_candidate
from harness.engine.closing import Closing
from harness.engine.healing import HEAL, Healer
from harness.engine.loops import LoopThread
from harness.engine.plain_evals import PlainEvals, PlainScores
from harness.engine.project import Project, artifact_folder, find_project, find_task_folder
from harness.engine.requests import Requests
from harness.engine.tasks import Task, load_task
from harness.engine.threads import Threads
from harness.errors import BackendError, GuardRefused, UsageError
from harness.ports.manager import Plugins
from harness.records import Artifact, Candidate, Case, Json, Message, Reply, Request
from harness.store.store import Store

LONGEST_WAIT_S = 30.0
FIRST_WAIT_S = 0.5
UNREADABLE = "The check {name!r} could not read the reply."


class GuardWarning(UserWarning):
    """Evals of the task that a guard cannot use; the message names each with the reason."""


Inputs = Mapping[str, Json] | Case
_Step = Request | tuple[Case, Reply] | float
"""What a step asks of its driver: a reply to a request, scores of a reply, or a pause."""
_Steps = Generator[_Step, Reply | BackendError | PlainScores | None, GuardResult]


def guard(
    task: str | Path,
    *,
    candidate: str | None = None,
    tries: int = 2,
    checks: Sequence[str] | None = None,
    heal: str = HEAL,
    on_fail: Literal["return", "raise"] = "return",
    base_url: str | None = None,
    plugins: Plugins | None = None,
    record: Callable[[GuardResult], object] | None = None,
) -> Guard:
    """Return a guard made of the evals of `task` (a folder, or a name in this project).

    `candidate` is who is asked, first and again; without one the guard only checks. `tries` is the
    most replies for one input; `checks` names the evals in use; `heal` is the template of the turn
    that gives the reasons (it may name `reasons`, `inputs`, `tries_left`); `on_fail="raise"` raises
    GuardRefused where no try was good; `record` is told of every result.

    Raises UsageError where no eval of the task works outside pytest, and under `python -O`.
    """
    if tries < 1:
        raise UsageError(f"guard: tries is at least 1, not {tries!r}")
    if on_fail not in ("return", "raise"):
        raise UsageError(f"guard: on_fail is 'return' or 'raise', not {on_fail!r}")
    check_text(heal, ("reasons", "inputs", "tries_left"), place="guard: heal")
    folder = Path(task)
    project = find_project(folder if folder.is_dir() else Path.cwd())
    if not (folder / "task.toml").is_file():
        folder = find_task_folder(project, str(task), cwd=Path.cwd())
    loaded = load_task(folder.resolve())
    evals = PlainEvals(loaded, only=checks)
    if not evals.names:
        why = "; ".join(f"{name}: {reason}" for name, reason in evals.left_out.items())
        raise UsageError(
            f"guard: no eval of {loaded.name!r} works outside pytest ({why}). A guard needs one "
            "that asks for nothing but `case`, `reply` and `score`."
        )
    chosen, pool = None, None
    if candidate is not None:
        chosen = resolve_candidate(
            loaded,
            candidate,
            base_url=base_url,
            artifact_digest=partial(_artifact, project, loaded.name),
        )
        if chosen.backend == REFERENCE or chosen.backend.startswith((REPLAY, CONSTANT)):
            raise UsageError(
                f"guard: candidate {candidate!r} holds recorded replies; it cannot be asked"
            )
        owned = plugins or Plugins(disabled=project.disabled_plugins).load()
        pool = BackendPool(owned, artifact_folder=partial(artifact_folder, project))
    if evals.left_out and checks is None:
        named = "; ".join(f"{name} ({reason})" for name, reason in evals.left_out.items())
        warnings.warn(f"guard of {loaded.name!r} leaves out {named}", GuardWarning, stacklevel=2)
    return Guard(
        loaded,
        evals=evals,
        candidate=chosen,
        pool=pool,
        tries=tries,
        healer=Healer(template=heal),
        is_raising=on_fail == "raise",
        record=record,
    )


def _artifact(project: Project, task: str, text: str) -> Artifact:
    if not project.store.is_file():  # opening it would make one
        raise UsageError(f"no artifact {text!r}: there is no store at {project.store}")
    with Store.open(project.store) as store:
        return store.artifact(text, task=task)


class Guard(Closing):
    """Made by `harness.guard`. Safe to use from several threads, and from a running event loop
    (where `acall` does not block it). Close it, or use it in a `with`.
    """

    def __init__(
        self,
        task: Task,
        *,
        evals: PlainEvals,
        candidate: Candidate | None,
        pool: BackendPool | None,
        tries: int,
        healer: Healer,
        is_raising: bool,
        record: Callable[[GuardResult], object] | None,
    ) -> None:
        self.task = task
        self.candidate = candidate
        self.tries = tries
        self._evals = evals
        self._healer = healer
        self._is_raising = is_raising
        self._record = record
        self._pool = pool
        self._live: LiveBackend | None = None
        self._requests = Requests(task)
        self._loop = LoopThread(name="harness-guard")
        self._threads = Threads()
        if candidate is not None and pool is not None:
            self._live = pool.get(candidate, folder=task.folder)
            self._loop.limit(self._live.concurrency)

    @property
    def names(self) -> tuple[str, ...]:
        """The evals that this guard calls."""
        return self._evals.names

    @property
    def left_out(self) -> dict[str, str]:
        """The evals of the task that it cannot call, and why."""
        return dict(self._evals.left_out)

    # ------------------------------------------------------------ calling

    def __call__(self, inputs: Inputs, reply: Reply | str | None = None) -> GuardResult:
        """Check `reply`, or ask the candidate for one; heal a bad one by asking again.

        Raises BackendError where no reply came at all, and GuardRefused as `on_fail` says.
        """
        steps = self._steps(self._case(inputs), reply)
        answer: Reply | BackendError | PlainScores | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return self._ended(end.value)
            if isinstance(step, Request):
                answer = self._loop.run(self._ask(step))
            elif isinstance(step, tuple):
                answer = self._evals.scores(*step)
            else:
                time.sleep(step)
                answer = None

    async def acall(self, inputs: Inputs, reply: Reply | str | None = None) -> GuardResult:
        """Do what a call does, without blocking the running event loop."""
        steps = self._steps(self._case(inputs), reply)
        answer: Reply | BackendError | PlainScores | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return self._ended(end.value)
            if isinstance(step, Request):
                answer = await self._loop.arun(self._ask(step))
            elif isinstance(step, tuple):
                answer = await self._threads.run(partial(self._evals.scores, *step))
            else:
                await asyncio.sleep(step)
                answer = None

    def check(self, inputs: Inputs, reply: Reply | str) -> GuardResult:
        """Check `reply` alone: nobody is asked, nothing is healed, nothing is raised."""
        began = time.monotonic()
        said = _reply(reply)
        found = self._evals.scores(self._case(inputs), said)
        return result_of([self._attempt(None, said, found, began=began)])

    def prompts(
        self, inputs: Inputs, reply: Reply | str | None = None
    ) -> list[tuple[Message, ...]]:
        """Return every prompt that a call would send: the request, and, given a reply that is bad,
        the request that would heal it.
        """
        case = self._case(inputs)
        first = self._request(case)
        found = [first.messages]
        if reply is not None:
            result = self.check(inputs, reply)
            if result.is_good is False:
                assert result.reply is not None
                healing = self._healing(first, result.reply, result.attempts[0], case, left=1)
                found.append(healing.messages)
        return found

    def close(self) -> None:
        """Close the backend and end the threads."""
        self._loop.close()  # first: connections are closed by the loop that opened them
        if self._pool is not None:
            self._pool.close()
        self._threads.close()
        self._evals.close()

    # ------------------------------------------------------------ one reply after the other

    def _steps(self, case: Case, given: Reply | str | None) -> _Steps:
        """Yield what is to be done, take what came of it, and return the result: the one course
        of things that plain and async callers drive.
        """
        attempts: list[Attempt] = []
        request: Request | None = None
        reply: Reply | None = None if given is None else _reply(given)
        asked: Request | None = None
        while True:
            began = time.monotonic()
            if reply is None:
                request = asked = asked or self._request(case)
                answer = yield request
                if isinstance(answer, BackendError):
                    attempts.append(failed(request, answer, began=began))
                    if not answer.is_retryable or len(attempts) >= self.tries:
                        if all(a.reply is None for a in attempts):
                            raise answer
                        return result_of(attempts)
                    yield _pause(answer, len(attempts))
                    continue
                assert isinstance(answer, Reply)
                reply = answer
            found = yield (case, reply)
            assert isinstance(found, PlainScores)
            attempts.append(self._attempt(request, reply, found, began=began))
            result = result_of(attempts)
            if result.is_good is not False or self._live is None or len(attempts) >= self.tries:
                return result
            left = self.tries - len(attempts)
            asked = self._healing(
                asked or self._request(case), reply, attempts[-1], case, left=left
            )
            reply = None

    async def _ask(self, request: Request) -> Reply | BackendError:
        assert self._live is not None
        try:
            async with self._loop.limiter:
                reply = await self._live.answer(request)
        except BackendError as exc:
            return exc
        name = self.candidate.prompt if self.candidate else None
        return reply if name is None else answer_of(self.task.prompts[name], reply)

    def _request(self, case: Case) -> Request:
        if self.candidate is None or self._live is None:
            raise UsageError("guard: give a reply, or make the guard with candidate=NAME")
        request = self._requests.of(self.candidate, case)
        refusal = self._live.refuse(request)
        if refusal:
            raise UsageError(f"guard: candidate {self.candidate.name!r}: {refusal}")
        return request

    def _healing(
        self, asked: Request, reply: Reply, attempt: Attempt, case: Case, *, left: int
    ) -> Request:
        broken = {s.name for s in attempt.scores if s.value is None}
        # what an eval says of its own breakdown is for people; the model learns that it broke
        reasons = [
            UNREADABLE.format(name=name) if name in broken else text
            for name, text in (r.split(": ", 1) for r in attempt.reasons)
        ]
        return self._healer.request(asked, reply, reasons, inputs=case.inputs, tries_left=left)

    def _case(self, inputs: Inputs) -> Case:
        if isinstance(inputs, Case):
            # at inference nobody knows the reference, nor what spells it out: other right answers,
            # a worse one, a case's own checks
            return replace(inputs, reference=None, also_right=(), rejected=None, checks=())
        if not isinstance(inputs, Mapping):
            kind = type(inputs).__name__
            raise UsageError(f"guard: inputs are a mapping, as a case's are, not {kind}")
        if self.task.settings.images:
            raise UsageError(
                "guard: this task's cases have images. Give a harness.Case with `images`, as data: "
                "URLs: a path out of somebody's inputs is not opened."
            )
        return Case(id="guard", inputs=dict(inputs), split="test")

    def _attempt(
        self, request: Request | None, reply: Reply, found: PlainScores, *, began: float
    ) -> Attempt:
        return Attempt(
            request=request,
            reply=reply,
            scores=found.scores,
            reasons=tuple(reasons_of(found)),
            fault=found.fault,
            seconds=time.monotonic() - began,
        )

    def _ended(self, result: GuardResult) -> GuardResult:
        if self._record is not None:
            self._record(result)
        if self._is_raising and not result.is_good:
            why = "; ".join(result.reasons) or "no eval could measure it"
            raise GuardRefused(
                f"guard of {self.task.name!r}: no good reply in "
                f"{count(len(result.attempts), 'attempt')}: {why}",
                result=result,
            )
        return result


def _reply(reply: Reply | str) -> Reply:
    if isinstance(reply, str):
        return Reply(text=reply)
    if isinstance(reply, Reply):
        return reply
    raise UsageError(f"guard: a reply is a text or a Reply, not {type(reply).__name__}")


def _pause(error: BackendError, failures: int) -> float:
    # jitter: many guards that were refused together must not come back together
    own = FIRST_WAIT_S * 2.0 ** (failures - 1) * random.uniform(0.5, 1.5)
    return min(LONGEST_WAIT_S, max(error.retry_after_s or 0.0, own))
