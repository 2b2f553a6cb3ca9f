"""Commands that heed Ctrl-C although a shell runs the suite in the background, where it is ignored."""

from __future__ import annotations

import sys

_PROGRAM = """
import runpy
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("compoundnet", run_name="__main__", alter_sys=True)
"""


def interruptible(*arguments: str) -> list[str]:
    """Return the command line of `compoundnet` with these arguments, for a process that a test interrupts."""
    return [sys.executable, "-c", _PROGRAM, *arguments]
