"""What goes into the store and comes out of it as rows. Knows nothing of SQL or files."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import StoreError
from harness.records import Reply, Request, Split, digest
from harness.store.codec import encode, from_column


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReply:
    """A reply on its way into the store. `key` covers everything that can change the answer."""

    key: str
    request: Request
    reply: Reply
    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run without its trials. `candidate` is its name; `cases` counts distinct case ids.

    `at` is when this run was first recorded; `first_at` when any run of the same candidate
    (by digest) over the same inputs was: the time order of tries, which re-scoring keeps.
    `last_at` is when the same content was last recorded again.
    """

    id: str
    task: str
    split: Split
    candidate: str
    candidate_digest: str
    backend: str
    prompt: str | None
    family: str | None
    artifact: str | None
    is_complete: bool
    cases: int
    at: str
    first_at: str
    last_at: str
    inputs_digest: str
    labels_digest: str
    evals_digest: str


def request_body(row: StoredReply) -> tuple[str, str]:
    """Return the digest and the JSON of what was asked. Raises StoreError where it is not JSON."""
    what = f"the request of reply {row.key}"
    try:
        return digest(row.request), encode(row.request, what=what)
    except (TypeError, ValueError, RecursionError) as exc:
        raise StoreError(f"{what} cannot be stored: {type(exc).__name__}: {exc}") from exc


def run_row(row: tuple[object, ...]) -> RunRow:
    """Return the run whose columns stand in the order of the fields."""
    names = RunRow.__dataclass_fields__
    values = {
        name: from_column(value) if isinstance(value, str) else value
        for name, value in zip(names, row, strict=True)
    }
    values["is_complete"] = bool(values["is_complete"])
    return RunRow(**values)  # type: ignore[arg-type]
