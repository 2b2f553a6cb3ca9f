"""Processes that decode images begin without warnings about the threads of other libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sample_images import write_classes

# Warns as JAX does, which litert-torch imports, and Python from 3.12 on.
SCRIPT = """
import os
import sys
import threading
import warnings

from compoundnet.data import image_facts
from compoundnet.data.loader import loader
from compoundnet.data.lookup import open_dataset
from compoundnet.models import Preprocess

said = "os.fork() was called. os.fork() is incompatible with multithreaded code"
os.register_at_fork(before=lambda: warnings.warn(said, RuntimeWarning, stacklevel=2))
os.register_at_fork(before=lambda: print("fork", flush=True))
threading.Thread(target=threading.Event().wait, daemon=True).start()
image_facts._MANY = 1
dataset = open_dataset(sys.argv[1])
image_facts.image_facts(dataset, workers=2)
print("looked at")
list(loader(dataset.splits["train"], Preprocess(8, 1.0), batch=2, workers=1))
"""


def test_decoding_processes_begin_without_warnings(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 3)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    before, _, after = done.stdout.partition("looked at")
    assert "fork" in before
    assert "fork" in after
