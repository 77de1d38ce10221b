"""Pretends, for tests: scripted backends, temporary stores, small records, and the conformance kit.

A plugin's author needs little more than

    def test_my_backend_keeps_its_promises():
        conformance(make_backend, config=BackendConfig(model="tiny"))
"""

from __future__ import annotations

from harness.testing.conformance import (
    backend_problems,
    conformance,
    prepared_problems,
    tuner_conformance,
)
from harness.testing.scripted import (
    HONOURED,
    ScriptedBackend,
    make_candidate,
    make_case,
    make_run,
    temporary_store,
)

__all__ = [
    "HONOURED",
    "ScriptedBackend",
    "backend_problems",
    "conformance",
    "make_candidate",
    "make_case",
    "make_run",
    "prepared_problems",
    "temporary_store",
    "tuner_conformance",
]
