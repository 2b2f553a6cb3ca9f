"""OpenVINO sends nothing and leaves nothing in the home folder."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os
import sys

os.register_at_fork(before=lambda: print("forked"))
from compoundnet.runtime.backends import openvino

openvino._core()
assert "openvino" in sys.modules
assert "openvino_telemetry" not in sys.modules
"""


def test_nothing_is_sent_and_no_client_is_identified(tmp_path: Path) -> None:
    try:
        importlib.metadata.distribution("openvino-telemetry")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs openvino-telemetry")
    outside = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**outside, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "intel").exists()
