"""What can change a local model's answers besides the request, told without torch where it was
found out before. Knows nothing of requests.

Importing torch and transformers takes seconds of CPU, and a run whose replies are all recorded
needs of them nothing but these few words. What is kept holds for the same files, libraries and
machine; before a reply is made, it is found out anew (`check`), so that none is recorded under
words that are no longer true.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import BackendError
from harness_transformers import kept, models, tool_calls, vision
from harness_transformers.artifacts import Parts

LIBRARIES = ("torch", "transformers", "tokenizers", "jinja2", "sentencepiece", "tiktoken")
"""What reads a tokenizer, renders a template or chooses a device."""
_DEVICES = ("nvidia*", "kfd", "dxg", "accel*")
_OF_DEVICES = ("CUDA_", "HIP_", "ROCR_", "NVIDIA_VISIBLE", "PYTORCH_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Digests are sha256, "" where there is no such thing. `dtype` is the machine's own choice."""

    device: str
    dtype: str
    template: str
    tokenizer: str
    response_template: str
    processor: str
    shows_tools: bool


def facts_of(tokenizer: Any) -> Facts:
    """Return what is so, for a model whose tokenizer this is. Imports torch."""
    eyes = vision.eyes_of(tokenizer)
    response = getattr(tokenizer, "response_template", None)
    text = json.dumps(response, sort_keys=True, default=str) if response else ""
    device = models.choose_device()
    return Facts(
        device=device,
        dtype=models.choose_dtype(device),
        template=models.template_digest(tokenizer),
        tokenizer=models.tokenizer_digest(tokenizer),
        response_template=text and hashlib.sha256(text.encode()).hexdigest(),
        processor="" if eyes is None else eyes.digest(),
        shows_tools=tool_calls.shows_tools(tokenizer),
    )


def identity_of(parts: Parts, facts: Facts, *, dtype: str, is_quantised: bool) -> Mapping[str, str]:
    """Return what can change an answer, as the keys of recorded replies have it: a word of it
    that is another has everything asked anew.
    """
    told = {
        "weights": models.weights_digest(parts.model),
        "template": facts.template,
        "tokenizer": facts.tokenizer,
        "dtype": dtype,
        "device": facts.device,
        "engine": " ".join(
            f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers")
        ),
    }
    if is_quantised:
        told["kernels"] = f"bitsandbytes {importlib.metadata.version('bitsandbytes')}"
        if dtype != "bfloat16":
            told["parameters"] = "cast"  # replies before it were computed in bfloat16 in part
    if facts.response_template:
        told["response_template"] = facts.response_template
    if parts.adapter is not None:
        told["adapter"] = models.weights_digest(parts.adapter)
        told["merge"] = "parameters"  # of replies before it, half precision rounded more
    if facts.processor:
        told["processor"] = facts.processor
    return told


class KeptFacts:
    """The facts of one model's parts under the options that its tokenizer was given."""

    def __init__(
        self, parts: Parts, *, options: Mapping[str, Any], tokenizer: Callable[[], Any]
    ) -> None:
        self._parts = parts
        self._tokenizer = tokenizer
        told = json.dumps(options, sort_keys=True, default=str)
        self._name = f"facts {parts.model.resolve()} {parts.tokenizer.resolve()} {told}"
        self._told: Facts | None = None
        self._is_checked = False

    @property
    def facts(self) -> Facts:
        """Return what was kept, or is found out now."""
        if self._told is None:
            stamps = self._stamps()
            with contextlib.suppress(TypeError):  # kept by another version of this file
                self._told = Facts(**(kept.recall(self._name, stamps) or {}))
        if self._told is None:
            self._told, self._is_checked = facts_of(self._tokenizer()), True
            kept.keep(self._name, stamps, asdict(self._told))
        return self._told

    def check(self) -> None:
        """Find out anew what was only recalled. Raises BackendError where it is no longer so."""
        told = self.facts
        if self._is_checked:
            return
        stamps = self._stamps()
        now = facts_of(self._tokenizer())
        self._is_checked = told == now
        if not self._is_checked:
            kept.keep(self._name, stamps, asdict(now))
            was, is_now = asdict(told), asdict(now)
            changed = ", ".join(
                f"{name} {str(was[name])[:12]!r}, now {str(is_now[name])[:12]!r}"
                for name in was
                if was[name] != is_now[name]
            )
            raise BackendError(
                f"{self._parts.model} is not what it was when it last answered here: {changed}. "
                "Nothing was asked. Run the same command again: it goes by what is so now.",
                is_systemic=True,
            )

    def _stamps(self) -> dict[str, Any]:
        """Return what the facts hold for: files, libraries, this code, this machine."""
        folders = {self._parts.model, self._parts.tokenizer, Path(__file__).parent}
        folders |= {folder / "additional_chat_templates" for folder in folders}
        files = {p for folder in folders if folder.is_dir() for p in folder.iterdir()}
        return {
            "files": kept.stamps_of(p for p in files if p.is_file()),
            "libraries": {name: _version(name) for name in LIBRARIES},
            "machine": _machine(),
        }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _machine() -> str:
    """Return a digest of what tells this machine, and what it shows of its devices, from another:
    a digest, since an environment is nobody's to write down.
    """
    lines = [platform.node(), platform.machine()]
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        head = file.read(8192)
        lines += [line for line in head.splitlines() if line.startswith(("flags", "Features"))][:1]
    lines += sorted(str(path) for pattern in _DEVICES for path in Path("/dev").glob(pattern))
    with contextlib.suppress(OSError):
        lines.append(Path("/proc/driver/nvidia/version").read_text(encoding="utf-8"))
    named = (f"{k}={v}" for k, v in os.environ.items() if k.startswith(_OF_DEVICES))
    return hashlib.sha256("\n".join([*lines, *sorted(named)]).encode()).hexdigest()
