"""Running the command line as a person does: a process of its own.

To import torch, Lightning and the rest takes seconds, more than most commands. So one server imports them once for all
tests, and forks a process for each command, which has its own arguments, environment, folder and output, and imports
compoundnet itself.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

# What the server imports. Not ONNX Runtime, which does not survive a fork, nor what reads the environment on import, as
# huggingface_hub does.
_HEAVY = (
    "lightning_fabric",
    "matplotlib.figure",
    "onnx",
    "onnx_ir",
    "optuna",
    "PIL.Image",
    "pytorch_grad_cam",
    "rich.markdown",
    "rich.progress",
    "rich.table",
    "safetensors.torch",
    "scipy.optimize",
    "scipy.stats",
    "sklearn.datasets",
    "torch.export",
    "torch.utils.data",
    "torchvision.datasets",
    "typer.rich_utils",
)
_SECONDS = 300


def run(
    *arguments: str | Path, cwd: Path | None = None, fault: dict[str, Any] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`compoundnet ARGUMENTS`, with warnings as errors and plain text of a fixed width; see command_server on faults.

    With PYTHONPATH in a new interpreter: it counts when libraries are imported.
    """
    words = list(map(str, arguments))
    whole = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb", **environment}
    if "PYTHONPATH" not in environment:
        return forked(words, cwd or Path.cwd(), whole, fault or {})
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "compoundnet", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=whole,
        timeout=_SECONDS,
        check=False,
    )


@cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-W", "error", str(Path(__file__).with_name("command_server.py")), *_HEAVY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen[str]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait()


def forked(
    words: list[str], cwd: Path, environment: dict[str, str], fault: dict[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    """`compoundnet WORDS` in a fork of the server, with just that environment."""
    with tempfile.TemporaryDirectory(prefix="command-") as folder:
        files = {name: str(Path(folder, name)) for name in ("stdout", "stderr")}
        asked: dict[str, Any] = {
            "arguments": words,
            "cwd": str(cwd),
            "environment": environment,
            "fault": fault or {},
            **files,
        }
        server = _server()
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps({**asked, "seconds": _SECONDS}) + "\n")
        server.stdin.flush()
        code = server.stdout.readline()
        assert code, "the server of commands has ended"
        if code.strip() == "late":
            raise subprocess.TimeoutExpired(words, _SECONDS)
        out, err = (Path(name).read_text(encoding="utf-8", errors="surrogateescape") for name in files.values())
    return subprocess.CompletedProcess(words, int(code), out, err)
