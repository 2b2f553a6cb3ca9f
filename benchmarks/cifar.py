"""CIFAR-10's first images of each class as class folders, for the benchmarks that fine-tune on them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path


def unpack(cifar: Path, folder: Path, counts: Sequence[int], test_images: int) -> Path:
    """Write the first images of each class by name, as class folders.

    Args:
        cifar: A folder or a zip file with train/CLASS/*.jpg and test/CLASS/*.jpg.
        folder: Where train/CLASS and test/CLASS are written.
        counts: Training images of each class, in the order of their names.
        test_images: Test images of each class.
    """
    archive = zipfile.ZipFile(cifar) if cifar.is_file() else None
    names = (
        [name for name in archive.namelist() if name.endswith(".jpg")]
        if archive is not None
        else [path.relative_to(cifar).as_posix() for path in cifar.glob("*/*/*.jpg")]
    )
    classes: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for name in sorted(names):
        split, label, _ = name.split("/")
        classes[split].setdefault(label, []).append(name)
    for split, labels in classes.items():
        for number, members in enumerate(labels.values()):
            for name in members[: counts[number] if split == "train" else test_images]:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(archive.read(name) if archive is not None else (cifar / name).read_bytes())
    return folder


def machine_of(device: str) -> str:
    """Return what the runs computed on."""
    import torch
    from harness import machine

    return torch.cuda.get_device_name() if device == "cuda" else machine()
