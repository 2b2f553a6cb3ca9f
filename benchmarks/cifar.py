"""CIFAR-10's first images of each class as class folders, and the results of the benchmarks that train on them."""

from __future__ import annotations

import json
import statistics
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


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


def score_cells(scores: Sequence[float], seconds: Sequence[float]) -> str:
    """Return the cells of a table row: mean, standard deviation, each seed's accuracy, mean seconds of a run."""
    spread = f"{statistics.stdev(scores):.2%}" if len(scores) > 1 else "-"
    each = ", ".join(f"{score:.2%}" for score in scores)
    return f"{statistics.mean(scores):.2%} | {spread} | {each} | {statistics.mean(seconds):.0f}"


def write_results(folder: Path, name: str, text: str, document: Mapping[str, Any]) -> None:
    """Write FOLDER/NAME.md and NAME.json, and print the text."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text)
    (folder / f"{name}.json").write_text(json.dumps(document, indent=2))
    print(text)
