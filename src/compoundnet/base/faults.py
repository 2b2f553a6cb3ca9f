"""Faults of this program: an unexpected exception becomes a log file with its trace, and a line that names the file."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
import time
import traceback
from pathlib import Path

from compoundnet import __version__
from compoundnet.base.errors import first_line
from compoundnet.base.machine import cache_folder, installed_version

# The exit code of a process that ends by one: "internal software error" of sysexits.h.
FAULT = 70
_LIBRARIES = ("numpy", "PIL", "torch", "onnxruntime", "lightning", "optuna")
_KEPT = 20  # log files


def report_fault(error: BaseException) -> str:
    """Write the trace of an exception to a log file, and return a line that names it."""
    libraries = {name: installed_version(name) for name in _LIBRARIES}
    content = "\n".join([
        f"compoundnet {__version__}, Python {platform.python_version()}, {platform.platform()}",
        ", ".join(f"{name} {version}" for name, version in libraries.items() if version),
        f"command: {shlex.join(sys.argv)}",
        f"folder: {_working_folder()}",
        "",
        "".join(traceback.format_exception(error)),
    ])  # fmt: skip
    said = f"{type(error).__name__}: {first_line(error)}"
    name = f"fault-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in (cache_folder() / "logs", Path(tempfile.gettempdir())):
        file = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8", errors="backslashreplace")
            for old in sorted(folder.glob("fault-*.log"))[:-_KEPT]:
                old.unlink()
        except OSError:
            continue
        return f"this is a fault of compoundnet ({said}); please report it with {file}, which says where it happened"
    return (
        f"this is a fault of compoundnet ({said}), and its trace could not be written to a log file; please report it"
    )


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "(deleted)"
