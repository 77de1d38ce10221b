"""Says which rows could not be read, the same at every verb. Knows no verb.

Decided here: what makes something of rows (a task, a file) makes nothing where one of them cannot
be read, unless it was told to leave such rows out. What only tells of rows tells of the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.words import count, listed
from harness.engine.data.reading import BadRow, Reading
from harness.errors import TaskError

SHOWN = 5
LONGEST = 300
SURE = 0.9
"""From here on nobody is told to name another form: it is the rows that are wrong."""
FROM = "name their form with --from"


class BadRows(TaskError):
    """Rows could not be read. The message begins with the place of the first; the next ones are
    lines below it.
    """

    def __init__(
        self, bad: Sequence[BadRow], *, total: int, so: str, known_as: str = "", form: str = ""
    ) -> None:
        """`so` is what came of it, `known_as` the form that rows were read as; `form` says how
        another one is named, where that may be what is wrong.
        """
        as_what = f" as {known_as}" if known_as else ""
        ways = ["Mend such rows", *([form] if form else []), "leave them out with --skip-bad"]
        super().__init__(
            f"{bad[0].place}: {_short(bad[0].reason)}. {count(total, 'row')} could not be "
            f"read{as_what}, so {so}. {listed(ways, joint='or')}"
            + "".join(f"\n  {row.place}: {_short(row.reason)}" for row in bad[1:SHOWN])
            + (f"\n  and {total - SHOWN} more" if total > SHOWN and len(bad) > 1 else "")
        )


def refuse_bad(reading: Reading, *, form: str = FROM) -> None:
    """Raise BadRows where a row of a file, which was read to its end, could not be read.

    `form` says how another form is named.
    """
    if reading.bad_count:
        raise BadRows(
            reading.bad, total=reading.bad_count, so="nothing was written",
            known_as=reading.form, form=form if reading.confidence < SURE else "",
        )  # fmt: skip


def _short(reason: str) -> str:
    line = " ".join(reason.split()).rstrip(".")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
