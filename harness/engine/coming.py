"""Replies on their way while other work goes on in the same thread. Knows no evals.

Requests move on only while one of these methods runs (`harness.engine.sending.Sending`): whoever
does other work in between lets them have a turn now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.engine.evaluate import Asked, Evaluation, TrialId
from harness.engine.fetch import Outcome, Progress
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.engine.sending import Sending


class Coming:
    """What was asked for trials, given to their evaluations one by one, or all of it at the end.

    Every method but `close` raises the HarnessError that ended the asking.
    """

    def __init__(
        self,
        asked: Sequence[Asked],
        *,
        store: Store,
        progress: Progress,
        override_boundary: str | None = None,
    ) -> None:
        from harness.engine.sending import send

        unique = {ask.key: ask for _, some in asked for ask in some.values()}
        known = store.known_replies(list(unique))
        self._asks = {evaluation: dict(some) for evaluation, some in asked}
        self._known = {k: Outcome(key=k, reply=r, is_cached=True) for k, r in known.items()}
        self._sending: Sending = send(
            list(unique.values()),
            known,
            store=store,
            progress=progress,
            override_boundary=override_boundary,
        )

    def close(self) -> None:
        """Stop what is under way; what arrived is stored."""
        self._sending.close()

    @property
    def stood_s(self) -> float:
        """For how long nothing has moved on."""
        return self._sending.stood_s

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will be on its way before `go_on`."""
        return self._sending.is_settled

    def take(self, evaluation: Evaluation, trial: TrialId) -> Outcome:
        """Return the outcome of a trial as soon as it is there; its evaluation has it then."""
        ask = self._asks.get(evaluation, {}).pop(trial, None)
        if ask is not None:
            outcome = self._known.get(ask.key) or self._sending.outcome(ask.key)
            evaluation.take({trial: ask}, {ask.key: outcome})
        return evaluation.outcomes[trial]

    def turn(self) -> None:
        """Take in what arrived, and send what has its turn."""
        self._sending.turn()

    def hold(self) -> None:
        """Send no more than is on its way: at the beginning, what may be in flight at once."""
        self._sending.hold()

    def comes_within(self, evaluation: Evaluation, trial: TrialId, seconds: float) -> bool:
        """Tell whether the outcome of a trial is there, waiting for so long at most."""
        ask = self._asks.get(evaluation, {}).get(trial)
        if ask is None or ask.key in self._known:
            return True
        return self._sending.comes_within(ask.key, seconds)

    def settle(self, within_s: float) -> bool:
        """Send nothing more; tell whether nothing is on its way, waiting for so long at most."""
        return self._sending.settle(within_s)

    def go_on(self) -> None:
        """Send again, after `hold` or `settle`."""
        self._sending.go_on()

    def finish(self) -> None:
        """Give the evaluations all that is still to come."""
        outcomes = self._known | self._sending.finish()
        for evaluation, some in self._asks.items():
            evaluation.take(some, outcomes)
        self._asks.clear()
