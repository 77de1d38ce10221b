"""For all tests: Ctrl-C works, even where whoever started them had it ignored (as `nohup` does),
a pytest session inside a test looks for garbage no more than one of pytest's own pytester does, and
the modules of the tests are compiled once.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Generator, Iterator

import pytest
from _pytest import unraisableexception

if threading.current_thread() is threading.main_thread() and (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the bytecode of what is collected, even where PYTHONDONTWRITEBYTECODE is set: to rewrite
    the asserts of 280 modules again takes each worker seven seconds. What tests themselves import
    is left as it was, for a file that they change within a second is taken for the one before.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", False)
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def sessions_inside_collect_no_garbage() -> Iterator[None]:
    """Each session ends in two collections of all that the process holds: of torch, transformers
    and 5,000 tests, that is a second, many times what the session itself takes. The outermost
    session still makes them, once this is undone, and an error in a finaliser still fails it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            unraisableexception, "gc_collect_harder", lambda iterations: None, raising=False
        )  # pytest before 8.4 has none
        yield
