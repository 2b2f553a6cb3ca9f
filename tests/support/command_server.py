"""`command_server.py LIBRARY...`: imports them, then forks a process for each command that arrives on stdin.

A line of stdin is a JSON object: arguments, cwd, environment, the files for stdout and stderr, and the most seconds. A
line of stdout is the exit code, negative for a signal, or `late`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import runpy
import signal
import sys
import time
from typing import Any


def main() -> None:
    for library in sys.argv[1:]:
        if importlib.util.find_spec(library.partition(".")[0]) is not None:
            importlib.import_module(library)
    while line := sys.stdin.readline():
        asked = json.loads(line)
        process = os.fork()
        if process == 0:
            _become(asked)
            return runpy.run_module("compoundnet", run_name="__main__", alter_sys=True)  # type: ignore[return-value]
        print(_ended(process, asked["seconds"]), flush=True)
    return None


def _become(asked: dict[str, Any]) -> None:
    """Be the process of a command from here on."""
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["cwd"])
    for name, number in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(asked[name], os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["compoundnet", *asked["arguments"]]
    # As `python -m` and PYTHONPATH have it.
    places = [place for place in asked["environment"].get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.path[:] = [asked["cwd"], *places, *sys.path[1:]]
    importlib.invalidate_caches()


def _ended(process: int, seconds: float) -> str:
    """The exit code of a process, as subprocess has it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return str(os.waitstatus_to_exitcode(status))
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return "late"


if __name__ == "__main__":
    main()
