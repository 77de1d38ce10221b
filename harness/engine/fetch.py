"""Gets replies: from the store where they are known, else from backends, all at once.

Knows nothing of evals or scores, nor how a request is sent: `sending` does, and is imported when
one is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.checks.offline import OFFLINE
from harness.engine.backends import LiveBackend
from harness.errors import BackendError
from harness.records import Fault, Reply, Request
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.engine.spending import Spending


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request to one backend, under the key that its reply is stored by. `internal` names the
    cases in it that may not leave this machine; `who` the candidate or judge that asks, `case`
    what it is about: costs are forecast by them. `task` is whose ledger a crossing goes to.
    `refusal` says why the backend would not honour it: nothing, unless it must be sent.
    """

    key: str
    request: Request
    live: LiveBackend
    internal: tuple[str, ...] = ()
    who: str = ""
    case: str = ""
    task: str = ""
    refusal: str = ""

    @property
    def payer(self) -> str:
        """Whose costs are alike: the candidate's, else the backend's."""
        return self.who or self.live.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an ask: a reply or a fault (or neither, where a case without a reference asks
    for the reference's reply). `is_cached` where no backend was asked.
    """

    key: str
    reply: Reply | None = None
    fault: Fault | None = None
    is_cached: bool = False


FORECAST = "forecast of "
"""How a note begins that tells what is still to be paid."""
NOT_ASKED = "not asked: "
"""How the fault begins of a request that was held back; its run is partial."""
OF_A_JUDGE = "judge "
"""How the fault begins of a trial that a judge gave no verdict on."""
OF_A_SCORER = "scorer "
"""How it begins where what an eval asked besides, as a check's server, gave none."""


def was_not_asked(fault: Fault | None) -> bool:
    """Tell a request that was held back from one that went wrong."""
    return fault is not None and fault.origin == "harness" and fault.message.startswith(NOT_ASKED)


def was_held_back(fault: Fault) -> bool:
    """Tell a request that this command did not send: by a cap, or because it asks nobody."""
    is_offline = fault.origin == "harness" and fault.message.endswith(OFFLINE)
    return is_offline or was_not_asked(fault)


def not_asked(why: object) -> Fault:
    """Return the fault of a request that was never sent."""
    return Fault(origin="harness", message=f"{NOT_ASKED}{why}", is_missing=True)


def no_verdict(judge: str, why: str) -> Fault:
    """Return the fault of a trial that a judge gave no verdict on: none of the candidate's doing,
    so that the judge's own score is missing, and no other.
    """
    return Fault(origin="harness", message=f"{OF_A_JUDGE}{judge}: {why}", is_missing=True)


def no_score(error: BackendError) -> Fault:
    """Return the fault of a trial of which an eval asked somebody that did not deliver."""
    return Fault(origin="harness", message=f"{OF_A_SCORER}{error}", is_missing=True)


def has_no_verdict(fault: Fault) -> bool:
    """Tell a judge or scorer that did not answer from one that was not asked, as offline."""
    is_of_one = fault.message.startswith((OF_A_JUDGE, OF_A_SCORER)) and fault.origin == "harness"
    return is_of_one and not fault.message.endswith(OFFLINE)


class Progress(Protocol):
    """Told of what happens while replies are fetched."""

    def begin(self, backend: str, total: int) -> None:
        """`total` requests will be sent to `backend`."""

    def advance(self, backend: str, *, is_reply: bool = True) -> None:
        """One of them is done: with a reply, or without one (it failed, or was not asked)."""

    def spend(self, cost_usd: float) -> None:
        """A reply cost so much; not told where that is not known."""

    def note(self, text: str) -> None:
        """Something that a person should know: a retry, a backend that is down."""


class Silence:
    """A Progress that shows nothing."""

    def begin(self, backend: str, total: int) -> None:
        """Say nothing."""

    def advance(self, backend: str, *, is_reply: bool = True) -> None:
        """Say nothing."""

    def spend(self, cost_usd: float) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


def fetch(
    asks: Sequence[Ask],
    *,
    store: Store,
    progress: Progress,
    is_offline: bool = False,
    wait: Callable[[int], float] | None = None,
    spending: Spending | None = None,
    is_batch: bool = False,
    pause: Callable[[int], float] | None = None,
    override_boundary: str | None = None,
) -> dict[str, Outcome]:
    """Return the outcome of every ask, by key. Equal keys are asked once.

    `spending` holds what may be spent: its first fetch begins with a pilot and a forecast, and
    raises UsageError where that is above the cap. `is_batch` hands in what is missing as batches.
    `wait` gives the seconds before try n (2, 3, ...), `pause` those before look n at a batch, for
    tests. `override_boundary` is the reason why internal cases may leave this machine; it is
    recorded. KeyboardInterrupt passes through after every reply that arrived was stored.
    """
    unique = {ask.key: ask for ask in asks}
    known = store.known_replies(list(unique))
    outcomes = {k: Outcome(key=k, reply=r, is_cached=True) for k, r in known.items()}
    missing = [ask for key, ask in unique.items() if key not in known]
    if is_offline:
        fault = Fault(origin="harness", message=f"no recorded reply {OFFLINE}", is_missing=True)
        return outcomes | {a.key: Outcome(key=a.key, fault=fault) for a in missing}
    if missing:
        from harness.engine.sending import send

        sending = send(
            list(unique.values()),
            known,
            store=store,
            progress=progress,
            wait=wait,
            spending=spending,
            is_batch=is_batch,
            pause=pause,
            override_boundary=override_boundary,
        )
        with closing(sending):
            outcomes |= sending.finish()
    return outcomes
