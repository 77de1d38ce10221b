"""What the end table needs is imported while replies are awaited, and leaves no trace."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.surface.estimates import imported_meanwhile

SCRIPT = """
import sys, time
from harness.surface.estimates import imported_meanwhile
assert "scipy.special" not in sys.modules
with imported_meanwhile():
    time.sleep(0.001)
assert "scipy.special" in sys.modules
assert "harness.core.bounds" in sys.modules
"""


def test_bounds_can_be_computed_after_the_wait_without_another_import() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=60)


def test_the_thread_switch_interval_is_restored_even_after_an_interrupt() -> None:
    usual = sys.getswitchinterval()

    def interrupted() -> None:
        with imported_meanwhile():
            assert sys.getswitchinterval() < usual
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sys.getswitchinterval() == usual
