"""The options of an eval run. Knows nothing of what they do."""

from __future__ import annotations

import argparse

import pytest

from harness.surface import caps

ONLY = ("missed", "faults", "changed")


def add_options(parser: pytest.Parser) -> None:
    """Declare the options of an eval run."""
    group = parser.getgroup("evals", "evals (tuning-harness)")
    group.addoption(
        "--candidate",
        action="append",
        default=[],
        metavar="NAME",
        help="a candidate of the task, or PROMPT@SCHEME:MODEL[+ARTIFACT]; repeatable "
        "(default: the task's default_candidates, else reference)",
    )
    group.addoption("--split", default="dev", choices=["train", "dev", "test"])
    group.addoption("--base-url", default=None, help="base URL of an OpenAI-compatible server")
    group.addoption("--store", default=None, help="the store (default: .harness/harness.db)")
    group.addoption("--offline", action="store_true", help="recorded replies alone")
    group.addoption(
        "--only",
        choices=ONLY,
        default=None,
        help="the cases that the newest recorded runs of the candidate missed, that ended in a "
        "fault, or that changed since",
    )
    group.addoption(
        "--sample",
        type=_positive,
        default=None,
        metavar="N",
        help="N cases, always the same ones; a larger N keeps the smaller's",
    )
    group.addoption(
        "--repeats",
        type=_positive,
        default=None,
        metavar="N",
        help="ask each case N times; a run with other repeats than the task's is no try",
    )
    caps.add_options(group)
    group.addoption(
        "--override-boundary",
        default=None,
        metavar="REASON",
        help="why cases tagged internal may be sent to an external backend; recorded for ever",
    )
    group.addoption(
        "--look-is-counted",
        action="store_true",
        help="the look at the sealed split is in the ledger already (harness gate says so)",
    )
    group.addoption(
        "--floor",
        action="append",
        default=[],
        metavar="SCORE=VALUE",
        help="fail the run where a candidate's mean of SCORE is below VALUE; repeatable",
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)
