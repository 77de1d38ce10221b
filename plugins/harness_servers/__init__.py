"""Existing servers of tuned models, and the commands that start them. Starts nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import harness

if TYPE_CHECKING:
    from harness import ServeJob, ServerCommand


def _llama_cpp(job: ServeJob) -> ServerCommand:
    from harness_servers.llama_cpp import llama_cpp

    return llama_cpp(job)


def _transformers(job: ServeJob) -> ServerCommand:
    from harness_servers.transformers_serve import transformers_serve

    return transformers_serve(job)


def _vllm(job: ServeJob) -> ServerCommand:
    from harness_servers.vllm import vllm

    return vllm(job)


@harness.hookimpl
def harness_servers() -> Mapping[str, Callable[[ServeJob], ServerCommand]]:
    """Offer llama.cpp's server (GGUF files), `transformers serve` (whole models) and vLLM."""
    return {"llama.cpp": _llama_cpp, "transformers": _transformers, "vllm": _vllm}
