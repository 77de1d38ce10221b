"""The hooks of the harness: this file is their manual. Knows nothing of who answers them.

A plugin is a module (or object) named by an entry point of the group `harness`; a hook is a
function of a name below, marked with `harness.hookimpl`. Every name begins with `harness_`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from harness.ports.artifacts import ServerMaker, VariantMaker
    from harness.ports.backends import BackendFactory
    from harness.ports.optimisers import OptimizerFactory
    from harness.ports.tuners import TunerFactory
    from harness.records import ReleaseVerdict, Trial, WallVerdict

hookspec = pluggy.HookspecMarker("harness")
hookimpl = pluggy.HookimplMarker("harness")


@hookspec
def harness_backends() -> Mapping[str, BackendFactory]:  # type: ignore[empty-body]
    """Return backends by scheme, as `{"local": make_backend}`.

    Called once, when the first candidate is resolved. The factory is called with a
    `BackendConfig` for each model in use, and may raise UsageError or MissingExtra.
    Two plugins with one scheme are an error that names both distributions.
    """


@hookspec
def harness_tuners() -> Mapping[str, TunerFactory]:  # type: ignore[empty-body]
    """Return tuners by name, as `{"torch-lora": TorchLora}`.

    Called once, by `harness tune`. The factory takes no argument and returns a `Tuner`.
    """


@hookspec
def harness_recipes() -> Mapping[str, Path]:  # type: ignore[empty-body]
    """Return recipe files by name, as `{"trl-sft/dora": Path("dora.toml")}`.

    Called once, by `harness tune` where it is asked for a recipe by name, and by `harness plugins`.
    A name is that of the tuner, or begins with it and a slash. What a file leaves out is the
    tuner's own default; a task's file `recipes/NAME.toml` stands before one of the same name.
    """


@hookspec
def harness_checks() -> Mapping[str, Callable[..., Any]]:  # type: ignore[empty-body]
    """Return checks by name; each becomes `harness.checks.NAME`.

    Called once, when an unknown name of `harness.checks` is asked for. A check takes the reply
    first and raises `harness.Miss` where the reply is not good.

    Optional attribute `identity: str`: what can change its scores beside its name and the version
    of its distribution, as a digest of weights; where it changes, recorded replies are scored anew.
    Or a function that gives it: of no argument, or of one, all texts that stand in the evals and
    in the arguments of cases to this check.

    Optional attribute `takes_case = True`: called for a case's own `checks`, it is given the case
    as `case`. A check that reaches out needs it, for a case tagged `internal` leaves this machine
    nowhere. It calls `harness.refuse_offline("NAME: ADDRESS")` before it asks, and raises
    `harness.BackendError` where it gets no answer.
    """


@hookspec
def harness_optimizers() -> Mapping[str, OptimizerFactory]:  # type: ignore[empty-body]
    """Return prompt optimisers by name, as `{"gepa": Gepa}`.

    Called once, by `harness ladder --optimise`. The factory takes no argument, returns an
    `Optimizer` and may raise MissingExtra. Optimisers see train and dev, never the test split.
    """


@hookspec
def harness_variants() -> Mapping[str, VariantMaker]:  # type: ignore[empty-body]
    """Return makers of variants by name, as `{"merged": make_merged}`: a tuned artifact's weights
    in another form or precision.

    Called once, by `harness model merge`, `export` and `variants`. A maker is called with a
    `VariantJob`, writes the files, and returns a `VariantResult` or raises UsageError, MissingExtra
    or BackendError. What it wrote becomes an artifact of its own.
    """


@hookspec
def harness_servers() -> Mapping[str, ServerMaker]:  # type: ignore[empty-body]
    """Return by name who can serve an artifact, as `{"llama.cpp": llama_cpp}`.

    Called once, by `harness model serve` and `harness model variants`. A maker is called with a
    `ServeJob` and returns the `ServerCommand` that starts an existing server; it starts nothing
    itself. It raises UsageError where the server cannot read such files or is not installed.
    """


@hookspec
def harness_recorded(record: Trial | WallVerdict | ReleaseVerdict) -> None:
    """Be told of a trial or a verdict, after it was stored.

    Called in the controller process, once a record. The return value is ignored; an error is
    reported as a warning that names the plugin, and stops nothing.
    """
