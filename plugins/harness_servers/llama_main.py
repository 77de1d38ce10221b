"""Runs llama.cpp's server out of the wheel xllamacpp: `llama_main.py FILE NAME PORT CONTEXT SLOTS`.

For 127.0.0.1 alone. Threads are llama.cpp's own choice, or LLAMA_ARG_THREADS, as for its program.
"""

from __future__ import annotations

import os
import sys
import threading


def main(path: str, name: str, port: str, context: str, slots: str) -> None:
    """Serve until killed."""
    import xllamacpp  # type: ignore[import-untyped,import-not-found,unused-ignore]

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = int(port)
    params.n_ctx = int(context)
    params.n_parallel = int(slots)
    params.use_jinja = True
    if threads := os.environ.get("LLAMA_ARG_THREADS"):
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    params.warmup = False
    server = xllamacpp.Server(params)
    sys.stdout.write(f"listening at {server.listening_address}\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
