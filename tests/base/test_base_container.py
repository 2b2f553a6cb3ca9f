"""The limits of a container, in trees as Linux shows them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_train import small_dataset, small_network, small_recipe

from compoundnet.base import container, machine
from compoundnet.train import plan_task, train
from compoundnet.train.status import Watcher

AVAILABLE, LIMIT = 1800, "memory.limit_in_bytes"


def tree(root: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str]) -> None:
    (root / "own").write_text(own)
    for name, text in files.items():
        file = root / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.setattr(container, "_ROOT", root / "cgroup")
    monkeypatch.setattr(container, "_OWN", root / "own")


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),  # docker run --cpus 1.5, version 2
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("", {}, None),  # no control groups
        # A service of systemd below a slice with a tighter limit.
        ("0::/a/b.service\n", {"a/cpu.max": "200000 100000\n", "a/b.service/cpu.max": "400000 100000\n"}, 2),
        ("0::/a/b.service\n", {"a/cpu.max": "max 100000\n", "a/b.service/cpu.max": "50000 100000\n"}, 0.5),
        # Version 1, in which each controller has a tree of its own.
        ("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ("4:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, None),
        ("5:memory:/\n4:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ],
)  # fmt: skip
def test_the_cores_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], quota: float | None
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    tree(tmp_path, monkeypatch, own, files)
    assert container.cpu_quota() == quota
    assert machine.cores() == (8 if quota is None else {0.5: 1, 1.5: 2}.get(quota, quota))


def test_a_quota_above_the_cores_that_are_visible_gives_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3}, raising=False)
    tree(tmp_path, monkeypatch, "0::/\n", {"cpu.max": "400000 100000\n"})
    assert machine.cores() == 1


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        ("0::/\n", {"memory.max": "4000", "memory.current": "3000", "memory.stat": "inactive_file 1000\n"}, 2000),
        ("0::/\n", {"memory.max": "max\n", "memory.current": "3000"}, None),
        ("0::/\n", {"memory.max": "1000", "memory.current": "2000"}, 0),
        ("6:memory:/job\n", {f"memory/job/{LIMIT}": "2000\n", "memory/job/memory.usage_in_bytes": "500\n"}, 1500),
        ("0::/a/b\n", {"a/memory.max": "1000", "a/memory.current": "0", "a/b/memory.max": "max"}, 1000),
        ("", {}, None),
    ],
)  # fmt: skip
def test_the_memory_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], left: int | None
) -> None:
    tree(tmp_path, monkeypatch, own, files)
    assert container.memory_left() == left
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=AVAILABLE))
    assert machine.free_memory() == (AVAILABLE if left is None else min(left, AVAILABLE))


def test_torch_computes_on_no_more_threads_than_the_container_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in training, whose threads nobody sets."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    tree(tmp_path, monkeypatch, "0::/\n", {"cpu.max": "300000 100000\n"})
    with machine.torch_threads(8):
        assert machine.default_threads() == 3
        seen = set()
        task = plan_task(small_recipe("epochs=1"), small_dataset(), network=small_network())

        class Counting(Watcher):
            def stepped(self, *_: object) -> None:
                seen.add(torch.get_num_threads())

        train(task, tmp_path / "model", watcher=Counting())
        assert seen == {3} and torch.get_num_threads() == 8
    with machine.torch_threads(2):
        assert machine.default_threads() == 2, "as OMP_NUM_THREADS says"
