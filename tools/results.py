"""benchmarks/RESULTS.md: a section for each of the long checks, rewritten by the tool that makes it."""

from __future__ import annotations

import re
import time
from pathlib import Path

from compoundnet.base.files import write_whole
from compoundnet.base.machine import cores, processor

FILE = Path(__file__).parents[1] / "benchmarks" / "RESULTS.md"
_START = """# Results of the long checks

`make chaos`, `make fuzz`, `make hostile` and `make mutants` each rewrite their section.
"""


def write_section(title: str, text: str, file: Path = FILE) -> None:
    """Write a section, in place of the one with that title."""
    before = file.read_text(encoding="utf-8") if file.exists() else _START
    made = f"## {title}\n\nOn {time.strftime('%Y-%m-%d')}, {processor()}, {cores()} cores.\n\n{text.strip()}\n"
    own = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    kept = own.sub("", before).rstrip()
    write_whole(file, f"{kept}\n\n{made}".encode())
