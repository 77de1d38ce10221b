"""A classical model: what it answers, and its two files. Knows numpy alone; never a pickle.

`classical/model.json` holds the features' names, the replies and the settings, and
`classical/model.safetensors` the numbers. They are read as data, and run nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from harness import UsageError
from harness_sklearn.features import Shape, Vocabulary
from harness_sklearn.replies import Known, as_list, as_number

FOLDER = "classical"
FORMAT = 1
_NUMBERS, _NAMES = "model.safetensors", "model.json"
_ARRAYS = {
    "numbers": {"idf", "weights", "bias"},
    "classes": {"idf", "weights", "bias"},
    "labels": {"idf", "weights", "bias"},
    "nearest": {"idf", "starts", "columns", "values"},
}


@dataclass(frozen=True, kw_only=True)
class Model:
    """`replies` are the classes, labels or training replies that it chooses from.

    Shapes: `weights` (outputs, features) and `bias` (outputs,); of `nearest`, the training rows as
    `starts` (rows + 1,), `columns` and `values`.
    """

    kind: Known
    vocabulary: Vocabulary
    arrays: Mapping[str, NDArray[Any]]
    replies: tuple[str, ...] = ()
    decimals: int = 0
    is_log: bool = False
    may_be_empty: bool = False
    most_common: int = 0
    """Which reply is given where nothing of a text is known."""

    def answer(self, text: str) -> str:
        """Return the reply to `text`."""
        columns, values = self.vocabulary.row(text)
        if self.kind == "nearest":
            return self.replies[self._nearest(columns, values)]
        found = self.arrays["weights"][:, columns] @ values + self.arrays["bias"]
        if self.kind == "numbers":
            with np.errstate(over="ignore"):
                number = float(np.exp(found[0])) if self.is_log else float(found[0])
            return as_number(number, decimals=self.decimals)
        if self.kind == "classes":
            return self.replies[int(found.argmax())]
        chosen = [self.replies[i] for i in np.flatnonzero(found > 0)]
        if not chosen and not self.may_be_empty:
            chosen = [self.replies[int(found.argmax())]]
        return as_list(chosen)

    @cached_property
    def _row_of(self) -> NDArray[np.int64]:
        """The training row of each value of `nearest`."""
        return np.repeat(np.arange(len(self.replies)), np.diff(self.arrays["starts"]))

    def _nearest(self, columns: NDArray[np.int64], values: NDArray[np.float64]) -> int:
        if not len(columns):
            return self.most_common
        asked = np.zeros(len(self.vocabulary.names))
        asked[columns] = values
        products = self.arrays["values"] * asked[self.arrays["columns"]]
        found = np.bincount(self._row_of, weights=products, minlength=len(self.replies))
        return int(found.argmax()) if found.max() > 0 else self.most_common


def save(model: Model, out_dir: Path) -> None:
    """Write `model` below `out_dir`. The same model gives the same bytes."""
    from safetensors.numpy import save_file

    folder = out_dir / FOLDER
    folder.mkdir(parents=True)
    names = {
        "format": FORMAT,
        "kind": model.kind,
        "words": model.vocabulary.shape.words,
        "characters": list(model.vocabulary.shape.characters),
        "features": list(model.vocabulary.names),
        "replies": list(model.replies),
        "decimals": model.decimals,
        "is_log": model.is_log,
        "may_be_empty": model.may_be_empty,
        "most_common": model.most_common,
    }
    text = json.dumps(names, ensure_ascii=True, indent=0, sort_keys=True)
    (folder / _NAMES).write_text(text + "\n", encoding="utf-8")
    arrays = {"idf": model.vocabulary.idf, **model.arrays}
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, str(folder / _NUMBERS))


def load(artifact: Path) -> Model:
    """Return the model in the folder of an artifact. Raises UsageError for anything else."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = artifact / FOLDER
    try:
        names = json.loads((folder / _NAMES).read_text(encoding="utf-8"))
        arrays = load_file(str(folder / _NUMBERS))
        return _checked(names, arrays)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as exc:
        raise UsageError(
            f"{artifact} holds no classical model that this plugin can read "
            f"({type(exc).__name__}: {exc}). One is made by the tuner sklearn."
        ) from exc


def _checked(names: Mapping[str, Any], arrays: dict[str, NDArray[Any]]) -> Model:
    """Return the model, its parts found to fit each other: a file may be from anywhere."""
    kind = names["kind"]
    if names["format"] != FORMAT or kind not in get_args(Known):
        raise ValueError(f"format {names['format']!r}, kind {kind!r}")
    if set(arrays) != _ARRAYS[kind]:
        raise ValueError(f"it holds {sorted(arrays)}")
    width, outputs = len(names["features"]), len(names["replies"])
    idf = arrays.pop("idf")
    shapes = {name: array.shape for name, array in arrays.items()}
    if kind == "nearest":
        starts, columns = arrays["starts"], arrays["columns"]
        is_whole = (
            starts.shape == (outputs + 1,)
            and shapes["columns"] == shapes["values"] == (int(starts[-1]),)
            and int(starts[0]) == 0
            and bool((np.diff(starts) >= 0).all())
            and (not columns.size or 0 <= int(columns.min()) <= int(columns.max()) < width)
        )
    else:
        rows = 1 if kind == "numbers" else outputs
        is_whole = shapes == {"weights": (rows, width), "bias": (rows,)} and rows > 0
    numbers = [idf, *(a for n, a in arrays.items() if n not in {"starts", "columns"})]
    if not is_whole or idf.shape != (width,) or not all(np.isfinite(a).all() for a in numbers):
        raise ValueError("its parts do not fit each other")
    if outputs and not 0 <= int(names["most_common"]) < outputs:
        raise ValueError("its most common reply is not among them")
    shape = Shape(words=int(names["words"]), characters=tuple(map(int, names["characters"])))  # type: ignore[arg-type]
    return Model(
        kind=kind,
        vocabulary=Vocabulary(
            shape=shape, names=tuple(map(str, names["features"])), idf=idf.astype(np.float64)
        ),
        arrays=arrays,
        replies=tuple(map(str, names["replies"])),
        decimals=int(names["decimals"]),
        is_log=bool(names["is_log"]),
        may_be_empty=bool(names["may_be_empty"]),
        most_common=int(names["most_common"]),
    )
