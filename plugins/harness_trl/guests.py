"""Keeps transformers, TRL and datasets from what guests do not do. Knows nothing of training.

No telemetry (TRL pings its makers for each trainer), no chatter, no other random numbers for the
program after us, and no warning that is said once where nobody looks.
"""

from __future__ import annotations

import contextlib
import logging
import random
import warnings
from collections.abc import Iterator

from harness_transformers.models import quiet_transformers


@contextlib.contextmanager
def guest_manners() -> Iterator[None]:
    """All of it: offline, quiet, and the process's random generators as they were."""
    with no_telemetry(), kept_randomness(), quiet_libraries(), quiet_datasets():
        yield


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence transformers, and its notes to peft and TRL of names that version 6 will drop.

    peft imports bitsandbytes where it is installed, which looks for a faster kernel on a hub and
    says on standard error that there is none.
    """
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    with quiet_transformers(), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*gradient_checkpointing", category=FutureWarning
        )
        yield


@contextlib.contextmanager
def quiet_datasets() -> Iterator[None]:
    """Silence the bars of the datasets library."""
    from datasets.utils import logging as bars

    had_bar = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if had_bar:
            bars.enable_progress_bar()


@contextlib.contextmanager
def trl_warnings() -> Iterator[list[str]]:
    """Collect what TRL warns of; it says so once in a process, where nobody looks."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger = logging.getLogger("trl")
    listener = Listener(level=logging.WARNING)
    level = logger.level
    logger.setLevel(logging.WARNING)  # somebody may have silenced it
    logger.addHandler(listener)
    try:
        yield said
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)


@contextlib.contextmanager
def no_telemetry() -> Iterator[None]:
    """Keep the hub's client offline, should TRL's ping move elsewhere in a later version."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_OFFLINE = constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_TELEMETRY = before


@contextlib.contextmanager
def kept_randomness() -> Iterator[None]:
    """Put the process's random generators back: a trainer seeds all of them."""
    import numpy as np
    import torch

    plain, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(numbers)
