"""The machine: card, driver, processor, versions."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata

import torch
from section import parse

from compoundnet import __version__
from compoundnet.base.machine import free_memory, processor

PACKAGES = ("torch", "torchvision", "triton", "timm", "lightning-fabric", "numpy", "simplejpeg")


def main() -> None:
    section = parse(__doc__)
    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        section.row(
            card=facts.name, memory_gb=round(facts.total_memory / 1e9, 1), multiprocessors=facts.multi_processor_count,
            cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version(),
        )  # fmt: skip
    if shutil.which("nvidia-smi"):
        query = "driver_version,clocks.sm,clocks.max.sm,power.limit,temperature.gpu"
        asked = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
        section.row(**dict(zip(query.split(","), answer.splitlines()[0].split(", "), strict=False)) if answer else {})
    section.row(
        processor=processor(), cores=os.cpu_count(), free_memory_gb=round(free_memory() / 1e9, 1),
        shared_memory_gb=round(shutil.disk_usage("/dev/shm").free / 1e9, 1) if os.path.isdir("/dev/shm") else None,  # noqa: PTH112  # one line
        python=platform.python_version(), compoundnet=__version__,
    )  # fmt: skip
    installed = {distribution.metadata["Name"].lower() for distribution in metadata.distributions()}
    section.row(**{name: metadata.version(name) for name in PACKAGES if name in installed})


if __name__ == "__main__":
    main()
