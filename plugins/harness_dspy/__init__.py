"""The prompt optimiser `dspy`: MIPROv2. Knows nothing of the library until it is asked for.

MIPROv2 has a model write instructions from what the cases look like, takes replies that were right
as examples, and searches over pairs of both by what they score.
Source: Opsahl-Ong et al. (2024), Optimizing Instructions and Demonstrations, arXiv 2406.11695.

dspy's own list of requirements holds libraries that this house refuses. It needs none of them, so
that it is installed without its list, and only here is it imported.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

import harness

if TYPE_CHECKING:
    from harness_dspy.optimiser import Mipro

INSTALL = "pip install 'tuning-harness[dspy]' && pip install --no-deps 'dspy>=3.4.1,<3.5'"
NEEDED = ("dspy", "optuna", "cloudpickle", "json_repair", "orjson", "regex", "requests", "tqdm")


def make_dspy() -> Mipro:
    """Return the optimiser. Raises UsageError where the library is absent, or another than ours."""
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise harness.UsageError(
            f"the optimiser dspy lacks {', '.join(absent)}: {INSTALL}\n"
            "(dspy's own list would bring litellm and diskcache too, which are not needed here)"
        )
    version = metadata.version("dspy")
    if not version.startswith("3.4."):  # steps of its search are replaced by name
        raise harness.UsageError(f"the optimiser dspy knows 3.4, and this is {version}: {INSTALL}")
    kept = inspect.getfile
    try:
        from harness_dspy.optimiser import Mipro
    finally:
        inspect.getfile = kept  # dspy puts its own in its place, for the whole process

    return Mipro()


@harness.hookimpl
def harness_optimizers() -> Mapping[str, Any]:
    """Offer the optimiser `dspy`."""
    return {"dspy": make_dspy}
