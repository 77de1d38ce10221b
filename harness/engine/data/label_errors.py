"""The rule that guesses which labels are wrong, by a simple model that never saw the row.

Knows no file. It needs scikit-learn and cleanlab; without them the rule says that it was left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.core.groups import Groups
from harness.core.lints.base import Finding, Lint, Place, Row, Rule
from harness.core.lints.classes import LONGEST, labels_in
from harness.core.words import count, percent
from harness.errors import MissingExtra

if TYPE_CHECKING:
    import numpy.typing as npt

HELD = 10_000
"""Rows of one column that are kept: beyond, every other one is forgotten, and so on."""
LONGEST_TEXT = 2_000
COLUMNS = 4
FOLDS = 5
LEAST_ROWS = 100
LEAST_OF_A_LABEL = 10
"""Sources (rows, where none share one) that a label needs: fewer teach a model nothing."""
MOST_LABELS = 300
FEATURES = 5_000
KNOWS = 0.5
"""The model must make at most this share of the errors of always saying the most frequent label:
where it knows less, what it doubts says nothing about the labels.
"""


@dataclass(slots=True)
class _Labelled:
    label: str
    text: str
    key: int
    cluster: str
    place: Place


class _Column:
    """The labelled rows of one column, evenly thinned where they are many."""

    def __init__(self) -> None:
        self.rows: list[_Labelled] = []
        self.step = 1
        self.seen = 0

    def add(self, row: Row, label: str) -> None:
        if self.seen % self.step == 0:
            text = row.asked[:LONGEST_TEXT]
            key = hash((row.context, row.content))
            self.rows.append(_Labelled(label, text, key, row.example.cluster, row.place))
            if len(self.rows) > HELD:
                self.rows, self.step = self.rows[::2], 2 * self.step
        self.seen += 1


class LabelErrorLint(Lint):
    """Finds labels that the words of the row, by all other rows, speak against."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="label-error",
            severity="note",
            about="A label that is probably wrong: a model of words (TF-IDF and logistic "
            "regression), trained on the other four fifths of the rows, is surer of another label "
            "than rows of that label usually make it (confident learning, by cleanlab). Looked "
            "for where answers are labels with ten sources each or more, and only where the "
            "model makes less than half the errors of always saying the most frequent label. Rows "
            "of one cluster, and equal ones, are never on both sides. Needs the extra `cleanlab`.",
            fix="Read these rows first when you check labels. It is a guess: correct what is "
            "wrong, and leave what is rare and right.",
        ),
    )

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self._over: set[str] = set()
        self.left_out: list[str] = []
        """What was not looked at, and why: known after `findings`."""

    def see(self, row: Row) -> None:
        """Keep the row's words beside its label."""
        example = row.example
        if example.rejected is not None or example.is_good is False:
            return
        for name, label in labels_in("reference", example.reference):
            if name in self._over or name.endswith("[]"):
                continue
            column = self._columns.get(name)
            if len(label) > LONGEST or (column is None and len(self._columns) == COLUMNS):
                self._over.add(name)
                self._columns.pop(name, None)
                continue
            if column is None:
                column = self._columns[name] = _Column()
            column.add(row, label)

    def findings(self) -> Iterable[Finding]:
        """Return the rows of each column of labels whose label is probably wrong."""
        for name, column in self._columns.items():
            rows = _learnable(column.rows)
            if not rows:
                continue
            try:
                doubted = _doubted(rows)
            except MissingExtra as exc:
                self.left_out.append(f"label-error was not looked for: {exc}")
                return
            if isinstance(doubted, str):
                self.left_out.append(f"label-error was not looked for in {name}: {doubted}")
                continue
            if doubted:
                looked = f"{count(len(rows), 'row')}"
                looked += f" (every {column.step}th)" if column.step > 1 else ""
                yield self.found(
                    "label-error",
                    f"{name}: {len(doubted)} of {looked} looked at have a label that a model of "
                    "their words takes for wrong; the surest first",
                    count=len(doubted),
                    rows=[p.told(f"{own!r}, by its words {other!r}") for p, own, other in doubted],
                )


def _learnable(rows: Sequence[_Labelled]) -> list[_Labelled]:
    """Return the rows of labels that have enough sources; none where they are no set of labels."""
    sources: dict[str, set[str | int]] = {}
    for row in rows:
        sources.setdefault(row.label, set()).add(row.cluster or row.key)
    kept = {label for label, found in sources.items() if len(found) >= LEAST_OF_A_LABEL}
    learnable = [row for row in rows if row.label in kept]
    is_enough = len(learnable) >= LEAST_ROWS and 2 <= len(kept) <= MOST_LABELS
    # where half of all answers are rare, they are texts, some of which recur
    return learnable if is_enough and 2 * len(learnable) >= len(rows) else []


def _doubted(rows: Sequence[_Labelled]) -> list[tuple[Place, str, str]] | str:
    """Return (row, its label, the likelier one), the surest first; or why nothing can be told."""
    try:
        from cleanlab.filter import find_label_issues
        from threadpoolctl import threadpool_limits
    except ImportError as exc:
        raise MissingExtra("guessing wrong labels", extra="cleanlab") from exc
    labels = sorted({row.label for row in rows})
    numbers = {label: number for number, label in enumerate(labels)}
    given = np.array([numbers[row.label] for row in rows])
    with threadpool_limits(1):  # matrices are small: threads would wait for one another
        chances = _out_of_fold(rows, given, len(labels))
    if chances is None:
        return "its rows have no words, or hang together as one source"
    likeliest = chances.argmax(axis=1)
    wrong = float((likeliest != given).mean())
    constant = 1 - Counter(given.tolist()).most_common(1)[0][1] / len(rows)
    if wrong > KNOWS * constant:
        return (
            f"a model of words is wrong for {percent(wrong, digits=0)} of the rows, always the "
            f"most frequent label for {percent(constant, digits=0)}: it knows too little to doubt "
            "a label"
        )
    found = find_label_issues(
        given,
        chances,
        filter_by="low_self_confidence",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    return [
        (rows[i].place, labels[given[i]], labels[likeliest[i]])
        for i in found.tolist()
        if likeliest[i] != given[i]
    ]


def _out_of_fold(
    rows: Sequence[_Labelled], given: npt.NDArray[np.int64], labels: int
) -> npt.NDArray[np.float64] | None:
    """Return each label's probability for each row, by a model of rows from other sources.

    Shapes: (rows, labels). None where there is no word, or no other source.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(sublinear_tf=True, max_features=FEATURES)
    try:
        features = words.fit_transform([row.text for row in rows])
    except ValueError:
        return None
    chances = np.full((len(rows), labels), 1e-9)
    folds = list(_folds(rows, given))
    if len(folds) < FOLDS:
        return None
    for train, held in folds:
        model = LogisticRegression(C=10.0, max_iter=200, tol=1e-3).fit(
            features[train], given[train]
        )
        chances[np.ix_(held, model.classes_)] = model.predict_proba(features[held])
    normal: npt.NDArray[np.float64] = chances / chances.sum(axis=1, keepdims=True)
    return normal


def _folds(rows: Sequence[_Labelled], given: npt.NDArray[np.int64]) -> Iterator[tuple[Any, Any]]:
    from sklearn.model_selection import StratifiedGroupKFold

    groups, first = Groups(), dict[str | int, int]()
    for number, row in enumerate(rows):
        for source in (row.cluster, row.key):
            if source != "":
                groups.join(first.setdefault(source, number), number)
    roots = np.array([groups.root(n) for n in range(len(rows))])
    if len(set(roots.tolist())) < FOLDS:
        return
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for train, held in splitter.split(np.zeros(len(rows)), given, roots):
        if len(set(given[train].tolist())) > 1:  # a model of one label is none
            yield train, held
