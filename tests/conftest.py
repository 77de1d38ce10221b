"""For all tests: Ctrl-C works, even where whoever started them had it ignored (as `nohup` does)."""

from __future__ import annotations

import signal
import threading

if threading.current_thread() is threading.main_thread() and (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):
    signal.signal(signal.SIGINT, signal.default_int_handler)
