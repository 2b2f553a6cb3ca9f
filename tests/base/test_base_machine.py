"""What is known of the machine, and where its cache is."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from compoundnet.base import CompoundNetError
from compoundnet.base.machine import (
    cache_folder,
    check_threads,
    cores,
    free_memory,
    instruction_sets,
    processor,
    torch_threads,
)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin processes to cores")
def test_cores_are_those_that_the_process_may_use() -> None:
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from compoundnet.base.machine import cores; print(cores())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_threads_are_all_cores_unless_given() -> None:
    assert check_threads(None) == cores()
    assert check_threads(1) == 1
    for count in (0, -1, cores() + 1):
        with pytest.raises(
            CompoundNetError, match=rf"threads must be 1 to {cores()}, the cores that this process may use, got {count}"
        ):
            check_threads(count)


def test_the_number_of_torch_threads_is_set_back_after_an_error() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="inside"), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError("inside")
    assert torch.get_num_threads() == before


def test_the_processor_has_a_name_and_instruction_sets() -> None:
    assert processor().strip()
    assert instruction_sets().startswith(f"{platform.machine()} ")
    assert "\n" not in processor() + instruction_sets()


def test_free_memory_is_some_of_the_machines() -> None:
    assert 0 < free_memory() <= psutil.virtual_memory().total


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COMPOUNDNET_CACHE", "~/own")
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("COMPOUNDNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "cache" / "compoundnet"
    assert not cache_folder().exists()


_FAULTS = """
import resource
import sys
from compoundnet.base.machine import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(2):
    bytearray(64 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytearray(64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc returns large blocks at once")
def test_kept_memory_is_used_again_without_page_faults() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("return") > 10 * 1000
    assert faults("keep") < 1000
