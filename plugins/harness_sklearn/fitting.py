"""Fits a classical model with scikit-learn. Knows nothing of artifacts and backends.

Settings are chosen by cross-validation on the training rows alone. The vocabulary is learnt from
all of them: it sees no reply.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import UsageError
from harness_sklearn.features import Shape, Vocabulary, learn_vocabulary
from harness_sklearn.model import Model
from harness_sklearn.recipe import Recipe
from harness_sklearn.replies import (
    Known,
    decimals_of,
    is_skewed,
    kind_of,
    label_counts,
    labels_in,
    numbers_in,
)

CS = (0.1, 1.0, 10.0, 100.0, 1000.0)
ALPHAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
MOST_STEPS = 300
Rows = NDArray[np.int64]
Folds = Sequence[tuple[Rows, Rows]]
Told = Callable[..., None]
"""Hears of each fit: by name, what it missed of the rows that it did not see, or of its own."""
NAMES = {
    "numbers": "ridge",
    "classes": "logistic",
    "labels": "logistic-lists",
    "nearest": "nearest",
}
"""What a kind is called as a model: `sklearn:ridge`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A model with the numbers of its making: what cross-validation chose, and how good it was."""

    model: Model
    metrics: dict[str, float] = field(default_factory=dict)


def chosen_kind(recipe: Recipe, replies: Sequence[str]) -> Known:
    """Return what kind of model is fitted. Raises UsageError where the replies are not of it."""
    kind: Known = kind_of(replies) if recipe.kind == "auto" else recipe.kind
    if kind == "numbers":
        numbers = numbers_in(replies)
        if recipe.log is True and min(numbers) <= 0:
            raise UsageError("log = true: a reply is not above 0, and has no logarithm")
    if kind == "labels":
        for reply in replies:
            if labels_in(reply) is None:
                raise UsageError(
                    f'kind = "labels": the reply {reply[:60]!r} is not a JSON list of texts'
                )
    if len(replies) < 2 and kind != "nearest":
        raise UsageError("one row is too few: cross-validation needs two at least")
    if kind == "classes" and len(set(replies)) < 2:
        raise UsageError(
            f"every reply is {replies[0][:60]!r}: there is nothing to learn. A candidate that "
            "always says so needs no training: constant:TEXT"
        )
    return kind


def fits_of(recipe: Recipe, kind: Known, rows: int) -> int:
    """Return how many fits there will be: those of the cross-validation, and the last."""
    options, _ = _options(recipe, kind)
    return 1 if kind == "nearest" else len(options) * min(recipe.folds, rows) + 1


def fit(
    texts: Sequence[str],
    replies: Sequence[str],
    *,
    recipe: Recipe,
    seed: int,
    told: Told,
) -> Fitted:
    """Return the model of `texts` and their `replies`; `told` hears of each fit.

    Raises UsageError where there is nothing to learn from.
    """
    kind = chosen_kind(recipe, replies)
    vocabulary = learn_vocabulary(
        texts,
        shape=Shape(words=recipe.words, characters=recipe.characters),
        least=recipe.least_rows,
        most_share=recipe.most_share,
        most=recipe.most_features,
    )
    if not vocabulary.names:
        raise UsageError(
            "the last user turns of the rows have no word that tells them apart: a classical model "
            "sees nothing else. Does the prompt show the inputs there?"
        )
    if kind == "nearest":
        told()
        return _nearest(texts, replies, vocabulary)
    from threadpoolctl import threadpool_limits

    matrix = _matrix(texts, vocabulary)
    fit_kind = _numbers if kind == "numbers" else partial(_chosen_texts, kind)
    # one thread: sparse rows gain nothing by more (measured: a tenth of the time), and the bytes
    # are the same on any number of cores
    with threadpool_limits(1):
        return fit_kind(matrix, replies, vocabulary, recipe, seed=seed, told=told)


def _options(recipe: Recipe, kind: Known) -> tuple[tuple[float, ...], str]:
    given, grid, name = (
        (recipe.alpha, ALPHAS, "alpha") if kind == "numbers" else (recipe.c, CS, "c")
    )
    return (grid if given == "auto" else (given,)), name


def _matrix(texts: Sequence[str], vocabulary: Vocabulary) -> Any:
    from scipy.sparse import csr_matrix

    rows = [vocabulary.row(text) for text in texts]
    starts = np.concatenate([[0], np.cumsum([len(columns) for columns, _ in rows])])
    columns = np.concatenate([c for c, _ in rows])
    values = np.concatenate([v for _, v in rows])
    return csr_matrix((values, columns, starts), shape=(len(texts), len(vocabulary.names)))


def _best(
    options: Sequence[float],
    folds: Folds,
    *,
    loss: Callable[[float, Rows, Rows], float],
    told: Told,
) -> tuple[float, float]:
    """Return the option with the least mean loss over the folds, the first of equals, and it."""
    losses: dict[float, float] = {}
    for option in options:
        each = []
        for inside, outside in folds:
            each.append(loss(option, inside, outside))
            told(held_out_error=each[-1])
        losses[option] = float(np.mean(each))
    best = min(options, key=lambda option: losses[option])
    return best, losses[best]


def _split(replies: Sequence[str], recipe: Recipe, *, seed: int) -> Folds:
    """Return the folds: row numbers to fit on and to look at, equal replies spread over them."""
    rows, folds = len(replies), min(recipe.folds, len(replies))
    order = np.random.default_rng(seed).permutation(rows)
    order = np.array(sorted(order.tolist(), key=lambda i: replies[i]), dtype=np.int64)
    number = np.empty(rows, dtype=np.int64)
    number[order] = np.arange(rows) % folds
    return [(np.flatnonzero(number != k), np.flatnonzero(number == k)) for k in range(folds)]


def _numbers(
    matrix: Any,
    replies: Sequence[str],
    vocabulary: Vocabulary,
    recipe: Recipe,
    *,
    seed: int,
    told: Told,
) -> Fitted:
    from sklearn.linear_model import Ridge

    numbers = numbers_in(replies)
    is_log = is_skewed(numbers) if recipe.log == "auto" else recipe.log
    targets = np.log(numbers) if is_log else np.array(numbers)

    def made(alpha: float, rows: Rows) -> Any:
        return Ridge(alpha=alpha, solver="sparse_cg").fit(matrix[rows], targets[rows])

    def loss(alpha: float, inside: Rows, outside: Rows) -> float:
        missed = made(alpha, inside).predict(matrix[outside]) - targets[outside]
        return float((missed**2).mean())

    options, name = _options(recipe, "numbers")
    strict_first = sorted(options, reverse=True)
    best, held_out = _best(strict_first, _split(replies, recipe, seed=seed), loss=loss, told=told)
    whole = made(best, np.arange(len(replies)))
    told(own_error=float(((whole.predict(matrix) - targets) ** 2).mean()))
    spread = float(targets.var())
    metrics = {name: best, "is_log": float(is_log)}
    if spread > 0:
        metrics["held_out_r2"] = 1 - held_out / spread
    model = Model(
        kind="numbers",
        vocabulary=vocabulary,
        arrays={
            "weights": np.asarray(whole.coef_, dtype=np.float64).reshape(1, -1),
            "bias": np.array([float(whole.intercept_)]),
        },
        decimals=decimals_of(replies),
        is_log=is_log,
    )
    return Fitted(model=model, metrics=metrics)


def _chosen_texts(
    kind: Known,
    matrix: Any,
    replies: Sequence[str],
    vocabulary: Vocabulary,
    recipe: Recipe,
    *,
    seed: int,
    told: Told,
) -> Fitted:
    """Fit classes, or the labels of lists one by one."""
    lists = [labels_in(r) or () for r in replies] if kind == "labels" else [(r,) for r in replies]
    names = label_counts(lists)
    if not names:
        raise UsageError("every reply is the empty list: there is nothing to learn")
    place = {name: i for i, name in enumerate(names)}
    wanted = np.zeros((len(replies), len(names)), dtype=bool)
    for row, labels in enumerate(lists):
        wanted[row, [place[x] for x in labels]] = True

    def made(c: float, rows: Rows) -> tuple[NDArray[Any], NDArray[Any]]:
        if kind == "classes":
            return _logistic(matrix[rows], wanted[rows].argmax(axis=1), len(names), c=c)
        each = [
            _logistic(matrix[rows], wanted[rows, i].astype(int), 1, c=c) for i in place.values()
        ]
        return np.vstack([w for w, _ in each]), np.concatenate([b for _, b in each])

    def missed(weights: NDArray[Any], bias: NDArray[Any], rows: Rows) -> float:
        found = matrix[rows] @ weights.T + bias
        if kind == "classes":
            return float((found.argmax(axis=1) != wanted[rows].argmax(axis=1)).mean())
        return float(((found > 0) != wanted[rows]).any(axis=1).mean())

    def loss(c: float, inside: Rows, outside: Rows) -> float:
        return missed(*made(c, inside), outside)

    options, name = _options(recipe, kind)
    folds = _split(replies, recipe, seed=seed)
    best, held_out = _best(sorted(options), folds, loss=loss, told=told)  # the strictest first
    every = np.arange(len(replies))
    weights, bias = made(best, every)
    told(own_error=missed(weights, bias, every))
    metrics = {name: best, "choices": float(len(names)), "held_out_right": 1 - held_out}
    model = Model(
        kind=kind,
        vocabulary=vocabulary,
        arrays={"weights": weights, "bias": bias},
        replies=tuple(names),
        may_be_empty=any(not labels for labels in lists),
    )
    return Fitted(model=model, metrics=metrics)


def _logistic(
    matrix: Any, targets: NDArray[Any], outputs: int, *, c: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights and biases, one output a class; a class without rows is never chosen.

    Shapes: (outputs, features), (outputs,). Two classes have one row of weights in scikit-learn:
    the first class gets its negative.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weights = np.zeros((outputs, matrix.shape[1]))
    bias = np.full(outputs, -1e9)
    present = np.unique(targets)
    if len(present) == 1:
        is_yes = outputs > 1 or bool(present[0])
        bias[int(present[0]) if outputs > 1 else 0] = 1.0 if is_yes else -1.0
        return weights, bias
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # close enough: what counts is held out
        found = LogisticRegression(C=c, max_iter=MOST_STEPS).fit(matrix, targets)
    rows, intercepts = found.coef_, found.intercept_
    if outputs == 1:
        return np.asarray(rows, dtype=np.float64), np.asarray(intercepts, dtype=np.float64)
    if len(present) == 2:
        rows, intercepts = (
            np.vstack([-rows, rows]) / 2,
            np.concatenate([-intercepts, intercepts]) / 2,
        )
    weights[present], bias[present] = rows, intercepts
    return weights, bias


def _nearest(texts: Sequence[str], replies: Sequence[str], vocabulary: Vocabulary) -> Fitted:
    matrix = _matrix(texts, vocabulary)
    common = Counter(replies).most_common(1)[0][0]
    model = Model(
        kind="nearest",
        vocabulary=vocabulary,
        arrays={
            "starts": matrix.indptr.astype(np.int64),
            "columns": matrix.indices.astype(np.int64),
            "values": matrix.data.astype(np.float64),
        },
        replies=tuple(replies),
        most_common=list(replies).index(common),
    )
    return Fitted(model=model)
