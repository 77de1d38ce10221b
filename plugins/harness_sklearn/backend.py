"""Answers requests with a classical model, in this process. Knows nothing of scikit-learn."""

from __future__ import annotations

import time
from pathlib import Path

from harness import BackendConfig, Reply, Request, UsageError
from harness_sklearn.features import seen
from harness_sklearn.model import FOLDER, load


class SklearnBackend:
    """The model of an artifact. It sees the last user turn, and honours nothing but that.

    Raises UsageError where there is no artifact, or it holds no classical model.
    """

    honours: frozenset[str] = frozenset()
    honours_hint = "a classical model answers the last user turn, and obeys nothing else"
    concurrency = 1  # a reply takes a millisecond of this process
    is_external = False

    def __init__(self, config: BackendConfig) -> None:
        artifact = config.artifact
        if artifact is None or not (artifact / FOLDER).is_dir():
            at = f" ({Path(artifact).name} is another kind of artifact)" if artifact else ""
            raise UsageError(
                f"sklearn:{config.model} answers with an artifact of the tuner sklearn{at}. Train "
                "one: harness tune TASK --tuner sklearn"
            )
        if config.options:
            raise UsageError(
                f"sklearn:{config.model}: unknown options {sorted(config.options)}; it has none"
            )
        self._model = load(artifact)
        self.identity = {"kind": self._model.kind, "reader": "1"}

    def answer(self, request: Request) -> Reply:
        """Return the reply: always the same to the same last user turn."""
        began = time.perf_counter()
        text = self._model.answer(seen(request.messages))
        return Reply(
            text=text,
            finish_reason="stop",
            latency_s=time.perf_counter() - began,
            cost_usd=0.0,
        )
