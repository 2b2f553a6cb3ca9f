"""A fit of images with several labels each: the answer is a probe, which has nearly all of the time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import run
from grey_images import write_models
from PIL import Image

from compoundnet.data import Dataset, Split
from compoundnet.data.sources import Arrays
from compoundnet.fit import fit, steps


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_models(tmp_path_factory.mktemp("models"))


def halves(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8[N, 24, 24, 3] whose left half, or upper half, or both or none are bright; and labels bool[N, 2]."""
    random = np.random.default_rng(0)
    labels = np.stack([np.arange(count) % 2 == 1, np.arange(count) // 2 % 2 == 1], axis=1)
    pixels = random.normal(80, 20, (count, 24, 24, 3))
    pixels[labels[:, 0], :, :12] += 70
    pixels[labels[:, 1], :12] += 70
    return pixels.clip(0, 255).astype(np.uint8), labels


def test_screening_has_the_time_that_no_race_takes(
    models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_SCREEN", 0.0)
    pixels, labels = halves(80)
    train = Split("train", ("left", "upper"), labels, Arrays("train", pixels))
    found = fit(Dataset("halves", {"train": train}), tmp_path / "best", models=models, seconds=300.0)
    assert found.answer is not None and not found.answer.fine_tuned
    assert found.left == 0 and len(found.ranking) > 2
    assert any("several labels, and fine-tuning is compared by one class an image" in note for note in found.notes)


def test_there_is_nothing_to_confirm(models: list[str], tmp_path: Path) -> None:
    lines = ["image,labels"]
    for number, (pixels, labels) in enumerate(zip(*halves(40), strict=True)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        named = [name for name, given in zip(("left", "upper"), labels, strict=True) if given] or ["none"]
        lines.append(f'{number}.png,"{",".join(named)}"')
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    done = run("fit", "list.csv", "--candidate", models[0], "--time", "2min", "-o", "best", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answer"]["several_labels"] is True
