"""`command_server.py LIBRARY...`: imports them, then forks a process for each command that arrives on stdin.

A line of stdin is a JSON object: arguments, cwd, environment, the files for stdout and stderr, the most seconds, and
perhaps a fault: {"kill": [signal, seconds]}, {"clock": [seconds, jump]} or {"bytes": the largest file}. A line of
stdout is the exit code, negative for a signal, or `late`.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import importlib.util
import json
import os
import resource
import runpy
import signal
import sys
import threading
import time
import traceback
import warnings
from typing import Any, NoReturn


def main() -> None:
    # Lightning imports it where it is installed, and with it transformers and huggingface_hub.
    sys.modules["torchmetrics"] = None  # type: ignore[assignment]
    for library in sys.argv[1:]:
        if importlib.util.find_spec(library.partition(".")[0]) is not None:
            importlib.import_module(library)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts with `&` ignore it
    assert "huggingface_hub" not in sys.modules, "reads the environment, which each command has of its own"
    gc.freeze()  # or the first collection of each process would copy all of it
    while line := sys.stdin.readline():
        asked = json.loads(line)
        process = os.fork()
        if process == 0:
            _become(asked)
            _suffer(asked["fault"])
            _leave(_run())
        print(_ended(process, asked["seconds"], asked["fault"].get("kill")), flush=True)


def _run() -> int:
    """Run the command as `python -m compoundnet` does, and return its exit code."""
    try:
        runpy.run_module("compoundnet", run_name="__main__", alter_sys=True)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before the program could take over
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _leave(code: int) -> NoReturn:
    """End as an interpreter does, except that nothing is freed: that would copy what the server has imported."""
    threading._shutdown()  # type: ignore[attr-defined]  # joins threads, as the interpreter does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


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


def _suffer(fault: dict[str, Any]) -> None:
    """Make the rest of the process meet a fault of its machine."""
    if "kill" in fault:  # an import that is interrupted leaves its file open, and only developers are told
        warnings.simplefilter("ignore", ResourceWarning)
    if "bytes" in fault:  # as a full disk, for each file
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault["bytes"], fault["bytes"]))
    if "clock" in fault:
        real, begun = time.time, time.time()
        after, jump = fault["clock"]
        time.time = lambda: real() + (jump if real() - begun > after else 0)


def _ended(process: int, seconds: float, kill: list[float] | None) -> str:
    """The exit code of a process, as subprocess has it; `kill` is a signal, and the seconds after which it is sent."""
    begun = time.monotonic()
    until = begun + seconds
    while time.monotonic() < until:
        if kill is not None and time.monotonic() - begun > kill[1]:
            os.kill(process, int(kill[0]))
            kill = None
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return str(os.waitstatus_to_exitcode(status))
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return "late"


if __name__ == "__main__":
    main()
