"""One training on two hosts, of which one dies and comes back."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hosts
import pytest

SCRIPT = Path(__file__).parent.parent / "support" / "train_once.py"

pytestmark = pytest.mark.slow  # it starts several processes of torch, three times


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[hosts.Host, hosts.Host]]:
    if (why := hosts.missing()) is not None:
        pytest.skip(why)
    with hosts.two_hosts() as made:
        yield made


def start(
    host: hosts.Host, first: hosts.Host, port: int, *arguments: str | Path, pause: float = 0
) -> subprocess.Popen[str]:
    """torchrun on a host, as docs/training.md describes it, with the network's device for gloo."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-id", str(port),
        "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{first.address}:{port}", "--local-addr", host.address,
        "--rdzv-conf", f"is_host={int(host is first)}", SCRIPT, *arguments,
    ]  # fmt: skip
    env = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0", "TP_SOCKET_IFNAME": "eth0", "PAUSE": str(pause)}
    return host.start(command, env)


def test_a_host_that_dies_and_comes_back_changes_no_bit(both: tuple[hosts.Host, hosts.Host], tmp_path: Path) -> None:
    first, second = both

    def run(port: int, name: str, *options: str) -> None:
        processes = [start(host, first, port, tmp_path / name, *options) for host in both]
        for process in processes:
            said = process.communicate(timeout=240)[1]
            assert process.returncode == 0, said[-3000:]

    run(29511, "whole")
    every = "save_epochs=1", "keep=9", "keep_finished=all"
    cut = [start(host, first, 29512, tmp_path / "cut", *every, pause=0.3) for host in both]
    checkpoints = tmp_path / "cut.run" / "checkpoints"
    deadline = time.monotonic() + 200
    while not (checkpoints.exists() and any(checkpoints.iterdir())):
        assert time.monotonic() < deadline, "no checkpoint in time"
        assert all(process.poll() is None for process in cut), [process.communicate()[1][-2000:] for process in cut]
        time.sleep(0.05)
    second.crash()
    said = [process.communicate(timeout=240)[1] for process in cut]
    assert all(process.returncode for process in cut), (
        said
    )  # the host that is left ends too, and does not wait for ever
    assert not (tmp_path / "cut").exists()
    run(29513, "cut", "--resume", *every)
    whole, resumed = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == resumed
