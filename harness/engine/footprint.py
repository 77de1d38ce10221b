"""How fast a candidate answers and how much memory it takes, measured where nothing else runs.

A model of this machine is asked in a process of its own (`python -m harness.engine.footprint`), so
that its peak is its own. One request at a time: what a single reader waits for.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.serving import peak_bytes
from harness.errors import BackendError, HarnessError
from harness.ports.manager import Plugins
from harness.records import Candidate, Request, from_plain, to_plain

ASKED = 4
"""Requests that are timed, after one that is not."""
LIMIT_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Tokens of replies a second, prompts read included, and the peak of the process that holds
    the model. None with `why` where it could not be measured.
    """

    tokens_per_s: float | None = None
    peak_bytes: int | None = None
    why: str = ""


def speed(live: LiveBackend, requests: Sequence[Request]) -> float | None:
    """Return tokens a second over all but the first request; None where none are told."""

    async def each() -> tuple[int, float]:
        tokens, seconds = 0, 0.0
        for number, request in enumerate(requests):
            began = time.perf_counter()
            reply = await live.answer(request)
            if number:
                tokens += reply.output_tokens or 0
                seconds += time.perf_counter() - began
        return tokens, seconds

    tokens, seconds = asyncio.run(each())
    return tokens / seconds if tokens and seconds else None


def footprint(
    candidate: Candidate,
    requests: Sequence[Request],
    *,
    folder: Path,
    artifact: Path,
    disabled_plugins: Sequence[str] = (),
) -> Footprint:
    """Measure a candidate of this machine in a process of its own."""
    job = {
        "candidate": to_plain(candidate),
        "requests": [to_plain(request) for request in requests],
        "folder": str(folder),
        "artifact": str(artifact.resolve()),
        "disabled": list(disabled_plugins),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "harness.engine.footprint"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=LIMIT_S,
            check=False,
        )
        told = json.loads(done.stdout.strip().splitlines()[-1])
        return Footprint(**told)
    except subprocess.TimeoutExpired:
        return Footprint(why=f"no answer within {LIMIT_S:g} s")
    except (IndexError, ValueError, TypeError):
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return Footprint(why=last[0])


def measured_here(job: dict[str, object]) -> Footprint:
    """Return what was asked for in this process, which should do nothing else."""
    candidate = from_plain(Candidate, job["candidate"])
    requests = [from_plain(Request, one) for one in job["requests"]]  # type: ignore[attr-defined]
    plugins = Plugins(disabled=tuple(job["disabled"])).load()  # type: ignore[arg-type]
    pool = BackendPool(plugins, artifact_folder=lambda _: Path(str(job["artifact"])))
    try:
        live = pool.get(candidate, folder=Path(str(job["folder"])))
        told = speed(live, requests)
        # what a GPU holds is not memory of the process
        is_on_cpu = live.identity.get("device", "cpu") == "cpu"
        return Footprint(
            tokens_per_s=told,
            peak_bytes=peak_bytes("self") if is_on_cpu else None,
            why="" if is_on_cpu else "memory of a GPU is not measured",
        )
    except BackendError as exc:
        return Footprint(why=str(exc))
    finally:
        pool.close()


if __name__ == "__main__":
    try:
        answer = measured_here(json.load(sys.stdin))
    except HarnessError as error:
        answer = Footprint(why=str(error))
    sys.stdout.write("\n" + json.dumps(to_plain(answer)) + "\n")
